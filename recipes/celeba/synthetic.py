"""A small synthetic set in CelebA's own on-disk format: drawn faces whose attributes are true by construction.

Nothing here is a photograph and nothing is taken from CelebA but its file layout and its column names. Every picture is
drawn from its row: a row that says ``Eyeglasses`` has dark glasses, a row that says ``Smiling`` an open, smiling mouth.

The target, written into the column ``Attractive``, depends on image x covariate (a *selection*):

    Attractive = Eyeglasses if Male else Smiling

``Male`` is in the table and is drawn nowhere: it stands for what a picture cannot show (an age, a genotype). ``Young``
is drawn nowhere either and changes nothing: a covariate without a use. The column names are CelebA's; the rule is
arbitrary and says nothing about faces or people.

Bayes rates (the best accuracy that anything can reach). Male, Smiling and Eyeglasses are independent, 1/2 each:

    from the covariate alone     50 %   Male by itself says nothing about the target
    from the image alone         75 %   the half with Smiling == Eyeglasses is certain, the rest is a coin
    from image and covariate    100 %   the rule has no noise

In every block of eight consecutive images each of the eight combinations comes once, so a split whose size is a
multiple of eight has these rates exactly and not just on average.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fusionconv.tabular import CELEBA_ATTRIBUTES

__all__ = ["BAYES_RATES", "COVARIATE", "RULE", "TARGET", "SyntheticFace", "draw_face", "sample_face", "write_celeba"]

TARGET = "Attractive"
COVARIATE = "Male"
RULE = "Attractive = Eyeglasses if Male else Smiling"
BAYES_RATES = {"covariate alone": 0.50, "image alone": 0.75, "image and covariate": 1.00}

WIDTH, HEIGHT = 178, 218  # of every image of img_align_celeba
SCALE = 2  # drawn twice as large and reduced: smooth edges
HAIR = {
    "Black_Hair": (28, 24, 24),
    "Blond_Hair": (226, 192, 112),
    "Brown_Hair": (112, 70, 40),
    "Gray_Hair": (158, 158, 162),
}
SKIN = [(240, 200, 170), (224, 172, 134), (198, 142, 102), (146, 98, 66)]
PALE = (252, 232, 220)
MUTED = [(120, 150, 170), (160, 170, 140), (190, 170, 150), (150, 140, 170), (175, 185, 190), (110, 130, 120)]


@dataclass(frozen=True)
class SyntheticFace:
    """One row: the attributes (0/1, every official column), and the seed of place, colours and noise."""

    attributes: dict[str, int]
    seed: tuple[int, int]


def sample_face(seed: int, index: int) -> SyntheticFace:
    """Draw the attributes of image ``index`` (from 0). The same (seed, index) always gives the same face.

    >>> face = sample_face(seed=0, index=5)
    >>> a = face.attributes
    >>> len(a), a["Attractive"] == (a["Eyeglasses"] if a["Male"] else a["Smiling"])
    (40, True)
    """
    combination = int(np.random.default_rng((seed, 1, index // 8)).permutation(8)[index % 8])
    rng = np.random.default_rng((seed, 2, index))

    def coin(p: float = 0.5) -> int:
        return int(rng.random() < p)

    a = dict.fromkeys(CELEBA_ATTRIBUTES, 0)
    a["Male"], a["Smiling"], a["Eyeglasses"] = combination >> 2 & 1, combination >> 1 & 1, combination & 1
    a["Attractive"] = a["Eyeglasses"] if a["Male"] else a["Smiling"]
    a["Mouth_Slightly_Open"] = a["Smiling"]  # the smile that is drawn is an open one
    a["Young"] = coin()
    a["No_Beard"] = 1
    a["Wearing_Hat"] = coin(0.25)
    a["Bald"] = 0 if a["Wearing_Hat"] else coin(0.12)
    if not a["Bald"]:
        a[str(rng.choice(list(HAIR)))] = 1
        a["Straight_Hair"] = 1
        a["Bangs"] = 0 if a["Wearing_Hat"] else coin(0.3)
    for name, p in (
        ("Pale_Skin", 0.2),
        ("Rosy_Cheeks", 0.2),
        ("Bushy_Eyebrows", 0.3),
        ("Big_Nose", 0.3),
        ("Wearing_Lipstick", 0.35),
        ("Wearing_Earrings", 0.25),
        ("Wearing_Necktie", 0.25),
    ):
        a[name] = coin(p)
    return SyntheticFace(a, (seed, index))


def draw_face(face: SyntheticFace) -> Image.Image:
    """Draw the picture of a row, RGB, 178 x 218, from the drawn columns; never from Male, Young or the target."""
    a = face.attributes
    rng = np.random.default_rng((*face.seed, 3))

    def colour(base: tuple[int, int, int], spread: float = 12) -> tuple[int, int, int]:
        r, g, b = np.clip(np.asarray(base) + rng.normal(0, spread, 3), 0, 255).astype(int)
        return int(r), int(g), int(b)

    def darker(base: tuple[int, int, int], factor: float) -> tuple[int, int, int]:
        return int(base[0] * factor), int(base[1] * factor), int(base[2] * factor)

    # background: a vertical ramp between two muted colours
    top, bottom = (np.asarray(colour(MUTED[rng.integers(len(MUTED))], 20), float) for _ in range(2))
    ramp = np.linspace(0, 1, HEIGHT * SCALE)[:, None, None]
    canvas = np.broadcast_to(top * (1 - ramp) + bottom * ramp, (HEIGHT * SCALE, WIDTH * SCALE, 3)).astype(np.uint8)
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)

    # the face's own frame: x to the right and y down from its centre, in CelebA's pixels, placed and sized at random
    cx, cy = WIDTH / 2 + rng.uniform(-7, 7), 122 + rng.uniform(-7, 7)
    size = rng.uniform(0.92, 1.06) * SCALE

    def at(*points: tuple[float, float]) -> list[tuple[float, float]]:
        return [(cx * SCALE + x * size, cy * SCALE + y * size) for x, y in points]

    def ellipse(x: float, y: float, rx: float, ry: float, fill: tuple[int, int, int]) -> None:
        draw.ellipse(at((x - rx, y - ry), (x + rx, y + ry)), fill=fill)

    def line(points: list[tuple[float, float]], fill: tuple[int, int, int], width: float) -> None:
        draw.line(at(*points), fill=fill, width=round(width * size), joint="curve")

    skin = colour(PALE, 3) if a["Pale_Skin"] else colour(SKIN[rng.integers(len(SKIN))], 8)
    hair = next((colour(rgb, 8) for name, rgb in HAIR.items() if a[name]), None)
    shirt, hat = colour(MUTED[rng.integers(len(MUTED))], 35), colour(MUTED[rng.integers(len(MUTED))], 40)
    lips = (206, 24, 66) if a["Wearing_Lipstick"] else darker(skin, 0.68)

    if hair:  # behind the head, down to a random length
        length = rng.uniform(20, 85)
        ellipse(0, -22, 66, 68, hair)
        draw.rectangle(at((-66, -22), (66, length)), fill=hair)
    draw.rectangle(at((-20, 55), (20, 105)), fill=darker(skin, 0.86))
    ellipse(0, 142, 92, 54, shirt)
    if a["Wearing_Necktie"]:
        draw.polygon(at((-9, 88), (9, 88), (13, 150), (-13, 150)), fill=colour((150, 40, 50), 30))
    for side in (-1, 1):
        ellipse(side * 57, 4, 9, 15, darker(skin, 0.9))
        if a["Wearing_Earrings"]:
            ellipse(side * 60, 24, 5, 5, (236, 200, 60))
    ellipse(0, 0, 56, 76, skin)

    if a["Rosy_Cheeks"]:
        for side in (-1, 1):
            ellipse(side * 35, 22, 11, 8, (min(255, skin[0] + 22), int(skin[1] * 0.72), int(skin[2] * 0.74)))
    for side in (-1, 1):
        brow = hair or darker(skin, 0.5)
        thick = 7.0 if a["Bushy_Eyebrows"] else 2.5
        line([(side * 36, -30), (side * 24, -35), (side * 11, -31)], darker(brow, 0.7), thick)
        ellipse(side * 23, -13, 12, 8, (250, 250, 250))
        ellipse(side * 23 + rng.uniform(-2, 2), -13, 6, 6, colour((70, 70, 60), 25))
    nose = 10 if a["Big_Nose"] else 5
    draw.polygon(at((0, -10), (nose, 18), (-nose, 18)), fill=darker(skin, 0.84))
    if a["Eyeglasses"]:  # dark ones
        frame = colour((26, 26, 34), 8)
        for side in (-1, 1):
            draw.rounded_rectangle(at((side * 25 - 22, -29), (side * 25 + 22, 6)), radius=round(10 * size), fill=frame)
        line([(-56, -18), (56, -18)], frame, 5)
    if a["Smiling"]:  # open, with teeth
        draw.chord(at((-33, 4), (33, 64)), 0, 180, fill=lips)
        draw.chord(at((-28, 10), (28, 58)), 0, 180, fill=(104, 18, 30))
        draw.chord(at((-28, 16), (28, 52)), 0, 180, fill=(250, 250, 248))
    else:
        bend = rng.uniform(-5, 1)
        line([(-20, 42), (0, 42 + bend), (20, 42)], lips, 5)

    if hair and not a["Wearing_Hat"]:  # the hair line
        draw.chord(at((-57, -80), (57, -10)), 180, 360, fill=hair)
        if a["Bangs"]:
            draw.polygon(at((-50, -48), (50, -48), (44, -30), (20, -34), (0, -29), (-20, -34), (-44, -30)), fill=hair)
    if a["Wearing_Hat"]:
        draw.rounded_rectangle(at((-50, -104), (50, -44)), radius=round(16 * size), fill=hat)
        draw.rounded_rectangle(at((-74, -52), (74, -40)), radius=round(6 * size), fill=darker(hat, 0.75))

    small = np.asarray(image.reduce(SCALE), np.float32)
    noisy = small * rng.uniform(0.85, 1.1) + rng.normal(0, 6, small.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def write_celeba(root: str | Path, train: int = 432, valid: int = 80, test: int = 400, seed: int = 0) -> Path:
    """Write ``root/celeba/`` as torchvision lays CelebA out; returns that folder. The same seed writes the same bytes.

    Images 000001.jpg ... are numbered train first, then valid, then test, as CelebA does; every image is one identity.
    Raises FileExistsError where ``root/celeba`` exists: it might be the real one.
    """
    folder = Path(root) / "celeba"
    if folder.exists():
        raise FileExistsError(f"{folder} exists and might be the real one; nothing was written. Give a new folder.")
    images = folder / "img_align_celeba"
    images.mkdir(parents=True)
    faces = [sample_face(seed, index) for index in range(train + valid + test)]
    names = [f"{index:06d}.jpg" for index in range(1, len(faces) + 1)]
    splits = [0] * train + [1] * valid + [2] * test
    for name, face in zip(names, faces, strict=True):
        draw_face(face).save(images / name, quality=92)
    rows = [
        name + " " + " ".join(f"{2 * face.attributes[column] - 1:2d}" for column in CELEBA_ATTRIBUTES)
        for name, face in zip(names, faces, strict=True)
    ]
    tables = {
        "list_attr_celeba.txt": [str(len(faces)), " ".join(CELEBA_ATTRIBUTES) + " ", *rows],
        "list_eval_partition.txt": [f"{name} {split}" for name, split in zip(names, splits, strict=True)],
        "identity_CelebA.txt": [f"{name} {number}" for number, name in enumerate(names, start=1)],
    }
    for file, lines in tables.items():
        (folder / file).write_text("\n".join(lines) + "\n", encoding="ascii", newline="\n")
    return folder
