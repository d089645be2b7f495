"""What code a command runs: Snakemake does not see a change in imported code by itself, so rules carry its digest.

A command's code is every definition of the package that its function can reach by name: functions, classes, constants,
and what a reached module does when it is imported. The digest is of their syntax: comments, docstrings and formatting
do not count, and neither do the command's own options, which the rule's shell command spells out.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = "partialres"
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
IMPORTS = (ast.Import, ast.ImportFrom)


@dataclass(frozen=True)
class Module:
    """A module's top level: its definitions and imports by name, and all else that runs when it is imported."""

    definitions: dict[str, ast.stmt]
    imports: dict[str, tuple[str, str]]  # name here -> module, name there ("" is the module itself)
    commands: dict[str, str]  # of the command line -> the function
    body: tuple[ast.stmt, ...]


def digest(package: Path, command: str) -> str:
    """Digest of the code that a command runs: digest(folder, "train-rec"), digest(folder, "tables main")."""
    parts = [f"{module}.{name}\n{_source(package, module, name)}" for module, name in sorted(reached(package, command))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@cache
def reached(package: Path, command: str) -> frozenset[tuple[str, str]]:
    """(module, name) of everything that a command reaches; the name "" stands for a module's own statements.

    Raises KeyError if there is no such command.
    """
    module, function = _commands(package)[command]
    found, waiting = set(), {(module, function)}
    while waiting:
        found |= waiting
        waiting = {use for each in waiting for use in _uses(package, *each)} - found
    return frozenset(found)


@cache
def _commands(package: Path) -> dict[str, tuple[str, str]]:
    """Command -> its module and function, in the modules of the command line."""
    modules = [f"{PACKAGE}.{path.stem}" for path in sorted(package.glob("cli*.py"))]
    return {name: (each, function) for each in modules for name, function in _read(package, each).commands.items()}


def _command(function: ast.stmt) -> Iterator[str]:
    """The name of the command that a function is, from its @main.command(), @click.command() or @group.command()."""
    for call in getattr(function, "decorator_list", []):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "command":
            name = ast.literal_eval(call.args[0]) if call.args else function.name.replace("_", "-")  # type: ignore[attr-defined]
            group = ast.unparse(call.func.value)
            yield name if group in ("main", "click") else f"{group} {name}"


def _path(package: Path, module: str) -> Path | None:
    """The file of a module of the package, or None if there is no such module."""
    below = package.joinpath(*module.split(".")[1:])
    return next((path for path in (below.with_suffix(".py"), below / "__init__.py") if path.is_file()), None)


@cache
def _read(package: Path, module: str) -> Module:
    """A module of the package, parsed."""
    path = _path(package, module)
    if path is None:
        raise ModuleNotFoundError(module)
    definitions: dict[str, ast.stmt] = {}
    imports: dict[str, tuple[str, str]] = {}
    commands: dict[str, str] = {}
    body = []
    for node in _without_docstrings(ast.parse(path.read_bytes())).body:
        if isinstance(node, DEFINITIONS):
            commands |= dict.fromkeys(_command(node), node.name)
            if node.name in commands.values():
                node.decorator_list = []  # its options
            definitions[node.name] = node
        elif isinstance(node, IMPORTS):
            imports |= _imported(package, node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
            definitions |= dict.fromkeys(names, node)
        else:
            body.append(node)
    if commands:
        body = []  # puts the commands together
    return Module(definitions, imports, commands, tuple(body))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """The tree without strings that are statements."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, *DEFINITIONS)):
            kept = [
                each for each in node.body if not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
            ]
            node.body = kept or [ast.Pass()]
    return tree


def _imported(package: Path, node: ast.stmt) -> dict[str, tuple[str, str]]:
    """What an import statement binds, of the package: name -> (module, name there)."""
    found = {}
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.split(".")[0] == PACKAGE:
                found[alias.asname or PACKAGE] = (alias.name if alias.asname else PACKAGE, "")
    elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
        assert node.module is not None
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            found[alias.asname or alias.name] = (inner, "") if _path(package, inner) else (node.module, alias.name)
    return found


def _nodes(package: Path, module: str, name: str) -> tuple[ast.stmt, ...]:
    """The statements that a (module, name) stands for."""
    code = _read(package, module)
    return (code.definitions[name],) if name else code.body


@cache
def _source(package: Path, module: str, name: str) -> str:
    """The code of a (module, name), and that of the data files beside the module that it names."""
    nodes = _nodes(package, module, name)
    beside = getattr(_path(package, module), "parent", package)
    files = [
        (beside / node.value).read_text(encoding="utf-8")
        for each in nodes
        for node in ast.walk(each)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith((".csv", ".json"))
        if (beside / node.value).is_file()
    ]
    return "\n".join([*map(ast.unparse, nodes), *files])


@cache
def _uses(package: Path, module: str, name: str) -> frozenset[tuple[str, str]]:
    """What a (module, name) reaches at once: its module's own statements and every name of the package in it."""
    return frozenset({(module, ""), *_named(package, module, name)})


def _named(package: Path, module: str, name: str) -> Iterator[tuple[str, str]]:
    nodes = _nodes(package, module, name)
    code = _read(package, module)
    bound = dict(code.imports)
    for each in nodes:
        for node in ast.walk(each):
            if isinstance(node, IMPORTS):
                bound |= _imported(package, node)
    for each in nodes:
        for node in ast.walk(each):
            if isinstance(node, ast.Name) and node.id in bound:
                yield from _definition(package, *bound[node.id])
            elif isinstance(node, ast.Name) and node.id in code.definitions:
                yield module, node.id
            elif isinstance(node, ast.Attribute):
                yield from _attribute(package, node, bound)


def _definition(package: Path, module: str, name: str) -> Iterator[tuple[str, str]]:
    """Where something imported is defined: followed through modules that only pass it on.

    Of the package's own __init__ nothing counts: it holds the version, which only provenance records.
    """
    if module == PACKAGE:
        return
    yield module, ""
    if name:
        code = _read(package, module)
        if name in code.definitions:
            yield module, name
        elif name in code.imports:
            yield from _definition(package, *code.imports[name])


def _attribute(package: Path, node: ast.Attribute, bound: dict[str, tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """metrics.iou: the definition of that name in the module that `metrics` stands for."""
    if isinstance(node.value, ast.Name) and bound.get(node.value.id, ("", "?"))[1] == "":
        module = bound[node.value.id][0]
        inner = f"{module}.{node.attr}"
        yield from _definition(package, inner, "") if _path(package, inner) else _definition(package, module, node.attr)
