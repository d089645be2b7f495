"""The functions of the report's rule files, called in this process: which files tables and figures ask for."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

from partialres.experiments import Plan, Run
from tests.workflow.running import ROOT


class Rules(dict):
    """What the rule files define beside their rules, as far as the report needs it."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(
            plan=plan, Run=Run, Path=Path, shlex=shlex, sys=sys, report=lambda file, **_: file, code=lambda _: "",
            results=lambda path: path, RUN="{dataset}/seed{seed}/ratio{ratio}/{experiment}", image_folder=lambda _: "",
        )  # fmt: skip
        for name in ("step1_rec", "tables", "figures"):
            text = (ROOT / f"workflow/rules/{name}.smk").read_text()
            blocks = re.split(r"\n(?=\S)", text)
            exec("\n".join(block for block in blocks if not re.match(r"(use )?rule ", block)), self)
