"""Draw who imports whom: `python docs/architecture.py` fills docs/architecture.md.

`FLOORS` is the plan of the house: a module imports from its own floor and from those
below.  tests/test_architecture.py holds the library to it.
"""

import ast
import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"


class Floor(NamedTuple):
    """A floor of the house; modules are named without `lensjax.`, folders by a /."""

    name: str
    what: str
    modules: tuple[str, ...]


FLOORS = (
    Floor("ground", "units; files whole or not at all", ("_lazy", "units", "storage/")),
    Floor(
        "physics",
        "a lens in, a number out",
        (
            "cosmology",
            "sie",
            "shear",
            "lens",
            "images",
            "next_images",
            "interop",
        ),
    ),
    Floor(
        "scene",
        "what is there, what the telescope does, what noise does",
        (
            "survey",
            "psf",
            "light",
            "photometry",
            "noise",
            "parameters",
            "render",
            "mock",
        ),
    ),
    Floor(
        "data", "galaxies and lenses as files have them", ("catalogue/", "observation")
    ),
    Floor("mocks", "who lenses whom", ("mocks/",)),
    Floor("inference", "from an observation to a posterior", ("inference/",)),
    Floor("learning", "networks, trained on mocks", ("learning/",)),
    Floor("evaluation", "truth against prediction", ("evaluation/",)),
    Floor("plotting", "pictures", ("plotting/",)),
    Floor("commands", "the command line", ("commands/", "__main__")),
)


def modules() -> dict[str, Path]:
    """Every module of the library by its name without `lensjax.`."""
    found = {}
    for path in sorted((ROOT / "lensjax").rglob("*.py")):
        parts = path.relative_to(ROOT / "lensjax").with_suffix("").parts
        name = ".".join(p for p in parts if p != "__init__")
        if name:
            found[name] = path
    return found


def floor_of(name: str) -> int:
    """Number of a module's floor, from the ground up."""
    for number, floor in enumerate(FLOORS):
        for one in floor.modules:
            if name == one or (
                one[-1] == "/" and f"{name}.".startswith(f"{one[:-1]}.")
            ):
                return number
    raise ValueError(f"lensjax.{name} has no floor: add it to docs/architecture.py")


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of the library that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            full = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            full = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in full:
            name = name.removeprefix("lensjax.") if name.startswith("lensjax.") else ""
            while name and name not in known:  # a function of the module
                name = name.rpartition(".")[0]
            if name:
                found.add(name)
    return found


def upward() -> list[str]:
    """Imports that go up a floor, as sentences."""
    known = modules()
    return [
        f"lensjax.{name} ({FLOORS[floor_of(name)].name}) imports lensjax.{other} "
        f"({FLOORS[floor_of(other)].name})"
        for name, path in known.items()
        for other in sorted(imports(path, known))
        if floor_of(other) > floor_of(name)
    ]


def drawing() -> str:
    """The floors and the imports between them, as a Mermaid graph."""
    known, edges = modules(), set()
    for name, path in known.items():
        for other in imports(path, known):
            edges.add((floor_of(name), floor_of(other)))
    lines = ["```mermaid", "flowchart BT"]
    for number, floor in enumerate(FLOORS):
        inside = " ".join(m for m in floor.modules if not m.startswith("_"))
        lines.append(f'    {number}["<b>{floor.name}</b>: {floor.what}<br/>{inside}"]')
    for above, below in sorted(edges):
        if above != below:
            lines.append(f"    {below} --> {above}")
    return "\n".join([*lines, "```"])


def table() -> str:
    """Every module, its lines, and what it imports."""
    known = modules()
    lines = ["| module | lines | imports |", "|---|---|---|"]
    for number, floor in enumerate(FLOORS):
        lines.append(f"| **{floor.name}** | | |")
        for name, path in known.items():
            if floor_of(name) == number and path.name != "__init__.py":
                others = ", ".join(sorted(imports(path, known) - {name}))
                count = len(path.read_text().splitlines())
                lines.append(f"| {name} | {count} | {others} |")
    return "\n".join(lines)


def filled(page: str) -> str:
    """The page with its drawing and table made anew."""
    for mark, text in (("drawing", drawing()), ("table", table())):
        block = f"<!-- {mark} -->\n\n{text}\n\n<!-- end -->"
        pattern = rf"<!-- {mark} -->.*?<!-- end -->"
        page = re.sub(pattern, lambda _, b=block: b, page, flags=re.DOTALL)
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
    print(PAGE.relative_to(ROOT))
