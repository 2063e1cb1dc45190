"""The demo's images have the rates that they were made with: 3/4 from the image, 1/2 from the covariates, 1 from both."""

import numpy as np
import pandas as pd
import pytest

from fusionconv.errors import StudyError
from fusionconv.study import Study
from fusionconv.study.demo import demo, write_images


def test_the_known_rates_are_reached(tmp_path):
    table = write_images(tmp_path / "images", 2, 600, 0)
    study = Study(
        table=table, image_column="file", subject="patient", target="disease", positive="yes", covariates=["scanner", "age"],
        image_size=32, channels=1, network="fusionconv:small_cnn", network_options={"channels": [4, 8, 16], "first_stride": 1},
        epochs=20, lr=3e-3, folds=1, test_size=0.3, controls=2, resamples=100,
    )  # fmt: skip
    comparison = study.compare(
        ["image", "covariates", "hybrid@first"], out=tmp_path / "out", progress=False, report=False
    )
    accuracy = comparison.table.query("metric == 'accuracy'").set_index("arm")["mean"]
    assert 0.62 < accuracy["image"] < 0.86  # 3/4 within three standard errors of 180 rows
    assert 0.38 < accuracy["covariates"] < 0.62
    assert accuracy["hybrid-first"] > 0.97
    controls = comparison.controls.query("arm == 'hybrid-first'").set_index("control")["value"]
    assert controls["permuted"] < 0.9  # with other scanners the network reads the wrong stripes


def test_the_table_says_what_was_drawn(tmp_path):
    frame = pd.read_csv(write_images(tmp_path / "images", 2, 400, 1))
    assert abs(frame["disease"].eq("yes").mean() - 0.5) < 0.1
    by_scanner = frame.groupby("scanner")["disease"].apply(lambda d: d.eq("yes").mean())
    assert np.ptp(by_scanner) < 0.2  # the scanner alone says nothing
    before = (tmp_path / "images/p0000.png").stat().st_mtime_ns
    write_images(tmp_path / "images", 2, 400, 1)
    assert (tmp_path / "images/p0000.png").stat().st_mtime_ns == before


def test_other_dimensions_are_refused():
    with pytest.raises(StudyError, match="expected 2 or 3, got 4"):
        demo(4)
