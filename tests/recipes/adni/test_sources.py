"""Every source format, written by the test with tiny volumes: each volume goes to its own row, and one real volume."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from fusionconv.errors import TableError
from fusionconv.study import Study
from recipes.adni.followup import add_follow_up
from recipes.adni.sources import choose_rows, read_source
from recipes.adni.table import make_table

TINY = {"image_size": 12, "percentiles": []}


def volume(path: Path, age: float) -> None:
    """A volume whose brightness is its subject's age."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.full((12, 12, 12), age, dtype=np.float32)
    data[:3] = 0
    nib.save(nib.Nifti1Image(data, np.diag([2.0, 2.0, 2.0, 1.0])), path)


def options_of(kind, images, table, options=None) -> dict:
    """Options of the recipe and of the engine, as the command line gives them."""
    places = {name: str(path) for name, path in (("images", images), ("table", table)) if path is not None}
    return {"source": kind, "source_options": options or {}, "visits": "first", "define": {}, **places}


def write(root: Path, kind: str) -> tuple[dict, str, dict[str, float]]:
    """The options of a source of three people, the column of the age, and each one's age."""
    if kind in ("bids", "caps"):
        ages = {f"sub-0{i}": 60.0 + i for i in (1, 2, 3)}
        bids = root / "bids"
        bids.mkdir()
        pd.DataFrame({"participant_id": list(ages), "age": list(ages.values()), "sex": ["F", "M", "F"]}).to_csv(
            bids / "participants.tsv", sep="\t", index=False
        )
        for name, age in ages.items():
            if kind == "bids":
                volume(bids / name / "ses-M000" / "anat" / f"{name}_ses-M000_T1w.nii.gz", age)
            else:
                (bids / name / "ses-M000" / "anat").mkdir(parents=True)
                stem = f"{name}_ses-M000_space-MNI152NLin2009cSym_desc-Crop_res-1x1x1_T1w.nii.gz"
                volume(root / "caps" / "subjects" / name / "ses-M000" / "t1_linear" / stem, age)
        options = {"datatype": "t1_linear", "entities": {"desc": "Crop"}} if kind == "caps" else None
        table = str(bids) if kind == "caps" else None
        return options_of("bids", root / kind, table, options), "age", ages

    if kind in ("adni_loni", "adni_bids"):
        ages = {f"027_S_00{i}": float(i) for i in (71, 72, 73)}
        rows = [
            {
                "PTID": name, "VISCODE": "bl", "EXAMDATE": "2006-01-10", "EXAMDATE_bl": "2006-01-10", "AGE": age,
                "PTGENDER": "Male", "PTEDUCAT": 16, "APOE4": 1, "DX_bl": "CN", "DX": "CN",
            }
            for name, age in ages.items()
        ]  # fmt: skip
        pd.DataFrame(rows).to_csv(root / "ADNIMERGE.csv", index=False)
        for i, (name, age) in enumerate(ages.items()):
            if kind == "adni_loni":
                folder = root / "images" / name / "MPRAGE" / "2006-01-12_10_11_12.0" / f"I10{i}"
                volume(folder / f"ADNI_{name}_MR_MPRAGE_br_raw_20060112_I10{i}.nii", age)
            else:
                sub = f"sub-ADNI{name.replace('_', '')}"
                volume(root / "images" / sub / "ses-M000" / "anat" / f"{sub}_ses-M000_T1w.nii.gz", age)
        return options_of(kind, root / "images", root / "ADNIMERGE.csv"), "age", ages

    if kind == "oasis1":
        ages = {f"OAS1_000{i}": 60.0 + i for i in (1, 2, 3)}
        lines = ["ID,M/F,Hand,Age,Educ,SES,MMSE,CDR,eTIV,nWBV,ASF,Delay"]
        for name, age in ages.items():
            lines.append(f"{name}_MR1,F,R,{age:.0f},2,3,29,0,1344,0.743,1.306,N/A")
            volume(root / "images" / f"{name}_MR1_mpr_n4_anon_111_t88_masked_gfc.nii", age)
        (root / "t.csv").write_text("\n".join(lines) + "\n")
        return options_of(kind, root / "images", root / "t.csv"), "Age", ages

    if kind == "oasis2":
        ages = {f"OAS2_000{i}": 60.0 + i for i in (1, 2, 3)}
        lines = ["Subject ID,MRI ID,Group,Visit,MR Delay,M/F,Hand,Age,EDUC,SES,MMSE,CDR,eTIV,nWBV,ASF"]
        for name, age in ages.items():
            lines.append(f"{name},{name}_MR1,Nondemented,1,0,M,R,{age:.0f},14,2,27,0,1987,0.696,0.883")
            volume(root / "images" / f"{name}_MR1" / "mpr-1.nifti.nii.gz", age)
        (root / "t.csv").write_text("\n".join(lines) + "\n")
        return options_of(kind, root / "images", root / "t.csv"), "Age", ages

    if kind == "ixi":
        ages = {f"IXI00{i}": 30.5 + i for i in (2, 3, 4)}
        lines = ['IXI_ID,"SEX_ID (1=m, 2=f)",HEIGHT,AGE']
        for name, age in ages.items():
            lines.append(f"{int(name[3:])},2,164,{age}")
            volume(root / "images" / f"{name}-Guys-0828-T1.nii.gz", age)
        (root / "t.csv").write_text("\n".join(lines) + "\n")
        return options_of(kind, root / "images", root / "t.csv"), "AGE", ages

    ages = {"anna": 61.0, "bert": 72.0, "carl": 83.0}
    for name, age in ages.items():
        volume(root / "scans" / f"{name[0]}.nii.gz", age)
    pd.DataFrame({"id": list(ages), "age": list(ages.values()), "file": [f"scans/{n[0]}.nii.gz" for n in ages]}).to_csv(
        root / "study.csv", index=False
    )
    options = {"image_column": "file", "subject": "id"}
    return options_of("table", None, root / "study.csv", options), "age", ages


@pytest.mark.parametrize("kind", ["bids", "caps", "adni_loni", "adni_bids", "oasis1", "oasis2", "ixi", "table"])
def test_each_volume_goes_to_its_own_row(tmp_path, kind):
    options, age, ages = write(tmp_path, kind)
    made = make_table({**options, "out": str(tmp_path / "out")}, {**options_without(options), "target": age})
    study = Study(**made, **TINY, task="regression", cache=str(tmp_path / "cache"))
    frame = study.rows.frame
    assert frame["subject"].tolist() == list(ages)
    assert pd.read_csv(tmp_path / "out/table/unmatched.csv").empty
    assert study.rows.targets.tolist() == list(ages.values())
    for image, own in zip(study.store.read(frame["id"].tolist()), ages.values(), strict=True):
        assert float(image.max()) == pytest.approx(own)


def options_without(options):
    return {name: value for name, value in options.items() if name in ("images", "table")}


def test_the_first_visit_is_the_earliest_whatever_the_order_of_the_table():
    frame = pd.DataFrame(
        {
            "subject": ["a", "a", "b", "b", "b"],
            "session": ["ses-M120", "ses-M006", "ses-M012", "ses-M000", "ses-M024"],
            "image": ["1", "2", "3", None, "5"],
        }
    )
    chosen, flow = choose_rows(frame, None, "first")
    assert chosen["image"].tolist() == ["2", "3"]
    assert flow == [("rows of the source", 5, "2 subjects"), ("without an image", -1, ""), ("later visits", -2, "")]
    dated = frame.assign(
        EXAMDATE=pd.to_datetime(["2010-01-01", "2012-01-01", "2010-01-01", "2009-01-01", "2008-01-01"])
    )
    assert choose_rows(dated, None, "first")[0]["image"].tolist() == ["1", "5"]


@pytest.mark.parametrize(
    ("sessions", "first"),
    [
        (["2020-01-05", "2019-12-31"], 1),
        (["20200105", "20191231"], 1),
        (["m120", "m06", "bl"], 2),
        (["visit-10", "visit-2"], 1),
        (["MR2", "MR1"], 1),
        (["2", "1"], 1),
    ],
)
def test_the_first_visit_by_the_sessions_names(sessions, first):
    frame = pd.DataFrame({"subject": "a", "session": sessions, "image": [str(i) for i in range(len(sessions))]})
    assert choose_rows(frame, None, "first")[0]["image"].tolist() == [str(first)]


@pytest.mark.parametrize(
    "sessions",
    [["31.12.2019", "05.01.2020"], ["Follow-up", "Baseline"], ["12m_3T", "24m_1.5T"], ["m06", "w04"], ["sc", "bl"]],
)
def test_sessions_whose_names_tell_no_order_are_an_error(sessions):
    frame = pd.DataFrame({"subject": "a", "session": sessions, "image": ["1", "2"]})
    with pytest.raises(TableError, match="expected sessions whose names tell which comes first"):
        choose_rows(frame, None, "first")
    assert len(choose_rows(frame, None, "all")[0]) == 2


@pytest.mark.parametrize(
    ("sessions", "dates"),
    [
        (["", ""], None),
        (["m06", "m06", "m12"], None),
        (["m12", "m06", "m06"], None),
        (["x", "y"], ["2010-01-01", "2010-01-01"]),
        (["x", "y"], [None, None]),
    ],
)
def test_two_images_of_a_first_visit_are_refused_by_name(sessions, dates):
    frame = pd.DataFrame({"subject": "a7", "session": sessions, "image": [f"{i}.nii" for i in range(len(sessions))]})
    if dates:
        frame["EXAMDATE"] = pd.to_datetime(pd.Series(dates))
    with pytest.raises(TableError, match=r"first visit of a7, got 2 .*session=COLUMN.*--rows"):
        choose_rows(frame, None, "first")
    assert len(choose_rows(frame, None, "all")[0]) == len(frame)
    chosen, _ = choose_rows(frame, f"image != '{sessions.index(min(sessions))}.nii'", "first")
    assert len(chosen) == 1


def test_two_rows_that_name_one_file_stop_the_recipe(tmp_path):
    (tmp_path / "one.nii").write_bytes(b"0" * 2000)
    (tmp_path / "t.csv").write_text("id,image,age\na,one.nii,61\nb,one.nii,72\n")
    with pytest.raises(TableError, match=r"got 2 rows that share one .*a: .*one\.nii; b: "):
        read_source("table", table=str(tmp_path / "t.csv"), options={"subject": "id"})


def test_time_to_dementia_follows_the_visits():
    visits = pd.DataFrame(
        {
            "subject": ["a", "a", "a", "b", "b", "c", "c", "d"],
            "DX": ["MCI", "MCI", "Dementia", "CN", "MCI", "Dementia", "MCI", "MCI"],
            "EXAMDATE": ["2010-01-01", "2011-01-01", "2013-01-01", "2010-01-01", "2014-01-01", "2010-01-01", "2011-01-01", "2010-01-01"],
        }
    )  # fmt: skip
    found = add_follow_up(visits)
    days = [1096, 731, None, 1461, None, None, None, None]  # 2012 is a leap year
    expected = [None if d is None else d / 365.25 for d in days]
    assert [None if pd.isna(v) else round(v, 9) for v in found["years_to_dementia"]] == [
        None if e is None else round(e, 9) for e in expected
    ]
    assert [None if pd.isna(v) else v for v in found["dementia_seen"]] == [1, 1, None, 0, None, None, None, None]


def test_a_real_volume_of_ds002748_is_prepared(tmp_path):
    root = os.environ.get("FUSIONCONV_TEST_DATA")
    if root is None or not (Path(root) / "ds002748_mini").is_dir():
        pytest.skip("set FUSIONCONV_TEST_DATA to a folder that holds ds002748_mini/ (OpenNeuro ds002748, CC0)")
    options = options_of("bids", Path(root) / "ds002748_mini", None)
    given = {**options_without(options), "target": "age", "covariates": ["gender"]}
    made = make_table({**options, "out": str(tmp_path / "out")}, given)
    study = Study(**made, spacing=[4, 4, 4], image_size=[48, 56, 48], task="regression", cache=str(tmp_path / "cache"))
    assert len(pd.read_csv(tmp_path / "out/table/unmatched.csv")) == 66  # 72 participants, six images
    array = study.store.read(study.rows.frame["id"].tolist()[:1])[0].numpy()
    assert array.shape == (1, 48, 56, 48)
    assert (array.min(), array.max()) == (0, 1)
    assert 0.1 < array.mean() < 0.6
