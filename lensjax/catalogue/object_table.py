"""Tables with one row a cutout: what is the same in predictions and in fits."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from astropy.table import Column, Table

from lensjax import __version__
from lensjax.catalogue.folders import text


def add_words(
    table: Table, flags: Sequence[Mapping[str, str]], paths: Sequence[str]
) -> None:
    """Add the columns flags, message and file; flag -> message of each row."""
    # object columns: a million messages of fixed width would be gigabytes
    words = {
        "flags": [",".join(sorted(row)) for row in flags],
        "message": [
            text("; ".join(f"{f}: {m}" for f, m in sorted(row.items())))
            for row in flags
        ],
        "file": [text(path) for path in paths],
    }
    for name, column in words.items():
        table[name] = Column(column, dtype=object)
    table["flags"].description = "comma-joined, empty when all is well"


def meta(flags: Sequence[Mapping[str, str]], **about: Any) -> dict[str, Any]:
    """When and by what a table was made, what is said `about` it, and its flags."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"lensjax": __version__}
        | {name: version(name) for name in ("jax", "numpy", "astropy")},
        # plain JSON: what went in comes back the same from any reader
        **json.loads(json.dumps(about, default=str)),
        "rows": len(flags),
        "flags": dict(sorted(Counter(f for row in flags for f in row).items())),
    }


def flags_of(table: Table) -> list[list[str]]:
    """The flags of each row."""
    return [f.split(",") if f else [] for f in table["flags"]]


def counted(
    counts: Mapping[str, int],
    meaning: Mapping[str, str],
    warning: Iterable[str],
    without: str,
) -> list[str]:
    """A line a flag, the most frequent first; `without`: what the others mean."""
    lines = []
    for flag, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        kind = "warning" if flag in warning else without
        lines.append(f"  {n:>7}  {flag:<24} {kind:<14} {meaning.get(flag, '')}")
    return lines
