"""The release command's checks find what they look for, and what a release is made of agrees with itself."""

from __future__ import annotations

import importlib.util
import io
import re
import subprocess
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def load() -> Any:
    spec = importlib.util.spec_from_file_location("release", ROOT / ".ci" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


release = load()


def archives(folder: Path, sdist: dict[str, int], wheel: list[str]) -> tuple[Path, Path]:
    with tarfile.open(folder / "p-1.tar.gz", "w:gz") as archive:
        for name, size in sdist.items():
            member = tarfile.TarInfo(f"p-1/{name}")
            member.size = size
            archive.addfile(member, io.BytesIO(bytes(size)))
    with zipfile.ZipFile(folder / "p-1.whl", "w") as archive:
        for name in wheel:
            archive.writestr(name, "")
    return folder / "p-1.tar.gz", folder / "p-1.whl"


@pytest.mark.parametrize(
    ("sdist", "wheel", "wrong"),
    [
        ({"README.md": 9, "PKG-INFO": 9}, ["fusionconv/a.py", "fusionconv-1.dist-info/METADATA"], []),
        ({"secret.txt": 9}, ["fusionconv/a.py"], ["secret.txt"]),  # git does not know it
        ({"docs/scan.nii.gz": 9}, ["fusionconv/a.py"], ["docs/scan.nii.gz"]),
        ({"README.md": 2**21 + 1}, ["fusionconv/a.py"], ["README.md"]),
        ({}, ["fusionconv/a.py", "tests/b.py"], ["tests/b.py"]),
        ({}, [], ["fusionconv/a.py"]),  # a file of the package was left out
    ],
)
def test_archives_hold_the_repository_s_files_and_no_data(sdist, wheel, wrong, tmp_path: Path) -> None:
    tracked = {"README.md", "docs/scan.nii.gz", "fusionconv/a.py"}
    found = release.wrong_members(*archives(tmp_path, sdist, wheel), tracked)
    assert len(found) == len(wrong)
    assert all(name in line for name, line in zip(wrong, found, strict=True))


def test_what_git_knows_can_be_released() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert [name for name in tracked if release.is_data(name)] == []
    assert release.is_data("docs/results/people.csv")


def test_relative_links_of_the_description_are_found(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "p.whl", "w") as archive:
        archive.writestr("p-1.dist-info/METADATA", "Name: p\n\n[a](docs/a.md) [b](https://b.org) [c](#c) ![d](d.png)")
    assert release.relative_links(tmp_path / "p.whl") == ["docs/a.md", "d.png"]


def test_the_description_for_the_index_has_no_relative_links() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for rule in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    assert not re.findall(r"\]\((?!https?://|#)", text)
    assert "quick start" in text


def test_notes_are_those_of_the_version() -> None:
    text = "# Changelog\n\n## [Unreleased]\n\n- new\n\n## [0.1.0] - 2026-12-01\n\n- first\n\n## [0.0.1]\n\n- old\n"
    assert release.notes(text, "0.1.0") == "# fusionconv 0.1.0\n\n- first\n"
    assert release.notes(text, "0.2.0") == "# fusionconv 0.2.0\n\n- new\n"
    with pytest.raises(SystemExit, match="expected a section"):
        release.notes("# Changelog\n", "0.1.0")
    assert "hybrid" in release.notes((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), "0.1.0")


def test_every_extra_has_a_command() -> None:
    assert set(PROJECT["project"]["optional-dependencies"]) <= {*release.COMMANDS, "dev"}


def test_the_readme_fits_two_screens() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 100
    assert len(text.split()) <= 750
    figures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert len(figures) == 1
    assert (ROOT / figures[0]).is_file()
    assert len(release.quick_start(text).splitlines()) <= 10


def test_the_citation_names_this_version_and_the_method() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "version", "license"} <= set(cited)
    assert cited["version"] == PROJECT["project"]["version"]
    assert cited["license"] == PROJECT["project"]["license"]
    assert all({"type", "title", "authors"} <= set(reference) for reference in cited["references"])
    shortfuse = cited["references"][0]
    assert (shortfuse["title"].split(":")[0], shortfuse["year"], shortfuse["volume"]) == ("ShortFuse", 2017, 68)
    assert shortfuse["authors"][0]["family-names"] == "Fiterau"
    assert shortfuse["url"] == "https://proceedings.mlr.press/v68/fiterau17a.html"


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda p: p.name)
def test_issue_templates_are_forms(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.name != "config.yml":
        assert {"name", "description", "body"} <= set(form)
        assert all({"type", "attributes"} <= set(part) for part in form["body"])
