"""Rows of a fit that may be ended at any time: parts beside the table, whole or absent.

A part is one file of numpy's, which carries a checksum of each array; one that cannot
be read is made again.  Their folder is named by what decides the rows: files, settings,
version.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lensjax import __version__, inference
from lensjax.commands import fit_network
from lensjax.inference import coolest
from lensjax.storage import atomic, sealed

SIZE = 16  # rows of a part


class Row(NamedTuple):
    """What is kept of one cutout."""

    numbers: dict[str, float]  # by column; those that are missing are NaN
    flags: dict[str, str]
    origin: dict[str, str]  # of psf, noise and mask
    bands: list[str]
    draws: np.ndarray | None  # (draw, 14): the numbers of `inference.NAMES`, weight


def identity(task: Any) -> str:
    """A digest of what decides the rows."""
    files = []
    for path in task.paths:
        try:
            status = os.stat(path)
            files.append([path, status.st_size, status.st_mtime_ns])
        except OSError:
            files.append([path, None, None])
    about = {
        "version": __version__,
        "files": files,
        "survey": task.survey and list(task.survey),
        "settings": list(task.settings),
        "priors": {name: list(prior) for name, prior in task.priors.items()},
        # as text: nan is no JSON
        "known": {name: str(tuple(known)) for name, known in task.known.items()},
        "seed": task.seed,
        "weights": task.weights and sealed.digest_of(fit_network.about(task.weights)),
        "sampler": task.sampler,
    }
    return sealed.digest_of(json.loads(json.dumps(about)))


class Parts:
    """The parts of one table."""

    def __init__(self, out: Path, digest: str):
        self.folder = out.with_name(f".{out.name}.{digest[:12]}.parts")

    def read(self, number: int) -> list[Row] | None:
        """Rows of a part, or None where there is none that is whole."""
        try:
            path = self.folder / f"{number:06}.npz"
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                rows = json.loads(file["rows"].tobytes())
                draws = [file[f"draws{k}"] for k in range(len(rows))]
            return [
                Row(*row, some if some.size else None)
                for row, some in zip(rows, draws, strict=True)
            ]
        except (OSError, ValueError, KeyError, EOFError, TypeError):
            return None
        except Exception as error:  # zipfile's own, of a damaged file
            if type(error).__module__ in ("zipfile", "zlib"):
                return None
            raise

    def write(self, number: int, rows: Sequence[Row]) -> None:
        """Keep a part."""
        self.folder.mkdir(exist_ok=True)
        plain = json.dumps([row[:-1] for row in rows]).encode()
        arrays = {"rows": np.frombuffer(plain, np.uint8)}
        for k, row in enumerate(rows):
            empty = np.zeros((0, 0), np.float32)
            arrays[f"draws{k}"] = empty if row.draws is None else row.draws
        path = self.folder / f"{number:06}.npz"
        atomic.write(path, lambda file: np.savez(file, **arrays))


def write_coolest(folder: Path, ids: Sequence[str], rows: Sequence[Row]) -> None:
    """A COOLEST template of each lens that has a model."""
    folder.mkdir(exist_ok=True)
    for name, row in zip(ids, rows, strict=True):
        if row.draws is not None and "theta_E_arcsec" in row.numbers:
            made = coolest.template(row.draws[:, :7], row.draws[:, -1])
            path = folder / f"{file_name(name)}.json"
            atomic.write(path, json.dumps(made, indent=2) + "\n")


def file_name(name: str) -> str:
    """An object's name as one of a file, whatever is in it."""
    return "".join(c if c.isalnum() or c in "-_.+" else "_" for c in name)


def write_samples(path: Path, ids: Sequence[str], rows: Sequence[Row]) -> None:
    """Draws of all lenses in one file of arrays.

    `id` (lens,), `name` (13,) of the numbers, `draws` (lens, draw, 13) and `weight`
    (lens, draw), whose sum is one; NaN and 0 for cutouts without a model.
    """
    width = len(inference.NAMES)
    most = max((len(r.draws) for r in rows if r.draws is not None), default=0)
    draws = np.full((len(rows), most, width), np.nan, np.float32)
    weight = np.zeros((len(rows), most), np.float32)
    for k, row in enumerate(rows):
        if row.draws is not None:
            n = len(row.draws)
            draws[k, :n], weight[k, :n] = row.draws[:, :width], row.draws[:, width]
    names = np.array(inference.NAMES)
    arrays = {
        "id": np.array(list(ids)),
        "name": names,
        "draws": draws,
        "weight": weight,
    }
    atomic.write(path, lambda file: np.savez_compressed(file, **arrays))
