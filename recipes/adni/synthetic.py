"""The demo's data: a BIDS folder of SYNTHETIC brains whose diagnosis is atrophy that is severe for age and sex.

No person is behind any of it. Each volume is the MNI152 template with smooth atrophy (`Brain`) of the
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
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

__all__ = ["BAYES", "VIEW", "Brain", "bayes_rates", "natural_atrophy", "sample_subject", "write_bids"]

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


# ---- the volumes: tissue that draws back smoothly, in a head of its own size and place ----

Array = NDArray[np.float32]

VIEW = (160.0, 208.0, 176.0)  # mm along right, anterior, superior: the brain with room to turn
CENTRE = (0.0, -18.0, 4.0)  # mm, of the view in MNI coordinates
GRID = 2  # mm, of the template that is deformed
LEVELS = 13  # amounts of atrophy from 0 to 1 that are computed; between them volumes are mixed
REACH = 7.0  # mm that tissue draws back, at most, at atrophy 1
SMOOTH = 5.0  # mm, standard deviation of the map that the displacement is the slope of
HIPPOCAMPI, VENTRICLES = ((-27.0, -20.0, -14.0), (27.0, -20.0, -14.0)), ((-16.0, -20.0, 14.0), (16.0, -20.0, 14.0))


class Brain:
    """Makes volumes of one spacing; the work on the template is done once, here.

    Tissue draws back along the slope g of the smoothed map of what is no tissue: the volume of atrophy ``a`` shows at
    ``x`` what the template has at ``x + a REACH w(x) g(x) / (|g(x)| + 0.2 max |g|)``. So ventricles and sulci widen and
    the cortex gets thinner. The weight ``w`` is 1 at hippocampi and lateral ventricles and falls to 0.35 far away.

    Args:
        spacing: mm, of the volumes; 2 to 10.
    """

    def __init__(self, spacing: float = 4.0) -> None:
        if not 2.0 <= spacing <= 10.0:
            raise ValueError(f"expected a spacing of 2 to 10 mm, got {spacing}; 4 is a good one")
        from scipy.ndimage import gaussian_filter, map_coordinates

        t1, tissue, origin = _template()
        self.spacing = float(spacing)
        self.shape = tuple(round(mm / spacing) for mm in VIEW)
        self._origin = origin
        slope = np.stack(np.gradient(gaussian_filter(1 - tissue, SMOOTH / GRID)))
        steep = np.sqrt((slope**2).sum(axis=0))
        slope /= steep + 0.2 * steep.max()  # saturates: the faint slopes about ventricles and hippocampi count too
        places = np.indices(t1.shape, dtype=np.float32)
        shift = slope * _weight(places, origin) * (REACH / GRID)
        blur = 0.42 * spacing / GRID  # a voxel's own width at half height: no aliasing
        self._levels: list[Array] = []
        for atrophy in np.linspace(0, 1, LEVELS):
            moved = map_coordinates(t1, places + atrophy * shift, order=1, mode="constant")
            self._levels.append(gaussian_filter(moved, blur).astype(np.float32))

    @property
    def affine(self) -> NDArray[np.float64]:
        """Of every volume: RAS, mm, the origin at MNI's."""
        affine = np.diag([self.spacing, self.spacing, self.spacing, 1.0])
        affine[:3, 3] = np.asarray(CENTRE) - (np.asarray(self.shape) - 1) / 2 * self.spacing
        return affine

    def volume(
        self,
        atrophy: float,
        *,
        size: float = 1.0,
        turn: tuple[float, float, float] = (0.0, 0.0, 0.0),
        move: tuple[float, float, float] = (0.0, 0.0, 0.0),
        bias: Array | None = None,
        noise: Array | None = None,
    ) -> Array:
        """One volume, white matter near 1 and the outside 0.

        Args:
            atrophy: 0 to 1.
            size: of the head; 1.05 is 5 % larger in each direction.
            turn: degrees about the right, anterior and superior axes.
            move: mm to the right, front and top.
            bias: nine numbers: the field's logarithm is their sum with x, y, z, their squares and products in -1 to 1.
            noise: of this shape, added where there is brain.
        """
        from scipy.ndimage import affine_transform
        from scipy.spatial.transform import Rotation

        if not 0 <= atrophy <= 1:
            raise ValueError(f"expected atrophy of 0 to 1, got {atrophy}")
        at = atrophy * (LEVELS - 1)
        low = min(int(at), LEVELS - 2)
        mixed = self._levels[low] * np.float32(low + 1 - at) + self._levels[low + 1] * np.float32(at - low)
        # from a voxel of the volume to one of the template: to mm about the centre, moved, turned and sized back
        back = Rotation.from_euler("xyz", turn, degrees=True).inv().as_matrix() / size
        first = self.affine[:3, 3] - np.asarray(CENTRE) - np.asarray(move)
        offset = (back @ first + np.asarray(CENTRE) - self._origin) / GRID
        out = affine_transform(mixed, back * (self.spacing / GRID), offset, output_shape=self.shape, order=1)
        inside = out > 0.02
        if bias is not None:
            x, y, z = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in self.shape), indexing="ij")
            terms = np.stack([x, y, z, x * x, y * y, z * z, x * y, y * z, x * z])
            out = out * np.exp(np.tensordot(np.asarray(bias, np.float32), terms, axes=1))
        if noise is not None:
            out = out + noise
        result: Array = np.where(inside, np.maximum(out, 0), 0).astype(np.float32)
        return result


def _weight(places: Array, origin: NDArray[np.float64]) -> Array:
    """w at every voxel of the template."""
    weight = np.full(places.shape[1:], 0.35, np.float32)
    for centres, width in ((HIPPOCAMPI, 16.0), (VENTRICLES, 22.0)):
        for centre in centres:
            away = sum((places[i] * GRID + origin[i] - centre[i]) ** 2 for i in range(3))
            weight = np.maximum(weight, np.exp(-away / (2 * width**2)))
    return weight


@cache
def _template() -> tuple[Array, Array, NDArray[np.float64]]:
    """T1 and grey plus white matter on a grid of 2 mm, and the MNI place of its first voxel."""
    from nilearn import datasets  # the template lies in nilearn's wheel: nothing is downloaded

    t1 = datasets.load_mni152_template(resolution=GRID)
    parts = [load(resolution=GRID) for load in (datasets.load_mni152_gm_template, datasets.load_mni152_wm_template)]
    tissue = np.clip(sum(np.asarray(part.dataobj, np.float32) for part in parts), 0, 1)
    return np.asarray(t1.dataobj, np.float32), tissue, np.asarray(t1.affine[:3, 3], float)
