"""Write the files that are generated from partialres/config.py: python -m tools.reference

These are the JSON schema in workflow/schemas and the tables of keys in config/README.md.
"""

from __future__ import annotations

import ast
import inspect
import json
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from partialres import config
from partialres.config import Config, Section, Settings

ROOT = Path(__file__).parents[1]
SCHEMA, README = ROOT / "workflow/schemas/config.schema.json", ROOT / "config/README.md"
START, END = "<!-- keys: made by python -m tools.reference -->", "<!-- end of keys -->"


def descriptions() -> dict[str, dict[str, str]]:
    """Read the string below each field in the source: class -> field -> text."""
    texts: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(config)).body:
        if isinstance(node, ast.ClassDef):
            pairs = zip(node.body, node.body[1:], strict=False)
            texts[node.name] = {
                field.target.id: " ".join(str(text.value.value).split())
                for field, text in pairs
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
                if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
            }
    return texts


LIMITS = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}


def limits(field: Any) -> dict[str, float]:
    """Return a number's range as JSON schema writes it: pydantic omits that of numbers that may be given as text."""
    return {LIMITS[name]: getattr(item, name) for item in field.metadata for name in LIMITS if hasattr(item, name)}


def schema() -> dict[str, Any]:
    """Make the JSON schema of a config, in which a setting may also be {by_ratio: ...} or {by_head: ...}."""
    whole, settings = Config.model_json_schema(), Settings.model_json_schema()
    kinds = {**settings.pop("$defs"), "Settings": settings}
    said = descriptions()
    for name, kind in kinds.items():
        kind.pop("required", None)  # a file of overrides names only what it changes
        for key, value in kind.get("properties", {}).items():
            value.pop("title", None)
            value |= limits(getattr(config, name).model_fields[key]) if value.get("type") == "number" else {}
            choice = {"type": "object", "minProperties": 1, "additionalProperties": value}
            keys = dict.fromkeys(("by_ratio", "by_head"), choice)
            either = {
                "type": "object",
                "properties": keys,
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": False,
            }
            kind["properties"][key] = {"anyOf": [value, either], "description": said[name][key]}
    whole["$defs"] |= kinds
    for name in ("datasets", "experiments"):
        of_names = whole["properties"][name]["patternProperties"]
        of_names |= {names: {"anyOf": [entry, {"type": "null"}]} for names, entry in of_names.items()}
    for name, kind in (*whole["$defs"].items(), ("Config", whole)):
        for key, value in kind.get("properties", {}).items():
            value.pop("title", None)
            field = "from_" if key == "from" else key
            value.setdefault("description", said[name][field])
            if key == "settings":
                value |= {"$ref": "#/$defs/Settings"}
                for word in ("type", "additionalProperties", "default"):
                    value.pop(word, None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_texts(whole), "title": "A partialres config"}


def _texts(node: Any) -> Any:
    """Let each number in a schema be text as well: YAML 1.1 reads 5e-4 as text."""
    if isinstance(node, list):
        return [_texts(each) for each in node]
    if not isinstance(node, dict):
        return node
    made = {key: _texts(value) for key, value in node.items()}
    text = {"type": ["number", "string"], "pattern": r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"}
    return made | text if node.get("type") == "number" else made


def tables() -> str:
    """Make the tables of keys, one per section."""
    said, done = descriptions(), []
    sections: list[tuple[str, type[Section]]] = [
        ("The whole config", config.Config), ("`datasets.NAME`", config.DatasetConfig),
        ("`datasets.NAME.generate`", config.GenerateConfig), ("`experiments.NAME`", config.ExperimentConfig),
        ("`report`", config.ReportConfig), ("`downloads`", config.DownloadConfig),
        ("`resources.KIND`", config.ResourceConfig), ("`settings`", config.Settings),
        ("`settings.text`", config.TextConfig),
        ("`settings.model`", config.ModelConfig), ("`settings.model.upstream`", config.UpstreamConfig),
        ("`settings.pretraining`", config.PretrainConfig), ("`settings.rec`, `res`, `retrain`", config.TrainConfig),
        ("`settings.predict`, `evaluate`", config.BatchConfig), ("`settings.pseudo`", config.PseudoConfig),
    ]  # fmt: skip
    for title, kind in sections:
        rows = [f"## {title}", "", "| key | type | default | meaning |", "| --- | --- | --- | --- |"]
        schema = kind.model_json_schema()
        for name, field in kind.model_fields.items():
            key = field.alias or name
            value = schema["properties"][key]
            type_ = _type(value | (limits(field) if value.get("type") == "number" else {}), schema.get("$defs", {}))
            rows.append(f"| `{key}` | {type_} | {_default(field)} | {said[kind.__name__][name]} |")
        done.append("\n".join(rows))
    return "\n\n".join(done)


def _type(value: dict[str, Any], kinds: dict[str, Any]) -> str:
    """Describe a field by its JSON schema: its type and range, or its choices."""
    if "$ref" in value:
        return _type(kinds[value["$ref"].split("/")[-1]], kinds)
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_type(each, kinds) for each in value["anyOf"]))
    if "enum" in value or "const" in value:
        return " or ".join(f"`{each}`" for each in value.get("enum", [value.get("const")]))
    if value["type"] == "object" and "properties" in value:
        return "section"
    words = {
        "integer": "whole number",
        "string": "text",
        "boolean": "true or false",
        "array": "list",
        "object": "mapping",
    }
    signs = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    limits = ", ".join(f"{sign} {value[name]:g}" for name, sign in signs.items() if name in value)
    return f"{words.get(value['type'], value['type'])} {limits}".strip()


def _default(field: Any) -> str:
    if field.default is PydanticUndefined:
        return ""
    if isinstance(field.default, Section):
        return "its own"
    value = field.default
    return f"`{json.dumps(float(format(value, '.4g')) if isinstance(value, float) else value)}`"


def readme() -> str:
    """Return config/README.md with new tables between its marks."""
    before, rest = README.read_text().split(START)
    return f"{before}{START}\n\n{tables()}\n\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Write both files."""
    SCHEMA.write_text(json.dumps(schema(), indent=1, ensure_ascii=False) + "\n")
    README.write_text(readme())


if __name__ == "__main__":
    main()
