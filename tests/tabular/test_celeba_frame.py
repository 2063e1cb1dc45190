"""read_celeba on a folder in torchvision's layout."""

import numpy as np
import pandas as pd
import pytest

from fusionconv.errors import TableError, TableWarning
from fusionconv.tabular import CELEBA_ATTRIBUTES, read_celeba


@pytest.fixture
def celeba(tmp_path):
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    for name in ("000001.jpg", "000003.jpg", "000009.jpg"):
        (folder / "img_align_celeba" / name).touch()
    values = np.where(np.random.default_rng(0).integers(0, 2, (3, 40)) == 1, 1, -1)
    rows = [f"{i:06d}.jpg " + " ".join(f"{v:2d}" for v in row) for i, row in enumerate(values, 1)]
    (folder / "list_attr_celeba.txt").write_text("\n".join(["3", " ".join(CELEBA_ATTRIBUTES), *rows, ""]))
    (folder / "list_eval_partition.txt").write_text("000003.jpg 2\n000001.jpg 0\n000002.jpg 1\n")
    (folder / "identity_CelebA.txt").write_text("000003.jpg 7\n000001.jpg 2880\n")
    return tmp_path, values == 1


def test_attributes_partition_and_identity_come_together(celeba):
    root, truth = celeba
    for folder in (root, root / "celeba"):
        frame, report = read_celeba(folder, target="Attractive", report=True)
        assert list(frame.columns)[:5] == ["subject", "session", "image", "file", "partition"]
        assert frame["partition"].tolist() == ["train", "valid", "test"]  # by name, not by position
        assert [None if pd.isna(v) else v for v in frame["subject"]] == ["2880", None, "7"]
        assert frame["image"].notna().tolist() == [True, False, True]
        np.testing.assert_array_equal(frame["target"], truth[:, 2])
        np.testing.assert_array_equal(frame["Male"], truth[:, 20])
        assert "Attractive" not in frame.columns
        assert report["kind"].tolist() == ["row without subject", "row without image", "image without row"]


def test_without_identities_no_subject_is_made_up(celeba):
    root, _ = celeba
    (root / "celeba" / "identity_CelebA.txt").unlink()
    with pytest.warns(TableWarning, match="1 x row without subject; 1 x row without image"):
        frame = read_celeba(root)
    assert frame["subject"].isna().all()


def test_what_cannot_be_is_refused(celeba, tmp_path):
    root, _ = celeba
    with pytest.raises(TableError, match=r"expected one of CelebA's 40 attributes as target, got 'partition'"):
        read_celeba(root, target="partition")
    (root / "celeba" / "list_attr_celeba.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"list_attr_celeba.txt"):
        read_celeba(root)
    with pytest.raises(FileNotFoundError, match="expected a folder with img_align_celeba/"):
        read_celeba(tmp_path / "elsewhere")
