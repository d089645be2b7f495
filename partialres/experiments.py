"""Work out from a config which runs there are, the settings of each, and which experiment's files each uses."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from typing import Any, NamedTuple

from snakemake.utils import update_config

from partialres.config import Config, ConfigError, Head, ModelConfig, Settings, check_init_backbone

# An experiment that reuses another's step 2 may override only the number of seeds and the settings of later steps.
AFTER_STEP_2 = ("seeds", "predict", "pseudo", "retrain")
# Settings of the data, the backbone and step 1, which all experiments of a data set share.
SHARED = ("image_size", "text", "init_backbone", "pretraining", "rec")


class Run(NamedTuple):
    """One run of steps 2 and 3; its fields are the wildcards in the workflow's paths."""

    dataset: str
    seed: int
    ratio: str
    experiment: str


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Override one config with another as Snakemake does: mappings are merged key by key, other values replaced."""
    merged: dict[str, Any] = deepcopy(dict(base))
    update_config(merged, override)
    return merged


def choose(value: Any, ratio: float, head: str, where: str) -> Any:
    """Replace, at any depth, {by_ratio: {r: v}} and {by_head: {head: v}} by the v for this ratio and head.

    The largest r up to the ratio counts, else the smallest. Raises ConfigError, naming the key `where`, if malformed.
    """
    if not isinstance(value, Mapping):
        return value
    try:
        if set(value) == {"by_ratio"}:
            choices = {float(key): item for key, item in value["by_ratio"].items()}
            return choices[max((key for key in choices if key <= ratio), default=min(choices))]
        if set(value) == {"by_head"}:
            return value["by_head"][head]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ConfigError(
            f"{where}: write by_ratio: {{'1': a, '10': b}} or by_head: {{points: a, mask: b}}, not {value!r}"
        ) from None
    return {key: choose(item, ratio, head, f"{where}.{key}") for key, item in value.items()}


class Plan:
    """A checked config, and what the workflow's rules need to know of it."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Raises ConfigError with one line per mistake."""
        self.config = Config.parse(config)
        self.datasets, self.experiments = self.config.datasets, self.config.experiments
        self.settings = cache(self._settings)
        self._check()

    def _settings(
        self, dataset: str, experiment: str | None = None, ratio: float = 100, head: Head = "points"
    ) -> Settings:
        """Return the settings of a run: the base settings, overridden by the data set's, then by the experiment's.

        ratio: per cent. head: if no experiment is given, that of step 1. Raises ConfigError that names the key.
        """
        merged, where = merge(self.config.settings, self.datasets[dataset].settings), dataset
        if experiment is not None:
            for name in (self.experiments[experiment].from_, experiment):
                merged = merge(merged, self.experiments[name].settings) if name else merged
            model, where = merged.get("model"), f"{dataset}, {experiment}, {ratio:g} %"
            head = model.get("head", head) if isinstance(model, Mapping) else head
        try:
            return Settings.parse(choose(merged, ratio, head, "settings"))
        except ConfigError as error:
            raise ConfigError("\n".join(f"{where}: {line}" for line in str(error).splitlines())) from None

    def step_1(self, dataset: str, head: Head = "points") -> ModelConfig:
        """Return the model config of the step 1 for a head."""
        return self.settings(dataset, head=head).model.step_1().replace(head=head)

    def ratios(self, dataset: str, experiment: str) -> list[float]:
        """List the ratios at which an experiment runs on a data set."""
        entry, wanted = self.datasets[dataset], self.experiments[experiment].ratios
        if entry.experiments is not None and experiment not in entry.experiments:
            return []
        holds = {"all": lambda _: True, "partial": lambda ratio: ratio < 100, "full": lambda ratio: ratio == 100}
        keep = holds[wanted] if isinstance(wanted, str) else wanted.__contains__
        return [ratio for ratio in entry.ratios or self.config.ratios if keep(ratio)]

    def last_step(self, experiment: str, ratio: float) -> str:
        """Return "res" or "retrain", the run's last step: at ratio 100 no ref is unlabelled, so there is no step 3."""
        return "retrain" if 3 in self.experiments[experiment].steps and ratio < 100 else "res"

    def runs(self, step: str = "res", experiment: str | None = None, dataset: str | None = None) -> list[Run]:
        """List the runs that reach a step, res or retrain."""
        return [
            Run(name, seed, f"{ratio:g}", each)
            for name in ([dataset] if dataset else self.datasets)
            for each in ([experiment] if experiment else self.experiments)
            for ratio in self.ratios(name, each)
            if step == "res" or self.last_step(each, ratio) == "retrain"
            for seed in range(self.settings(name, each, ratio).seeds)
        ]

    def owner(self, experiment: str, part: str) -> str:
        """Return the experiment whose step 2 ("res") or pseudo points ("points") are used: this one or its `from`."""
        entry = self.experiments[experiment]
        if entry.from_ is None:
            return experiment
        made = part == "res" or ("predict" not in entry.settings and 3 in self.experiments[entry.from_].steps)
        return entry.from_ if made else experiment

    def trained(self, step: str, **of: str) -> list[Run]:
        """List the runs that train this step themselves: they neither reuse another experiment's nor import a model."""
        own = (run for run in self.runs(step, **of) if run.experiment not in self.datasets[run.dataset].models)
        return [run for run in own if step == "retrain" or self.owner(run.experiment, "res") == run.experiment]

    def imported(self, step: str, **of: str) -> list[Run]:
        """List the runs of which an imported model takes the place of this step, their last."""
        last = (run for run in self.runs(step, **of) if step == self.last_step(run.experiment, float(run.ratio)))
        return [run for run in last if run.experiment in self.datasets[run.dataset].models]

    def scored(self, step: str, **of: str) -> list[Run]:
        """List the runs whose model of this step is evaluated: all but those that see the known box."""
        return self.imported(step, **of) + [
            run
            for run in self.trained(step, **of)
            if step == "retrain" or self.settings(run.dataset, run.experiment, float(run.ratio)).model.view == "image"
        ]

    def rows(self, table: str) -> list[tuple[str, str]]:
        """List the rows of a table that sets experiments beside each other, as (experiment, step), the reference first.

        Gains are over it: in Tables 3 and 4 step 2 of the last experiment, in the others the first.
        """
        names: list[str] = getattr(self.config.report, table)
        last = {name: "retrain" if 3 in self.experiments[name].steps else "res" for name in names}
        fixed = {"table2": "res", "beyond": "retrain"}.get(table)
        before = [(names[-1], "res")] if table in ("table3", "table4") and names else []
        return list(dict.fromkeys([*before, *((name, fixed or last[name]) for name in names)]))

    def shared(self, rows: list[tuple[str, str]], dataset: str) -> set[float]:
        """Return the ratios at which all rows are evaluated on a data set; `last` as a row's step: its last one."""
        ratios = []
        for name, wanted in rows:
            scored = {
                (step, float(run.ratio))
                for step in ("res", "retrain")
                for run in self.scored(step, experiment=name, dataset=dataset)
            }
            last = {ratio: self.last_step(name, ratio) if wanted == "last" else wanted for _, ratio in scored}
            ratios.append({ratio for ratio, step in last.items() if (step, ratio) in scored})
        return set.intersection(*ratios) if ratios else set()

    def head(self, dataset: str, experiment: str) -> Head:
        """Return the head of an experiment's model."""
        return self.settings(dataset, experiment, min(self.ratios(dataset, experiment), default=100.0)).model.head

    def rec_seed(self, run: Run) -> int:
        """Return the seed of the step 1 that a run starts from."""
        seed = self.settings(run.dataset, run.experiment, float(run.ratio)).rec_seed
        return run.seed if seed is None else seed

    def rec_runs(self) -> list[tuple[str, int, Head]]:
        """List the steps 1 that runs start from: data set, seed and head."""
        runs = [(run.dataset, self.rec_seed(run), self.head(run.dataset, run.experiment)) for run in self.runs()]
        return list(dict.fromkeys(runs))

    def _check(self) -> None:
        """Check every run's settings and every name, so that mistakes are found before anything runs."""
        for place, name in self._named():
            if name not in self.experiments:
                raise ConfigError(f"{place}: no experiment '{name}'; the experiments are {', '.join(self.experiments)}")
        compared = self.config.report.table1
        if compared and (compared[0], compared[-1]) != ("baseline", "ours"):
            raise ConfigError(
                "report.table1: tables look up the experiments called baseline and ours by name; list baseline first "
                "and ours last, or leave the list empty"
            )
        for name, entry in self.experiments.items():
            if entry.from_ is not None:
                self._check_from(name, entry.from_)
        for dataset in self.datasets:
            base = self.settings(dataset)
            if base.model.head != "points":
                raise ConfigError(
                    f"{dataset}: model.head: mask belongs to experiments; set it in experiments.*.settings"
                )
            if self.datasets[dataset].rec is None:
                check_init_backbone(base)
            for experiment in self.experiments:
                for ratio in self.ratios(dataset, experiment):
                    self._check_run(dataset, experiment, ratio)
        if not self.runs():
            raise ConfigError("experiments: none of them runs at any ratio of a data set; see their `ratios`")
        for table in ("table1", "table2", "table3", "table4", "beyond"):
            self._check_seeds(table)

    def _named(self) -> Iterator[tuple[str, str]]:
        """Yield every name of an experiment that the config holds, after the key that holds it."""
        for dataset, data in self.datasets.items():
            yield from ((f"datasets.{dataset}.experiments", name) for name in data.experiments or [])
            yield from ((f"datasets.{dataset}.models", name) for name in data.models)
        for name, entry in self.experiments.items():
            yield from ((f"experiments.{name}.from", source) for source in [entry.from_] if source)
        for key, value in self.config.report:
            yield from ((f"report.{key}", name) for name in ([value] if isinstance(value, str) else value or []))

    def _check_from(self, name: str, source: str) -> None:
        """Check that an experiment with `from` overrides only settings of the steps after the reused step 2."""
        where, entry, other = f"experiments.{name}", self.experiments[name], self.experiments[source]
        if other.from_ is not None:
            raise ConfigError(f"{where}.from: {source} itself takes step 2 from {other.from_}; name that experiment")
        if 3 not in entry.steps:
            raise ConfigError(
                f"{where}: takes step 2 from {source} and stops there; remove `from` or set steps: [2, 3]"
            )
        for key in entry.settings:
            if key not in AFTER_STEP_2:
                raise ConfigError(
                    f"{where}.settings.{key}: {name} takes step 2 from {source}, so only {', '.join(AFTER_STEP_2)} may "
                    "differ; remove the key or `from`"
                )
        given = {run._replace(experiment=name) for run in self.runs("res", source)}
        for run in self.runs("retrain", name):
            if run not in given:
                raise ConfigError(
                    f"{where}.from: {source} does not run at {run.ratio} % on {run.dataset}, seed {run.seed}"
                )

    def _check_seeds(self, table: str) -> None:
        """Check that the experiment that a table's gains are over has every seed of the others."""
        shown, oracle = [name for name, _ in self.rows(table)], self.config.report.oracle
        for dataset in self.datasets if shown else ():
            for name in [*shown, *([oracle] if oracle else [])]:
                for ratio in {*self.ratios(dataset, name)} & {*self.ratios(dataset, shown[0])}:
                    seeds, given = (self.settings(dataset, each, ratio).seeds for each in (name, shown[0]))
                    if seeds > given:
                        raise ConfigError(
                            f"report.{table}: {name} has {seeds} seeds at {ratio:g} % on {dataset}, and {shown[0]}, "
                            f"over which gains are, {given}; give it as many"
                        )

    def _check_run(self, dataset: str, experiment: str, ratio: float) -> None:
        """Check a run's settings, and that it leaves the settings that all experiments and ratios share unchanged."""
        settings, where = self.settings(dataset, experiment, ratio), f"{dataset}, {experiment}, {ratio:g} %"
        of_head = self.settings(dataset, head=settings.model.head)
        for key in SHARED:
            if getattr(settings, key) != getattr(of_head, key):
                raise ConfigError(f"{where}: changes '{key}', which all experiments and ratios share; set it for all")
        try:
            settings.model.check_init(self.step_1(dataset, settings.model.head))
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}; all experiments share it: set it for the data set") from None
        if settings.model.head == "mask" and self.last_step(experiment, ratio) == "retrain":
            raise ConfigError(f"{where}: model.head: mask predicts no points for step 3 to learn from; set steps: [2]")
