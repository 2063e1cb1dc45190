"""benchmarks/gpu.sh and what it takes along: steps under their own time, one archive, no data in it; tried without a card."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.__main__ import main
from benchmarks.pack import TABLES
from benchmarks.pack import main as pack
from benchmarks.speed import probe
from benchmarks.speed.cases import Case, grid

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.sh"
CPU = torch.device("cpu")


def faces(folder: Path, count: int = 3) -> Path:
    images = folder / "celeba" / "img_align_celeba"
    images.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(images / f"{i:06d}.jpg")
    for name in TABLES:
        (folder / "celeba" / f"{name}.txt").write_text(f"{name} of {count}\n")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("inner", [False, True])
def test_what_is_packed_comes_out(inner: bool, tmp_path: Path) -> None:
    """Images and tables to the byte, weights rounded to half precision, in float32 again."""
    root = faces(tmp_path / "faces")
    state = {"features.0.weight": torch.randn(4, 3, 3, 3), "features.0.bias": torch.tensor([1e-3, 2.5])}
    torch.save(state, tmp_path / "vgg16.pt")
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "a-1-py3-none-any.whl").write_bytes(b"wheel")
    given = root / "celeba" if inner else root
    pack(["make", "--celeba", str(given), "--vgg16", str(tmp_path / "vgg16.pt"), "--wheels", str(tmp_path / "wheels"),
          "--out", str(tmp_path / "pack.zip")])  # fmt: skip
    pack(["open", str(tmp_path / "pack.zip"), "--out", str(tmp_path / "out")])
    found = contents(tmp_path / "out")
    weights = torch.load(io.BytesIO(found.pop("vgg16.pt")), weights_only=True)
    assert found.pop("wheels/a-1-py3-none-any.whl") == b"wheel"
    assert found == contents(root)
    for name, value in state.items():
        assert weights[name].dtype == torch.float32
        assert torch.equal(weights[name], value.half().float())


def test_what_cannot_be_packed(tmp_path: Path, monkeypatch) -> None:
    out = ["--out", str(tmp_path / "pack.zip")]
    with pytest.raises(SystemExit, match="got none of --celeba"):
        pack(["make", *out])
    with pytest.raises(SystemExit, match="--wheels: expected"):
        pack(["make", "--wheels", str(tmp_path), *out])
    root = faces(tmp_path / "faces")
    (root / "celeba" / "identity_CelebA.txt").unlink()
    with pytest.raises(SystemExit, match="identity_CelebA"):
        pack(["make", "--celeba", str(root), *out])
    monkeypatch.setattr("benchmarks.pack.LIMIT", 100)
    with pytest.raises(SystemExit, match="expected at most 0 MiB, got"):
        pack(["make", "--celeba", str(faces(tmp_path / "more")), *out])
    assert not (tmp_path / "pack.zip").exists()
    (tmp_path / "pack.zip").write_bytes(b"no zip")
    with pytest.raises(SystemExit, match="error: File is not a zip file"):
        pack(["open", str(tmp_path / "pack.zip"), *out])


STUB = """#!/usr/bin/env bash
echo "$@" >>"$CALLS"
for word in "$@"; do
  [ "$word" = "$SLEEPS" ] && exec sleep 60
  [ "$word" = "$FAILS" ] && { echo "broken"; exit 3; }
done
while [ $# -gt 0 ]; do
  [ "$1" = --json ] && echo '{}' >"$2"
  [ "$1" = open ] && { mkdir -p "$4/celeba"; echo secret >"$4/celeba/face.jpg"; echo w >"$4/vgg16.pt"; }
  [ "$1" = --out ] && [[ "$2" == */celeba ]] && { mkdir -p "$2/runs"; echo '{}' >"$2/runs/result.json"; echo w >"$2/runs/a.ckpt"; echo face >"$2/inputs.png"; }
  shift
done
exit 0
"""


def run(
    tmp_path: Path, *, sleeps: str = "-", fails: str = "-", **environment: str
) -> tuple[str, int, list[str], float]:
    """The script with a python that notes its words; what it says, its code, the calls, and the seconds."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(STUB)
    (tmp_path / "bin" / "python").chmod(0o755)
    found = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls")}
    found |= {"SLEEPS": sleeps, "FAILS": fails, **environment}
    begun = time.perf_counter()
    done = subprocess.run(
        ["bash", str(SCRIPT), str(tmp_path / "out"), "pack.zip"], env=found, capture_output=True, text=True
    )
    return (
        done.stdout + done.stderr,
        done.returncode,
        (tmp_path / "calls").read_text().splitlines(),
        time.perf_counter() - begun,
    )


def test_every_step_runs_and_one_archive_comes_out(tmp_path: Path) -> None:
    """The card's own mode, on a machine without one: python and the card are played."""
    said, code, calls, _ = run(tmp_path)
    assert code == 0, said
    order = [line.split()[2] for line in calls if line.startswith("-m benchmarks ")]
    assert order == ["ceilings", "probe", "layers", "models", "lowrank", "memory", "pipeline", "page"]
    assert any(line.startswith("-m pytest") and "tests/gpu/" in line for line in calls)
    rows = [line for line in calls if line.startswith("-m recipes.celeba reproduce")]
    assert sorted(line.split("--part ")[1].split()[0] for line in rows) == ["1/3", "2/3", "3/3"]
    assert all("--seeds 3 --image-size 112" in line and "vgg16.pt" in line for line in rows)
    assert all("--quick" not in line for line in calls)
    with tarfile.open(tmp_path / "out.tar.gz") as archive:
        names = archive.getnames()
    assert {"out/probe.json", "out/layers.json", "out/celeba/runs/result.json"} <= set(names)
    assert not [n for n in names if "data" in n or n.endswith((".ckpt", ".jpg", ".pt", ".png"))]


def test_a_step_that_fails_or_hangs_does_not_stop_the_others(tmp_path: Path) -> None:
    said, code, calls, seconds = run(tmp_path, fails="probe", sleeps="layers", LIMIT="12", STEPS="probe layers memory")
    assert code == 1
    assert "probe: ended with code 3" in said
    assert "layers: stopped after" in said
    assert seconds < 30
    assert [line.split()[2] for line in calls if line.startswith("-m benchmarks ")][:2] == ["probe", "layers"]
    with tarfile.open(tmp_path / "out.tar.gz") as archive:
        assert "out/layers.log" in archive.getnames()


def test_all_limits_together_fit() -> None:
    """At most nine minutes: the steps share 500 s, of which unpacking is one, and the page may take 30 s more."""
    words = SCRIPT.read_text()
    assert 'limit="${LIMIT:-500}"' in words
    assert "timeout 30 python -m benchmarks page" in words
    starts = [line.split() for line in words.splitlines() if line.startswith(("measure ", "step "))]
    starts += [line.split()[6:] for line in words.splitlines() if line.startswith('if [ -d "$data/celeba" ]')]
    seconds = {words[1]: int(words[2]) for words in starts}
    assert seconds["celeba"] == 180
    assert sum(seconds[name] for name in seconds if name != "compiled") <= 510  # what comes last takes what is left


# ---------------------------------------------------------------- the measurements that it adds


def test_the_probes_ways_compute_the_same() -> None:
    """Values and gradients of W and V, also of the ways that no strategy takes."""
    for case in (
        Case("3x3", 2, 3, (4, 6), 7, k=2),
        Case("1x1", 2, 3, (4, 6), 5, 1, k=2),
        Case("3-D", 3, 2, (4, 6), 5, 3, 2, k=2),
    ):
        x, s, w, v = probe._tensors(case, CPU)
        results = {}
        for name, way in probe.ways(case, x, s, w, v).items():
            y = way()
            wanted = (x, w) if name == "plain" else (x, w, v)
            results[name] = [y, *torch.autograd.grad(y.square().sum(), wanted)]
        assert {"bmm", "unfold, bmm"} & set(results) or case.dims == 3
        expected = results["loop"]
        for name, result in results.items():
            if name != "plain":
                for got, truth in zip(result, expected, strict=True):
                    torch.testing.assert_close(got, truth, rtol=1e-3, atol=1e-3, msg=lambda m, n=name: f"{n}: {m}")


def test_what_one_trains_in_is_measured_first() -> None:
    first = [case.dtype for case in grid("cuda")][:10]
    assert set(first) == {"bfloat16"}
    assert len({case.name for case in grid("cuda")}) == len(grid("cuda"))


def test_ceilings_and_probe_on_the_page(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(probe, "LAYERS", probe.LAYERS[:2])
    main(["probe", "--json", str(tmp_path / "probe.json")])
    main(["ceilings", "--quick", "--json", str(tmp_path / "ceilings.json")])
    records = json.loads((tmp_path / "ceilings.json").read_text())["records"]
    assert all(min(v for v in record.values() if not isinstance(v, str)) > 0 for record in records)
    main(["page", *map(str, sorted(tmp_path.glob("*.json"))), "--out", str(tmp_path / "page.md")])
    text = (tmp_path / "page.md").read_text()
    assert "| copy in memory, read and written |" in text
    assert "| X-ray stem | 3 | no |" in text


def test_a_pack_is_a_zip_of_stored_images(tmp_path: Path) -> None:
    pack(["make", "--celeba", str(faces(tmp_path / "faces")), "--out", str(tmp_path / "pack.zip")])
    with zipfile.ZipFile(tmp_path / "pack.zip") as file:
        kinds = {Path(info.filename).suffix: info.compress_type for info in file.infolist()}
    assert kinds == {".jpg": zipfile.ZIP_STORED, ".txt": zipfile.ZIP_DEFLATED}
