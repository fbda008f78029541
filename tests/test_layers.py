"""Imports point down: no module of the package imports one of a layer above its own."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import strands_sqlite_session_manager

PACKAGE = Path(strands_sqlite_session_manager.__file__).parent

# From the top. What stands side by side may import each other, but not in a circle.
LAYERS = (
    ("cli", "browser"),
    ("manager", "repository", "storage"),
    ("transfer",),
    ("sessions",),
    ("context", "blobs"),
    ("database",),
    ("errors",),
)
RANKS = {name: rank for rank, names in enumerate(LAYERS) for name in names}
EXEMPT = ("__init__.py", "__main__.py")
"""The package's own: the public names, which are imported on first use, and `python -m`."""


def imported(path: Path, package: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the layer of everything that a module imports from its own package."""
    folder = path.relative_to(package.parent).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else ()
            module = (*base, *(node.module or "").split(".")) if node.module else base
            names = [(*module, alias.name) for alias in node.names]
        else:
            continue
        for name in names:
            if name[0] == package.name and len(name) > 1 and not name[1].startswith("__"):
                yield node.lineno, name[1]


def upward_imports(package: Path) -> list[str]:
    """Return every import that points up, that goes round in a circle, or that belongs to no layer."""
    found: list[str] = []
    aside: set[tuple[str, str]] = set()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package)
        if name.as_posix() in EXEMPT:
            continue
        layer = name.parts[0].removesuffix(".py")
        if layer not in RANKS:
            found.append(f"{name.as_posix()} belongs to no layer")
            continue
        for line, other in imported(path, package):
            where = f"{name.as_posix()}:{line} | {layer} imports {other}"
            if other not in RANKS:
                found.append(f"{where}, which is no layer: import from the module that defines it")
            elif RANKS[other] < RANKS[layer]:
                found.append(f"{where}, which is above it")
            elif RANKS[other] == RANKS[layer] and other != layer:
                aside.add((layer, other))
    return [*found, *(f"{one} and {other} import each other" for one, other in sorted(aside) if (other, one) in aside)]


def test_no_module_imports_from_a_layer_above_its_own() -> None:
    if not (PACKAGE / "database").is_dir():
        pytest.skip("the package has no layers yet")
    assert upward_imports(PACKAGE) == []


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"manager.py": "from .database import pool\nfrom .errors import Gone\nimport json"}, []),
        ({"__init__.py": "from .manager import Manager", "errors.py": ""}, []),
        ({"manager.py": "from .repository import Repository", "repository.py": ""}, []),
        ({"cli/main.py": "from .. import __version__, repository\nfrom . import table"}, []),
        (
            {"database/pool.py": "from ..sessions.fork import fork"},
            ["database/pool.py:1 | database imports sessions, which is above it"],
        ),
        (
            {"context/ranges.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..manager import M"},
            ["context/ranges.py:3 | context imports manager, which is above it"],
        ),
        (
            {"sessions/__init__.py": "def f():\n    import package.transfer.copies"},
            ["sessions/__init__.py:2 | sessions imports transfer, which is above it"],
        ),
        ({"errors.py": "from . import database"}, ["errors.py:1 | errors imports database, which is above it"]),
        (
            {"manager.py": "from .storage import S", "storage.py": "from .manager import M"},
            ["manager and storage import each other", "storage and manager import each other"],
        ),
        (
            {"cli/main.py": "from .. import SQLiteSessionManager"},
            [
                "cli/main.py:1 | cli imports SQLiteSessionManager, which is no layer: "
                "import from the module that defines it"
            ],
        ),
        ({"helpers.py": ""}, ["helpers.py belongs to no layer"]),
    ],
)
def test_an_import_that_points_up_is_found(files: dict[str, str], expected: list[str], tmp_path: Path) -> None:
    package = tmp_path / "package"
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    assert upward_imports(package) == expected
