# Paths, settings and resources that every rule file uses.
import re
import shlex
import sys
from pathlib import Path

from snakemake.utils import validate

# Use the checkout's package, or the installed one if these rules were fetched alone (module: github(...)).
CHECKOUT = Path(str(workflow.current_basedir)).resolve().parents[1]
if (CHECKOUT / "partialres").is_dir() and str(CHECKOUT) not in sys.path:
    sys.path.insert(0, str(CHECKOUT))

import partialres
from partialres import code_digest
from partialres.experiments import FLAVOUR_FOLDERS, Plan, Run, expand_path, first_on_path, present

config.update(present(config))
plan = Plan(config)
validate(config, "../schemas/config.schema.json")

# The interpreter that runs Snakemake runs the rules too, also where its environment was not activated.
first_on_path(Path(sys.executable).parent)
# Rules import the same package: a conda environment then needs nothing of it installed. With `resources: gpu` of two or
# more, `on_gpus` starts as many processes of a command, which share its work.
shell.prefix(
    f"set -euo pipefail; export PYTHONPATH={shlex.quote(str(Path(partialres.__file__).parents[1]))}; "
    'on_gpus() {{ gpus=$1; shift; if [ "$gpus" -gt 1 ]; then python -m torch.distributed.run --standalone '
    '--nproc-per-node "$gpus" -m partialres "$@"; else python -m partialres "$@"; fi; }}; '
)


wildcard_constraints:
    dataset="|".join(map(re.escape, plan.datasets)),
    seed=r"\d+",
    ratio=r"[0-9.]+",
    experiment="|".join(map(re.escape, plan.experiments)),
    head="points|mask",
    step="res|retrain",
    split="|".join(sorted({split for entry in plan.datasets.values() for split in entry.splits})),


RESULTS = plan.config.results
RESUME = f"{RESULTS}/.resume"  # outside every rule's outputs: Snakemake removes those before a rerun
RUN = "{dataset}/seed{seed}/ratio{ratio}/{experiment}"
SCORED = "{dataset}/seed{seed}/ratio{ratio}/{experiment}/{step}/{split}"


def results(path):
    return f"{RESULTS}/{path}"


def logs(path):
    return f"{RESULTS}/logs/{path}.log"


def benchmarks(path):
    return f"{RESULTS}/benchmarks/{path}.tsv"


def code(command):
    """A param: digest of the package's code that a command imports, which Snakemake does not see by itself."""
    return code_digest.digest(command)


def settings(wildcards):
    """The settings of the rule's data set and, where it has them, experiment and ratio, or head."""
    known = {name: wildcards.get(name) for name in ("experiment", "head") if wildcards.get(name)}
    return plan.settings(wildcards.dataset, ratio=float(wildcards.get("ratio", 100)), **known)


def setting(key):
    """A param: a setting by its dotted key; a section becomes JSON."""

    def value(wildcards):
        chosen = settings(wildcards)
        for part in key.split("."):
            chosen = getattr(chosen, part)
        return chosen.model_dump_json() if hasattr(chosen, "model_dump_json") else chosen

    return value


def entry(wildcards):
    """The config entry of the rule's data set."""
    return plan.datasets[wildcards.dataset]


def option(name, files):
    """A param: an option with the file that an input function gives, or nothing where it gives none."""
    return lambda wildcards: f"{name} {shlex.quote(str(next(iter(files(wildcards)))))}" if files(wildcards) else ""


def threads(kind):
    return plan.config.threads[kind]


def resources_of(kind):
    """Resources of a kind of job; the n-th attempt asks for n times the memory and time."""
    each = plan.config.resources[kind]
    return {
        "mem_mb": lambda wildcards, attempt: each.mem_mb * attempt,
        "runtime": lambda wildcards, attempt: each.runtime * attempt,
        "gpu": each.gpu,
        "loaders": each.loaders,
    }


def environment(kind):
    """The conda environment of a kind of job: PyTorch with CUDA where it asks for a GPU."""
    return "../../envs/partialres-cuda.yaml" if plan.config.resources[kind].gpu else "../../envs/partialres.yaml"


def training_files(folder):
    """The outputs of a training."""
    names = {"model": "model.safetensors", "history": "metrics.csv", "provenance": "provenance.json"}
    return {key: f"{folder}/{name}" for key, name in names.items()}
