"""One complete run of the tiny workflow per session, to inspect, to copy, and to ask what a change would rerun."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from tests.workflow.running import Workflow, checkout_copy

ODD = "it's \"all\" $(touch hacked) `touch hacked` of bjørn's Größen"  # a folder's name, which no shell may take apart


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, which tests may change."""
    return checkout_copy(tmp_path_factory.mktemp("checkout") / ODD)


@pytest.fixture(scope="session")
def done(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The workflow after a complete run, which tests must not change: tests in several processes share it.

    Checkout and folder have odd names, so that every rule is tried with them.
    """
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / ODD
    workflow = Workflow(checkout, folder)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            made = Workflow(checkout, own / f"made {ODD}")
            made.folder.mkdir()
            made()
            made.folder.rename(folder)
    return workflow


@pytest.fixture
def copy(done: Workflow, tmp_path: Path) -> Workflow:
    """A copy of the complete run, which tests may continue."""
    shutil.copytree(done.folder, tmp_path / "run")
    return Workflow(done.checkout, tmp_path / "run")


@pytest.fixture
def empty(checkout: Path, tmp_path: Path) -> Workflow:
    """The workflow in a folder where nothing has run."""
    (tmp_path / "run").mkdir()
    return Workflow(checkout, tmp_path / "run")
