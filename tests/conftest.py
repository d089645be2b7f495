"""A tiny generated data set, prepared once a session, and models that know its words."""

from __future__ import annotations

import functools
import os

import pytest
import torch
from hypothesis import settings

from partialres.data.images import cache_images
from partialres.data.inputs import Inputs
from partialres.data.refer import read_refs
from partialres.data.splits import split
from partialres.data.vocabulary import build_vocabulary
from partialres.files import write_json, write_table
from partialres.model.pointer import PointModel
from partialres.refshapes.generate import RefshapesConfig, generate
from tests.tiny import SIDE, TINY, Prepared, changed

# No deadline: test machines are busy with other work, so the time of one example means nothing.
# The same examples in every run, so that only a change to the code makes a test fail or pass.
settings.register_profile("partialres", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("partialres")
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A data set with images of 64 x 48 to 64 x 64 pixels, portrait and landscape, in every split."""
    folder = tmp_path_factory.mktemp("prepared")
    raw = generate(RefshapesConfig(images=50, side=SIDE), folder / "raw")
    pictures = folder / "raw/images/train2014"
    refs, _ = read_refs(raw, pictures, "unc", on_problem="refuse")
    vocabulary = build_vocabulary(refs)
    cache_images(refs, pictures, folder / "images", SIDE)
    write_table(refs, folder / "refs.parquet")
    write_table(split(refs, 50, seed=0), folder / "split.parquet")
    write_json(vocabulary.to_json(), folder / "vocabulary.json")
    return Prepared(folder, raw, pictures, refs, vocabulary, Inputs(folder / "images", stride=16))


@pytest.fixture(scope="session")
def tiny_model(data: Prepared):
    """(points, seed, settings ...) -> a tiny model with random weights that knows the data set's words."""

    def make(points: int = 4, seed: int = 0, **changes) -> PointModel:
        torch.manual_seed(seed)
        return PointModel(changed(TINY, **changes), len(data.vocabulary), points).eval()

    return make


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first: tests may run in several processes, one file each, and these must start early."""
    items.sort(key=lambda item: (item.path.name != "test_slurm.py", not {"workflow", "training"} & {*item.path.parts}))


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch.compile trace and differentiate, but generate no code, which would take minutes.

    PARTIALRES_COMPILER=inductor generates it too; this needs a C++ compiler.
    """
    backend = os.environ.get("PARTIALRES_COMPILER", "aot_eager")
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
