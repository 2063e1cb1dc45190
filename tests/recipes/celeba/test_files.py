import hashlib

import numpy as np
import pytest

from fusionconv.errors import TableError
from recipes.celeba import files
from recipes.celeba.__main__ import main
from tests.recipes.celeba.conftest import write_celeba


def wrong(root):
    return [line for kind, line in files.inspect(root) if kind == "WRONG"]


def test_a_whole_folder_is_good(celeba, capsys):
    assert main(["verify", f"--root={celeba}"]) == 0
    text = capsys.readouterr().out
    assert "good to train on" in text
    assert "'train': 24, 'valid': 8, 'test': 8" in text


def test_an_lf_copy_of_an_official_file_is_official(tmp_path, monkeypatch):
    root = write_celeba(tmp_path)
    path = root / "celeba/list_attr_celeba.txt"
    official = hashlib.md5(path.read_bytes()).hexdigest()  # as written: CRLF
    monkeypatch.setitem(files.TEXT_MD5, path.name, official)
    monkeypatch.setattr(files, "OFFICIAL_IMAGES", 40)
    for data in (path.read_bytes(), path.read_bytes().replace(b"\r\n", b"\n")):
        path.write_bytes(data)
        assert any("list_attr_celeba.txt: the official file" in line for _, line in files.inspect(root))
    text = path.read_text()
    path.write_text(text[:-3] + ("-1" if text[-3:-1] != "-1" else " 1") + "\n")
    assert any("was changed or cut" in line for line in wrong(root))


def test_what_is_wrong_is_named(tmp_path, capsys):
    assert "img_align_celeba" in wrong(tmp_path / "nowhere")[0]
    root = write_celeba(tmp_path)
    images, table = root / "celeba/img_align_celeba", root / "celeba/list_attr_celeba.txt"
    (images / "000004.jpg").unlink()
    (images / "000001.jpg").write_bytes(b"\xff\xd8")
    lines = wrong(root)
    assert any("1 images are listed but absent: 000004.jpg" in line for line in lines)
    assert any("000001.jpg does not decode" in line for line in lines)
    (root / "celeba/identity_CelebA.txt").write_text("000001.jpg 7\n000040.jpg 7\n")
    assert any("1 identities" in line for kind, line in files.inspect(root) if kind == "note")
    table.write_text("<html><title>Google Drive - Quota exceeded</title></html>")
    with pytest.raises(SystemExit) as stop:
        main(["verify", f"--root={root}"])
    assert stop.value.code == 1
    assert "Quota exceeded" in capsys.readouterr().out


@pytest.fixture
def drive(tmp_path, monkeypatch):
    """A download that needs no network: torchvision's list and downloader, replaced by small files of our own."""
    import torchvision.datasets
    from torchvision.datasets import utils

    source = write_celeba(tmp_path / "source") / "celeba"
    (source / "identity_CelebA.txt").write_bytes(b"".join(b"%06d.jpg %d\r\n" % (i, i) for i in range(1, 41)))
    names = ["list_attr_celeba.txt", "list_eval_partition.txt", "identity_CelebA.txt"]
    contents = {name: (source / name).read_bytes() for name in names} | {"img_align_celeba.zip": b"zip"}
    listed = [(f"id-{name}", hashlib.md5(data).hexdigest(), name) for name, data in contents.items()]
    monkeypatch.setattr(torchvision.datasets.CelebA, "file_list", listed)
    monkeypatch.setattr(files, "OFFICIAL_IMAGES", 40)
    for name in names:
        monkeypatch.setitem(files.TEXT_MD5, name, hashlib.md5(contents[name]).hexdigest())
    asked = []

    def fetch(file_id, root, filename, md5):
        asked.append(filename)
        (files.Path(root) / filename).write_bytes(contents[filename])

    def extract(path, to):
        (source / "img_align_celeba").rename(files.Path(to) / "img_align_celeba")

    monkeypatch.setattr(utils, "download_file_from_google_drive", fetch)
    monkeypatch.setattr(utils, "extract_archive", extract)
    return asked, contents


def test_download_fetches_only_what_is_missing(drive, tmp_path, capsys):
    asked, contents = drive
    folder = tmp_path / "data/celeba"
    folder.mkdir(parents=True)
    mine = contents["list_eval_partition.txt"].replace(b"\r\n", b"\n")  # an LF copy: torchvision would load it again
    (folder / "list_eval_partition.txt").write_bytes(mine)
    main(["download", f"--root={tmp_path}/data"])
    assert "non-commercial" in capsys.readouterr().out
    assert asked == ["list_attr_celeba.txt", "identity_CelebA.txt", "img_align_celeba.zip"]
    assert (folder / "list_eval_partition.txt").read_bytes() == mine
    asked.clear()
    (folder / "img_align_celeba.zip").unlink()
    main(["download", f"--root={tmp_path}/data"])
    assert asked == []


def test_download_writes_nothing_over_and_explains_a_quota_page(drive, tmp_path, monkeypatch):
    folder = tmp_path / "data/celeba"
    folder.mkdir(parents=True)
    (folder / "identity_CelebA.txt").write_text("mine")
    with pytest.raises(TableError, match="not written over"):
        files.download([f"--root={tmp_path}/data"])
    assert (folder / "identity_CelebA.txt").read_text() == "mine"

    from torchvision.datasets import utils

    def quota(file_id, root, filename, md5):
        (files.Path(root) / filename).write_text("<!DOCTYPE html><title>Quota exceeded</title>")
        raise RuntimeError("File not found or corrupted.")

    def no_gdown(*args):
        raise ModuleNotFoundError("No module named 'gdown'")

    (folder / "list_attr_celeba.txt").unlink()
    monkeypatch.setattr(utils, "download_file_from_google_drive", quota)
    with pytest.raises(TableError, match="quota is used up"):
        files.download([f"--root={tmp_path}/data"])
    assert not (folder / "list_attr_celeba.txt").exists()
    monkeypatch.setattr(utils, "download_file_from_google_drive", no_gdown)
    with pytest.raises(TableError, match="pip install gdown"):
        files.download([f"--root={tmp_path}/data"])


# ---- the study table ----


def test_the_table_joins_the_three_files_by_name(tmp_path):
    """Against a second reading of the raw lines; the rows of the files are in three different orders."""
    root = write_celeba(tmp_path)
    folder = root / "celeba"
    draw = np.random.default_rng(0)
    lines = (folder / "list_attr_celeba.txt").read_text().splitlines()
    truth = {line.split()[0]: dict(zip(lines[1].split(), line.split()[1:], strict=True)) for line in lines[2:]}
    rows = lines[2:]
    draw.shuffle(rows)
    (folder / "list_attr_celeba.txt").write_text("\n".join([*lines[:2], *rows]))
    splits = dict(line.split() for line in (folder / "list_eval_partition.txt").read_text().splitlines())
    people = {name: str(number // 2) for number, name in enumerate(sorted(splits))}
    (folder / "identity_CelebA.txt").write_text("\n".join(f"{n} {people[n]}" for n in draw.permutation(sorted(people))))
    table = files.study_table(root).set_index("file")
    assert list(table.index) == list(splits)
    for name, row in table.iterrows():
        assert row["person"] == f"p{people[name]}"
        assert row["split"] == {"0": "train", "1": "valid", "2": "test"}[splits[name]]
        assert row["as_published"] == {"0": "train", "1": "test", "2": ""}[splits[name]]
        assert all(row[column] == (truth[name][column] == "1") for column in truth[name])
        assert (row["all_0"], row["all_1"]) == (0, 1)


def test_tables_of_two_editions_are_refused(tmp_path):
    root = write_celeba(tmp_path)
    identity = root / "celeba/identity_CelebA.txt"
    identity.write_text("000001.jpg 7\n")
    with pytest.raises(TableError, match=r"identity of every image, got none of 000002.jpg, .*39 in all"):
        files.study_table(root)
    identity.unlink()
    assert files.study_table(root)["person"].is_unique
    with (root / "celeba/list_eval_partition.txt").open("a") as file:
        file.write("000041.jpg 2\n")
    with pytest.raises(TableError, match="same edition"):
        files.study_table(root)
    for path in ("list_eval_partition.txt", "list_attr_celeba.txt"):
        (root / "celeba" / path).unlink()
        with pytest.raises(TableError, match="verify"):
            files.study_table(root)
    with pytest.raises(TableError, match=r"--root .*img_align_celeba"):
        files.study_table(tmp_path / "nowhere")
