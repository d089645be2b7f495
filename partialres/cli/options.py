"""Options that several commands share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import yaml

from partialres.config import ConfigError, TrainConfig
from partialres.config import Section as ConfigSection

IN_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
IN_DIR = click.Path(exists=True, file_okay=False, path_type=Path)


class Output(click.Path):
    """Accepts a path that can be written; it is checked before hours of work, not after."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(str(super().convert(value, param, ctx)))
        held = next(each for each in (path, *path.absolute().parents) if each.exists())
        if (held != path and not held.is_dir()) or not os.access(held, os.W_OK):
            self.fail(f"{path}: {held} cannot be written; choose another place, or correct its permissions", param, ctx)
        return path


OUT = Output(path_type=Path)
OUT_DIR = Output(path_type=Path, file_okay=False)
OUT_FILE = Output(path_type=Path, dir_okay=False)
SEED = click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0)
CONTOUR = click.Choice(["uniform", "released"])


class Section(click.ParamType):
    """Accepts a config section as a YAML or JSON file or as JSON text; unknown keys are errors."""

    name = "section"

    def __init__(self, kind: type[ConfigSection]) -> None:
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            text = value if value.lstrip().startswith("{") else Path(value).read_text(encoding="utf-8")
            return self.kind.parse(yaml.safe_load(text) or {}, self.kind.__name__)
        except (ConfigError, OSError, yaml.YAMLError) as error:
            self.fail(str(error), param, ctx)


def options(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Combine several option decorators into one."""

    def apply(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply


model_inputs = options(
    click.option("--vocabulary", type=IN_FILE, required=True, help="vocabulary.json written by `prepare`."),
    click.option("--images", type=IN_DIR, required=True, help="Folder written by `cache-images`."),
    click.option("--features", type=IN_DIR, help="Folder written by `cache-features`, for model.frozen: all."),
)
running = options(
    click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1 ..."),
    click.option("--threads", type=click.IntRange(min=1), help="CPU threads [default: all]."),
)
training = options(
    click.option("--training", type=Section(TrainConfig), required=True,
                 help="Training section of the config: a YAML or JSON file, or JSON text."),
    SEED,
    click.option("--workers", type=click.IntRange(min=0), default=0, help="Processes loading data."),
    click.option("--resume", type=OUT_DIR, help="Folder for the state from which a stopped training resumes."),
    click.option("--out", type=OUT_DIR, required=True,
                 help="Folder for model.safetensors, metrics.csv, provenance.json."),
)  # fmt: skip


def use_threads(number: int | None) -> None:
    """Let torch use this many CPU threads (None: as many as there are cores), and let it reuse freed memory."""
    import torch

    from partialres.model.cpu import keep_freed_memory

    keep_freed_memory()
    if number:
        torch.set_num_threads(number)


def sources_of(options: dict[str, Any]) -> Any:
    """Build `Sources` from the options of `model_inputs`."""
    from partialres.steps.sources import Sources

    return Sources(*(options[name] for name in ("vocabulary", "images", "features")))


def execution_of(options: dict[str, Any]) -> Any:
    """Build an `Execution` from the options of `training` and `running`, and set the number of threads."""
    from partialres.steps.fit import Execution

    use_threads(options["threads"])
    return Execution(**{name: options[name] for name in ("seed", "workers", "resume", "device", "out")})
