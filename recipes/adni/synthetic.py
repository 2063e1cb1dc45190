"""The demo's data: a BIDS folder of SYNTHETIC brains whose diagnosis is atrophy that is severe for age and sex.

No person is behind any of it. Each volume is the MNI152 template with smooth atrophy (synthetic_volumes.py) of the
amount

    atrophy = natural + disease                             0 to 1
    natural = 0.55 (age - 55) / 35 + 0.1 [sex = M]          age uniform in 55 to 90, sex a coin
    disease = uniform in 0 to 0.08 (CN), 0.27 to 0.35 (AD)

so that ``diagnosis`` is AD exactly where there is 0.175 more atrophy than is natural for the age and sex. Age, sex and
education (8 to 20 years, 5 % n/a; a covariate without a use) are independent of the diagnosis and of each other.
Nothing in a volume depends on them but by ``atrophy``: size and place of the head, brightness, bias field and noise are
drawn alike for all.

Bayes rates, the best accuracies that anything can reach (CN and AD are equally common):

    from covariates alone       50 %   they are independent of the diagnosis
    from the image alone        75 %   it tells the atrophy a at best: 1/2 integral max(p(a | CN), p(a | AD)) da with
                                       p(a | y) the density of natural + disease over all ages and both sexes
    from image and covariates  100 %   disease = atrophy - natural, and its two ranges are 0.19 apart

:func:`bayes_rates` computes them. Where the image gives the atrophy with an error e, a diagnosis by the middle between
the ranges is wrong only if |e| > 0.095.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from recipes.adni.synthetic_volumes import Brain

__all__ = ["BAYES", "bayes_rates", "natural_atrophy", "sample_subject", "write_bids"]

AGES = (55.0, 90.0)  # years
AGE_EFFECT, SEX_EFFECT = 0.55, 0.1  # atrophy between the two ends of AGES; of men over women
DISEASE = {"CN": (0.0, 0.08), "AD": (0.27, 0.35)}  # the range of the disease's part of atrophy
BAYES = {"covariates only": 0.50, "image only": 0.75, "image and covariates": 1.00}  # rounded; see bayes_rates
BRIGHTNESS = 800  # of white matter in the files

README = """SYNTHETIC brain MRI, made by `python -m recipes.adni demo` of fusionconv. No person is behind any of this.

Every volume is the ICBM 2009 nonlinear symmetric (MNI152) template as nilearn ships it, deformed and made noisy by a
program, and every row of participants.tsv was drawn at random. It must not be used for anything about health.
derivatives/truth/truth.tsv has the numbers that each image was made from.
"""


def natural_atrophy(age: Any, sex_is_male: Any) -> Any:
    """The part of atrophy that age and sex make; numbers or arrays.

    >>> round(natural_atrophy(55.0, False), 3), round(natural_atrophy(90.0, True), 3)
    (0.0, 0.65)
    """
    return AGE_EFFECT * (age - AGES[0]) / (AGES[1] - AGES[0]) + SEX_EFFECT * sex_is_male


def bayes_rates(steps: int = 20_000) -> dict[str, float]:
    """The best accuracies, by integrating the densities above on a grid of ``steps`` amounts of atrophy.

    >>> {name: round(rate, 2) for name, rate in bayes_rates().items()} == BAYES
    True
    """
    a = (np.arange(steps) + 0.5) / steps  # midpoints of 0 to 1

    def box_on_box(low: float, high: float) -> np.ndarray:
        """The density of uniform(0, AGE_EFFECT) + uniform(low, high): a trapezium."""
        common = np.minimum(a - low, AGE_EFFECT) - np.maximum(a - high, 0)
        return np.maximum(common, 0) / (AGE_EFFECT * (high - low))

    of_image = {}
    for name, (low, high) in DISEASE.items():
        of_image[name] = (box_on_box(low, high) + box_on_box(low + SEX_EFFECT, high + SEX_EFFECT)) / 2
    of_disease = {
        name: np.where((a > low) & (a < high), 1 / (high - low), 0.0) for name, (low, high) in DISEASE.items()
    }
    return {
        "covariates only": 0.5,
        "image only": float(np.maximum(of_image["CN"], of_image["AD"]).mean() / 2),
        "image and covariates": float(np.maximum(of_disease["CN"], of_disease["AD"]).mean() / 2),
    }


def sample_subject(seed: int, index: int) -> dict[str, Any]:
    """The numbers of subject ``index`` (from 0): table, atrophy, and the head's size, place and noise.

    Of every four consecutive subjects each pair of diagnosis and sex comes once; all else is independent. The same
    (seed, index) always gives the same subject, however many there are.
    """
    pair = int(np.random.default_rng((seed, 1, index // 4)).permutation(4)[index % 4])
    rng = np.random.default_rng((seed, 2, index))
    diagnosis, sex = ("CN", "AD")[pair & 1], ("F", "M")[pair >> 1]
    age = round(float(rng.uniform(*AGES)), 1)
    education = int(rng.integers(8, 21)) if rng.random() >= 0.05 else None
    natural, disease = natural_atrophy(age, sex == "M"), float(rng.uniform(*DISEASE[diagnosis]))
    row: dict[str, Any] = {
        "participant_id": f"sub-{index + 1:04d}",
        "age": age,
        "sex": sex,
        "education": education,
        "diagnosis": diagnosis,
        "natural": round(natural, 6),
        "disease": round(disease, 6),
        "atrophy": round(natural + disease, 6),
        "size": round(float(rng.uniform(0.95, 1.05)), 4),
        "brightness": round(float(rng.uniform(0.8, 1.2)), 4),
    }
    row |= {f"turn_{axis}": round(float(v), 3) for axis, v in zip("ras", rng.uniform(-4, 4, 3), strict=True)}
    row |= {f"move_{axis}": round(float(v), 3) for axis, v in zip("ras", rng.uniform(-3, 3, 3), strict=True)}
    return row


def draw_subject(brain: Brain, seed: int, index: int) -> np.ndarray:
    """The volume of a subject, int16, from its atrophy and from what is drawn alike for all."""
    row, rng = sample_subject(seed, index), np.random.default_rng((seed, 3, index))
    bias = rng.normal(0, 0.06, 9).astype(np.float32)
    noise = rng.normal(0, 0.03, brain.shape).astype(np.float32)
    volume = brain.volume(
        row["atrophy"],
        size=row["size"],
        turn=tuple(row[f"turn_{axis}"] for axis in "ras"),
        move=tuple(row[f"move_{axis}"] for axis in "ras"),
        bias=bias,
        noise=noise,
    )
    return np.round(volume * (BRIGHTNESS * row["brightness"])).astype(np.int16)


def write_bids(
    root: str | Path, count: int, seed: int = 0, spacing: float = 4.0, progress: bool | None = None
) -> pd.DataFrame:
    """Write a BIDS folder of ``count`` subjects, a T1w image of each; returns the truth, a row for each subject.

    The columns of the truth: those of participants.tsv, then ``natural``, ``disease`` and ``atrophy``, then size and
    place of the head. It is also in derivatives/truth/truth.tsv, where no reader looks for images. The same seed writes
    the same bytes.

    Args:
        root: a folder that is new or empty.
        count: subjects; a multiple of 4 is balanced.
        seed: of everything.
        spacing: mm, of the volumes: 4 gives 40 x 52 x 44 voxels, 6 gives 27 x 35 x 29.
        progress: show a bar; None: in a terminal.

    Raises:
        FileExistsError: ``root`` has something in it, which might be a real study.
    """
    import nibabel as nib

    root = Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise FileExistsError(f"{root} is not empty and might be a real study; nothing was written. Give a new folder.")
    truth = pd.DataFrame([sample_subject(seed, index) for index in range(count)])
    truth["education"] = truth["education"].astype("Int64")
    _write_texts(root, truth)
    brain = _brain(spacing)
    bar = tqdm(truth["participant_id"], desc="drawing brains", disable=None if progress is None else not progress)
    for index, subject in enumerate(bar):
        image = nib.Nifti1Image(draw_subject(brain, seed, index), brain.affine)
        image.set_sform(brain.affine, code=1)
        image.set_qform(brain.affine, code=1)
        image.header.set_xyzt_units("mm", "sec")
        image.header["descrip"] = b"SYNTHETIC"
        anat = root / subject / "anat"
        anat.mkdir(parents=True)
        image.to_filename(anat / f"{subject}_T1w.nii.gz")
    return truth


@lru_cache(maxsize=1)
def _brain(spacing: float) -> Brain:
    """Seconds of work on the template, kept for the next folder of the same spacing."""
    return Brain(spacing)


def _write_texts(root: Path, truth: pd.DataFrame) -> None:
    """Everything but the images."""

    def put(name: str, content: dict[str, Any]) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    put("dataset_description.json", {
        "Name": "SYNTHETIC brains with age-dependent atrophy (fusionconv demo)", "BIDSVersion": "1.10.0",
        "DatasetType": "raw", "GeneratedBy": [{"Name": "fusionconv, recipes/adni/synthetic.py"}],
    })  # fmt: skip
    put("derivatives/truth/dataset_description.json", {
        "Name": "What the SYNTHETIC images were made from", "BIDSVersion": "1.10.0", "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "fusionconv, recipes/adni/synthetic.py"}],
    })  # fmt: skip
    put("participants.json", {
        "age": {"Description": "Age (synthetic)", "Units": "years"},
        "sex": {"Description": "Sex (synthetic)", "Levels": {"F": "female", "M": "male"}},
        "education": {"Description": "Education (synthetic); has no influence on anything", "Units": "years"},
        "diagnosis": {"Description": "Atrophy that is severe for the age and sex (synthetic)",
                      "Levels": {"CN": "disease part of atrophy at most 0.08", "AD": "at least 0.27"}},
    })  # fmt: skip
    (root / "README").write_text(README, encoding="utf-8")
    table = ["participant_id", "age", "sex", "education", "diagnosis"]
    for name, columns in (("participants.tsv", table), ("derivatives/truth/truth.tsv", list(truth.columns))):
        truth[columns].to_csv(root / name, sep="\t", index=False, na_rep="n/a", lineterminator="\n")
