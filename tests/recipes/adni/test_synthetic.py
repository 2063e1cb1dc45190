"""The demo's data: BIDS that the readers read, Bayes rates as told, and images that show atrophy and nothing else."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fusionconv.study.volumes import check_volume
from fusionconv.tabular import read_bids
from recipes.adni import synthetic
from recipes.adni.synthetic import BAYES, Brain, bayes_rates, draw_subject, natural_atrophy, sample_subject, write_bids

pytest.importorskip("nilearn")


@pytest.fixture(scope="module")
def brain():
    return Brain(6.0)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("bids") / "study"
    return root, write_bids(root, 160, seed=4, spacing=6.0)


@pytest.fixture(scope="module")
def people():
    return pd.DataFrame([sample_subject(11, i) for i in range(4000)])


def test_bayes_rates_by_simulation():
    """The docstring's rule drawn a million times; the best rule on atrophy from a histogram of half of it."""
    rng, n = np.random.default_rng(0), 1_000_000
    y, age, male = rng.integers(0, 2, n), rng.uniform(55, 90, n), rng.integers(0, 2, n)
    disease = rng.uniform(0, 0.08, n) + 0.27 * y
    atrophy = 0.55 * (age - 55) / 35 + 0.1 * male + disease
    assert 0 <= atrophy.min() < atrophy.max() <= 1
    bins = np.minimum((atrophy * 200).astype(int), 199)
    learn, judge = slice(0, n // 2), slice(n // 2, n)
    share = np.bincount(bins[learn], y[learn], 200) / np.maximum(np.bincount(bins[learn], minlength=200), 1)
    image_only = ((share[bins[judge]] > 0.5) == y[judge]).mean()
    both = ((atrophy - natural_atrophy(age, male) > 0.175) == y).mean()
    rates = bayes_rates()
    assert rates["image only"] == pytest.approx(image_only, abs=0.003)  # standard error 0.0006
    assert rates["image and covariates"] == pytest.approx(both, abs=1e-6)
    assert both == 1
    assert {name: round(rate, 2) for name, rate in rates.items()} == BAYES


def test_subjects_follow_the_rule(people):
    assert np.allclose(people["natural"], 0.55 * (people["age"] - 55) / 35 + 0.1 * (people["sex"] == "M"), atol=1e-6)
    assert np.allclose(people["atrophy"], people["natural"] + people["disease"], atol=2e-6)
    sick = people["diagnosis"] == "AD"
    assert people.loc[~sick, "disease"].between(0, 0.08).all()
    assert people.loc[sick, "disease"].between(0.27, 0.35).all()
    assert people["age"].between(55, 90).all()
    assert people["education"].isna().mean() == pytest.approx(0.05, abs=0.015)
    assert people["education"].dropna().between(8, 20).all()
    assert set(people.groupby(["diagnosis", "sex"]).size()) == {1000}


def test_nothing_but_atrophy_goes_with_diagnosis_age_or_sex(people):
    """Rank correlations of what is independent: standard error 0.016."""
    numbers = people.drop(columns="participant_id").assign(
        sex=people["sex"] == "M", diagnosis=people["diagnosis"] == "AD"
    )
    correlation = numbers.astype(float).corr("spearman")
    rule = {"age", "sex", "diagnosis", "natural", "disease", "atrophy"}
    nuisance = [c for c in numbers if c not in rule]
    assert len(nuisance) == 9
    assert correlation.loc[nuisance, ["age", "sex", "diagnosis", "atrophy"]].abs().max().max() < 0.07
    assert correlation.loc["diagnosis", ["age", "sex", "education", "natural"]].abs().max() < 0.07
    assert abs(correlation.loc["age", "sex"]) < 0.07


def test_a_volume_is_made_from_the_atrophy_and_never_from_the_table(brain, monkeypatch):
    first = draw_subject(brain, 0, 3)
    row = sample_subject(0, 3)
    other = {"age": 55.0, "sex": "?", "education": None, "diagnosis": "?", "natural": -1.0, "disease": -1.0}
    monkeypatch.setattr(synthetic, "sample_subject", lambda seed, index: row | other)
    assert np.array_equal(draw_subject(brain, 0, 3), first)
    monkeypatch.setattr(synthetic, "sample_subject", lambda seed, index: row | {"atrophy": row["atrophy"] + 0.2})
    assert not np.array_equal(draw_subject(brain, 0, 3), first)


def test_atrophy_darkens_the_middle_smoothly_and_more_at_every_step(brain):
    middle = tuple(slice(round(n * 0.4), round(n * 0.6)) for n in brain.shape)  # the lateral ventricles lie there
    means = [float(brain.volume(a)[middle].mean()) for a in np.linspace(0, 1, 9)]
    steps = np.diff(means)
    assert (steps < 0).all()
    assert steps.min() > 4 * steps.max()  # no jump: none is more than four times another
    assert means[0] - means[-1] > 0.05  # of white matter's 0.9


def test_the_head_moves_turns_and_grows_as_told(brain):
    def centre(volume):
        places = np.indices(volume.shape).reshape(3, -1) * brain.spacing
        return places @ volume.ravel() / volume.sum()

    still = brain.volume(0.3)
    assert centre(brain.volume(0.3, move=(5.0, -4.0, 3.0))) - centre(still) == pytest.approx([5, -4, 3], abs=0.3)
    assert brain.volume(0.3, size=0.9).sum() / still.sum() == pytest.approx(0.9**3, rel=0.02)
    # a quarter turn about the axis through the view's middle: the head looked forward, now to the left (-x)
    turned = brain.volume(0.3, turn=(0.0, 0.0, 90.0), size=0.8)
    upright = brain.volume(0.3, size=0.8)
    half = (np.asarray(brain.shape) - 1) / 2 * brain.spacing
    away = centre(upright) - half
    assert centre(turned) - half == pytest.approx([-away[1], away[0], away[2]], abs=0.5)


def test_without_atrophy_it_is_the_template_in_its_place(brain):
    from nilearn.datasets import load_mni152_template
    from nilearn.image import resample_img

    template = resample_img(
        load_mni152_template(resolution=2),
        brain.affine,
        brain.shape,
        interpolation="linear",
        copy_header=True,
        force_resample=True,
    )
    assert np.corrcoef(template.get_fdata().ravel(), brain.volume(0).ravel())[0, 1] > 0.95
    mirrored = brain.volume(0)[:, ::-1]
    assert np.corrcoef(template.get_fdata().ravel(), mirrored.ravel())[0, 1] < 0.9


def test_bad_arguments_are_told(brain):
    with pytest.raises(ValueError, match=r"atrophy of 0 to 1, got 1\.2"):
        brain.volume(1.2)
    with pytest.raises(ValueError, match="spacing of 2 to 10 mm, got 40"):
        Brain(40)


def test_it_is_a_bids_folder_that_the_reader_reads_whole(study):
    root, truth = study
    frame, report = read_bids(root, target="diagnosis", report=True)
    assert report.empty
    assert frame["subject"].tolist() == truth["participant_id"].tolist() == [f"sub-{i:04d}" for i in range(1, 161)]
    assert [c for c in frame.columns if c not in ("subject", "session", "image")] == [
        "age", "sex", "education", "target",
    ]  # fmt: skip
    assert np.allclose(frame["age"], truth["age"])
    assert (frame["education"].isna() == truth["education"].isna()).all()
    assert truth["education"].isna().any()
    info = check_volume(frame.loc[0, "image"])
    assert (info.orientation, info.spacing, info.dtype, info.notes) == ("RAS", (6.0, 6.0, 6.0), "int16", ())
    assert info.shape == nib.load(frame.loc[0, "image"]).shape == (27, 35, 29)
    assert json.loads((root / "dataset_description.json").read_text())["Name"].startswith("SYNTHETIC")
    assert (root / "README").read_text().startswith("SYNTHETIC")
    again = pd.read_csv(root / "derivatives" / "truth" / "truth.tsv", sep="\t", dtype={"education": "Int64"})
    pd.testing.assert_frame_equal(again, truth, check_dtype=False)


def features(path):
    """What one would measure by hand: shares of brightness levels in the brain and in its middle, and its size."""
    data = np.asarray(nib.load(path).dataobj, float)
    data /= np.percentile(data[data > 0], 90)
    brain = data > 0
    middle = data[tuple(slice(round(n * 0.3), round(n * 0.7)) for n in data.shape)]
    levels = np.linspace(0.02, 1.1, 13)
    return np.concatenate([
        np.histogram(data[brain], levels)[0] / brain.sum(),
        [(middle < level).mean() for level in (0.45, 0.55, 0.65, 0.75)],
        [np.log(brain.sum())],
    ])  # fmt: skip


def test_the_images_tell_atrophy_and_with_age_and_sex_the_diagnosis(study):
    """Ridge on hand-made features, by cross-validation: R2 above 0.9, and the three rates near those of Bayes."""
    root, truth = study
    x = np.stack([features(root / s / "anat" / f"{s}_T1w.nii.gz") for s in truth["participant_id"]])
    a = truth["atrophy"].to_numpy()
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-4, 3, 15)))
    seen = cross_val_predict(ridge, x, a, cv=10)
    assert 1 - ((a - seen) ** 2).mean() / a.var() > 0.9
    covariates = np.column_stack([truth["age"], truth["sex"] == "M"])
    sick = (truth["diagnosis"] == "AD").to_numpy()

    def accuracy(columns):
        logistic = make_pipeline(StandardScaler(), LogisticRegression(C=100))
        return (cross_val_predict(logistic, columns, sick, cv=10) == sick).mean()

    assert accuracy(np.column_stack([seen, covariates])) > 0.93
    assert accuracy(seen[:, None]) == pytest.approx(BAYES["image only"], abs=0.1)  # standard error 0.034
    assert accuracy(covariates) == pytest.approx(BAYES["covariates only"], abs=0.12)


def test_the_seed_decides_every_byte_and_the_count_does_not(study, tmp_path):
    root, _ = study
    few = write_bids(tmp_path / "few", 2, seed=4, spacing=6.0)
    other = write_bids(tmp_path / "other", 2, seed=5, spacing=6.0)
    assert not few.equals(other)
    for subject in ("sub-0001", "sub-0002"):
        name = f"{subject}/anat/{subject}_T1w.nii.gz"
        assert (tmp_path / "few" / name).read_bytes() == (root / name).read_bytes()
        assert (tmp_path / "few" / name).read_bytes() != (tmp_path / "other" / name).read_bytes()


def test_a_folder_with_something_in_it_is_never_written_into(tmp_path):
    (tmp_path / "participants.tsv").write_text("theirs")
    with pytest.raises(FileExistsError, match="might be a real study"):
        write_bids(tmp_path, 4)
    assert [p.name for p in tmp_path.iterdir()] == ["participants.tsv"]
