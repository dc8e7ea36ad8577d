"""metrics.jsonl: one line of JSON a member and epoch, with its losses.

A loss that is NaN or infinite, of a member that has diverged, is null.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lensjax.storage import atomic

Record = dict[str, Any]


def of_epoch(
    labels: list[Record],
    epoch: int,
    losses: tuple[ArrayLike, ArrayLike],
    rate: float,
    empty: ArrayLike | None = None,
    validates: bool = True,
) -> list[Record]:
    """One record a member of what an epoch, counted from 1, came to.

    losses: of training and validation, (R,) each.  rate: images a second.  empty: slots
    (R,) of online batches that found no system, where there are any.
    """

    def number(value):
        return float(value) if np.isfinite(value) else None

    records = [
        {
            **label,
            "epoch": epoch,
            "train_loss": number(train),
            "val_loss": number(validation) if validates else None,
            "images_per_second": round(rate, 1),
        }
        for label, train, validation in zip(
            labels, *map(np.asarray, losses), strict=True
        )
    ]
    for record, slots in zip(records, [] if empty is None else empty, strict=False):
        record["empty_slots"] = int(slots)
    return records


def append(path: Path, records: Sequence[Record]) -> None:
    """Add records to a metrics file."""
    with path.open("a") as file:
        file.writelines(json.dumps(r) + "\n" for r in records)


def read(path: Path) -> list[Record]:
    """The records of a metrics file; a last line torn by a kill is left out."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def keep_epochs(path: Path, epoch: int) -> list[Record]:
    """Drop the records of epochs that the checkpoint does not know and will repeat."""
    kept = [r for r in read(path) if r["epoch"] <= epoch]
    atomic.write(path, "".join(json.dumps(r) + "\n" for r in kept))
    return kept


def all_diverged(records: Sequence[Record], members: int) -> bool:
    """Whether no member had a finite loss in the last epoch: they never recover."""
    last = records[-members:]
    return bool(last) and all(diverged(r) for r in last)


def diverged(record: Record) -> bool:
    """Whether neither of a member's losses is finite."""
    return record["train_loss"] is None and record["val_loss"] is None
