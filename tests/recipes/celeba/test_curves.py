import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from fusionconv.study.curves import CurvesLogger, draw_curves


@pytest.mark.parametrize("points", [1, 2, 3, 300])
@pytest.mark.parametrize("side", ["train", "val"])
def test_every_curve_can_be_seen(tmp_path, monkeypatch, points, side):
    """One point makes no line: it needs a marker, or the panel is empty. Gaps in a table are no points."""
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: drawn.append(figure))
    losses = np.full(400, np.nan)
    losses[:points] = 0.7
    draw_curves(pd.DataFrame({"epoch": 0, "step": range(400), f"{side}/loss": losses}), tmp_path / "curves.png")
    (line,) = drawn[0].axes[0].get_lines()
    assert len(line.get_xdata()) == points
    assert line.get_marker() == "o" or (points == 300 and line.get_linestyle() == "-")


def test_a_short_run(tmp_path):
    logger = CurvesLogger(tmp_path, ["train/loss", "val/loss"])
    logger.log_metrics({"train/loss": 0.7, "epoch": 0}, step=2)
    logger.log_metrics({"val/loss": 0.6, "epoch": 0}, step=2)
    logger.finalize("success")
    assert (tmp_path / "curves.png").stat().st_size > 5000
