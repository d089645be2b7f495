"""Digest the code that a command runs: Snakemake does not notice changes in imported code, so rules hold its digest."""

import ast
import hashlib
import inspect
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

import partialres
from partialres.cli import main

PACKAGE = Path(partialres.__file__).parent
NOT_COUNTED = {"partialres", "partialres.config"}  # the version changes no result, settings are options


def digest(command: str) -> str:
    """Digest the modules of the package that a command imports: digest("train-rec"), digest("tables main").

    Comments, docstrings and formatting do not count, nor do the command's own options, which its rule contains.
    Raises KeyError if there is no such command.
    """
    code = [f"# {module}\n{_code(_file(module))}" for module in sorted(closure(command))]
    return hashlib.sha256("\n".join(code).encode()).hexdigest()[:16]


def closure(command: str) -> set[str]:
    """Return the names of the package's modules that a command imports, directly or through other modules."""
    named: Any = main
    for name in command.split():
        named = named.commands[name]
    waiting: set[str] | frozenset[str] = _imports(textwrap.dedent(inspect.getsource(inspect.unwrap(named.callback))))
    reached: set[str] = set()
    while waiting:
        reached |= waiting
        waiting = set().union(*(_imports(_file(module).read_text(encoding="utf-8")) for module in waiting)) - reached
    return reached


def _file(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _imports(code: str) -> frozenset[str]:
    """Return the package's modules that the code imports, at the top or inside functions."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    names |= {name.rpartition(".")[0] for name in names}  # a module's package runs first
    modules = {name for name in names if name.split(".")[0] == "partialres" and _file(name).is_file()}
    return frozenset(modules - NOT_COUNTED)


def _code(file: Path) -> str:
    """Return a module's code without comments and docstrings, followed by the CSV files beside it."""
    data = [path.read_text(encoding="utf-8") for path in sorted(file.parent.glob("*.csv"))]
    return "\n".join([_stripped(file.read_bytes()), *data])


@cache
def _stripped(source: bytes) -> str:
    """Return code without comments and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
