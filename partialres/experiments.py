"""From one base config to each experiment's settings: data set and experiment override it, ratios choose values."""

from __future__ import annotations

import os
import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from partialres.config import (
    OF_STEP_2,
    ConfigError,
    ModelConfig,
    PredictConfig,
    PretrainConfig,
    PseudoConfig,
    TrainConfig,
    check_boxes,
    check_contour,
    check_head,
    check_jitter,
    check_view,
    check_visual,
    fill,
)

BY_RATIO = "by_ratio"
PAPER = ("baseline", "ours", "oracle")  # the experiments of Table 1, known by their names
# What decides each step's files, beside step 2's model: experiments equal in these share the files.
DECISIVE = {
    "res": ("points", "contour", "positions", "res"),
    "points": ("points", "contour", "positions", "res", "predict"),
    "selected": ("points", "contour", "positions", "res", "predict", "pseudo"),
    "retrain": ("points", "contour", "positions", "res", "predict", "pseudo", "retrain", "model"),
}
GENERATED = {"refcoco": "refshapes", "refcoco+": "refshapes+", "refcocog": "refshapesg"}  # flavour -> folder
SECTIONS = {"model": ModelConfig, "pretraining": PretrainConfig, "rec": TrainConfig, "res": TrainConfig,
            "retrain": TrainConfig, "pseudo": PseudoConfig, "predict": PredictConfig}  # fmt: skip
# What the data, the backbone and step 1 are made with; of the model's settings all but what step 2 brings in. Only the
# mask head's step 1 is one of its own, for all experiments that have that head.
SHARED = ("rec", "text", "visual", "image_size", "pretraining")
RANGES = {"all": lambda ratio: True, "partial": lambda ratio: ratio < 100, "full": lambda ratio: ratio == 100}


def paper_first(experiments: Mapping[str, Any]) -> dict[str, Any]:
    """The experiments in their order, but those of the paper's Table 1 before all others.

    The first of several that share a step's files owns them (`owner`), and Snakemake puts what a --configfile adds
    before what the default config has: an experiment more would make again what `ours` has made.
    """
    return dict(sorted(experiments.items(), key=lambda item: item[0] not in PAPER))


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `override` laid over it, section by section; a list or a `by_ratio` value is replaced whole."""
    merged = dict(base)
    for key, value in override.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and BY_RATIO not in {*old, *value}:
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def at_ratio(value: Any, ratio: float, where: str = "settings") -> Any:
    """`value` with every {by_ratio: {r: v, ...}} in it replaced by v of the greatest r up to `ratio`, or the least r.

    where: the value's key, for the ConfigError that is raised if by_ratio holds anything else.
    """
    if not isinstance(value, Mapping):
        return value
    if set(value) == {BY_RATIO}:
        try:
            choices = {float(key): item for key, item in value[BY_RATIO].items()}
            return choices[max((key for key in choices if key <= ratio), default=min(choices))]
        except (AttributeError, TypeError, ValueError):
            given = f"not {value[BY_RATIO]!r}"
            raise ConfigError(f"{where}: by_ratio holds a value for each ratio, {{'1': a, '10': b}}, {given}") from None
    return {key: at_ratio(item, ratio, f"{where}.{key}") for key, item in value.items()}


def settings(
    config: Mapping[str, Any], dataset: str, experiment: str | None = None, ratio: float = 100
) -> dict[str, Any]:
    """The base settings with those of the data set, then of the experiment, laid over them, at a ratio (per cent).

    Raises KeyError that names an unknown data set or experiment.
    """
    merged = merge(config["settings"], config["datasets"][dataset].get("settings", {}))
    if experiment is not None:
        merged = merge(merged, config["experiments"][experiment].get("settings", {}))
    return at_ratio(merged, ratio)


def pick(tree: Mapping[str, Any], key: str) -> Any:
    """A value by its dotted key: pick(settings, "pseudo.threshold")."""
    value: Any = tree
    for part in key.split("."):
        value = value[part]
    return value


def owner(config: Mapping[str, Any], dataset: str, experiment: str, ratio: float, step: str) -> str:
    """The experiment whose files of a step this one uses: the first with equal settings that reaches the step."""
    wanted = _decisive(config, dataset, experiment, ratio, step)
    for other in config["experiments"]:
        there = ratio in ratios_of(config, dataset, other) and (step == "res" or reaches(config, other, "retrain"))
        if there and _decisive(config, dataset, other, ratio, step) == wanted:
            return other
    return experiment


def _decisive(config: Mapping[str, Any], dataset: str, experiment: str, ratio: float, step: str) -> list[Any]:
    chosen = settings(config, dataset, experiment, ratio)
    own = [model_of(chosen, "res"), *(chosen[key] for key in DECISIVE[step])]
    before = None if step == "res" else after(config, experiment)
    return [*own, None if before is None else _decisive(config, dataset, before, ratio, "retrain")]


def after(config: Mapping[str, Any], experiment: str) -> str | None:
    """The experiment whose last model predicts this one's pseudo points: its second round. None: step 2's does."""
    found: str | None = config["experiments"][experiment].get("after")
    return found


def model_of(chosen: Mapping[str, Any], step: str) -> dict[str, Any]:
    """The model section of a step, res or retrain, in an experiment's settings: step 2's is the teacher of step 3."""
    return merge(chosen["model"], chosen["teacher"]) if step == "res" else dict(chosen["model"])


def scored(config: Mapping[str, Any], dataset: str, experiment: str, ratio: float, step: str) -> bool:
    """Whether a step's model is evaluated: not if it must be shown the known box."""
    return model_of(settings(config, dataset, experiment, ratio), step).get("view", ModelConfig.view) != "box"


def variants(
    config: Mapping[str, Any], dataset: str, ratio: float, keys: Sequence[str], step: str, of: str = "ours"
) -> dict[str, dict[str, Any]]:
    """The experiments that up to a step are as `of` is but for these dotted keys, each with its values of the keys.

    step: res or retrain. Of experiments that share the step's files only their owner is named. `of` itself need not run
    at the ratio. Empty if there is no experiment `of`.
    """
    if of not in config["experiments"]:
        return {}
    rest, _ = _apart(config, dataset, of, ratio, keys, step)
    found = {}
    for name in config["experiments"]:
        if ratio in ratios_of(config, dataset, name) and reaches(config, name, step):
            own, values = _apart(config, dataset, name, ratio, keys, step)
            if own == rest and owner(config, dataset, name, ratio, step) == name:
                found[name] = values
    return found


def _apart(
    config: Mapping[str, Any], dataset: str, experiment: str, ratio: float, keys: Sequence[str], step: str
) -> tuple[tuple[dict[str, Any], str | None], dict[str, Any]]:
    """What decides a step, defaults filled in, without the keys; and the keys' values."""
    chosen = settings(config, dataset, experiment, ratio)
    filled = {key: chosen[key] for key in DECISIVE[step]} | {"model": model_of(chosen, step)}
    filled |= {key: asdict(fill(SECTIONS[key], filled[key])) for key in filled if key in SECTIONS}
    filled["teacher"] = None if step == "res" else asdict(fill(ModelConfig, model_of(chosen, "res")))
    values = {key: pick(filled, key) for key in keys}
    for key in keys:
        section, name = key.split(".")
        del filled[section][name]
    return (filled, None if step == "res" else after(config, experiment)), values


def reaches(config: Mapping[str, Any], experiment: str, step: str) -> bool:
    """Whether an experiment goes as far as a step, res or retrain."""
    return step == "res" or config["experiments"][experiment].get("retrain", True)


def ratios_of(config: Mapping[str, Any], dataset: str, experiment: str) -> list[float]:
    """The ratios an experiment runs at on a data set: all of the data set's, those below 100 (partial), 100 (full) or
    those it lists.

    A data set without ratios of its own has the config's; none where it names its experiments and this is not among
    them.
    """
    if experiment not in config["datasets"][dataset].get("experiments", [experiment]):
        return []
    wanted = config["experiments"][experiment].get("ratios", "all")
    kept = RANGES[wanted] if isinstance(wanted, str) else wanted.__contains__
    return [ratio for ratio in config["datasets"][dataset].get("ratios", config["ratios"]) if kept(ratio)]


def head(config: Mapping[str, Any], dataset: str, experiment: str | None = None) -> str:
    """The head of an experiment's model, or of the base settings': points or mask."""
    found: str = settings(config, dataset, experiment)["model"].get("head", ModelConfig.head)
    return found


def mask_step_1(config: Mapping[str, Any], dataset: str) -> str | None:
    """The experiment whose settings the mask head's step 1 is trained with, the first with that head; None without."""
    names = [name for name in config["experiments"] if ratios_of(config, dataset, name)]
    return next((name for name in names if head(config, dataset, name) == "mask"), None)


def check(config: Mapping[str, Any]) -> None:
    """Fill every experiment's settings at every ratio, so that a mistake shows before anything runs.

    Raises ConfigError that names data set, experiment, ratio and key.
    """
    for dataset, entry in config["datasets"].items():
        for name in entry.get("experiments", []):
            if name not in config["experiments"]:
                known = ", ".join(config["experiments"])
                raise ConfigError(f"datasets.{dataset}.experiments: no experiment '{name}'; there are {known}")
        base = settings(config, dataset)
        if head(config, dataset) != "points":
            raise ConfigError(f"{dataset}: model.head: mask is an experiment's; set it in experiments.*.settings.model")
        step_1 = {"points": base, "mask": settings(config, dataset, mask_step_1(config, dataset))}
        for experiment in config["experiments"]:
            _check_after(config, dataset, experiment)
            for ratio in ratios_of(config, dataset, experiment):
                chosen = settings(config, dataset, experiment, ratio)
                try:
                    for name, kind in SECTIONS.items():
                        fill(kind, chosen[name], name)
                    model = fill(ModelConfig, chosen["model"], "model")
                    jitters = {step: fill(TrainConfig, chosen[step], step).jitter for step in ("rec", "res", "retrain")}
                    for step, jitter in jitters.items():
                        check_jitter(step, jitter, model.frozen)
                    check_boxes(fill(TrainConfig, chosen["rec"], "rec").boxes, "none")
                    for step in ("res", "retrain"):
                        of_step = fill(ModelConfig, model_of(chosen, step), "teacher" if step == "res" else "model")
                        check_contour(chosen["contour"], of_step.end)
                        check_view(of_step.view, jitters[step], of_step.span)
                        check_boxes(fill(TrainConfig, chosen[step], step).boxes, of_step.prompt)
                    retrain = reaches(config, experiment, "retrain")
                    check_head(model.head, retrain, {step: jitters[step] for step in ("rec", "res")})
                    if "rec" not in config["datasets"][dataset]:
                        check_visual(chosen["visual"], model.frozen)
                except ConfigError as error:
                    raise ConfigError(f"{dataset}, {experiment}, {ratio:g} %: {error}") from None
                for key in _changed(chosen, base, step_1[head(config, dataset, experiment)]):
                    raise ConfigError(
                        f"{dataset}, {experiment}, {ratio:g} %: '{key}' is changed, which all experiments and ratios "
                        "share"
                    )


def _check_after(config: Mapping[str, Any], dataset: str, experiment: str) -> None:
    """Raises ConfigError if an experiment follows one that has no step 3 at one of its ratios, or itself in the end."""
    before, seen = after(config, experiment), [experiment]
    while before is not None:
        where = f"experiments.{seen[-1]}.after"
        if before in seen:
            raise ConfigError(f"{where}: {' after '.join([*seen, before])} goes round in a circle")
        if before not in config["experiments"] or not reaches(config, before, "retrain"):
            raise ConfigError(f"{where}: '{before}' is no experiment with a step 3 (retrain: true)")
        lacking = set(ratios_of(config, dataset, seen[-1])) - set(ratios_of(config, dataset, before))
        if lacking:
            raise ConfigError(f"{where}: '{before}' does not run at {min(lacking):g} % on {dataset}")
        seen.append(before)
        before = after(config, before)


def _changed(chosen: Mapping[str, Any], base: Mapping[str, Any], step_1: Mapping[str, Any]) -> list[str]:
    """The keys of what all experiments share that one of them has otherwise than the base.

    step_1: what step 1 of the experiment's head is trained with.
    """
    first = asdict(fill(ModelConfig, step_1["model"]))
    model, shared = (asdict(fill(ModelConfig, model_of(each, "res"))) for each in (chosen, base))
    shared["head"] = first["head"]
    own = [f"model.{key}" for key in model if key not in OF_STEP_2 and model[key] != shared[key]]
    return [key for key in SHARED if chosen[key] != (step_1 if key == "rec" else base)[key]] + own


def expand(path: str, key: str) -> str:
    """A path with its $VARIABLES filled in; raises ConfigError that names the config key if one is not set."""
    try:
        return os.path.expanduser(string.Template(path).substitute(os.environ))
    except KeyError as error:
        raise ConfigError(f"{key}: {path!r} needs the environment variable {error.args[0]}, which is not set") from None
    except ValueError as error:
        raise ConfigError(f"{key}: {path!r} has a $ that names no environment variable ({error})") from None


def first_on_path(folder: Path) -> None:
    """Let commands of this process's children be found in `folder` before anywhere else."""
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"
