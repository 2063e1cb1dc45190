"""python -m benchmarks.pack: what benchmarks/gpu.sh takes to a machine without a network, one file of at most 60 MiB.

    python -m benchmarks.pack make --celeba FOLDER --vgg16 FILE [--wheels FOLDER] --out pack.zip
    python -m benchmarks.pack open pack.zip --out FOLDER

FOLDER of --celeba is in torchvision's layout (celeba/img_align_celeba and the tables), FILE a state dict of VGG16's
convolutions. JPEGs are stored as they are (decoded pixels would not fit), weights in half precision, which `open` turns
back into float32. Nothing of it belongs into a commit.
"""

from __future__ import annotations

import argparse
import io
import sys
import zipfile
from pathlib import Path

import torch

__all__ = ["make", "open_pack"]

LIMIT = 60 * 2**20
TABLES = ("list_attr_celeba", "list_eval_partition", "identity_CelebA")


def make(out: Path, celeba: Path | None = None, vgg16: Path | None = None, wheels: Path | None = None) -> int:
    """Write the file and return its size in bytes.

    Raises:
        ValueError: nothing to pack, a folder without what it should hold, more than 60 MiB.
    """
    parts: list[tuple[str, bytes, int]] = []
    if celeba is not None:
        folder = celeba / "celeba" if (celeba / "celeba").is_dir() else celeba
        images = sorted((folder / "img_align_celeba").glob("*.jpg"))
        tables = [path for path in sorted(folder.iterdir()) if path.stem in TABLES]
        if not images or {path.stem for path in tables} != set(TABLES):
            raise ValueError(f"--celeba: expected img_align_celeba/*.jpg and {', '.join(TABLES)} in {folder}")
        parts += [(f"celeba/{path.name}", path.read_bytes(), zipfile.ZIP_DEFLATED) for path in tables]
        parts += [(f"celeba/img_align_celeba/{path.name}", path.read_bytes(), zipfile.ZIP_STORED) for path in images]
    if vgg16 is not None:
        state = torch.load(vgg16, map_location="cpu", weights_only=True)
        buffer = io.BytesIO()
        torch.save({name: value.half() for name, value in state.items()}, buffer)
        parts.append(("vgg16-half.pt", buffer.getvalue(), zipfile.ZIP_STORED))
    if wheels is not None:
        found = sorted(wheels.glob("*.whl"))
        if not found:
            raise ValueError(f"--wheels: expected *.whl in {wheels}, got none")
        parts += [(f"wheels/{path.name}", path.read_bytes(), zipfile.ZIP_STORED) for path in found]
    if not parts:
        raise ValueError("expected something to pack, got none of --celeba, --vgg16, --wheels")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for name, data, how in parts:
            file.writestr(zipfile.ZipInfo(name), data, how)
    if packed.tell() > LIMIT:
        raise ValueError(f"expected at most {LIMIT / 2**20:.0f} MiB, got {packed.tell() / 2**20:.1f}; leave a part out")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(packed.getvalue())
    return packed.tell()


def open_pack(pack: Path, out: Path) -> None:
    """Lay the contents out again: celeba/, vgg16.pt in float32, wheels/."""
    with zipfile.ZipFile(pack) as file:
        file.extractall(out)  # leaves absolute names and ".." out
    half = out / "vgg16-half.pt"
    if half.is_file():
        state = torch.load(half, map_location="cpu", weights_only=True)
        torch.save({name: value.float() for name, value in state.items()}, out / "vgg16.pt")
        half.unlink()


def main(argv: list[str] | None = None) -> None:
    """Make or open a pack."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pack", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True)
    making, opening = commands.add_parser("make"), commands.add_parser("open")
    for name in ("celeba", "vgg16", "wheels"):
        making.add_argument(f"--{name}", type=Path)
    opening.add_argument("pack", type=Path)
    for command in (making, opening):
        command.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    try:
        if options.command == "open":
            open_pack(options.pack, options.out)
        else:
            size = make(options.out, options.celeba, options.vgg16, options.wheels)
            print(f"wrote {options.out}, {size / 2**20:.1f} MiB")
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
