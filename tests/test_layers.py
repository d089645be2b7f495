"""The order of the folders is the architecture: a module imports only from those below its own."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import partialres

PACKAGE = Path(partialres.__file__).parent

# From the bottom up: a module imports only from its own folder and from folders earlier in this list.
LAYERS = [
    {"files", "geometry"},
    {"metrics", "config", "provenance"},
    {"data", "experiments"},
    {"model", "refshapes"},
    {"training", "checkpoints"},
    {"evaluation", "use"},
    {"steps", "report"},
    {"export", "visualise"},
    {"demo", "estimate"},
    {"cli"},
    {"code_digest", "__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imports_of(file: Path) -> set[str]:
    """Return the package's modules that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file}: a relative import, which this test does not follow"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name in MODULES}


FILES = {
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): file
    for file in sorted(PACKAGE.rglob("*.py"))
}
MODULES = set(FILES) - {"partialres"}  # the package's root has only the version
IMPORTS = {module: imports_of(FILES[module]) for module in sorted(MODULES)}


def folder(module: str) -> str:
    return module.split(".")[1]


def test_every_folder_has_its_level():
    assert {folder(module) for module in MODULES} == set(LEVEL)


def test_no_import_points_upward():
    upward = [
        f"{module} imports {imported}"
        for module, names in IMPORTS.items()
        for imported in sorted(names)
        if folder(imported) != folder(module) and LEVEL[folder(imported)] >= LEVEL[folder(module)]
    ]
    assert not upward


def test_no_circle_among_modules():
    # Importing a module runs its package's __init__ first, so only what __init__ itself imports can close a cycle.
    TopologicalSorter({module: names - {module} for module, names in IMPORTS.items()}).prepare()  # CycleError names it
