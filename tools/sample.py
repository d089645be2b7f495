"""Renew docs/notebooks after `make reproduce`: python -m tools.sample [MODEL]

Writes the sample model (MODEL with its weights as float16), a generated picture, and the outputs of tour.ipynb.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

from partialres.checkpoints.model_file import load_model, read_header, read_words, save_model
from partialres.refshapes import scenes
from partialres.refshapes.generate import RefshapesConfig, scene_of

FOLDER = Path(__file__).parents[1] / "docs/notebooks"
MODEL, PICTURE, TOUR = (FOLDER / name for name in ("model.safetensors", "scene.jpg", "tour.ipynb"))
SCENES, SHOWN = RefshapesConfig(images=20, seed=7, side=320), 19  # not trained on: training data are of seed 0


def store(model: Path, out: Path) -> None:
    """Write a copy of a model file with float16 weights; loading turns them back into float32."""
    header = read_header(model)
    halved = load_model(model).half()
    kept = {"size": header["image_size"], "provenance": header["provenance"]}
    save_model(halved, out, words=read_words(model), **kept)


def toured() -> nbformat.NotebookNode:
    """Run the tour and return it with its outputs; raises nbclient's CellExecutionError if a cell fails."""
    tour = nbformat.read(TOUR, as_version=4)
    client = NotebookClient(tour, timeout=120, record_timing=False, resources={"metadata": {"path": str(FOLDER)}})
    client.execute(env={**os.environ, "PYTHONPATH": str(FOLDER.parents[1])})  # this checkout, installed or not
    return tour


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.sample", description=__doc__)
    made = Path("results/refshapes/seed0/ratio10/ours/retrain/model.safetensors")
    parser.add_argument("model", type=Path, nargs="?", default=made)
    store(parser.parse_args().model, MODEL)
    picture = scenes.paint(scene_of(SCENES, SHOWN), SCENES.seed, SHOWN)
    Image.fromarray(picture).save(PICTURE, quality=92)
    nbformat.write(toured(), TOUR)
