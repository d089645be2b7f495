"""Kinds of options that several command files share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import yaml

from partialres.config import ConfigError, fill

IN_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
IN_DIR = click.Path(exists=True, file_okay=False, path_type=Path)
OUT = click.Path(path_type=Path)


class Section(click.ParamType):
    """A config section: a YAML or JSON file, or the JSON text itself. Unknown keys are refused by name."""

    name = "section"

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, self.kind):
            return value
        try:
            text = value if value.lstrip().startswith("{") else Path(value).read_text(encoding="utf-8")
            content = yaml.safe_load(text) or {}
            if not isinstance(content, dict):
                raise ConfigError(f"{value}: holds {type(content).__name__}, not key: value pairs")
            return fill(self.kind, content, self.kind.__name__)
        except (ConfigError, OSError, yaml.YAMLError) as error:
            self.fail(str(error), param, ctx)
