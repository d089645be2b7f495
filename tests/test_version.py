"""The version is that of git's tag, in a clone and in an archive; results record the commit instead."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

import partialres
from partialres.cli import main

ROOT = Path(__file__).parents[1]


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository of one commit with the files that say how the package is built, and its root module."""
    folder = tmp_path / "clone"
    (folder / "partialres").mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitattributes", ".git_archival.txt", ".gitignore",
                 "partialres/__init__.py"):  # fmt: skip
        shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


def version(folder: Path) -> str:
    """The version that a build in this folder gives the package."""
    pytest.importorskip("setuptools_scm", reason="needs setuptools-scm")
    run = [sys.executable, "-m", "setuptools_scm"]
    return subprocess.run(run, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def archived(clone: Path, folder: Path) -> Path:
    """The folder that a source archive of the repository's commit unpacks to."""
    packed = subprocess.run(["git", "archive", "HEAD"], cwd=clone, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as files:
        files.extractall(folder, filter="data")
    return folder


def test_a_tags_version_is_that_of_its_clone_and_of_its_archive(clone, tmp_path):
    git(clone, "tag", "--annotate", "v3.2.1", "--message", "a release")
    assert version(clone) == "3.2.1"
    assert version(archived(clone, tmp_path / "archive")) == "3.2.1"


def test_a_commit_after_a_tag_counts_towards_the_next_version(clone, tmp_path):
    git(clone, "tag", "--annotate", "v3.2.1", "--message", "a release")
    git(clone, "commit", "--quiet", "--allow-empty", "--message", "second")
    assert version(clone) == f"3.2.2.dev1+g{git(clone, 'rev-parse', '--short=9', 'HEAD')}"


def test_clones_without_tags_their_archives_and_copies_without_git_can_be_installed(clone, tmp_path):
    assert version(clone).startswith("0.1.dev1+g")
    assert version(archived(clone, tmp_path / "archive")) == "0.0"
    shutil.copytree(clone, tmp_path / "copy", ignore=shutil.ignore_patterns(".git"))
    assert version(tmp_path / "copy") == "0.0"


def test_command_and_package_name_the_installed_version():
    answer = CliRunner().invoke(main, ["--version"])
    assert answer.output.endswith(f", version {partialres.__version__}\n")


def test_a_package_that_is_not_installed_has_no_version(tmp_path):
    shutil.copytree(ROOT / "partialres", tmp_path / "partialres", ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import importlib.metadata as m\n"
        "def absent(name): raise m.PackageNotFoundError(name)\n"
        "m.version = absent\n"
        "import partialres; print(partialres.__version__)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout == "unknown\n"


def test_results_name_the_commit_whatever_its_tags_and_outside_a_checkout_the_version(tmp_path):
    shutil.copytree(ROOT / "partialres", tmp_path / "partialres", ignore=shutil.ignore_patterns("__pycache__"))
    code = "from partialres.provenance import provenance; print(provenance({}, {}, 0, 'cpu')['commit'])"
    command = [sys.executable, "-B", "-c", code]
    where = {"cwd": tmp_path, "capture_output": True, "text": True, "check": True,
             "env": {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}}  # fmt: skip
    assert subprocess.run(command, **where).stdout.strip() == partialres.__version__
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    git(tmp_path, "tag", "--annotate", "v3.2.1", "--message", "a release")
    assert subprocess.run(command, **where).stdout.strip() == git(tmp_path, "rev-parse", "--short=12", "HEAD")
    (tmp_path / "partialres/__init__.py").open("a").write("\n# a change\n")
    assert subprocess.run(command, **where).stdout.strip().endswith("+")
