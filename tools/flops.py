"""Count the FLOPs of training, per ref and for all of config/paper.yaml, by torch on tensors without data.

    python -m tools.flops [CONFIG ...]

CONFIG: files laid over paper.yaml, such as modern.yaml. Depthwise convolutions count too much, because the counter
takes their backward pass for that of dense ones.

The total is refs times epochs times FLOPs, for every training that the config plans. Step 3 is counted as if it kept
every unlabelled ref, an upper bound. Prediction, evaluation and the optimiser are left out.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import torch
import yaml

from partialres.config import ModelConfig
from partialres.data.batch import Batch
from partialres.experiments import Plan, merge
from partialres.model.pointer import PointModel, sequence_loss
from tools.benchmark.measure import flops

CONFIG = Path(__file__).parents[1] / "config"
TRAIN_REFS = {"refcoco": 42_404, "refcoco+": 42_278, "refcocog": 42_226}  # unc, unc, umd
WORDS = 10_000  # in the vocabulary; does not affect the FLOPs


def flops_of_a_ref(config: ModelConfig, points: int, words: int, size: int, batch: int = 2) -> float:
    """Count FLOPs of forward and backward for a ref with its own view; a multiplication and an addition are two."""
    cells = size // 32
    with torch.device("meta"):
        model = PointModel(config, WORDS, points).train()
        refs = Batch(
            images=torch.empty(batch, size, size, 3, dtype=torch.uint8),
            valid=torch.ones(batch, cells, cells, dtype=torch.bool),
            image_index=torch.arange(batch),
            words=torch.ones(batch, words, dtype=torch.int64),
            tokens=torch.zeros(batch, 2 * points + 1, dtype=torch.int64),
        )
        assert refs.tokens is not None
        tokens = refs.tokens
        return flops(lambda: sequence_loss(model(refs), tokens, 0.1, 0.1, 1.0).backward()) / batch


def main() -> None:
    """Print a line for each data set, and the total."""
    names = ["config.yaml", "paper.yaml", *sys.argv[1:]]
    plan = Plan(functools.reduce(merge, (yaml.safe_load((CONFIG / name).read_text()) for name in names)))
    everything = 0.0
    for name, refs in TRAIN_REFS.items():
        settings = plan.settings(name)
        # Let the GRU read padding: packed sequences need lengths, which tensors on the meta device do not have.
        model = settings.model.replace(upstream={"padded_words": settings.text.max_words})
        shape = (settings.text.max_words, settings.image_size)
        of_step_1 = flops_of_a_ref(model.step_1(), 2, *shape)
        of_step_2 = flops_of_a_ref(model, settings.points, *shape)
        steps_1 = [head for dataset, _, head in plan.rec_runs() if dataset == name]
        seen: dict[str, float] = {"rec": refs * sum(plan.settings(name, head=head).rec.epochs for head in steps_1)}
        seen |= {"res": 0.0, "retrain": 0.0}
        for run in plan.trained("res", dataset=name):
            ratio = float(run.ratio)
            seen["res"] += refs * ratio / 100 * plan.settings(name, run.experiment, ratio).res.epochs
        for run in plan.trained("retrain", dataset=name):
            seen["retrain"] += refs * plan.settings(name, run.experiment, float(run.ratio)).retrain.epochs
        cost = {step: number * (of_step_1 if step == "rec" else of_step_2) for step, number in seen.items()}
        everything += sum(cost.values())
        print(f"{name}: {of_step_1 / 1e9:.1f} GFLOP a ref in step 1, {of_step_2 / 1e9:.1f} in steps 2 and 3; EFLOP:",
              ", ".join(f"{step} {value / 1e18:.1f}" for step, value in cost.items()))  # fmt: skip
    print(f"in all {everything / 1e18:.0f} EFLOP")


if __name__ == "__main__":
    main()
