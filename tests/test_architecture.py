"""The plan of the house: who imports whom, and what stays in which room."""

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs"))

import architecture  # noqa: E402

LONG = {  # modules above 300 lines, and why they are one thing
    "images": "the lens equation as one problem: brackets, zeros, derivatives",
    "sie": "one profile, its two forms of the arctangent and their slopes",
    "mocks.population": "one population: lens galaxies, sources, seeing, neighbours",
}


def test_nothing_imports_from_a_floor_above():
    assert not architecture.upward()


def test_the_drawing_is_of_the_house_as_it_is():
    page = architecture.PAGE.read_text()
    again = architecture.filled(page)
    graph = re.compile(r"<!-- drawing -->.*?<!-- end -->", re.S)
    assert graph.search(again)[0] == graph.search(page)[0], (
        "run python docs/architecture.py"
    )


def test_a_module_is_short_or_has_a_reason():
    lengths = {
        name: len(path.read_text().splitlines())
        for name, path in architecture.modules().items()
    }
    assert {name for name, n in lengths.items() if n > 300} == {*LONG}


def library():
    """Modules below the command line."""
    top = len(architecture.FLOORS) - 1
    return {
        name: path
        for name, path in architecture.modules().items()
        if architecture.floor_of(name) < top
    }


def words(tree):
    """Strings of a module that are not documentation."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in docs:
                yield node.value


@pytest.mark.parametrize("name", library())
def test_the_library_knows_no_command_line(name):
    tree = ast.parse(library()[name].read_text())
    keys = [
        w for w in words(tree) if re.search(r"\b\w+=(\.\.\.|true|false|[A-Z]{2,})", w)
    ]
    assert not keys
    called = {
        ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)
    }
    assert not called & {"print", "exit", "sys.exit", "os._exit", "SystemExit"} - {
        "os._exit" if name == "storage.processes" else ""  # a reader without its parent
    }


def test_every_public_module_is_there_after_import_lensjax():
    import lensjax

    for name in library():
        if any(part.startswith("_") for part in name.split(".")):
            continue
        if "galaxies" in name:  # tensorflow-datasets' own way in
            continue
        found = lensjax
        for part in name.split("."):
            found = getattr(found, part)
        assert found is importlib.import_module(f"lensjax.{name}")
    assert {*lensjax.__all__} <= {*dir(lensjax)}


def test_names_of_the_first_version_still_lead_somewhere():
    import lensjax

    for name, now in lensjax._FORMER.items():
        assert getattr(lensjax, name) is importlib.import_module(now)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lensjax.nothing  # noqa: B018
