"""The synthetic set: CelebA's format, true attributes, a Male that cannot be seen, and the Bayes rates as told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fusionconv.tabular import (
    CELEBA_ATTRIBUTES,
    read_celeba_attributes,
    read_celeba_identity,
    read_celeba_partition,
)
from recipes.celeba.synthetic import BAYES_RATES, COVARIATE, TARGET, draw_face, sample_face, write_celeba


def best_accuracy(rows, columns):
    """Accuracy of the best rule that sees only ``columns``: the majority of every combination of their values."""
    counts = {}
    for a in rows:
        counts.setdefault(tuple(a[c] for c in columns), [0, 0])[a[TARGET]] += 1
    return sum(max(pair) for pair in counts.values()) / len(rows)


def test_bayes_rates_are_those_documented():
    rows = [sample_face(3, i).attributes for i in range(480)]
    assert best_accuracy(rows, [COVARIATE]) == BAYES_RATES["covariate alone"] == 0.5
    assert best_accuracy(rows, ["Smiling", "Eyeglasses"]) == BAYES_RATES["image alone"] == 0.75
    assert best_accuracy(rows, ["Smiling", "Eyeglasses", COVARIATE]) == BAYES_RATES["image and covariate"] == 1.0
    assert best_accuracy(rows, []) == 0.5


def test_no_other_column_tells_the_target():
    """The best rule on a column that does not enter the target stays near one half (standard error 1.1 %)."""
    rows = [sample_face(0, i).attributes for i in range(2000)]
    visible = {TARGET, "Smiling", "Mouth_Slightly_Open", "Eyeglasses"}
    assert max(best_accuracy(rows, [other]) for other in CELEBA_ATTRIBUTES if other not in visible) < 0.55


@pytest.mark.parametrize("hidden", ["Male", "Young", TARGET])
def test_what_is_hidden_is_not_in_the_picture(hidden):
    for index in range(8):
        face = sample_face(0, index)
        other = replace(face, attributes=face.attributes | {hidden: 1 - face.attributes[hidden]})
        assert draw_face(face).tobytes() == draw_face(other).tobytes()


@pytest.mark.parametrize(
    "drawn",
    ["Smiling", "Eyeglasses", "Wearing_Lipstick", "Pale_Skin", "Rosy_Cheeks", "Bushy_Eyebrows", "Big_Nose",
     "Wearing_Earrings", "Wearing_Necktie"],
)  # fmt: skip
def test_what_is_drawn_changes_the_picture(drawn):
    face = sample_face(0, 4)
    other = replace(face, attributes=face.attributes | {drawn: 1 - face.attributes[drawn]})
    difference = np.abs(np.asarray(draw_face(face), int) - np.asarray(draw_face(other), int)).max(axis=2)
    assert (difference > 30).sum() > 15  # pixels


def test_glasses_darken_the_eyes_and_a_smile_brightens_the_mouth():
    """Means of pixels, with and without, in boxes where CelebA has eyes and mouth."""
    faces = [sample_face(1, i) for i in range(64)]
    grey = np.stack([np.asarray(draw_face(face).convert("L"), float) for face in faces])
    glasses = np.array([face.attributes["Eyeglasses"] == 1 for face in faces])
    smile = np.array([face.attributes["Smiling"] == 1 for face in faces])
    eyes, mouth = grey[:, 100:122, 50:128].mean((1, 2)), grey[:, 142:160, 75:103].mean((1, 2))
    assert eyes[~glasses].mean() - eyes[glasses].mean() > 40
    assert mouth[smile].mean() - mouth[~smile].mean() > 20


def test_hats_and_hair_exclude_each_other_as_they_should():
    for index in range(300):
        a = sample_face(0, index).attributes
        assert not (a["Wearing_Hat"] and (a["Bald"] or a["Bangs"]))
        assert a["Black_Hair"] + a["Blond_Hair"] + a["Brown_Hair"] + a["Gray_Hair"] == 1 - a["Bald"]


def test_files_are_in_celebas_format(tmp_path):
    folder = write_celeba(tmp_path, train=8, valid=3, test=5)
    assert folder == tmp_path / "celeba"
    lines = (folder / "list_attr_celeba.txt").read_text().splitlines()
    assert lines[0] == "16"
    assert tuple(lines[1].split()) == CELEBA_ATTRIBUTES
    cells = lines[2].split()
    assert (cells[0], len(cells)) == ("000001.jpg", 41)
    assert set(cells[1:]) == {"1", "-1"}
    assert (folder / "list_eval_partition.txt").read_text().splitlines()[10] == "000011.jpg 1"
    with Image.open(folder / "img_align_celeba" / "000016.jpg") as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (178, 218))
    assert len(list((folder / "img_align_celeba").iterdir())) == 16


def test_the_librarys_readers_read_it(tmp_path):
    folder = write_celeba(tmp_path, train=8, valid=8, test=8, seed=5)
    attributes = read_celeba_attributes(folder / "list_attr_celeba.txt")
    partition = read_celeba_partition(folder / "list_eval_partition.txt")
    identity = read_celeba_identity(folder / "identity_CelebA.txt")
    assert partition.tolist() == ["train"] * 8 + ["valid"] * 8 + ["test"] * 8
    assert identity.is_unique
    for index, row in enumerate(attributes.to_dict("records")):
        assert row == sample_face(5, index).attributes
    rule = attributes["Eyeglasses"].where(attributes["Male"] == 1, attributes["Smiling"])
    assert (rule == attributes[TARGET]).all()


def test_the_seed_decides_every_byte_and_the_count_does_not(tmp_path):
    short, long, other = (
        write_celeba(tmp_path / name, train=count, valid=1, test=1, seed=seed)
        for name, count, seed in (("short", 3, 0), ("long", 9, 0), ("other", 3, 1))
    )
    for name in ("000001.jpg", "000003.jpg"):
        first = (short / "img_align_celeba" / name).read_bytes()
        assert first == (long / "img_align_celeba" / name).read_bytes()
        assert first != (other / "img_align_celeba" / name).read_bytes()


def test_an_existing_celeba_folder_is_never_written_into(tmp_path):
    theirs = tmp_path / "celeba" / "img_align_celeba" / "000001.jpg"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    with pytest.raises(FileExistsError, match="might be the real one"):
        write_celeba(tmp_path, 1, 1, 1)
    assert theirs.read_bytes() == b"theirs"
