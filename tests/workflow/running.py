"""Run Snakemake on the real workflow with a tiny config, in a separate folder."""

from __future__ import annotations

import atexit
import csv
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from partialres.experiments import Plan, merge
from tests.workflow import warm

ROOT = Path(__file__).parents[2]
TINY = Path(__file__).parent / "tiny.yaml"
EVALUATIONS = ("evaluate_rec", "evaluate_res")  # named in a loop; for a second list of splits with _2


def planned(*overrides: Path | Mapping[str, Any]) -> Plan:
    """The plan of the default config under configs that override it, made in this process as Snakemake makes it."""
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    for each in overrides:
        config = merge(config, yaml.safe_load(each.read_text()) if isinstance(each, Path) else each)
    return Plan(config)


def checkout_copy(folder: Path) -> Path:
    """Copy what a run needs of the checkout: tests may change it, and editing the checkout breaks no test."""
    for part in ("partialres", "snakemake_logger_plugin_partialres", "workflow", "config", "envs"):
        shutil.copytree(ROOT / part, folder / part, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@cache
def warm_server(checkout: Path) -> Path:
    """Start a process that has imported a checkout's package (tests.workflow.warm); return the folder of its socket."""
    folder = Path(tempfile.mkdtemp())
    server = subprocess.Popen(
        [sys.executable, "-P", warm.__file__, folder / "socket"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert server.stdout and server.stdout.readline() == b"ready\n"
    program = shlex.join([warm.__file__, str(folder / "socket")])
    (folder / "bash_env").write_text(
        f'python() {{ if [ "${{1-}} ${{2-}}" = "-m partialres" ]; then command python -I -S {program} "${{@:2}}"; '
        'else command python "$@"; fi; }\n'
    )

    def end() -> None:
        server.communicate()
        shutil.rmtree(folder)

    atexit.register(end)
    return folder


def run_warm(checkout: Path, words: list[str], folder: Path, environment: dict[str, str]) -> str:
    """Run `python -m` these words, and the package's commands that it starts, in forks of a checkout's warm server.

    Returns what was printed; raises CalledProcessError if it fails.
    """
    server = warm_server(checkout)
    environment = environment | {"BASH_ENV": str(server / "bash_env")}
    with tempfile.TemporaryFile() as output, open(os.devnull) as nothing:
        files = [nothing.fileno(), output.fileno(), output.fileno()]
        status = warm.ask(str(server / "socket"), words, str(folder), environment, files)
        output.seek(0)
        printed = output.read().decode()
    if status:
        raise subprocess.CalledProcessError(status, words[0], printed)
    return printed


@dataclass(frozen=True)
class Workflow:
    """The workflow in a checkout, run in a folder."""

    checkout: Path
    folder: Path
    cold: bool = False  # whether Snakemake and its jobs are processes that import everything themselves

    def command(self, *options: Any, config: dict[str, Any] | None = None, base: Path = TINY) -> list[str]:
        """Snakemake's command line, with configs that override the default one, which users need not name."""
        default = self.folder / "config/config.yaml"
        if not default.exists():
            default.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.checkout / "config/config.yaml", default)
        files = [base]
        if config:
            override = self.folder.parent / f"{self.folder.name}-override-{os.getpid()}.yaml"
            override.write_text(yaml.safe_dump(config))
            files.append(override)
        parts = [
            sys.executable, "-m", "snakemake", *options, "-s", self.checkout / "workflow/Snakefile",
            "--directory", self.folder, "--configfile", *files,
        ]  # fmt: skip
        return [str(part) for part in parts]

    def environment(self, **more: str) -> dict[str, str]:
        """What Snakemake runs in: the checkout's imports alone, an environment that is not activated; one thread."""
        path = os.pathsep.join(folder for folder in os.get_exec_path() if Path(folder) != Path(sys.executable).parent)
        return {**os.environ, "PATH": path, "PYTHONPATH": str(self.checkout), "OMP_NUM_THREADS": "1"} | more

    def __call__(
        self,
        *options: Any,
        config: dict[str, Any] | None = None,
        base: Path = TINY,
        env: dict[str, str] | None = None,
        cores: int | None = 2,
    ) -> str:
        """Run Snakemake and return its output; CalledProcessError if it fails. cores: None if a profile sets them."""
        number = ["--cores", cores] if cores else []
        command = self.command(*options, *number, config=config, base=base)
        environment = self.environment(**(env or {}))
        if not self.cold:
            return run_warm(self.checkout, command[2:], self.folder.parent, environment)
        return subprocess.run(
            command, env=environment, cwd=self.folder.parent, check=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ).stdout  # fmt: skip

    def pending(self, config: dict[str, Any] | None = None, base: Path = TINY) -> dict[str, set[str]]:
        """Files that a run would make or remake: rule -> paths."""
        table = self("--summary", config=config, base=base)
        lines = table[table.index("output_file\t") :]
        waiting: dict[str, set[str]] = {}
        for row in csv.DictReader(io.StringIO(lines), delimiter="\t"):
            if row["plan"] == "update pending":
                waiting.setdefault(row["rule"], set()).add(row["output_file"])
        return waiting

    def read(self, path: str) -> Any:
        """A JSON file."""
        return json.loads((self.folder / path).read_text())
