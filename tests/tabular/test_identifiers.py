"""Ids: columns that inspect leaves out as ids, columns that only look so, and ids that no reader merges or changes."""

import pathlib
import tempfile
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusionconv.errors import TableError, TableWarning
from fusionconv.tabular import holdout, inspect_table, pair_by_id, read_paths_table, read_table

RNG = np.random.default_rng(0)
VISITS = np.repeat(RNG.choice(np.arange(2, 6000), 60, replace=False), 3)  # 60 people, three rows each

IDS = {
    **dict.fromkeys(
        (
            *(
                "RID",
                "rid",
                "PTID",
                "id",
                "ID",
                "Id",
                "subject",
                "Subject",
                "subject_id",
                "SubjectID",
                "SUBJID",
                "USUBJID",
            ),
            *("patient", "patient_id", "PatientID", "patientid", "Patient ID", "patient.id", "participant_id", "MRN"),
            *(
                "mrn",
                "uid",
                "UID",
                "SeriesInstanceUID",
                "patient_number",
                "Patient Nr",
                "pat_nr",
                "PatNr",
                "subject no",
            ),
            *(
                "lesion_id",
                "image_id",
                "imageid",
                "StudyID",
                "case_id",
                "eid",
                "IID",
                "FID",
                "id_patient",
                "patient code",
            ),
            *(
                "accession_number",
                "MedicalRecordNumber",
                "hospital number",
                "proband",
                "Patientennummer",
                "numero_patient",
            ),
        ),
        VISITS,
    ),
    "x, consecutive": np.arange(1, 41),
    "x, consecutive and shuffled": RNG.permutation(np.arange(100, 140)),
    "x, nearly consecutive": np.delete(np.arange(1, 60), [3, 17, 40, 55]),
    "x, drawn without a tie": RNG.choice(np.arange(1, 6000), 900, replace=False),
    "x, long": RNG.integers(10**9, 9 * 10**9, 12),
    "x, long, repeated": np.repeat(RNG.integers(10**9, 9 * 10**9, 12), 2),
    "nr": np.arange(1, 21),
    "number": RNG.permutation(np.arange(1, 21)),
    "No": np.arange(1, 12),
    "index": np.arange(30),
    "rid, with gaps": np.where(np.arange(180) % 7 == 0, np.nan, VISITS),
    "x, as text": pd.Series(np.arange(1, 41)).astype(str),
    "subject, names": np.repeat(["ann", "bob", "cyd", "dan"], 5),
    "ptid, ADNI": np.repeat(["011_S_0002", "011_S_0003", "022_S_0004"], 4),
}
ELEVEN = np.array([61, 70, 82, 55, 64, 73, 91, 47, 58, 66, 79])
MEASURES = {
    "age": ELEVEN,
    "age, consecutive": np.arange(50, 90),
    "Age at visit": ELEVEN,
    "x": ELEVEN,
    "x, as text": pd.Series(ELEVEN).astype(str),
    "score": np.arange(10, 31),
    "mmse": np.arange(10, 31),
    "n_lesions": np.arange(1, 13),
    "num_lesions": np.arange(1, 13),
    "number of lesions": np.arange(1, 13),
    "count": np.arange(0, 15),
    "weight": ELEVEN,
    "eTIV": RNG.choice(np.arange(1_100_000, 1_900_000), 300, replace=False),
    "x, large": RNG.choice(np.arange(1_100_000, 1_900_000), 300, replace=False),
    "platelets": RNG.choice(np.arange(150_000, 400_000), 60, replace=False),
    "duration": np.arange(1, 30),
    "x, decimals": np.arange(1, 41) + 0.5,
    "x, negative": np.arange(-20, 20) * 3 + 1,
    "Number": np.array([3, 4, 5, 3, 2, 7, 4, 4, 5, 3, 9, 2, 6]),  # how many vertebrae, in the table of kyphosis
    "number, repeated": np.array([3, 4, 5, 3, 2, 7, 4, 4, 5, 3, 9, 2, 6]),
    "patient": np.tile([0, 1], 12),  # a patient or a control
    "case": np.tile([0, 1, 1], 8),
    "subject_age": ELEVEN,
    "patient_weight": ELEVEN,
    **{name: np.tile([5, 6, 9, 30], 10) for name in ("site_id", "scanner_id", "SITEID", "center_id", "device id")},
    **{name: np.tile([61, 62, 70, 71], 10) for name in ("lipid", "acid", "uric_acid", "fluid", "thyroid", "covid")},
    **{
        name: np.tile([61, 62, 70, 71], 10)
        for name in ("carotid", "amyloid", "grid", "width", "idh", "ideal", "midline")
    },
}


def note(name, values):
    """The notes of a column, which is called by what comes before a comma."""
    called = name.split(",")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TableWarning)
        report = inspect_table(pd.DataFrame({called: pd.Series(values)}))
    return "; ".join(report.columns[0].notes), report.columns[0].covariates


@pytest.mark.parametrize("name", IDS)
def test_an_id_is_left_out_repeated_or_not(name):
    notes, covariates = note(name, IDS[name])
    assert "an identifier?" in notes
    assert covariates == []


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_is_no_id_though_its_values_differ(name):
    notes, covariates = note(name, MEASURES[name])
    assert "an identifier?" not in notes
    assert covariates


def test_a_proposed_call_has_the_ages_and_not_the_ids():
    frame = pd.DataFrame({"RID": np.arange(100, 111), "age": ELEVEN, "MRN": 10**7 + ELEVEN * 977})
    assert inspect_table(frame).suggestion == "CovariateEncoder(['age'])"
    twice = pd.concat([frame, frame.assign(age=frame["age"] + 1)])
    assert inspect_table(twice).suggestion == "CovariateEncoder(['age'])"


# ids stay what they are

ALIKE = [
    ["10E2", "1000", "1E3"],
    ["1E3", "1000"],
    ["007", "7", "07"],
    ["0010", "010", "10"],
    ["12345678901234567", "12345678901234568"],
    ["9007199254740993", "9007199254740992"],
    ["1", "1.0"],
    ["1000", "+1000"],
    ["1e5", "100000", "1E5"],
    ["000", "0", "00"],
]


def table(folder, ids, rest=""):
    rows = "".join(f"{name},{61 + i},{i}.png\n" for i, name in enumerate(ids))
    (folder / "t.csv").write_text(f"id,age,file\n{rows}{rest}")
    for i in range(len(ids)):
        (folder / f"{i}.png").write_bytes(b"")
    return folder / "t.csv"


@pytest.mark.filterwarnings("ignore::fusionconv.errors.TableWarning")
@pytest.mark.parametrize("ids", ALIKE)
def test_ids_that_are_one_number_are_several_people_everywhere(tmp_path, ids):
    path = table(tmp_path, ids)
    assert read_table(path)["id"].tolist() == ids
    assert read_table(path, text=["id"])["id"].tolist() == ids
    assert read_paths_table(path, "file", subject="id")["subject"].tolist() == ids
    frame = read_table(path, text=["id"]).rename(columns={"id": "subject"})
    paired, report = pair_by_id({name: f"{name}.nii" for name in reversed(ids)}, frame)
    assert paired["image"].tolist() == [f"{name}.nii" for name in ids]
    assert report.empty


@pytest.mark.filterwarnings("ignore::fusionconv.errors.TableWarning")
@pytest.mark.parametrize("ids", ALIKE)
def test_a_split_deals_them_as_several_people_with_their_own_names(ids):
    many = [*ids, *(f"p{i}" for i in range(10))]
    frame = pd.DataFrame({"subject": many * 2, "age": 60.0})
    part = holdout(frame, {"train": 0.5, "test": 0.5})
    assert frame["subject"].tolist() == many * 2
    sides = part.groupby(frame["subject"]).nunique()
    assert sides.index.tolist() == sorted(many)
    assert set(sides) == {1}
    assert part.value_counts().to_dict() == {"train": len(many), "test": len(many)} or len(many) % 2


@given(
    st.lists(
        st.integers(0, 10**18).map(str).flatmap(lambda t: st.sampled_from([t, "0" + t, t + ".0", t + "E2"])),
        min_size=2,
        max_size=6,
        unique=True,
    )
)
def test_a_column_read_as_numbers_has_as_many_values_as_its_text(ids):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", TableWarning)
        path = pathlib.Path(folder, "t.csv")
        path.write_text("id,age\n" + "".join(f"{name},1\n" for name in ids))
        read = read_table(path)["id"]
        if pd.api.types.is_numeric_dtype(read):
            assert [Decimal(str(v)) for v in read] == [Decimal(t) for t in ids]
            assert read.nunique() == len(ids)
            assert not [t for t in ids if t[0] == "0" and t[1:2].isdigit()]
        else:
            assert read.tolist() == ids


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        (["1", "1.0", "2"], "'1' and '1.0' are one number and two names"),
        (["1000", "+1000", "2"], "'1000' and '+1000' are one number and two names"),
        (["10E2", "3", "4"], "'10E2' may be the number 1000 or a name"),
        (["1000", "1E3"], "'1E3' may be the number 1000 or a name"),
    ],
)
def test_a_column_that_stays_text_for_its_spelling_says_so(tmp_path, ids, says):
    path = table(tmp_path, ids)
    with pytest.warns(TableWarning) as caught:
        read = read_table(path)
    assert [says in str(w.message) and "text=[...]" in str(w.message) for w in caught] == [True]
    assert read["id"].tolist() == ids
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_table(path, text=["id"])["id"].tolist() == ids


@pytest.mark.parametrize("values", [["1", "2", "1"], ["1.0", "2.0", "1.0"], ["1.5", "1.50", "2"], ["1", "2.5", "1.0"]])
def test_one_spelling_and_decimals_are_numbers_without_a_warning(tmp_path, values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_table(table(tmp_path, values))["id"].tolist() == [float(v) for v in values]


FRAMES = [
    pd.DataFrame({"subject": [2.0**53, 5.0, 6.0]}),
    pd.DataFrame({"subject": [1.2345678901234567e17, 5.0, 6.0]}),
    pd.DataFrame({"subject": [-(2.0**60), 5.0, 6.0]}),
    pd.DataFrame({"subject": np.array([2**24, 5, 6], dtype=np.float32)}),
    pd.DataFrame({"subject": np.array([2**11, 5, 6], dtype=np.float16)}),
    pd.DataFrame({"subject": pd.Series([2**53, 5, 6], dtype="Float64")}),
    pd.DataFrame({"subject": pd.Series([2**24, 5, 6], dtype="Float32")}),
    pd.DataFrame({"subject": pd.Series([np.float32(2**24), "5", 6], dtype=object)}),
]


@pytest.mark.parametrize("frame", FRAMES)
def test_ids_that_a_float_cannot_hold_are_refused(frame):
    for call in (
        lambda: holdout(frame, {"train": 0.5, "test": 0.5}),
        lambda: pair_by_id({"5": "a", "6": "b"}, frame, unmatched="report"),
        lambda: pair_by_id(pd.DataFrame({"subject": ["5"], "image": ["a"]}), frame, unmatched="report"),
    ):
        with pytest.raises(TableError, match=r"id.*whole number.*(float|digits)"):
            call()


def test_whole_numbers_of_any_length_and_floats_below_are_ids():
    for ids in ([2**53 + 1, 2**53, 5], [2.0**53 - 1, 4.0, 5.0], np.array([2**24 - 1, 4, 5], dtype=np.float32)):
        frame = pd.DataFrame({"subject": ids})
        paired, _ = pair_by_id({str(int(i)): "x.nii" for i in ids}, frame)
        assert len(paired) == 3
