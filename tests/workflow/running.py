"""Run Snakemake on the real workflow with a tiny config, in a separate folder."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from partialres.experiments import Plan, merge

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


@dataclass(frozen=True)
class Workflow:
    """The workflow in a checkout, run in a folder."""

    checkout: Path
    folder: Path

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
        answer = subprocess.run(
            self.command(*options, *number, config=config, base=base),
            env=self.environment(**(env or {})), cwd=self.folder.parent,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if answer.returncode:
            raise subprocess.CalledProcessError(answer.returncode, "snakemake", answer.stdout)
        return answer.stdout

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
