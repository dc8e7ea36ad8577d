"""Catalogues that `lensjax ingest` made: in memory, or record by record.

`read` is for catalogues that fit into memory; of `stream`'s, the lens galaxies' stamps
and PSFs stay on the disk, and `prefetch` reads them ahead.  Records are read at random
by grain from tensorflow-datasets' array_record; TensorFlow is not needed.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from lensjax.catalogue import Catalogue, Lenses, Listing, Sources, ingest, schema
from lensjax.catalogue.archives import LENSES, SOURCES
from lensjax.storage import parquet, sealed
from lensjax.survey import Survey

BATCH = 64  # records that one thread reads at a time
THREADS = 4
AHEAD = 8  # batches that are read before they are asked for


def is_ingested(folder: str | Path) -> bool:
    """Whether a folder is of `lensjax ingest`, be it finished or not."""
    return any((Path(folder) / name).exists() for name in (ingest.SUMMARY, ingest.WORK))


def check(folder: str | Path, source_folder: str | Path | None = None) -> None:
    """Raise ValueError unless the folders are a catalogue; reads no stamps."""
    summary_of(folder, (LENSES,))
    summary_of(source_folder or folder, (SOURCES,))


def summary_of(folder: str | Path, halves: Sequence[str] = ()) -> dict[str, Any]:
    """The summary of a finished ingestion, files having the sizes that it names.

    Raises ValueError, with the remedy, where a file or one of `halves` is missing.
    """
    folder = Path(folder)
    remedy = "run the same `lensjax ingest` again"
    if not is_ingested(folder):
        raise ValueError(f"{folder} is no catalogue that `lensjax ingest` has made")
    try:
        summary = json.loads((folder / ingest.SUMMARY).read_bytes())
        files = {folder / k: v["bytes"] for k, v in summary["files"].items()}
        kept = {half: summary[half]["kept"] for half in halves if half in summary}
    except FileNotFoundError:
        raise ValueError(f"{folder} is not finished: {remedy}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        path = folder / ingest.SUMMARY
        text = f"{path} is damaged ({error!r}): {remedy}, overwriting it"
        raise ValueError(text) from error
    for half in halves:
        if half not in kept:
            raise ValueError(
                f"{folder} has no {half}: run `lensjax ingest` with "
                f"{_ARCHIVES[half]}, too, overwriting it"
            )
        if not kept[half]:
            why = f"none was kept, see {folder / ingest.REJECTED}"
            raise ValueError(f"{folder} has no {half}: {why}")
    for path, size in files.items():
        have = path.stat().st_size if path.is_file() else None
        if have != size:
            words = "is missing" if have is None else f"has {have} of {size} bytes"
            raise ValueError(f"{path} {words}: {remedy}, overwriting it")
    return summary


_ARCHIVES = {LENSES: "lenses", SOURCES: "mosaics and redshifts"}


def verify(folder: str | Path) -> None:
    """Raise ValueError, naming the file, where a byte has changed; reads all."""
    for name, entry in summary_of(folder)["files"].items():
        if sealed.digest(Path(folder) / name) != entry:
            raise ValueError(
                f"{Path(folder) / name} is damaged: its SHA-256 has changed; copy it "
                "again, or run the same `lensjax ingest`, overwriting it"
            )


def read(
    folder: str | Path,
    survey: Survey,
    room: int | None = None,
    source_folder: str | Path | None = None,
) -> tuple[Catalogue, Listing]:
    """The catalogue of a folder, all of it as device arrays.

    Lens cutouts keep `room` pixels on each side beyond the survey's, without it all
    that are stored.  Sources come from another ingested folder if that is named.
    Raises ValueError, with the remedy, where a folder is not whole, of another survey,
    or has less room.
    """
    catalogue, listing = stream(folder, survey, room, source_folder)
    lazy = (catalogue.lenses.image, catalogue.psfs)
    image, psfs = map(jax.device_put, _filled(lazy, np.arange(len(lazy[0]))))
    lenses = catalogue.lenses._replace(image=image)
    return catalogue._replace(lenses=lenses, psfs=psfs), listing


def stream(
    folder: str | Path,
    survey: Survey,
    room: int | None = None,
    source_folder: str | Path | None = None,
) -> tuple[Catalogue, Listing]:
    """The same, but the lens galaxies' stamps and the PSFs stay on the disk.

    These two fields are `Stamps`, no arrays: take what is needed out of them before a
    catalogue enters jit.
    """
    folder, other = Path(folder), Path(source_folder or folder)
    made = _checked(folder, LENSES, survey), _checked(other, SOURCES, survey)
    margin = made[0]["plan"][LENSES]["margin"]
    if room is not None and room > margin:
        raise ValueError(
            f"{folder} has {margin} pixels of room around its cutouts, not {room}: run "
            f"`lensjax ingest` with a margin of {room}, overwriting it"
        )
    lens_id, numbers = _table(folder, LENSES, survey)
    source = _source(folder, LENSES)
    lenses = Lenses(
        image=Stamps(source, "image", margin - (margin if room is None else room)),
        psf=jnp.arange(len(lens_id), dtype=jnp.int32),
        weight=jnp.ones(len(lens_id), jnp.float32),
        **{name: numbers[name] for name in Lenses._fields if name in numbers},
    )
    source_id, numbers = _table(other, SOURCES, survey)
    sources = Sources(
        image=jax.device_put(Stamps(_source(other, SOURCES), "image")[:]),
        flux=jnp.ones((len(source_id), len(survey.bands)), jnp.float32),
        z=numbers["z"],
        mag=numbers["mag"],
    )
    listing = Listing(
        lens_id,
        source_id,
        source_pixel_scale=made[1]["plan"][SOURCES]["pixel_scale"],
        origin=str(folder.resolve()),
        fingerprint=_fingerprint(*made),
        notes=tuple(ingest.describe(made[0])),
    )
    return Catalogue(lenses, sources, Stamps(source, "psf")), listing


def _checked(folder: Path, half: str, survey: Survey) -> dict[str, Any]:
    """The summary of a folder that has this half for this survey."""
    summary = summary_of(folder, (half,))
    made = summary["plan"]["survey"]
    for name in ("bands", "pixel_scale", "zero_point", "image_size"):
        have, want = made[name], json.loads(json.dumps(getattr(survey, name)))
        if have != want:
            raise ValueError(
                f"{folder} was made for {made['name']}, whose {name} is {have}, not "
                f"{want}: take survey={made['name']}, or plain cutouts of {survey.name}"
            )
    return summary


def _fingerprint(*summaries: dict[str, Any]) -> str:
    """That of the stored files, of one folder or two."""
    found = dict.fromkeys(summary["fingerprint"] for summary in summaries)
    if len(found) == 1:
        return next(iter(found))
    return hashlib.sha256(" ".join(found).encode()).hexdigest()


class Stamps:
    """Stamps on the disk, as much like an array (N, n, n, band) as is needed.

    `stamps[indices]` reads just those: a number, a slice or an array, as in numpy.  Of
    each side `edge` pixels are cut off.
    """

    def __init__(self, source: Any, name: str, edge: int = 0):
        self.source, self.name, self.edge = source, name, edge
        feature = source.dataset_info.features[name]
        ny, nx, *bands = feature.shape
        self.shape = (len(source), ny - 2 * edge, nx - 2 * edge, *bands)
        self.dtype = np.dtype(feature.np_dtype)

    def __len__(self) -> int:
        """N."""
        return self.shape[0]

    def __getitem__(self, indices: ArrayLike | slice) -> np.ndarray:
        """Those stamps, in that order."""
        rows = _rows(self, indices)
        (out,) = _filled((self,), rows.ravel())
        return out.reshape(rows.shape + self.shape[1:])


def prefetch(
    stamps: Stamps | Sequence[Stamps], batches: Sequence[ArrayLike]
) -> Iterator[Any]:
    """The stamps of each batch of indices, in order, read ahead by threads.

    Of several `Stamps` of one dataset a tuple comes, each record being read once.
    """
    import grain  # not before it is needed

    several = (stamps,) if isinstance(stamps, Stamps) else tuple(stamps)
    data = grain.MapDataset.source(_Batches(several, batches))
    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=AHEAD)
    for arrays in data.to_iter_dataset(options):
        yield arrays[0] if isinstance(stamps, Stamps) else arrays


class _Batches:
    """Batches of stamps as grain asks for them, by their numbers."""

    def __init__(self, stamps: tuple[Stamps, ...], batches: Sequence[ArrayLike]):
        self.stamps, self.batches = stamps, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> tuple[np.ndarray, ...]:
        source = self.stamps[0].source
        rows = _rows(self.stamps[0], self.batches[number])
        try:
            records = source.__getitems__(rows.tolist())
        except RuntimeError as error:  # array_record knows its sums, but not its name
            raise ValueError(
                f"{source.dataset_info.data_dir} is damaged ({error}): copy it again, "
                "or run the same `lensjax ingest`, overwriting it"
            ) from error
        arrays = []
        for one in self.stamps:
            out = np.empty((len(rows), *one.shape[1:]), one.dtype)
            for k, record in enumerate(records):
                stamp = record[one.name]
                edge, (ny, nx) = one.edge, stamp.shape[:2]
                out[k] = stamp[edge : ny - edge, edge : nx - edge]
            arrays.append(out)
        return tuple(arrays)


def _rows(stamps: Stamps, indices: ArrayLike | slice) -> np.ndarray:
    """Numbers of records, none of them negative; IndexError where there is no such."""
    at = indices
    if not isinstance(at, slice):
        at = np.asarray(at)
        at = at if at.size else at.astype(int)  # of an empty list numpy makes floats
    return np.asarray(np.arange(len(stamps))[at])


def _filled(stamps: tuple[Stamps, ...], rows: np.ndarray) -> list[np.ndarray]:
    """The stamps of many rows, in arrays that are made once."""
    arrays = [_empty((len(rows), *one.shape[1:]), one.dtype) for one in stamps]
    batches = [rows[k : k + BATCH] for k in range(0, len(rows), BATCH)]
    few = len(batches) < 2  # not worth threads
    pieces = map(_Batches(stamps, batches).__getitem__, range(len(batches)))
    start = 0
    for piece in pieces if few else prefetch(stamps, batches):
        for array, part in zip(arrays, piece, strict=True):
            array[start : start + len(part)] = part
        start += len(piece[0])
    return arrays


def _empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """As np.empty, at an address from which jax.device_put on a CPU need not copy."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def _source(folder: Path, half: str) -> Any:
    """Random access to the records of one half."""
    import tensorflow_datasets as tfds

    path = folder / half / ingest.VERSION
    return tfds.builder_from_directory(path).as_data_source("train")


def _table(folder: Path, half: str, survey: Survey) -> tuple[tuple[str, ...], dict]:
    """Ids, and numbers by their fields' names, as device arrays in float32."""
    table = parquet.read(folder / f"{half}.parquet")
    numbers = schema.from_table(ingest.FIELDS[half], table, survey.bands)
    arrays = {name: jnp.asarray(a, jnp.float32) for name, a in numbers.items()}
    return tuple(map(str, table["id"])), arrays
