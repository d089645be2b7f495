# Paths, settings and resources that every rule file uses.
import os
import re
import shlex
import sys
from operator import attrgetter
from pathlib import Path

from snakemake.utils import validate

# Import the checkout's package, or the installed one if another workflow fetched only these rules (github(...)).
CHECKOUT = Path(str(workflow.current_basedir)).resolve().parents[1]
if (CHECKOUT / "partialres").is_dir() and str(CHECKOUT) not in sys.path:
    sys.path.insert(0, str(CHECKOUT))

import partialres
from partialres.code_digest import digest as code  # Snakemake does not notice changes in imported code
from partialres.config import ConfigError, Section, expand_path
from partialres.experiments import Plan, Run

plan = Plan(config)
validate(config, "../schemas/config.schema.json", set_default=False)

# Rules run the interpreter that runs Snakemake, even if its environment is not activated.
os.environ |= {"PATH": os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])}
# Rules import this same package, so conda environments need not contain it. If `gpu` in a job's `resources` is two or
# more, `on_gpus` starts that many processes of its command, which share the work.
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


RESULTS = plan.config.results
RESUME = f"{RESULTS}/.resume"  # not an output of any rule: Snakemake removes outputs before a rerun
RUN = "{dataset}/seed{seed}/ratio{ratio}/{experiment}"


def results(path):
    return f"{RESULTS}/{path}"


def logs(path):
    return f"{RESULTS}/logs/{path}.log"


def benchmarks(path):
    return f"{RESULTS}/benchmarks/{path}.tsv"


def settings(wildcards):
    """The settings for the job's data set and, if its wildcards name them, its experiment, ratio or head."""
    known = {name: wildcards.get(name) for name in ("experiment", "head") if wildcards.get(name)}
    return plan.settings(wildcards.dataset, ratio=float(wildcards.get("ratio", 100)), **known)


def setting(key):
    """A param: the setting with this dotted key; a whole section as JSON."""

    def value(wildcards):
        chosen = attrgetter(key)(settings(wildcards))
        return chosen.model_dump_json() if isinstance(chosen, Section) else chosen

    return value


def entry(wildcards):
    """The config entry of the job's data set."""
    return plan.datasets[wildcards.dataset]


def option(name, files):
    """A param: a command-line option with the file that the input function `files` returns, if it returns one."""
    return lambda wildcards: f"{name} {shlex.quote(str(next(iter(files(wildcards)))))}" if files(wildcards) else ""


def threads(kind):
    return plan.config.threads[kind]


def resources_of(kind):
    """The resources of a kind of job; its n-th attempt asks for n times the memory and time."""
    each = plan.config.resources[kind]
    return {
        "mem_mb": lambda wildcards, attempt: each.mem_mb * attempt,
        "runtime": lambda wildcards, attempt: each.runtime * attempt,
        "gpu": each.gpu,
        "loaders": each.loaders,
    }


def environment(kind):
    """The conda environment of a kind of job: with CUDA if the job asks for a GPU."""
    return "../../envs/partialres-cuda.yaml" if plan.config.resources[kind].gpu else "../../envs/partialres.yaml"


def training_files(folder):
    """A training's output files."""
    names = {"model": "model.safetensors", "history": "metrics.csv", "provenance": "provenance.json"}
    return {key: f"{folder}/{name}" for key, name in names.items()}
