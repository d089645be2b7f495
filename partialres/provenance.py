"""Record what made a result: code, settings, inputs, versions. No times, so that equal runs write equal files."""

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import torch
from pydantic_core import to_jsonable_python

import partialres
from partialres.files import sha256


def digest(value: Any) -> str:
    """Return the first 16 hex digits of the SHA-256 of a JSON-like value; config sections are dumped as mappings."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=to_jsonable_python).encode()).hexdigest()[:16]


def provenance(configs: Mapping[str, Any], inputs: Mapping[str, Path], seed: int, device: str) -> dict[str, Any]:
    """Describe a run: code, config, digests of its input files, versions, seed, device."""
    return {
        "commit": _commit(),
        "config": to_jsonable_python(dict(configs)),
        "config_digest": digest(dict(configs)),
        "inputs": {name: sha256(path)[:16] for name, path in inputs.items()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__},
        "seed": seed,
        "device": device,
    }


def _commit() -> str:
    """Return the package's git commit, with '+' if files were changed since; outside a checkout, the version."""
    folder = Path(partialres.__file__).parents[1]
    if not (folder / ".git").exists():  # a repository around it is of something else
        return partialres.__version__
    try:
        run = subprocess.run(
            ["git", "-C", folder, "describe", "--always", "--exclude=*", "--dirty=+", "--abbrev=12"],
            capture_output=True, text=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return partialres.__version__
    return run.stdout.strip() or partialres.__version__
