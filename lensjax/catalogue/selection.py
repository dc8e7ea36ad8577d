"""Which of the galaxies that were read are stored: ids, duplicates, counts."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lensjax.catalogue.archives import MATCH, Half, identify, why_unmatched
from lensjax.storage.chunks import Part


class Rejected(NamedTuple):
    """A line of rejected.csv: a galaxy that was refused, or is kept with a warning."""

    half: str
    name: str
    files: str
    flag: str
    kept: str  # yes or no
    message: str


class Chosen(NamedTuple):
    """The galaxies of a half that are stored, in order of their ids."""

    ids: list[str]
    place: list[tuple[Part, int]]  # where the stamps of each are
    numbers: dict[str, np.ndarray]  # by the fields' names
    flags: list[str]
    rejected: list[Rejected]
    counts: dict[str, Any]


class _Object(NamedTuple):
    name: str
    files: str
    part: Part
    row: int | None
    flags: dict[str, str]


def choose(half: Half, made: Sequence[Part]) -> Chosen:
    """Give each galaxy its id; leave out those without a spectrum and duplicates.

    Of two with one id the first in the order of the names stays.
    """
    rejected: list[Rejected] = []

    def say(one: _Object, kept: str, flags: Mapping[str, str]) -> None:
        for flag, message in flags.items():
            rejected.append(
                Rejected(half.name, one.name, one.files, flag, kept, message)
            )

    refused, warned = Counter(half.excluded), Counter()
    objects = list(_objects(half, made))
    usable = [one for one in objects if one.row is not None]
    for one in objects:
        if one.row is None:
            refused[next(iter(one.flags))] += 1
            say(one, "no", one.flags)
    numbers = _numbers(made)
    places = [numbers.get(name, np.empty(0)) for name in ("ra", "dec")]
    ids, more = identify(half, [one.name for one in usable], *places)
    numbers |= more

    first: dict[str, int] = {}
    unmatched = duplicates = 0
    for k, (one, id_) in enumerate(zip(usable, ids, strict=True)):
        unknown = [n for n in half.needed if not np.isfinite(numbers[n][k]).all()]
        if unknown:
            refused["unmeasured"] += 1
            text = f"{', '.join(unknown)} came out as nan or infinity"
            say(one, "no", {"unmeasured": text})
        elif id_ is None:
            unmatched += 1
            say(one, "no", {"unmatched": f"no spectrum within {MATCH:g} arcsec"})
        elif id_ in first:
            duplicates += 1
            text = f"{id_} is {usable[first[id_]].name}, too, which stays"
            say(one, "no", {"duplicate": text})
        else:
            first[id_] = k
            warned.update(one.flags.keys())
            say(one, "yes", one.flags)
    order = [first[id_] for id_ in sorted(first)]
    hint = {}
    if half.spectra is not None and usable and unmatched == len(usable):
        hint["hint"] = why_unmatched(half.spectra, *places)
    return Chosen(
        ids=sorted(first),
        place=[(usable[k].part, usable[k].row) for k in order],
        numbers={name: np.asarray(a)[order] for name, a in numbers.items()},
        flags=[",".join(usable[k].flags) for k in order],
        rejected=sorted(rejected, key=lambda line: line[:2]),
        counts={
            "found": len(objects) + sum(half.excluded.values()),
            "kept": len(first),
            "refused": dict(sorted(refused.items())),
            "unmatched": unmatched,
            "duplicates": duplicates,
            "warnings": dict(sorted(warned.items())),
            **hint,
        },
    )


def _objects(half: Half, made: Sequence[Part]) -> Iterator[_Object]:
    files = iter(half.files)
    for part in made:
        for name, row, flags in zip(part.names, part.row, part.flags, strict=True):
            yield _Object(name, next(files), part, row, flags)


def _numbers(made: Sequence[Part]) -> dict[str, np.ndarray]:
    """Numbers of all that can be used, those of all parts together."""
    names = {name: None for part in made for name in part.numbers}
    return {
        name: np.array([x for part in made for x in part.numbers.get(name, ())])
        for name in names
    }
