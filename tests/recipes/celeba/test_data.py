import shutil

import pandas as pd
import pytest

from fusionconv.errors import LeakageWarning, TableError
from recipes.celeba.balance import covariates_only_accuracy, describe, majority_accuracy
from recipes.celeba.data import CelebAData
from tests.recipes.celeba.conftest import write_celeba


def data(root, **options):
    return CelebAData(**{"root": str(root), "image_size": 32, "batch_size": 8, "num_workers": 0, **options})


def batches(module, split):
    return [module.on_before_batch_transfer(batch, 0) for batch in module._loader(split)]


@pytest.mark.parametrize("inside", ["", "celeba"])
def test_rows_come_from_the_official_tables(celeba, inside):
    module = data(celeba / inside, covariates=["Young", "Male"], target="Smiling")
    module.setup("fit")
    module.setup("test")
    rows = [line.split() for line in (celeba / "celeba/list_attr_celeba.txt").read_text().splitlines()[2:]]
    position = {"Smiling": 32, "Young": 40, "Male": 21}  # counted from 1, after the file name
    for split, start, stop in (("train", 0, 24), ("valid", 24, 32), ("test", 32, 40)):
        got = [(row["covariates"].tolist(), int(row["target"])) for row in module.dataset(split)]
        expected = [
            ([float(row[position[name]] == "1") for name in ("Young", "Male")], int(row[position["Smiling"]] == "1"))
            for row in rows[start:stop]
        ]
        assert got == expected
        assert module.dataset(split).files == [row[0] for row in rows[start:stop]]


def test_images_of_two_sizes_batch_and_limit_counts_per_split(celeba):
    module = data(celeba, limit=5)
    module.setup("fit")
    assert [len(module.frames[split]) for split in ("train", "valid")] == [5, 5]
    (batch,) = batches(module, "valid")
    assert {tuple(image.shape) for image in batch["images"]} == {(3, 32, 32), (3, 36, 32)}
    assert "fitted on 5 rows" in repr(module.encoder)  # training rows only


def test_wrong_arguments_say_what_to_do(celeba, tmp_path):
    with pytest.raises(TableError, match="would be given the answer"):
        data(celeba, target="Male", covariates=["Male"])
    with pytest.raises(TableError, match="twice"):
        data(celeba, covariates=["Male", "Male"])
    with pytest.raises(TableError, match="at least 1"):
        data(celeba, limit=0)
    with pytest.raises(TableError, match="'Smiling'"):
        data(celeba, covariates=["Smilng"]).setup("fit")
    with pytest.raises(TableError, match="download --root"):
        data(tmp_path).setup("fit")


def test_listed_but_absent_images(tmp_path):
    root = write_celeba(tmp_path)
    for number in (2, 3, 5, 7):
        (root / f"celeba/img_align_celeba/{number:06d}.jpg").unlink()
    with pytest.raises(
        TableError, match=r"4 of the 24 train images.*000002.jpg, 000003.jpg, 000005.jpg, ... \(4 in all\)"
    ):
        data(root).setup("fit")
    data(root).setup("test")  # whose images are all there
    module = data(root, on_error="skip")
    module.setup("fit")
    assert len(module.frames["train"]) == 20
    assert sorted(module.skipped["train"]) == [f"{number:06d}.jpg" for number in (2, 3, 5, 7)]


def test_an_image_that_does_not_decode(tmp_path):
    root = write_celeba(tmp_path)
    (root / "celeba/img_align_celeba/000027.jpg").write_bytes(b"\xff\xd8 nothing")
    module = data(root)
    module.setup("fit")
    with pytest.raises(TableError, match=r"000027\.jpg.*--data.on_error skip"):
        batches(module, "valid")
    module = data(root, on_error="skip")
    module.setup("fit")
    for _ in range(2):  # each epoch meets it again; it is counted once
        (batch,) = batches(module, "valid")
        assert len(batch["targets"]) == 7
    assert list(module.skipped["valid"]) == ["000027.jpg"]
    assert module.skipped["train"] == {}


def test_empty_split_other_edition_and_a_page_in_place_of_a_table(tmp_path):
    root = write_celeba(tmp_path, num_valid=0)
    with pytest.raises(TableError, match="split 'valid' is empty"):
        data(root).setup("fit")
    partition = root / "celeba/list_eval_partition.txt"
    partition.write_text(partition.read_text() + "zzz.jpg 1\n")
    with pytest.raises(TableError, match=r"zzz\.jpg"):
        data(root).setup("fit")
    partition.write_text("<html><title>Google Drive - Quota exceeded</title></html>")
    with pytest.raises(TableError, match="HTML"):
        data(root).setup("fit")
    shutil.move(partition, partition.with_suffix(".old"))
    with pytest.raises(TableError, match="list_eval_partition"):
        data(root).setup("fit")


def test_what_can_be_had_without_an_image():
    train = pd.DataFrame({"Male": [1, 1, 1, 0, 0, 0], "Young": [0, 0, 1, 1, 1, 1], "Attractive": [0, 0, 1, 1, 1, 0]})
    judged = pd.DataFrame({"Male": [1, 1, 0, 0], "Young": [0, 1, 1, 0], "Attractive": [1, 1, 0, 0]})
    assert majority_accuracy(judged["Attractive"]) == 0.5
    # cells of train: (1,0) -> 0, (1,1) -> 1, (0,1) -> 1; (0,0) was never seen: the training majority, a tie, answers 0
    assert covariates_only_accuracy(train, judged, "Attractive", ["Male", "Young"]) == 2 / 4
    lines = describe({"train": train, "valid": judged}, "Attractive", ["Male", "Young"])
    assert "0.5000" in lines[2]
    assert "covariates alone" in lines[2]


@pytest.mark.parametrize(
    ("one", "other", "stage"), [(1, 25, "fit"), (24, 32, "fit"), (7, 40, "test"), (3, 26, "validate")]
)
@pytest.mark.parametrize("people", ["there", "some"])
def test_a_person_on_both_sides_is_an_error(tmp_path, one, other, stage, people):
    root = write_celeba(tmp_path)
    ids = {number: number for number in range(1, 41) if people == "there" or number in (one, other)}
    ids[other] = ids[one]
    lines = [f"{number:06d}.jpg {who}" for number, who in ids.items()]
    (root / "celeba/identity_CelebA.txt").write_text("\n".join(lines) + "\n")
    with pytest.raises(TableError, match=rf"shared subject: {one}: on both sides.*{one:06d}\.jpg.*{other:06d}\.jpg"):
        data(root).setup(stage)
    with pytest.warns(LeakageWarning, match="shared subject"):
        data(root, leaks="warn").setup(stage)


def test_other_splits_may_be_one_persons(tmp_path):
    """valid and test are not training: people there may be the same. Without identities nothing is said."""
    root = write_celeba(tmp_path)
    data(root).setup("fit")
    lines = [f"{number:06d}.jpg {99 if number in (26, 38) else number}" for number in range(1, 41)]
    (root / "celeba/identity_CelebA.txt").write_text("\n".join(lines) + "\n")
    for stage in ("fit", "validate", "test"):
        data(root).setup(stage)


@pytest.mark.parametrize("target", ["Attractive", ["Smiling", "Attractive"]])
def test_a_covariate_that_is_the_answer_is_an_error(tmp_path, target):
    root = write_celeba(tmp_path)
    table = root / "celeba/list_attr_celeba.txt"
    rows = [line.split() for line in table.read_text().splitlines()]
    for row in rows[2:]:
        row[21] = row[3]  # Male is a copy of Attractive
    table.write_text("\n".join(" ".join(row) for row in rows))
    with pytest.raises(TableError, match=r"(?s)Male.*--data\.leaks warn"):
        data(root, target=target, covariates=["Male"]).setup("fit")
    data(root, target=target, covariates=["Young"]).setup("fit")
