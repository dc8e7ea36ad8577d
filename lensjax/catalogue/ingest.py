"""From archives to arrays: what is read, chosen and stored, to be killed at any time.

    OUT/lens_galaxies/1.0.0/     a tensorflow-datasets array_record, in order of the ids
    OUT/lens_galaxies.parquet    all but the stamps, as a table in the same order
    OUT/source_galaxies..., OUT/rejected.csv
    OUT/ingest.json              comes last: counts, and every file's SHA-256

What is not whole is in OUT/.parts, which goes when all is done.  The same archives give
the same bytes, however often the work was killed.
"""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lensjax import __version__
from lensjax.catalogue import schema
from lensjax.catalogue.archives import LENSES, SOURCES, Half
from lensjax.catalogue.selection import Chosen, Rejected
from lensjax.storage import atomic, chunks, parquet, sealed
from lensjax.survey import Survey

FORMAT = 1
SUMMARY, REJECTED, WORK, PLAN = "ingest.json", "rejected.csv", ".parts", "plan.json"
VERSION = "1.0.0"  # of the datasets
FIELDS = {LENSES: schema.LENS, SOURCES: schema.SOURCE}


class Occupied(ValueError):
    """A folder that holds something else, which may not be overwritten."""


# --- what was asked for, and how far it is --------------------------------------------


def plan(halves: Sequence[Half], survey: Survey) -> dict[str, Any]:
    """What decides the bytes that come out, to tell one ingestion from another."""
    asked = {"format": FORMAT, "lensjax": __version__, "survey": survey._asdict()}
    asked |= {half.name: half.facts for half in halves}
    return json.loads(json.dumps(asked))  # as it comes back from a file


def state(out: Path, asked: Mapping[str, Any], overwrite: bool) -> str:
    """How `out` stands: "new", "begun", "finished" or, to be overwritten, "other".

    Occupied where it holds something else and may not be overwritten.
    """
    if (out / SUMMARY).exists():
        if overwrite:
            return "other"
        if _read(out / SUMMARY).get("plan") == asked:
            return "finished"
        raise Occupied(f"{out} holds other galaxies")
    begun = _read(out / WORK / PLAN)
    if begun == asked:
        return "begun"
    there = begun or any(os.path.lexists(out / name) for name in _names())
    if there and not overwrite:
        raise Occupied(
            f"{out} holds a part of other galaxies, or of archives that have changed "
            "since"
        )
    return "other" if there else "new"


def begin(out: Path, asked: Mapping[str, Any], now: str) -> None:
    """Make `out` ready: what another ingestion left goes, and the plan is kept."""
    if now in ("new", "other"):
        # the summary first, the plan next: a kill leaves no mixture that looks whole
        for path in (out / SUMMARY, out / WORK / PLAN):
            path.unlink(missing_ok=True)
        for name in _names():
            _remove(out / name)
        for path in (out / WORK).glob("*_galaxies"):
            _remove(path)
        (out / WORK).mkdir(parents=True, exist_ok=True)
        text = json.dumps(asked, indent=1).encode()
        atomic.write(out / WORK / PLAN, text)


def _names() -> list[str]:
    folders = [LENSES, SOURCES]
    return [SUMMARY, REJECTED, *folders, *(f"{name}.parquet" for name in folders)]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


# --- storing --------------------------------------------------------------------------


def pack(
    half: Half,
    chosen: Chosen,
    out: Path,
    survey: Survey,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Write a half's dataset and table, unless they are there.

    Stamps are set in zeros, about their middle, to the largest one's size.
    """
    name, work = half.name, out / WORK
    if (out / name).exists():
        return
    table = schema.to_table(
        FIELDS[name], chosen.ids, chosen.numbers, chosen.flags, survey.bands
    )
    parquet.write(table, work / f"{name}.parquet", overwrite=True)
    _remove(work / "datasets")
    if chosen.ids:
        examples = _examples(half, chosen, progress)
        _prepare(name, _shapes(chosen), examples, len(chosen.ids), work / "datasets")
    else:  # tensorflow-datasets has no empty ones
        (work / "datasets" / name).mkdir(parents=True)
    os.replace(work / f"{name}.parquet", out / f"{name}.parquet")
    os.replace(work / "datasets" / name, out / name)  # last: it says that all is there


def _shapes(chosen: Chosen) -> dict[str, tuple[int, ...]]:
    shapes = [
        part.shapes for part in {part.path: part for part, _ in chosen.place}.values()
    ]
    return {name: max(shape[name] for shape in shapes) for name in shapes[0]}


def _examples(
    half: Half, chosen: Chosen, progress: Callable[[int], None]
) -> Callable[[int, int], Iterator[dict[str, Any]]]:
    """Records from one number to before another, as the builders want them."""
    shapes, needed = _shapes(chosen), FIELDS[half.name]

    def examples(start: int, stop: int) -> Iterator[dict[str, Any]]:
        for k in range(start, stop):
            stamps = chunks.stamps(*chosen.place[k])
            framed = {n: chunks.framed(a, shapes[n][0]) for n, a in stamps.items()}
            numbers = {
                field.name: np.asarray(chosen.numbers[field.name][k], field.dtype)
                for field in needed
            }
            words = {"id": chosen.ids[k], "flags": chosen.flags[k]}
            yield framed | numbers | words
            progress(k + 1)

    return examples


def _prepare(name, shapes, examples, count, folder) -> None:
    import tensorflow_datasets as tfds  # not before it is needed

    if name == LENSES:
        from lensjax.catalogue.lens_galaxies import (
            lens_galaxies_dataset_builder as module,
        )
    else:
        from lensjax.catalogue.source_galaxies import (
            source_galaxies_dataset_builder as module,
        )
    tfds.disable_progress_bar()
    builder = module.Builder(shapes, examples, count, data_dir=folder)
    builder.download_and_prepare(file_format="array_record")


def finish(
    out: Path,
    asked: Mapping[str, Any],
    chosen: Mapping[str, Chosen],
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Write what was left out, then the summary, which says that all is there."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Rejected._fields)
    writer.writerows(line for one in chosen.values() for line in one.rejected)
    raw = text.getvalue().encode("utf-8", "surrogateescape")
    atomic.write(out / REJECTED, raw)
    files = {}
    for done, path in enumerate(stored(out)):
        files[str(path.relative_to(out))] = sealed.digest(path)
        progress(done + 1)
    scale = asked.get(SOURCES, {}).get("pixel_scale")
    made = {
        "plan": asked,
        **{name: one.counts for name, one in chosen.items()},
        "files": files,
        "fingerprint": sealed.digest_of([files, scale]),
    }
    atomic.write(out / SUMMARY, json.dumps(made, indent=1))
    return made


def clean(out: Path) -> None:
    """Take the work away, when the summary is there."""
    shutil.rmtree(out / WORK, ignore_errors=True)
    atomic.clean(out)


def stored(out: Path) -> list[Path]:
    """The files of both halves."""
    inside = [p for name in (LENSES, SOURCES) for p in (out / name).rglob("*")]
    tables_ = [out / f"{name}.parquet" for name in (LENSES, SOURCES)]
    return sorted(path for path in [*inside, *tables_] if path.is_file())


def summary(out: Path) -> dict[str, Any]:
    """The summary of a finished ingestion."""
    return _read(out / SUMMARY)


def describe(summary: Mapping[str, Any]) -> list[str]:
    """The counts of a summary in words; what was found is the sum of the rest."""
    lines = []
    for name in (LENSES, SOURCES):
        if name not in summary:
            continue
        counts = summary[name]
        refused = sum(counts["refused"].values())
        line = f"{name}: {counts['found']:,} found = {counts['kept']:,} kept"
        for number, word in (
            (refused, "refused"),
            (counts["unmatched"], "without a match"),
            (counts["duplicates"], f"duplicate{'s' * (counts['duplicates'] > 1)}"),
        ):
            line += f" + {number:,} {word}" if number else ""
        lines.append(line)
        if "hint" in counts:
            lines.append(f"  none has a spectrum: {counts['hint']}")
        for word in ("refused", "warnings"):
            if counts[word]:
                lines.append(f"  {word}: {_listed(counts[word])}")
    return lines


def _listed(counts: Mapping[str, int]) -> str:
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return "; ".join(f"{number:,} {flag}" for flag, number in most)


def left_out(summary: Mapping[str, Any]) -> int:
    """How many galaxies were found and not kept."""
    counts: Iterable[Mapping] = [summary[n] for n in (LENSES, SOURCES) if n in summary]
    return sum(one["found"] - one["kept"] for one in counts)
