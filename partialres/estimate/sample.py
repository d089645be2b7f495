"""Measure kinds of jobs on small generated data sets, with the commands that the workflow would run."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from partialres.config import Head, ModelConfig, Section, Settings, Threaded, TrainConfig, expand_path
from partialres.estimate.dag import Job
from partialres.experiments import Plan
from partialres.files import DataError, read_table, say

Sizes = Mapping[str, tuple[float, float, float]]  # images, refs and expressions of each split

KINDS: dict[str, Threaded] = {  # the key in `threads` and `resources` of the rules that have one
    "refshapes": "images", "cache_images": "images", "pretrain_backbone": "pretraining", "cache_features": "features",
    "train_rec": "rec", "train_res": "res", "train_res_full": "res", "retrain_res": "res",
    "predict_pseudo_points": "predict", "evaluate_rec": "evaluate", "evaluate_res": "evaluate",
}  # fmt: skip
EPOCHS = 4  # of a training on a sample: one to warm up, and three whose median is taken


class Cost(NamedTuple):
    """Holds what a job costs."""

    seconds: float
    cpu: float  # seconds of CPU
    memory: float  # bytes, of the process at its largest
    disk: float  # bytes of its outputs


class Line(NamedTuple):
    """Holds the cost of a kind of job as a straight line through two runs of it."""

    small: Cost
    large: Cost
    works: tuple[float, float]  # the work of each run, in any unit

    def at(self, work: float) -> Cost:
        """Return the cost of this much work, at least that of the smaller run; its memory is that of the larger run."""
        share = (max(work, self.works[0]) - self.works[1]) / max(self.works[1] - self.works[0], 1)
        long = [
            max(0.0, large + max(0.0, large - small) * share)
            for small, large in zip(self.small, self.large, strict=True)
        ]
        return Cost(*long)._replace(memory=self.large.memory)


def work(
    rule: str, settings: Settings, sizes: Sizes, wildcards: Mapping[str, str], kept: float = 1,
    splits: Sequence[str] = ("train",), parts: int = 1,
) -> float:  # fmt: skip
    """Return how much work a job is: images, refs or expressions, times epochs.

    kept: share of the pseudo masks that step 3 trains on. splits: those that an evaluation scores. parts: number of
    jobs that share a prediction.
    """
    ratio, (images, refs, _) = float(wildcards.get("ratio", 100)) / 100, sizes["train"]
    if rule == "pretrain_backbone":
        return images * settings.pretraining.epochs
    if rule in ("refshapes", "prepare", "cache_images", "cache_features"):
        return sum(number for number, _, _ in sizes.values())
    if rule.startswith("evaluate"):
        return sum(sizes[split][2] for split in splits)
    trainings: dict[str, tuple[TrainConfig, float]] = {
        "train_rec": (settings.rec, 1), "retrain_res": (settings.retrain, ratio + (1 - ratio) * kept),
        "train_res": (settings.res, ratio), "train_res_full": (settings.res, ratio),
    }  # fmt: skip
    if rule in trainings:
        config, share = trainings[rule]
        return config.updates * config.batch if config.updates else config.epochs * refs * share
    shared = parts if rule == "predict_pseudo_points" else 1
    return refs * (1 - ratio) / shared if "pseudo" in rule else refs


def counted(table: Path) -> Sizes:
    """Count the images, refs and expressions of each split in a refs.parquet."""
    refs = read_table(table, ["split", "image_id", "expressions"])
    parts = refs.assign(texts=refs["expressions"].map(len)).groupby("split")
    return {str(name): (part["image_id"].nunique(), len(part), part["texts"].sum()) for name, part in parts}


def brief(settings: Settings) -> Settings:
    """Return the settings with trainings of a few epochs, which cost as much per ref and epoch as the real ones."""
    short = {"epochs": EPOCHS, "updates": None, "warmup_epochs": 0, "learning_rate": 1e-4, "score_epochs": None}
    steps = {name: getattr(settings, name).model_dump() | short for name in ("rec", "res", "retrain")}
    return settings.replace(**steps, pretraining=settings.pretraining.replace(epochs=EPOCHS))


class Sample:
    """Measures the jobs of a data set's settings on two generated data sets; every kind of job once."""

    def __init__(self, plan: Plan, name: str, folder: Path, images: int) -> None:
        """folder: for the samples. images: number of images of the larger one; the other has a third of them."""
        self.plan, self.name, self.lines, self.models = plan, name, dict[Any, Line](), dict[Any, Path]()
        self.small, self.large = folder / "small", folder / "large"
        self.images = {self.small: -(-images // 3), self.large: images}
        self.base, entry = brief(plan.settings(name)), plan.datasets[name]
        flavour = entry.generate.flavour if entry.generate else "refcocog" if entry.split_by == "umd" else "refcoco"
        size = self.base.image_size
        raw, pictures = f"@/raw/{flavour.replace('refcoco', 'refshapes')}", ("--image-folder", "@/raw/images/train2014")
        refs, seen, model = "@/table/refs.parquet", ("--images", "@/images"), ("--model", plan.step_1(name))
        words = ("--split-by", "umd" if flavour == "refcocog" else "unc", "--max-words", self.base.text.max_words)
        drawn = ("--flavour", flavour, "--side", entry.generate.side if entry.generate else size, "--image-count", "#")
        self.measure("refshapes", None, "refshapes", *drawn, "--out", "@/raw")
        self.measure("prepare", None, "prepare", raw, *pictures, *words, "--out", "@/table")
        self.measure("cache_images", None, "cache-images", refs, *pictures, "--size", size, "--out", "@/images")
        self.measure("split", None, "split", refs, "--ratio", 100, "--out", "@/100.parquet")
        self.measure("split", 1, "split", refs, "--ratio", 1, "--out", "@/1.parquet")
        self.weights: list[Any] = []
        if self.base.init_backbone == "pretrain":
            command = ("pretrain-backbone", f"{raw}/instances.json", "--refs", refs, *seen, *model, "--pretraining")
            self.measure("pretrain_backbone", None, *command, self.base.pretraining, "--out", "@/backbone")
            self.weights = [self.large / "backbone/visual.safetensors"]
        elif self.base.model.cached:
            self.weights = [expand_path(self.base.init_backbone, "settings.init_backbone")]
        self.seen = ["--vocabulary", self.large / "table/vocabulary.json", *seen]  # the models' vocabulary
        if self.base.model.cached:
            self.measure("cache_features", None, "cache-features", *self.weights, *seen, *model, "--out", "@/features")
            self.seen += ["--features", "@/features"]

    def measure(self, rule: str, key: Any, *command: Any, **wildcards: str) -> Line:
        """Measure a command, if it has not been: run it on both samples, or a training on the larger one only.

        A training notes the seconds of each epoch, which tell its start from its work. The last argument is the
        command's output; @ stands for a sample's folder, # for its number of images.
        key: differs between jobs of a rule that differ in cost. wildcards: those that the command's job would have.
        """
        if (rule, key) not in self.lines:
            large, done = self.run(rule, command, self.large, wildcards)
            history = Path(str(command[-1]).replace("@", str(self.large))) / "metrics.csv"
            if history.exists():
                epochs = pd.read_csv(history)["seconds"]
                start = 1 - len(epochs) * epochs[1:].median() / large.seconds  # a share; the first epoch warms up
                small, before = large._replace(seconds=start * large.seconds, cpu=start * large.cpu), 0.0
            else:
                small, before = self.run(rule, command, self.small, wildcards)
            self.lines[rule, key] = Line(small, large, (before, done))
        return self.lines[rule, key]

    def run(self, rule: str, command: Sequence[Any], folder: Path, wildcards: Mapping[str, str]) -> tuple[Cost, float]:
        """Run a command of the package on a sample, and return its cost and work; raises DataError if it fails."""
        texts = [part.model_dump_json() if isinstance(part, Section) else str(part) for part in command]
        given = [part.replace("@", str(folder)).replace("#", str(self.images[folder])) for part in texts]
        threads = ["--threads", str(self.plan.config.threads[KINDS[rule]])] if rule in KINDS else []
        start = time.perf_counter()
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen([sys.executable, "-m", "partialres", *given, *threads], stdout=log, stderr=log)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            seconds, cpu = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
            if status:
                log.seek(0)
                raise DataError(f"{self.name}: {given[0]} failed on a sample: {log.read().decode().strip()}")
        say(f"{self.name}, {self.images[folder]} images: {given[0]} took {seconds:.1f} s ({cpu:.1f} s of CPU)")
        out = Path(given[-1])
        files = [each for each in out.rglob("*") if each.is_file()] if out.is_dir() else [out]
        table = folder / "table/refs.parquet"
        done = work(rule, self.base, counted(table), wildcards) if table.exists() else self.images[folder]
        return Cost(seconds, cpu, 1024 * usage.ru_maxrss, sum(each.stat().st_size for each in files)), done

    def trained(self, rule: str, model: ModelConfig, config: TrainConfig, *command: Any) -> tuple[Line, Path]:
        """Measure a training, once for all that cost the same per ref; return its line and its model's path."""
        key = (model, config, command)
        out = self.models.setdefault((rule, key), self.large / f"model{len(self.models)}")
        loaders = self.plan.config.resources[KINDS[rule]].loaders
        options = (*self.seen, "--workers", loaders, "--model", model, "--training", config, "--out", out)
        return self.measure(rule, key, *command, *options), out / "model.safetensors"

    def cost(self, job: Job, sizes: Sizes, kept: float) -> Cost:
        """Return what a job costs. sizes: of its data set. kept: the share of pseudo masks that step 3 trains on."""
        rule, wildcards = job
        ratio, experiment = float(wildcards.get("ratio", 100)), wildcards.get("experiment")
        head: Any = self.plan.head(self.name, experiment) if experiment else wildcards.get("head", "points")
        settings = self.plan.settings(self.name, experiment, ratio, head)
        line = self.lines.get((rule, None)) or self.of_model(rule, head, settings, wildcards)
        splits, parts = self.plan.datasets[self.name].splits, self.plan.config.resources["predict"].parts
        return line.at(work(rule, settings, sizes, wildcards, kept, splits, parts))

    def of_model(self, rule: str, head: Head, settings: Settings, wildcards: Mapping[str, str]) -> Line:
        """Measure a job that trains or runs a model, and the jobs that make its model."""
        batch, refs = settings.predict.batch, "@/table/refs.parquet"
        step_1, rec = self.plan.step_1(self.name, head), brief(self.plan.settings(self.name, head=head)).rec
        start = ["--init-backbone", *self.weights] if self.weights else []
        line, model = self.trained("train_rec", step_1, rec, "train-rec", refs, *start)
        if "experiment" in wildcards:
            step: Any = "retrain" if rule == "retrain_res" or wildcards.get("step") == "retrain" else "res"
            config, seen_by = getattr(brief(settings), step), settings.model_of(step)
            shape = ("--points", settings.points, "--contour", settings.contour)
            start = ["--init", model, *shape, "--position-table", settings.position_table]
            line, model = self.trained("train_res", seen_by, config, "train-res", "@/100.parquet", *start)
        given = ("--model", model, *self.seen, "--batch")
        if rule.startswith("evaluate"):
            scored = (refs, "--split", "train", *given, settings.evaluate.batch, "--out", "@/scores")
            line = self.measure(rule, model, "evaluate", *scored)
        if "pseudo" in rule:
            predicted = ("@/1.parquet", *given, batch, "--out", "@/points.parquet")
            line = self.measure("predict_pseudo_points", model, "predict", *predicted, ratio="1")
        if "pseudo" in rule and rule != "predict_pseudo_points":  # gathering and scoring take as long as selecting
            chosen = ("--threshold", 2.01, "--num-points", settings.points, "--out", "@/selected.parquet")
            line = self.measure(
                "select_pseudo_points", None, "select", "@/points.parquet", "@/1.parquet", *chosen, ratio="1"
            )
        return line
