"""The structure of the package: import cost, direction of imports, third parties in their rooms, sizes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import ghn_init

ROOT = Path(ghn_init.__file__).resolve().parent
FILES = sorted(ROOT.rglob("*.py"))

ABOVE_ALL = {"cli", "demo", "launch", "__main__"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "extras": {"errors"},
    "wrappers": set(),
    "copying": set(),
    "parallel": {"copying"},
    "isolation": set(),
    "children": set(),
    "assets": set(),
    "logging": set(),
    "graph": {"assets", "errors", "extras"},
    "tracing": {"errors", "graph", "isolation", "parallel", "wrappers"},
    "hub": {"assets", "errors", "graph", "logging"},
    "ghn": {"errors", "graph", "hub", "logging"},
    "assigning": {"errors", "parallel", "wrappers"},
    "assign": {"errors", "assigning", "parallel"},
    "synthetic": set(),
    "response": {"batchnorm", "errors", "ghn", "graph", "report", "synthetic", "tracing"},
    "batchnorm": {"errors", "assigning", "wrappers"},
    "tensor_statistics": {"parallel"},
    "report_views": {"assets", "graph"},
    "report": {"graph", "report_views", "tensor_statistics"},
    "accounting": {"assign", "errors", "ghn", "graph"},
    "blending": {"errors", "graph"},
    "default": {"errors", "ghn", "hub"},
    "api": {
        *("accounting", "assign", "default", "errors", "ghn", "graph", "isolation", "report", "tracing"),
        *("blending", "response", "tensor_statistics", "wrappers"),
    },
    "hooks": {"api", "errors", "ghn", "report"},
    "coverage": {
        "accounting",
        "assign",
        "children",
        "default",
        "errors",
        "ghn",
        "graph",
        "isolation",
        "logging",
        "tracing",
        "wrappers",
    },
    "training": {
        *("api", "assets", "batchnorm", "default", "errors", "ghn", "graph", "hub", "isolation", "report"),
        *("blending", "extras", "logging", "response", "synthetic", "tracing"),
    },
    "ranking": {
        *(
            "api",
            "children",
            "default",
            "errors",
            "extras",
            "ghn",
            "graph",
            "isolation",
            "logging",
            "tracing",
            "training",
        ),
    },
    "__init__": {"hooks", "logging"},
}
"""Room → rooms that it may import when it runs (imports for type checkers aside)."""

THIRD_PARTIES: dict[str, set[str]] = {
    "huggingface_hub": {"hub"},
    "safetensors": {"hub", "cli"},
    "accelerate": {"training", "ranking"},
    "matplotlib": {"graph", "demo", "training", "ranking"},
    "networkx": {"graph"},
    "timm": {"training", "coverage", "demo", "ranking"},
    "transformers": {"training", "coverage"},
    "lz4": {"hub"},
    "optuna": {"ranking"},
    "pandas": {"ranking"},
    "rich": {"report_views", "ranking", "cli"},
    "sklearn": {"ranking", "training"},
    "torchvision": {"training", "coverage", "demo"},
}
"""Library → rooms that may import it. Torch, NumPy and tqdm may be imported anywhere."""

EVERYWHERE = {"torch", "numpy", "tqdm", "typing_extensions"}
LAZY = {
    "optuna",
    "pandas",
    "rich",
    "sklearn",
    "matplotlib",
    "networkx",
    "timm",
    "transformers",
    "accelerate",
    "torchvision",
    "lz4",
    "huggingface_hub",
}
MOST_LINES = 320
MOST_LINES_OF_A_FUNCTION = 60


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(tree: ast.AST, *, nested: bool = True) -> Iterator[str]:
    """Full names of imported modules, those under ``TYPE_CHECKING`` left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            assert node.module is not None
            if node.module == "ghn_init":
                yield from (f"ghn_init.{alias.name}" for alias in node.names)
            else:
                yield node.module
        elif nested or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(node, nested=nested)


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=label)
def test_rooms_import_only_what_lies_below(path):
    room = room_of(path)
    if room in ABOVE_ALL:
        return
    assert room in MAY_IMPORT, f"new room {room!r}: say here what it may import"
    for module in imports(ast.parse(path.read_text())):
        if module.startswith("ghn_init."):
            other = module.split(".")[1]
            assert other == room or other in MAY_IMPORT[room], f"{label(path)} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=label)
def test_third_parties_stay_in_their_rooms(path):
    tree = ast.parse(path.read_text())
    for module in imports(tree):
        library = module.partition(".")[0]
        if library in sys.stdlib_module_names or library in EVERYWHERE or library == "ghn_init":
            continue
        assert room_of(path) in THIRD_PARTIES.get(library, set()), f"{label(path)} imports {library}"
    eager = {module.partition(".")[0] for module in imports(tree, nested=False)}
    assert not eager & LAZY, "an optional or slow library must be imported where it is used"


@pytest.mark.parametrize("path", FILES, ids=label)
def test_files_and_functions_stay_small(path):
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            docstring = ast.get_docstring(node, clean=False)
            length -= len(docstring.splitlines()) if docstring else 0
            assert length <= MOST_LINES_OF_A_FUNCTION, f"{node.name} has {length} lines"


def modules_after(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300, cwd=ROOT.parent
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_importing_the_package_imports_no_framework():
    loaded = modules_after("import ghn_init; dir(ghn_init); ghn_init.__version__")
    assert "ghn_init" in loaded
    assert not loaded & {"torch", "numpy", "timm", "transformers", "huggingface_hub", "safetensors", "tqdm"}


def test_the_pipeline_imports_no_framework_but_torch():
    loaded = modules_after("import ghn_init; ghn_init.apply")
    assert "torch" in loaded
    assert not loaded & {"timm", "transformers", "torchvision", "accelerate", "matplotlib", "huggingface_hub"}


@pytest.mark.parametrize("name", ghn_init.__all__)
def test_every_public_name_resolves(name):
    assert getattr(ghn_init, name) is not None
    assert name in dir(ghn_init)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'applly'"):
        ghn_init.applly


def test_the_version_is_that_of_the_distribution():
    declared = (ROOT.parent / "pyproject.toml").read_text()
    try:
        installed = version("ghn-init")
    except PackageNotFoundError:
        assert f'version = "{ghn_init.__version__}"' in declared
    else:
        assert installed == ghn_init.__version__
