"""Splits by subject: properties for any table, the promised proportions, scikit-learn beside them, and bad tables."""

import unicodedata
import warnings
import zlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score

from fusionconv.errors import SplitWarning, TableError
from fusionconv.tabular.ids import id_text, near_identical
from fusionconv.tabular.leakage import check_leakage
from fusionconv.tabular.split import holdout, kfold, leave_site_out
from fusionconv.tabular.split.deal import deal_equal, deal_sizes, whole_numbers

PINNED_HOLDOUT, PINNED_KFOLD = 153862869, 3455634957
quiet = pytest.mark.filterwarnings("ignore::fusionconv.errors.SplitWarning")


@st.composite
def tables(draw, least=10):
    """Any table: ids of any text or numbers, any number of visits each, a class per visit, a measure, rows mixed."""
    ids = st.text(min_size=1, max_size=6).filter(id_text) | st.integers(0, 999).map(str)
    subjects = draw(
        st.lists(ids, min_size=least, max_size=25, unique_by=lambda t: unicodedata.normalize("NFC", t.strip()))
    )
    rows = [(s, draw(st.sampled_from(["CN", "MCI", "AD"]))) for s in subjects for _ in range(draw(st.integers(1, 3)))]
    frame = pd.DataFrame(draw(st.permutations(rows)), columns=["subject", "target"])
    frame["age"] = (
        np.random.default_rng(draw(st.integers(0, 99))).normal(70, 9, len(frame)).round(draw(st.integers(-1, 3)))
    )
    return frame


def cohort(subjects=97, seed=0) -> pd.DataFrame:
    """Unequal numbers of visits, three classes of 60, 30 and 10 per cent, an age, three sites; one class a subject."""
    rng = np.random.default_rng(seed)
    visits = rng.integers(1, 7, subjects)
    frame = pd.DataFrame(
        {
            "subject": [f"sub-{i:03d}" for i in range(subjects)],
            "target": rng.choice(["CN", "MCI", "AD"], subjects, p=[0.6, 0.3, 0.1]),
            "age": rng.normal(70, 9, subjects),
            "site": rng.choice(["A", "B", "C"], subjects),
        }
    )
    return frame.loc[frame.index.repeat(visits)].sample(frac=1, random_state=1).reset_index(drop=True)


def parts_of(frame, split, group="subject") -> pd.Series:
    """How many parts each subject is in."""
    return split.groupby(frame[group]).nunique()


@quiet
@settings(max_examples=25, deadline=None)
@given(tables(), st.sampled_from([None, "target", "age", ["target", "age"]]), st.integers(0, 2**32 - 1))
def test_no_subject_is_on_two_sides_and_no_row_is_lost(frame, stratify, seed):
    split = holdout(frame, stratify=stratify, seed=seed)
    assert split.index.equals(frame.index)
    assert set(split) == {"train", "val", "test"}
    assert (parts_of(frame, split) == 1).all()


@quiet
@settings(max_examples=25, deadline=None)
@given(tables(), st.integers(2, 5), st.integers(1, 2), st.sampled_from([0, 0.2]), st.integers(0, 99))
def test_each_row_is_in_exactly_one_test_fold_of_a_repeat(frame, n_splits, n_repeats, val_size, seed):
    folds = kfold(frame, n_splits, n_repeats, stratify="target", val_size=val_size, seed=seed)
    assert folds.shape == (len(frame), n_splits * n_repeats)
    for repeat in range(n_repeats):
        names = [f"repeat{repeat}-fold{k}" for k in range(n_splits)]
        assert ((folds[names] == "test").sum(axis=1) == 1).all()
    for name, split in folds.items():
        assert (parts_of(frame, split) == 1).all(), name
        assert set(split) == ({"train", "val", "test"} if val_size else {"train", "test"})


@quiet
@settings(max_examples=25, deadline=None)
@given(tables(), st.randoms(use_true_random=False), st.sampled_from([None, "target", "age"]))
def test_the_order_of_the_rows_does_not_matter(frame, random, stratify):
    order = list(range(len(frame)))
    random.shuffle(order)
    other = frame.iloc[order]
    pd.testing.assert_series_equal(
        holdout(other, stratify=stratify).loc[frame.index], holdout(frame, stratify=stratify)
    )
    folds = kfold(frame, 3, 2, stratify=stratify, val_size=0.3)
    pd.testing.assert_frame_equal(kfold(other, 3, 2, stratify=stratify, val_size=0.3).loc[frame.index], folds)


@quiet
@settings(max_examples=25, deadline=None)
@given(tables(), st.integers(0, 9))
def test_sites_are_left_out_one_by_one_and_a_subject_of_two_sites_is_never_in_training(frame, seed):
    rng = np.random.default_rng(seed)
    frame["site"] = rng.choice(["Oslo", "Bern"], len(frame))
    try:
        folds = leave_site_out(frame, shared="exclude")
    except TableError as error:
        assert "at least two sites" in str(error) or "nobody is left" in str(error)  # noqa: PT017 - both are right here
        return
    assert list(folds.columns) == ["Bern", "Oslo"]
    for site, split in folds.items():
        assert (frame["site"][split == "test"] == site).all()
        assert ((split == "test") == (frame["site"] == site)).all()
        visited = set(frame["subject"][frame["site"] == site])
        assert not visited & set(frame["subject"][split == "train"])


def test_the_split_is_pinned_for_all_machines_and_versions():
    frame = cohort()
    text = "".join(
        f"{s}{p[0]}" for s, p in sorted(set(zip(frame["subject"], holdout(frame, stratify="target"), strict=True)))
    )
    assert zlib.crc32(text.encode()) == PINNED_HOLDOUT, "a seed no longer gives the split that people have published"
    folds = kfold(frame, 5, 2, stratify=["target", "age"], val_size=0.2, seed=7)
    text = "".join(
        sorted({s + "".join(row) for s, row in zip(frame["subject"], folds.to_numpy().tolist(), strict=True)})
    )
    assert zlib.crc32(text.encode()) == PINNED_KFOLD


def test_seeds_and_repeats_differ_and_repeats_do_not_depend_on_how_many_there_are():
    frame = cohort()
    assert not holdout(frame, seed=0).equals(holdout(frame, seed=1))
    two, one = kfold(frame, 5, 2, stratify="target"), kfold(frame, 5, 1, stratify="target")
    pd.testing.assert_frame_equal(two[one.columns], one)
    assert not (two["repeat0-fold0"] == two["repeat1-fold0"]).all()


def test_each_stratum_is_shared_out_to_within_a_subject_or_two():
    frame = cohort()
    first = frame.drop_duplicates("subject")
    classes = first["target"].value_counts()
    for seed in range(20):
        split = holdout(frame, stratify="target", seed=seed)
        counts = pd.crosstab(first["target"], split.loc[first.index])
        assert counts.sum().to_dict() == {"train": 68, "val": 15, "test": 14}  # 97 x .7 .15 .15 = 67.9 14.55 14.55
        for part, share in {"train": 0.7, "val": 0.15, "test": 0.15}.items():
            assert ((counts[part] - share * classes).abs() < 2).all(), (seed, part)
        folds = kfold(frame, 5, stratify="target", seed=seed)
        per_fold = pd.DataFrame(
            {n: first["target"][s.loc[first.index] == "test"].value_counts() for n, s in folds.items()}
        )
        assert (per_fold.max(axis=1) - per_fold.min(axis=1)).max() <= 1
        assert per_fold.sum().max() - per_fold.sum().min() <= 1


def test_a_measure_is_balanced_by_quantiles():
    frame = cohort(200)
    first = frame.drop_duplicates("subject")
    quintile = pd.qcut(first["age"], 5, labels=False)

    def spread(folds) -> int:
        counts = [quintile[folds[n].loc[first.index] == "test"].value_counts() for n in folds.columns]
        return max(int(c.max() - c.min()) for c in (c.reindex(range(5), fill_value=0) for c in counts))

    assert spread(kfold(frame, 5, stratify="age")) <= 1  # 8 of each quintile in each fold
    assert spread(kfold(frame, 5)) > 3  # unlike without


def test_many_equal_values_share_a_bin_and_do_not_stop_the_others():
    frame = pd.DataFrame({"subject": range(100), "lesions": [0] * 80 + list(range(1, 21))})
    folds = kfold(frame, 5, stratify="lesions")
    assert [int((frame["lesions"][s == "test"] > 0).sum()) for _, s in folds.items()] == [4] * 5


def test_a_measure_counts_once_a_subject_by_its_median_not_by_the_first_row():
    frame = cohort()
    frame["age"] += np.random.default_rng(3).normal(0, 0.1, len(frame))
    flat = frame.assign(age=frame.groupby("subject")["age"].transform("median"))
    pd.testing.assert_series_equal(holdout(frame, stratify="age"), holdout(flat, stratify="age"))


def test_the_folds_are_as_even_as_scikit_learns_on_one_row_per_subject():
    frame = cohort(303)
    first = frame.drop_duplicates("subject").reset_index(drop=True)

    def per_fold(tests) -> dict[str, list[int]]:
        """Of each class, and of all, the numbers of subjects in the folds, sorted."""
        chosen = [first["target"].iloc[t] for t in tests]
        return {c: sorted((t == c).sum() for t in chosen) for c in ("CN", "MCI", "AD")} | {
            "all": sorted(map(len, chosen))
        }

    for seed in range(3):
        cv = StratifiedKFold(7, shuffle=True, random_state=seed)
        theirs = per_fold(t for _, t in cv.split(first, first["target"]))
        ours = kfold(frame, 7, stratify="target", seed=seed).loc[lambda f: ~frame["subject"].duplicated()]
        assert per_fold(np.flatnonzero(s == "test") for _, s in ours.items()) == theirs
    theirs = per_fold(t for _, t in KFold(7, shuffle=True, random_state=0).split(first))
    ours = kfold(frame, 7).loc[~frame["subject"].duplicated()]
    assert per_fold(np.flatnonzero(s == "test") for _, s in ours.items())["all"] == theirs["all"]


def test_folds_go_into_scikit_learn_as_the_docstring_says():
    frame = cohort()
    folds = kfold(frame, 5, stratify="target")
    cv = [(np.flatnonzero(s == "train"), np.flatnonzero(s == "test")) for _, s in folds.items()]
    assert len(cross_val_score(LogisticRegression(), frame[["age"]], frame["target"] == "CN", cv=cv)) == 5


def test_chance_decides_within_a_stratum_and_among_strata_of_one():
    frame = pd.DataFrame({"subject": range(40), "site": [f"s{i}" for i in range(40)]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SplitWarning)
        in_test = [holdout(frame, {"train": 0.5, "test": 0.5}, stratify="site", seed=s) == "test" for s in range(100)]
    rate = np.mean(in_test, axis=0)
    assert np.abs(rate - 0.5).max() < 0.25  # 5 standard errors; a fixed order of the strata gives 0 and 1
    together = np.mean([(t.iloc[0] == t.iloc[1]) for t in in_test])
    assert 0.3 < together < 0.7


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=60), st.integers(0, 99), st.data()
)
def test_dealing_keeps_its_promises_on_every_level(rows, seed, data):
    strata = np.array(rows, dtype=np.intp)
    parts = data.draw(st.integers(1, 5))
    random = np.random.RandomState(seed)
    groups = [np.ones(len(rows), dtype=bool), *(strata[:, 0] == k for k in range(4))]
    groups += [(strata == row).all(axis=1) for row in set(rows)]
    equal = deal_equal(strata, parts, random)
    for group in groups:
        counts = np.bincount(equal[group], minlength=parts)
        assert counts.max() - counts.min() <= 1
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), min_size=parts - 1, max_size=parts - 1)))
    sizes = np.diff([0, *cuts, len(rows)]).tolist()
    dealt = deal_sizes(strata, sizes, random)
    assert np.bincount(dealt, minlength=parts).tolist() == sizes
    first = min(range(parts), key=lambda p: (sizes[p], p))
    for group in groups:
        for part, size in enumerate(sizes):
            miss = abs((dealt[group] == part).sum() - group.sum() * size / len(rows))
            assert miss < (1 if part == first else max(2, parts)), (part, miss)


def test_every_subject_has_the_same_chance_of_each_part():
    strata = np.array([[0]] * 7 + [[1]] * 3 + [[2]])
    dealt = np.array([deal_sizes(strata, [6, 3, 2], np.random.RandomState(seed)) for seed in range(3000)])
    for part, size in enumerate([6, 3, 2]):
        assert np.abs((dealt == part).mean(axis=0) - size / 11).max() < 0.04  # 4.4 standard errors


@given(st.integers(0, 500), st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_whole_numbers_add_up_and_are_off_by_less_than_one(total, shares):
    fractions = [s / sum(shares) for s in shares]
    sizes = whole_numbers(total, fractions)
    assert sum(sizes) == total
    assert max(abs(n - f * total) for n, f in zip(sizes, fractions, strict=True)) < 1


def test_faces_are_split_by_identity_and_numbers_read_as_text_fall_alike():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"identity": rng.integers(1, 200, 2000), "Smiling": rng.integers(0, 2, 2000)})
    split = holdout(frame, group="identity")
    assert (parts_of(frame, split, "identity") == 1).all()
    for dtype in (str, float, "Int64", "category"):
        pd.testing.assert_series_equal(holdout(frame.astype({"identity": dtype}), group="identity"), split)


def test_a_subject_with_two_classes_is_named_and_kept_together():
    frame = cohort()
    frame.loc[frame["subject"] == "sub-003", "target"] = "CN"
    frame.loc[frame.index[frame["subject"] == "sub-003"][-1], "target"] = "MCI"
    assert (frame["subject"] == "sub-003").sum() > 1
    with pytest.warns(
        SplitWarning, match=r"'target': expected one class per subject, .* 1 of 97 .*sub-003: CN and MCI"
    ):
        split = holdout(frame, stratify="target")
    assert split[frame["subject"] == "sub-003"].nunique() == 1


def test_converters_are_shared_out_too():
    frame = pd.DataFrame({"subject": sorted([*range(100), *range(20)]), "target": "CN"})
    frame.loc[frame["subject"].duplicated(), "target"] = "MCI"
    with pytest.warns(SplitWarning, match="several for 20 of 100"):
        folds = kfold(frame, 5, stratify="target")
    assert [int((frame["target"][s == "test"] == "MCI").sum()) for _, s in folds.items()] == [4] * 5


def test_a_class_absent_from_a_fold_is_named_with_its_subjects_and_folds():
    frame = cohort(50)
    frame["target"] = np.where(frame["subject"].isin(["sub-007", "sub-011"]), "rare", "common")
    with pytest.warns(
        SplitWarning, match=r"'rare' \(2 subjects: 'sub-007', 'sub-011'\) is absent from .*-fold\d test"
    ) as caught:
        kfold(frame, 5, stratify="target")
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kfold(frame, 2, stratify="target")  # one in each: nothing to warn of


def test_ids_that_may_be_one_persons_are_named():
    frame = pd.DataFrame({"subject": ["sub-01", "SUB01", *"abcdefgh"]})
    with pytest.warns(SplitWarning, match=r"\('SUB01', 'sub-01'\); if they are one person's"):
        holdout(frame)


@pytest.mark.parametrize(
    ("ids", "alike"),
    [
        (["027_S_0074", "027_s_0074"], [("027_S_0074", "027_s_0074")]),
        (["sub-1", "sub-01", "sub-10"], [("sub-01", "sub-1")]),
        (["1_12", "11_2", "112"], []),
        (["002_S_0295", "022_S_0295"], []),
        (["--", "++"], []),
        (["sub-01 ", "sub-01"], [("sub-01", "sub-01 ")]),
        (["OAS1_0001", "OAS1_0002"], []),
        (["sub", "sub-1"], []),
        (["P1", "\uff30\uff11", "P2"], [("P1", "\uff30\uff11")]),  # wide letters
        (["M\u00fcller", "Mu\u0308ller"], [("Mu\u0308ller", "M\u00fcller")]),
    ],
)
def test_near_identical_ids(ids, alike):
    assert near_identical(ids) == alike


@pytest.mark.parametrize("other", [" {}", "{}\t", "{}\N{NO-BREAK SPACE}", "nfd"])
@pytest.mark.parametrize("name", ["M\u00fcller", "Nguy\u1ec5n", "\uac15"])
def test_outer_spaces_and_the_way_an_accent_is_stored_make_no_other_person(other, name):
    same = unicodedata.normalize("NFD", name) if other == "nfd" else other.format(name)
    people = [f"p{i}" for i in range(9)]
    frame = pd.DataFrame({"subject": [name, *people, same, *people]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(5):
            for split in (holdout(frame, seed=seed).to_frame(), kfold(frame, 5, seed=seed)):
                assert (split.iloc[0] == split.iloc[10]).all()
    with pytest.raises(TableError, match=r"1 error:\nerror: shared subject"):
        check_leakage(frame.iloc[:10], pd.DataFrame({"subject": [same, "x"]}))


@pytest.mark.parametrize(
    "missing", [None, np.nan, "", "  ", pd.NA, "nan", "None", "NA", "NaT", "<NA>", " n/a ", "9.00719925474099E+16"]
)
def test_a_row_of_nobody_is_refused_with_its_label(missing):
    frame = cohort().set_axis([f"row{i}" for i in range(len(cohort()))])
    frame["subject"] = frame["subject"].astype(object)
    frame.loc[["row4", "row9"], "subject"] = missing
    for call in (holdout, kfold, leave_site_out):
        with pytest.raises(
            TableError, match=r"'subject': expected an id in every row .* none in 2 of .*'row4', 'row9'"
        ):
            call(frame)


@pytest.mark.parametrize("bad", [1.5, True, (1,)])
def test_what_is_no_id_is_refused(bad):
    with pytest.raises(TableError, match="expected an id in every row"):
        holdout(pd.DataFrame({"subject": pd.Series(["a", "b", bad], dtype=object)}))


def test_too_few_subjects_are_refused():
    frame = pd.DataFrame({"subject": ["a", "a", "b", "b", "c"]})
    with pytest.raises(TableError, match=r"as folds \(5\), got 3: 'a', 'b', 'c'; use fewer folds"):
        kfold(frame)
    with pytest.raises(TableError, match=r"got 3 in all, which makes \{'train': 2, 'val': 1, 'test': 0\}"):
        holdout(frame)
    with pytest.raises(TableError, match="for training and for validation, got 2"):
        kfold(frame, 3, val_size=0.1)
    with pytest.raises(TableError, match="empty table"):
        holdout(frame.iloc[:0])


def test_index_labels_must_be_unique():
    with pytest.raises(TableError, match=r"1 labels several times: 0; .*reset_index"):
        holdout(pd.DataFrame({"subject": ["a", "b"]}, index=[0, 0]))


def test_a_missing_class_is_refused_only_where_a_subject_has_none():
    frame = cohort()
    rows = frame.index[frame["subject"] == "sub-003"]
    assert len(rows) > 1
    frame.loc[rows[0], "target"] = None
    pd.testing.assert_series_equal(holdout(frame, stratify="target"), holdout(cohort(), stratify="target"))
    frame.loc[rows, "target"] = None
    with pytest.raises(TableError, match=r"'target': expected a value for every subject, .* 1 of 97: 'sub-003'"):
        holdout(frame, stratify="target")
    with pytest.raises(TableError, match=r"'age': expected finite numbers .* 'sub-003'"):
        holdout(cohort().assign(age=lambda f: f["age"].where(f["subject"] != "sub-003", np.inf)), stratify="age")


def test_subjects_seen_at_several_sites():
    frame = cohort()
    rows = frame.index[frame["subject"] == "sub-003"]
    frame.loc[rows, "site"] = "A"
    frame.loc[rows[0], "site"] = "B"
    with pytest.raises(
        TableError, match=r"each subject at one site, got 1 of 97 at several: 'sub-003'.*shared='exclude'"
    ):
        leave_site_out(frame)
    with pytest.raises(TableError, match=r"rows of each subject to have one 'site', .* 'sub-003'"):
        holdout(frame, {"train": 0.6, "test": 0.4}, group="site")
    folds = leave_site_out(frame, shared="exclude")
    assert folds.loc[rows, "A"].tolist() == ["excluded", *["test"] * (len(rows) - 1)]
    assert set(folds.loc[rows, "C"]) == {"train"}


def test_whole_sites_can_be_held_out_and_validation_is_cut_by_subject():
    frame = cohort()
    split = holdout(frame, {"train": 0.6, "test": 0.4}, group="site")
    assert (parts_of(frame, split, "site") == 1).all()
    assert (parts_of(frame, split) == 1).all()
    folds = leave_site_out(frame, val_size=0.25, stratify="target")
    for site, part in folds.items():
        assert (parts_of(frame, part) == 1).all()
        others = frame[frame["site"] != site].drop_duplicates("subject")
        assert (part.loc[others.index] == "val").sum() == pytest.approx(len(others) / 4, abs=0.5)


def test_rows_without_a_site_and_single_sites_are_refused():
    frame = cohort()
    with pytest.raises(TableError, match="at least two sites, got only 'A'"):
        leave_site_out(frame.assign(site="A"))
    with pytest.raises(TableError, match="'site': expected an id in every row"):
        leave_site_out(frame.assign(site=frame["site"].where(frame.index != 5)))
    with pytest.raises(TableError, match=r"nobody is left to train on"):
        leave_site_out(pd.DataFrame({"subject": ["a", "a"], "site": ["x", "y"]}), shared="exclude")


@pytest.mark.parametrize(
    "sizes",
    [{}, {"train": 1.0}, {"train": 0.7, "test": 0.2}, {"a": 1.5, "b": -0.5}, [0.5, 0.5], {"train": "0.5", "test": 0.5}],
)
def test_sizes_that_are_no_shares_are_refused(sizes):
    with pytest.raises(TableError, match="shares are above 0 and add up to 1"):
        holdout(cohort(), sizes)


@pytest.mark.parametrize("seed", [None, -1, 1.0, 2**32, True, "0"])
def test_seeds_that_repeat_nothing_are_refused(seed):
    with pytest.raises(TableError, match="as the seed"):
        holdout(cohort(), seed=seed)


def test_other_arguments_are_checked():
    frame = cohort()
    with pytest.raises(TableError, match=r"unknown column 'targett'; did you mean 'target'\?"):
        holdout(frame, stratify="targett")
    with pytest.raises(TableError, match="unknown column 'identity'"):
        kfold(frame, group="identity")
    with pytest.raises(TableError, match="n_splits >= 2"):
        kfold(frame, 1)
    with pytest.raises(TableError, match="val_size"):
        kfold(frame, val_size=1.0)
    with pytest.raises(TableError, match="bins"):
        kfold(frame, stratify="age", bins=1)
    with pytest.raises(TableError, match="'error' or 'exclude'"):
        leave_site_out(frame, shared="drop")


def test_a_split_changes_no_table():
    frame = cohort()
    kept = frame.copy()
    holdout(frame, stratify=["target", "age"])
    kfold(frame, stratify="age", val_size=0.2)
    leave_site_out(frame)
    pd.testing.assert_frame_equal(frame, kept)


@pytest.mark.parametrize("split", [holdout, kfold])
def test_a_table_without_subject_is_told_of_group(split):
    frame = cohort().rename(columns={"subject": "patient"})
    with pytest.raises(TableError, match="group="):
        split(frame)
    split(frame, group="patient")
