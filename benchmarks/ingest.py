"""What an ingested catalogue costs: to make, on the disk, and to read back.

    python -m benchmarks.ingest --records 5000 --objects 120 [--out result.json]

Lens galaxies are made up in the sizes of HSC's (72 x 72 pixels, PSFs of 41 x 41, four
bands, with the noise that lets them be packed no better than real ones), and go the
way of `experiments.ingest` from the finished reading on; the reading itself is timed on
`--objects` cutouts of 40 arcsec as the archive gives them.  Every step runs in a
process of its own, whose peak memory is told.  Figures for the paper's 145,170 lens
galaxies are in proportion.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from lensjax.catalogue import archives, ingest, ingested, selection
from lensjax.catalogue.archives import LENSES, SOURCES, Half
from lensjax.storage import chunks
from lensjax.storage.chunks import Found, Task
from lensjax.survey import HSC

PAPER = 145_170  # lens galaxies
BATCH = 32


@cache
def stamps_of(number):
    """A made-up galaxy with HSC's noise, and a PSF."""
    rng = np.random.default_rng(number)
    y, x = np.indices((72, 72)) - 35.5 + rng.uniform(-1, 1, (2, 1, 1))
    light = np.exp(-np.hypot(x, y) / rng.uniform(3, 6))[..., None] * rng.uniform(1, 9)
    noise = np.array(HSC.sky_sigma) * rng.standard_normal((72, 72, 4))
    y, x = np.indices((41, 41, 1))[:2] - 20 + rng.uniform(-0.1, 0.1, (2, 1, 1, 1))
    psf = (1 + (x**2 + y**2) / rng.uniform(4, 9, 4)) ** -3.0
    return {
        "image": np.float32(light + noise),
        "psf": np.float32(psf / psf.sum((0, 1))),
    }


def lens(number):
    """One of many lens galaxies, of which 64 are different."""
    place = {"ra": 1e-3 * number, "dec": 0.5, "background": np.array(HSC.sky_sigma)}
    return Found(stamps_of(number % 64), place, {})


@cache
def source(number):
    """A made-up galaxy on zeros."""
    rng = np.random.default_rng(number)
    y, x = np.indices((121, 121)) - 60
    light = np.exp(-np.hypot(x, y) / 8) * (np.hypot(x, y) < 40)
    stamp = np.float32(light[..., None] * rng.uniform(1, 3, 4))
    numbers = {"ra": 53.1, "dec": -27.8, "z": 2.0, "mag": np.full(4, 24.0), "snr": 30}
    return Found({"image": stamp}, numbers, {})


def halves(records):
    """The two halves of a made-up catalogue."""
    measure = partial(archives.measure_lenses, survey=HSC)
    made = []
    for name, count, read, measured, size in (
        (LENSES, records, lens, measure, archives.LENS_PART),
        (SOURCES, 64, source, archives.measure_sources, archives.SOURCE_PART),
    ):
        names = [f"{k:07}" for k in range(count)]
        task = Task(names, range(count), read, measured, size)
        facts = {"margin": 4} if name == LENSES else {"pixel_scale": 0.03}
        made.append(Half(name, task, [""] * count, None, {}, ("mag",), facts, []))
    return made


def make(out, records):
    """Time of each step of the way from stamps to a finished catalogue."""
    took, chosen, both = {}, {}, halves(records)
    asked = ingest.plan(both, HSC)
    (out / ingest.WORK).mkdir(parents=True)
    ingest.begin(out, asked, "new")
    for half in both:
        task = half.task
        task.measure([task.read(k) for k in range(64)])  # compiled, and remembered
        with timed(took, f"parts of {half.name}"):
            done = chunks.make(out / ingest.WORK / half.name, task)
        with timed(took, f"parts of {half.name} checked when resumed"):
            chunks.make(out / ingest.WORK / half.name, task)
        with timed(took, f"{half.name} chosen"):
            chosen[half.name] = selection.choose(half, done)
        with timed(took, f"{half.name} written"):
            ingest.pack(half, chosen[half.name], out, HSC)
    with timed(took, "checksums"):
        ingest.finish(out, asked, chosen)
    ingest.clean(out)
    return took


def read_cutouts(folder, workers, work):
    """Objects a second from the archive's files to finished parts."""
    half = archives.lenses(str(folder), None, HSC, 4)
    half.task.measure([lens(0)])  # compiled
    when = {}
    made = chunks.make(
        work,
        half.task,
        workers,
        lambda done: when.setdefault(done, time.perf_counter()),
    )
    assert all(row is not None for part in made for row in part.row)
    # from the first answers on: what processes take to start is not the rate
    first = 2 * chunks.CHUNK * workers
    return (max(when) - first) / (when[max(when)] - when[first])


def read_all(out):
    """Seconds to read the whole catalogue into memory."""
    began = time.perf_counter()
    catalogue, _ = ingested.read(out, HSC)
    catalogue.lenses.image.block_until_ready()
    return time.perf_counter() - began


def read_at_random(out, ahead):
    """Records a second in batches of 32 at random, images and PSFs; also the start."""
    began = time.perf_counter()
    catalogue, _ = ingested.stream(out, HSC)
    start = time.perf_counter() - began
    lazy = (catalogue.lenses.image, catalogue.psfs)
    rows = np.random.default_rng(0).permutation(len(lazy[0]))
    batches = np.array_split(rows, max(len(rows) // BATCH, 1))
    began = time.perf_counter()
    if ahead:
        count = sum(len(image) for image, _ in ingested.prefetch(lazy, batches))
    else:
        count = sum(len(lazy[0][b]) for b in batches if lazy[1][b] is not None)
    return count / (time.perf_counter() - began), start


@contextmanager
def timed(took, name):
    """Put the seconds that a block takes under a name."""
    began = time.perf_counter()
    yield
    took[name] = time.perf_counter() - began


def alone(task, *arguments):
    """What a task comes to in a process of its own, and its peak memory [MB]."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_measured, task, arguments).result()


def _measured(task, arguments):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = task(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return result, (peak - before) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=5000)
    parser.add_argument("--objects", type=int, default=120)
    parser.add_argument("--folder", help="where to write; default: a temporary one")
    parser.add_argument("--out", help="JSON of the result")
    asked = parser.parse_args()
    work = Path(tempfile.mkdtemp(dir=asked.folder))
    try:
        result = run(work, asked.records, asked.objects)
    finally:
        shutil.rmtree(work)
    text = json.dumps(result, indent=1)
    if asked.out:
        Path(asked.out).write_text(text + "\n")
    print(text)


def run(work, records, objects):
    scale = PAPER / records
    took, memory = alone(make, work / "made", records)
    size = sum(p.stat().st_size for p in (work / "made" / LENSES).rglob("*.*"))
    arrays = records * 4 * 4 * (72**2 + 41**2)  # bytes in memory
    in_memory, most = alone(read_all, work / "made")
    (one_by_one, _), _ = alone(read_at_random, work / "made", False)
    (ahead, start), least = alone(read_at_random, work / "made", True)
    rates = {}
    if objects:
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
        import hsc_archive  # the tests' made-up archive

        hsc_archive.build(work / "archive", n=objects)
        for workers in (1, 2):
            done, _ = alone(
                read_cutouts, work / "archive", workers, work / f"{workers}"
            )
            rates[f"{workers} processes"] = round(done, 1)
    written = took[f"{LENSES} written"]
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "versions": {
            name: metadata.version(name)
            for name in (
                "lensjax",
                "jax",
                "tensorflow-datasets",
                "grain",
                "array-record",
            )
        },
        "records": records,
        "bytes a lens galaxy, records": round(size / records),
        "reading the archive [objects/s]": rates,
        "seconds": {name: round(value, 2) for name, value in took.items()},
        "writing records [MB/s]": round(size / written / 1e6, 1),
        "writing records [galaxies/s]": round(records / written),
        "making: memory [MB]": round(memory),
        "read whole [galaxies/s]": round(records / in_memory),
        "read whole: memory [MB]": round(most),
        "read at random, without reading ahead [galaxies/s]": round(one_by_one),
        "read at random, ahead [galaxies/s]": round(ahead),
        "read at random: start [s]": round(start, 2),
        "read at random: memory [MB]": round(least),
        f"in proportion, {PAPER:,} lens galaxies": {
            "disk [GB]": round(size * scale / 1e9, 1),
            "disk while it is made [GB]": round((size + arrays) * scale / 1e9, 1),
            "writing [min]": round(written * scale / 60, 1),
            "checksums [min]": round(took["checksums"] * scale / 60, 1),
            "read whole [min]": round(in_memory * scale / 60, 1),
            "read whole: memory [GB]": round(
                (arrays * scale + most * 1e6 - arrays) / 1e9, 1
            ),
            "an epoch at random, ahead [min]": round(PAPER / ahead / 60, 1),
        },
    }


if __name__ == "__main__":
    main()
