"""Build a release and check it as a user meets it. Nothing is published.

    python .ci/release.py                                # everything, into dist/; needs git and uv
    python .ci/release.py --extras tabular study         # these extras only
    python .ci/release.py --newest                       # the newest versions instead of those in constraints.txt

What is committed is built, from a clone. Each environment is new and is deleted afterwards (a few GB while it lasts).
A step that fails ends the command. To publish, a person runs:  uv publish
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 2**21  # bytes of one file of the sdist; figures of docs/results are smaller
DATA = (
    ".csv",
    ".tsv",
    ".nii",
    ".gz",
    ".npy",
    ".npz",
    ".pt",
    ".pth",
    ".ckpt",
    ".safetensors",
    ".parquet",
    ".xlsx",
    ".dcm",
)
# tables that are no data: the published study's rows, which the recipe repeats; scores that pages are made of
NO_DATA = ("recipes/celeba/rows.csv", "benchmarks/results/")

# What answers in an environment that has the extra. Recipes are files of the repository, so these run in the clone.
COMMANDS = {
    "tabular": [["python", "-m", "fusionconv.tabular", "--help"]],
    "evaluation": [["python", "-c", "from fusionconv.evaluation import wilson; print(wilson(8, 10))"]],
    "study": [["fusionconv", "--help"], ["fusionconv", "compare", "--help"], ["fusionconv", "explain", "--help"]],
    "explain": [["python", "-c", "import fusionconv.explain as e; print(*e.__all__)"]],
    "serve": [["fusionconv", "serve", "--help"]],
    "dicom": [["python", "-c", "import pydicom; print(pydicom.__version__)"]],
    "ray": [["python", "-c", "import ray; print(ray.__version__)"]],
    "slurm": [["python", "-c", "import submitit; print(submitit.__version__)"]],
    "celeba": [["python", "-m", "recipes.celeba", "--help"]],
    "adni": [["python", "-m", "recipes.adni", "--help"]],
    "docs": [["python", "-m", "sphinx", "--version"]],
}
IMPORTS = """
import time, torch
start = time.perf_counter()
import fusionconv
print(1000 * (time.perf_counter() - start))
"""


def run(command: list[str], cwd: Path, quiet: bool = False) -> str:
    """Run it; its output. It ends the release where it fails."""
    print("$", " ".join(command), flush=True)
    # nothing of the repository may be imported in place of what was installed, except where cwd says so
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}\nfailed with {done.returncode}: {' '.join(command)}")
    if not quiet:
        print(done.stdout.strip()[-600:], flush=True)
    return done.stdout


def notes(changelog: str, version: str) -> str:
    """The section of ``version`` in CHANGELOG.md; before it has one, that of what is unreleased."""
    sections = dict(
        re.findall(r"^## \[([^\]]+)\][^\n]*\n(.*?)(?=^## \[|\Z)", changelog, flags=re.DOTALL | re.MULTILINE)
    )
    text = sections.get(version) or sections.get("Unreleased")
    if not text or not text.strip():
        raise SystemExit(f"CHANGELOG.md: expected a section [{version}] or [Unreleased], got none with text; write it")
    return f"# fusionconv {version}\n\n{text.strip()}\n"


def quick_start(readme: str) -> str:
    """The Python blocks of README.md, which continue each other."""
    blocks = re.findall(r"^```python\n(.*?)^```", readme, flags=re.DOTALL | re.MULTILINE)
    if not blocks:
        raise SystemExit("README.md: expected a block of Python, got none")
    return "\n".join(blocks)


def is_data(name: str) -> bool:
    """Whether a file of that name may hold images, volumes or people."""
    return name.endswith(DATA) and not name.startswith(NO_DATA)


def wrong_members(sdist: Path, wheel: Path, tracked: set[str]) -> list[str]:
    """What must not be in the archives: files that git does not know, data, large files, packages but ours."""
    wrong = []
    with tarfile.open(sdist) as archive:
        for member in archive.getmembers():
            name = member.name.partition("/")[2]
            if not member.isfile() or name == "PKG-INFO":
                continue
            if name not in tracked or is_data(name) or member.size > LARGEST:
                wrong.append(f"{sdist.name}: {name} ({member.size:,d} bytes)")
    with zipfile.ZipFile(wheel) as archive:
        known = {name for name in tracked if name.startswith("fusionconv/")}
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        wrong += [f"{wheel.name}: {name}" for name in sorted(inside ^ known)]
    return wrong


def relative_links(wheel: Path) -> list[str]:
    """Links of the description that lead to a file of the repository: the index cannot follow them."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return re.findall(r"\]\((?!https?://|#)([^)]+)\)", archive.read(metadata).decode("utf-8"))


def environment(folder: Path, requirements: list[str], constraints: list[str]) -> Path:
    """A new environment with the requirements; the folder of its programs."""
    run(["uv", "venv", "--quiet", "--python", sys.executable, str(folder)], folder.parent)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    run(
        ["uv", "pip", "install", "--quiet", "--python", str(programs / "python"), *constraints, *requirements],
        folder.parent,
    )
    return programs


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "dist", help="folder of the archives and notes; default: dist/"
    )
    parser.add_argument("--extras", nargs="*", help="default: all but dev")
    parser.add_argument("--newest", action="store_true", help="without constraints.txt")
    parser.add_argument(
        "--limit", type=float, default=60, help="ms that import fusionconv may take beyond torch; default: 60"
    )
    given = parser.parse_args()
    out = given.out.resolve()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [extra for extra in project["optional-dependencies"] if extra != "dev"]
    lacking = [extra for extra in extras if extra not in COMMANDS]
    unknown = [extra for extra in given.extras or () if extra not in extras]
    if lacking or unknown:
        sys.exit(f"expected extras of pyproject.toml with a command in COMMANDS, got {lacking + unknown}")
    if run(["git", "status", "--porcelain"], ROOT, quiet=True).strip():
        sys.exit("expected a clean work tree, got changes that are not committed; commit or stash them")

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        clone = work / "clone"
        run(["git", "clone", "--quiet", str(ROOT), str(clone)], work)
        tracked = set(run(["git", "ls-files"], clone, quiet=True).splitlines())
        shutil.rmtree(out, ignore_errors=True)
        run(["uv", "build", "--quiet", "--out-dir", str(out)], clone)  # the sdist, and the wheel from the sdist
        (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
        run(["uvx", "twine", "check", "--strict", str(sdist), str(wheel)], work)
        run(["uvx", "check-wheel-contents", str(wheel)], work)
        if wrong := wrong_members(sdist, wheel, tracked):
            sys.exit("expected files of the repository only, and no data, got\n  " + "\n  ".join(wrong))

        if links := relative_links(wheel):
            sys.exit(f"expected absolute links in the index's description, got {links}; see pyproject.toml")

        constraints = [] if given.newest else ["--constraints", str(ROOT / "constraints.txt")]
        programs = environment(work / "alone", [str(wheel)], constraints)
        python = str(programs / "python")
        times = [float(run([python, "-c", IMPORTS], work, quiet=True)) for _ in range(7)]
        print(f"import fusionconv: {statistics.median(times):.1f} ms beyond import torch (median of {len(times)})")
        if statistics.median(times) > given.limit:
            sys.exit(
                f"expected at most {given.limit:g} ms; see what is slow: python -X importtime -c 'import fusionconv'"
            )
        shutil.rmtree(work / "alone")

        for extra in extras if given.extras is None else given.extras:
            programs = environment(work / extra, [f"fusionconv[{extra}] @ {wheel.as_uri()}"], constraints)
            for program, *rest in COMMANDS[extra]:
                run([str(programs / program), *rest], clone if "recipes" in " ".join(rest) else work)
            if extra == "study":
                (work / "quick_start.py").write_text(quick_start((ROOT / "README.md").read_text(encoding="utf-8")))
                run([str(programs / "python"), "quick_start.py"], work)
            shutil.rmtree(work / extra)

    text = notes((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), project["version"])
    (out / "RELEASE_NOTES.md").write_text(text, encoding="utf-8")
    print(f"{sdist.name}, {wheel.name} and RELEASE_NOTES.md are in {out}")
    print(f"to publish: uv publish {out}/*.tar.gz {out}/*.whl")


if __name__ == "__main__":
    main()
