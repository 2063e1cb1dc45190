"""check_leakage finds what was planted, names the rows, and is silent on what is sound."""

import gzip
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from fusionconv.errors import LeakageWarning, TableError
from fusionconv.tabular import CovariateEncoder
from fusionconv.tabular.leakage import check_leakage, content_hash
from fusionconv.tabular.leakage.covariates import column_auc
from fusionconv.tabular.split import holdout


def cohort(n=120, seed=0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "subject": [f"sub-{i:03d}" for i in range(n)],
            "age": rng.normal(70, 9, n),
            "educ": rng.integers(8, 20, n),
            "sex": rng.integers(0, 2, n),
            "target": rng.choice(["CN", "AD"], n),
        }
    )


def halves(frame=None) -> tuple[pd.DataFrame, pd.DataFrame]:
    frame = cohort() if frame is None else frame
    split = holdout(frame, {"train": 0.7, "test": 0.3})
    return frame[split == "train"], frame[split == "test"]


def look(train, test, **options) -> pd.DataFrame:
    return check_leakage(train, test, raise_on="never", **options).findings


pytestmark = pytest.mark.filterwarnings("ignore::fusionconv.errors.LeakageWarning")


def test_a_sound_study_gives_no_finding_and_says_what_was_checked():
    train, test = halves()
    encoder = CovariateEncoder(["age", "educ", "sex"]).fit(train)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = check_leakage(train, test, encoder=encoder, target="target")
    assert report.findings.empty
    assert not report.errors
    assert str(report).startswith("nothing found\nchecked: subject: 84 against 36")
    assert "encoder: fitted again" in str(report)
    assert "age, educ, sex" in str(report)
    assert "images: not checked, no column 'image'" in str(report)


def test_a_split_by_rows_is_found_with_every_row_of_every_shared_subject():
    visits = pd.concat([cohort(20), cohort(20)], ignore_index=True)  # rows 0..19 and 20..39 are the same people
    train, test = visits.iloc[:25], visits.iloc[25:]
    with pytest.raises(
        TableError,
        match=r"got 15 errors:\nerror: shared subject: sub-005: on both sides \(training rows 5; test rows 25\)",
    ):
        check_leakage(train, test)
    found = look(train, test)
    assert found["kind"].tolist() == ["shared subject"] * 15
    assert found["name"].tolist() == [f"sub-{i:03d}" for i in range(5, 20)]
    assert found["train_rows"].tolist() == [(i,) for i in range(5, 20)]
    assert found["test_rows"].tolist() == [(i + 20,) for i in range(5, 20)]


def test_ids_written_otherwise_are_a_warning():
    train, test = (
        pd.DataFrame({"subject": ["sub-01", "sub-02"]}),
        pd.DataFrame({"subject": ["SUB01", "sub-03"]}, index=["x", "y"]),
    )
    with pytest.warns(LeakageWarning, match="near-identical subject: SUB01 and sub-01"):
        found = check_leakage(train, test).findings
    assert found[["severity", "train_rows", "test_rows"]].to_numpy().tolist() == [["warning", (0,), ("x",)]]
    with pytest.raises(TableError, match="got 1 warning"):
        check_leakage(train, test, raise_on="warning")
    assert look(pd.DataFrame({"subject": ["sub-01", "SUB01"]}), pd.DataFrame({"subject": ["b"]})).empty  # one side only


def test_ids_stored_as_numbers_here_and_as_text_there_are_the_same():
    assert look(pd.DataFrame({"subject": [1, 2]}), pd.DataFrame({"subject": ["2", "3"]}))["name"].tolist() == ["2"]


def test_the_same_row_under_another_id_is_found_and_a_coincidence_is_not():
    train, test = halves()
    planted = test.copy()
    planted.iloc[0, 1:] = train.iloc[3, 1:].to_numpy()
    found = look(train, planted)
    assert found[["severity", "kind"]].to_numpy().tolist() == [["warning", "identical rows"]]
    assert found["train_rows"].tolist() == [(train.index[3],)]
    assert found["test_rows"].tolist() == [(test.index[0],)]
    coarse = [f.assign(age=f["age"].round(-1)).drop(columns="educ") for f in (train, test)]
    assert coarse[0].merge(coarse[1], on=["age", "sex", "target"]).shape[0] > 50  # many women of 70
    assert look(*coarse).empty


# images


@pytest.fixture
def files(tmp_path):
    """Sixty different images in three formats of the same size in bytes, a table of them, split by subject."""
    frame = cohort(60)
    rng = np.random.default_rng(0)
    names = []
    for i, subject in enumerate(frame["subject"]):
        name = f"{subject}.{'nii.gz' if i % 3 else 'png'}"
        content = rng.integers(0, 256, 500, dtype=np.uint8).tobytes()
        (tmp_path / name).write_bytes(gzip.compress(content, mtime=i) if i % 3 else content)
        names.append(name)
    train, test = halves(frame.assign(image=names))
    return tmp_path, train, test


@pytest.mark.parametrize("workers", [1, 4])
def test_duplicate_images_are_found_by_content(files, workers):
    root, train, test = files
    report = check_leakage(train, test, root=root, workers=workers)
    assert report.findings.empty
    assert "images: 60 files by content" in report.checked
    packed = next(n for n in train["image"] if n.endswith("gz"))
    content = gzip.decompress((root / packed).read_bytes())
    victim = next(n for n in test["image"] if n.endswith("gz"))
    (root / victim).write_bytes(gzip.compress(content, compresslevel=1, mtime=999))
    assert (root / victim).read_bytes() != (root / packed).read_bytes()
    found = look(train, test, root=root, workers=workers)
    assert found[["severity", "kind"]].to_numpy().tolist() == [["error", "duplicate image"]]
    assert packed in found["name"][0]
    assert victim in found["name"][0]
    assert found["train_rows"][0] == (train.index[train["image"] == packed][0],)
    assert found["test_rows"][0] == (test.index[test["image"] == victim][0],)


def test_uncompressed_images_are_found_too_where_sizes_spare_most_of_the_reading(tmp_path, monkeypatch):
    frame = cohort(40).assign(image=[f"{i}.png" for i in range(40)])
    for i in range(40):
        (tmp_path / f"{i}.png").write_bytes(bytes([i]) * (100 + i))
    train, test = halves(frame)
    left, right = train["image"].iloc[2], test["image"].iloc[1]
    (tmp_path / right).write_bytes((tmp_path / left).read_bytes())
    read = []
    from fusionconv.tabular.leakage import images

    real = images.content_hash
    monkeypatch.setattr(images, "content_hash", lambda p: read.append(p.name) or real(p))
    found = look(train, test, root=tmp_path)
    assert found["kind"].tolist() == ["duplicate image"]
    assert sorted(read) == sorted([left, right])


def test_the_same_file_on_both_sides_also_through_a_link_and_a_folder_of_slices(tmp_path):
    for series in ("a", "b"):
        (tmp_path / series).mkdir()
        for k in range(3):
            (tmp_path / series / f"{k}.dcm").write_bytes(bytes([k]) * 10)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    train = pd.DataFrame({"subject": ["x"], "image": ["a"]})
    assert look(train, pd.DataFrame({"subject": ["y"], "image": ["link"]}), root=tmp_path)["kind"].tolist() == [
        "shared image"
    ]
    other = pd.DataFrame({"subject": ["y"], "image": ["b"]})
    assert look(train, other, root=tmp_path)["kind"].tolist() == ["duplicate image"]
    (tmp_path / "b" / "2.dcm").write_bytes(b"other")
    assert look(train, other, root=tmp_path).empty


def test_images_that_cannot_be_read_are_named_and_not_taken_for_checked(files):
    root, train, test = files
    gone, cut = test["image"].iloc[0], next(n for n in train["image"] if n.endswith("gz"))
    (root / gone).unlink()
    (root / cut).write_bytes((root / cut).read_bytes()[:-9])
    report = check_leakage(train, test.assign(image=test["image"].where(test.index != test.index[1])), root=root)
    assert report.findings[["severity", "kind"]].drop_duplicates().to_numpy().tolist() == [
        ["warning", "image not checked"]
    ]
    assert sorted(report.findings["name"].map(lambda n: n.rsplit("/")[-1])) == sorted([gone, cut])
    assert (test.index[0],) in report.findings["test_rows"].tolist()
    assert "images: 57 files by content, 2 not readable, 1 rows without one" in report.checked


def test_a_hash_is_of_the_content_piece_by_piece(tmp_path):
    import hashlib

    big = np.random.default_rng(0).integers(0, 256, 3 << 20, dtype=np.uint8).tobytes()
    (tmp_path / "a.nii").write_bytes(big)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(big, 1))
    assert content_hash(tmp_path / "a.nii") == content_hash(tmp_path / "a.nii.gz") == hashlib.sha256(big).hexdigest()


# encoders: "imputation and z-scores over the whole cohort before the split"


def test_an_encoder_fitted_on_the_whole_cohort_before_the_split_is_an_error():
    frame = cohort()
    train, test = halves(frame)
    with pytest.raises(
        TableError, match=r"error: encoder: CovariateEncoder: was fitted on the training and the test rows"
    ):
        check_leakage(train, test, encoder=CovariateEncoder(["age", "sex"]).fit(frame))
    with pytest.raises(TableError, match="was fitted on the test rows"):
        check_leakage(train, test, encoder=CovariateEncoder(["age"]).fit(test))


def test_fitted_on_training_validation_and_test_rows_the_number_of_rows_tells():
    frame = cohort()
    split = holdout(frame)
    parts = {name: frame[split == name] for name in ("train", "val", "test")}
    encoder = CovariateEncoder(["age"]).fit(frame)
    found = look(parts["train"], parts["test"], encoder=encoder)
    assert found["severity"].tolist() == ["error"]
    assert "was fitted on 120 rows, but there are 84 training rows" in found["detail"][0]


def test_fitted_on_a_part_of_the_training_rows_it_is_a_warning():
    train, test = halves()
    found = look(train, test, encoder=CovariateEncoder(["age"]).fit(train.iloc[:50]))
    assert found["severity"].tolist() == ["warning"]
    assert "from 50 rows is not what the 84 training rows give" in found["detail"][0]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.randoms(use_true_random=False))
def test_fitted_on_the_training_rows_in_any_order_it_passes_and_one_other_row_is_enough_to_fail(seed, random):
    train, test = halves(cohort(40, seed))
    order = list(range(len(train)))
    random.shuffle(order)
    assert look(train, test, encoder=CovariateEncoder(["age", "sex"]).fit(train.iloc[order])).empty
    swapped = pd.concat([train.iloc[1:], test.iloc[:1]])
    assert look(train, test, encoder=CovariateEncoder(["age"]).fit(swapped))["kind"].tolist() == ["encoder"]
    saved = CovariateEncoder.from_dict(CovariateEncoder(["age"]).fit(train).to_dict())
    assert look(train, test, encoder=saved).empty


def test_the_encoder_itself_is_left_as_it_was_and_an_unfittable_one_is_not_taken_for_checked():
    train, test = halves()
    encoder = CovariateEncoder(["age"]).fit(test)
    kept = encoder.to_dict()
    look(train, test, encoder=encoder)
    assert encoder.to_dict() == kept
    found = look(train.drop(columns="age"), test, encoder=encoder)
    assert found["kind"].tolist() == ["encoder not checked"]
    assert "unknown column 'age'" in found["detail"][0]


# covariates


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_the_auc_is_scikit_learns(rows):
    score, positive = map(list, zip(*rows, strict=True))
    if len(set(positive)) == 2:
        assert column_auc(score, positive) == pytest.approx(roc_auc_score(positive, score), abs=1e-12)


def telling(frame, **options) -> pd.DataFrame:
    train, test = halves(frame)
    return look(train, test, target="target", **options)


def test_a_covariate_that_tells_the_target_alone_is_found_whichever_way_it_points():
    frame = cohort()
    ad = (frame["target"] == "AD").to_numpy()
    noise = np.random.default_rng(1).normal(0, 1, len(frame))
    for sign in (1, -1):
        found = telling(frame.assign(score=sign * (2.4 * ad + noise)))
        assert found[["severity", "kind", "name"]].to_numpy().tolist() == [["warning", "telling covariate", "score"]]
        train, _ = halves(frame.assign(score=sign * (2.4 * ad + noise)))
        auc = roc_auc_score(train["target"] == "AD", sign * train["score"])
        assert f"AUC {auc:.3f}, n=84" in found["detail"][0]
        assert 0.95 < auc < 1
    assert telling(frame.assign(score=2.4 * ad + noise), bound=0.9999).empty
    assert telling(frame.assign(score=1.0 * ad + noise)).empty  # AUC about .76
    assert telling(frame.assign(score=2.4 * ad + noise), covariates=["age", "sex"]).empty
    assert telling(frame.assign(score=2.4 * ad + noise), allow=["score"]).empty


def test_a_complete_separation_is_an_error_unless_chance_explains_it():
    frame = cohort()
    copied = frame.assign(code=frame["target"].map({"CN": 3, "AD": 7}))
    assert telling(copied)[["severity", "name"]].to_numpy().tolist() == [["error", "code"]]
    as_text = frame.assign(code=frame["target"].map({"CN": "F00", "AD": "G30"}))
    assert telling(as_text)[["severity", "name"]].to_numpy().tolist() == [["error", "code"]]
    few = pd.DataFrame({"subject": list("abcdef"), "age": [60, 61, 62, 70, 71, 72], "target": ["CN"] * 3 + ["AD"] * 3})
    assert look(few, cohort(3)[["subject", "age", "target"]], target="target")["severity"].tolist() == ["warning"]


def test_where_a_score_was_only_taken_of_patients_its_gaps_tell():
    frame = cohort()
    gaps = frame.assign(
        scale=np.where(frame["target"] == "AD", np.random.default_rng(0).normal(size=len(frame)), np.nan)
    )
    assert telling(gaps)[["severity", "kind", "name"]].to_numpy().tolist() == [
        ["error", "telling missingness", "scale"]
    ]


def test_three_classes_are_taken_one_against_the_rest():
    frame = cohort().assign(target=lambda f: np.random.default_rng(2).choice(["CN", "MCI", "AD"], len(f)))
    found = telling(frame.assign(marker=(frame["target"] == "MCI") * 1.0))
    assert found[["severity", "name"]].to_numpy().tolist() == [["error", "marker"]]
    assert "tells 'MCI'" in found["detail"][0]


def test_a_site_that_tells_the_class_is_found_and_ids_are_not_scored():
    frame = cohort()
    sites = frame.assign(
        site=np.where(frame["target"] == "AD", "clinic", frame["subject"].str[-1].map(lambda d: f"town{int(d) % 3}"))
    )
    assert telling(sites)["name"].tolist() == ["site"]
    coded = frame.assign(code=[f"x{i}" for i in range(len(frame))])
    train, test = halves(coded)
    report = check_leakage(train, test, target="target")
    assert report.findings.empty
    assert "covariate 'code': not scored against the target (text with too many different values)" in report.checked


@pytest.mark.parametrize(
    "name",
    [
        "MMSE",
        "mmse_bl",
        "CDRSB",
        "CDR",
        "ADAS13",
        "ADASQ4",
        "MOCA",
        "DX_bl",
        "ICD-10",
        "FAQ",
        "MADRS",
        "HADS-anx",
        "LDELTOTAL",
    ],
)
def test_scores_that_define_a_diagnosis_are_known_by_name(name):
    frame = cohort().rename(columns={"educ": name})
    found = telling(frame)
    assert found[["severity", "kind", "name"]].to_numpy().tolist() == [["warning", "defining covariate", name]]
    assert telling(frame, allow=[name]).empty


def test_names_that_only_begin_alike_are_not():
    names = ["PTEDUCAT", "APOE4", "age", "sex", "dxa_bone_density", "groupsize", "Hippocampus", "faqir"]
    frame = cohort()
    for name in names[4:]:
        assert telling(frame.rename(columns={"educ": name})).empty, name


def test_a_measured_target_is_compared_by_ranks():
    rng = np.random.default_rng(5)
    frame = cohort().assign(target=rng.normal(size=120))
    frame["bone_age"] = np.exp(frame["target"]) + rng.normal(0, 0.05, 120)
    found = telling(frame.assign(MMSE=rng.normal(size=120)))  # no diagnosis, so no warning by name
    assert found[["severity", "name"]].to_numpy().tolist() == [["warning", "bone_age"]]
    train, _ = halves(frame)
    assert f"{abs(spearmanr(train['bone_age'], train['target'])[0]):.3f}" in found["detail"][0]
    assert telling(frame.assign(bone_age=-(frame["target"] ** 3)))["severity"].tolist() == ["error"]


def test_the_target_among_the_covariates_is_an_error():
    train, test = halves()
    train = train.assign(target=(train["target"] == "AD") * 1)
    encoder = CovariateEncoder(["age", "target"]).fit(train)
    with pytest.raises(TableError, match="error: target among the covariates: target: the covariates hold the answer"):
        check_leakage(train, test.assign(target=0), encoder=encoder, target="target")


def test_only_training_rows_are_scored_so_that_the_test_part_stays_untouched():
    train, test = halves(cohort().assign(score=0.0))
    test = test.assign(score=(test["target"] == "AD") * 1.0)
    assert look(train, test, target="target").empty


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"raise_on": "errors"}, "raise_on to be"),
        ({"target": "targett"}, r"unknown column 'targett'; did you mean 'target'"),
        ({"covariates": ["agee"], "target": "target"}, "unknown column 'agee'"),
        ({"group": "patient"}, "training table: unknown column 'patient'"),
    ],
)
def test_wrong_arguments_are_refused(change, says):
    with pytest.raises(TableError, match=says):
        check_leakage(*halves(), **change)


def test_rows_without_a_name_of_their_own_and_rows_of_nobody_are_refused():
    train, test = halves()
    with pytest.raises(TableError, match="index label of its own"):
        check_leakage(pd.concat([train, train]), test)
    with pytest.raises(TableError, match="expected an id in every row"):
        check_leakage(train, test.assign(subject=None))
    with pytest.raises(TableError, match="test table: unknown column 'image'"):
        check_leakage(train.assign(image="x"), test)


def test_several_targets_are_each_looked_at_and_all_else_once():
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"subject": [f"s{n}" for n in range(80)], "a": draw.integers(0, 2, 80), "b": draw.normal(size=80)}
    )
    frame = frame.assign(of_a=frame["a"] + draw.normal(size=80) * 0.01, of_b=frame["b"] ** 3, free=draw.normal(size=80))
    sides = frame.iloc[:60], frame.iloc[59:].set_axis(range(60, 81))  # s59 on both
    names = ["of_a", "of_b", "free"]
    found = []
    for target in (["a", "b"], "a", "b"):
        with pytest.warns(LeakageWarning):
            found.append(check_leakage(*sides, covariates=names, target=target, image=None, raise_on="never").findings)
    told = [report[report["name"].isin(names)] for report in found]
    assert told[0]["name"].tolist() == ["of_a", "of_b"]
    assert told[0]["detail"].tolist() == [*told[1]["detail"], *told[2]["detail"]]
    assert found[0]["kind"].tolist().count("shared subject") == 1
