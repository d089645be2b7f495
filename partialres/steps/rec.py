"""Step 1: learn the box of every training ref, as a sequence of two points or with a box head. No mask is read."""

from pathlib import Path

import torch

from partialres.config import ModelConfig, TrainConfig
from partialres.data.samples import known_boxes
from partialres.data.vocabulary import word_vectors
from partialres.files import read_table, say
from partialres.model.build import build_model
from partialres.steps.backbone import load_visual
from partialres.steps.fit import Execution, fit
from partialres.steps.sources import Sources


def train_rec(
    refs: Path,
    sources: Sources,
    config: ModelConfig,
    training: TrainConfig,
    execution: Execution,
    *,
    init_backbone: Path | None,
    vectors: Path | None,
) -> None:
    """Train step 1. The model is SeqTR's, without CCTF and PMCA, because the paper starts from SeqTR's weights.

    init_backbone: initial weights of the visual part, DarkNet's or ours. vectors: word vectors in GloVe's text format.
    Where either is None, that part starts at random.
    """
    words = sources.words()
    model = build_model(config.step_1(), len(words), points=2, seed=execution.seed)
    if init_backbone:
        load_visual(model.visual, init_backbone)
    if vectors:
        table, lacking = word_vectors(words, vectors, config.word, execution.seed)
        model.language.embedding.weight.data.copy_(torch.from_numpy(table))
        say(f"train-rec: {lacking} of {len(words)} words have no vector in {vectors} and got a random one")
    rows = read_table(refs, ["ref_id", "image_id", "split", "bbox", "expressions"])
    rows = rows[rows["split"] == "train"].reset_index(drop=True)
    corners = list(known_boxes(rows))
    optional = {"init_backbone": init_backbone, "vectors": vectors}
    files = {"refs": refs} | {name: path for name, path in optional.items() if path}
    targets = rows.assign(points=corners)
    fit(model, targets, sources, training, execution, files=files, settings={}, label="train-rec", val=refs)
