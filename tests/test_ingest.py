"""From archives to a catalogue: galaxies all counted, kills survived, bits the same."""

import csv
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import hsc_archive
import hudf_mosaic
import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from astropy.table import Table

from lensjax import catalogue
from lensjax.catalogue import archives, hsc, hudf, ingest, sdss, selection, tfds_builder
from lensjax.commands import config, progress
from lensjax.commands import ingest as command
from lensjax.commands.config import ConfigError, IngestConfig
from lensjax.storage import chunks, parquet, sealed
from lensjax.survey import HSC

LENSES, SOURCES = archives.LENSES, archives.SOURCES


class Archive(NamedTuple):
    """What a user has, and the command's settings for it."""

    folder: Path
    settings: IngestConfig
    targets: list[hsc_archive.Target]


def build(folder):
    """Nine lens galaxies: one truncated, one without a PSF, one without a spectrum, one
    a second cutout of another; 4 + 4 sources that can be used.
    """
    first, second = (folder / "hsc" / name for name in ("0001", "0002"))
    targets = hsc_archive.build(first, n=8, seed=3, side=120)
    hsc_archive.spectra(folder / "sdss.csv", targets[:7])
    for path in first.rglob("*.fits"):  # the first galaxy is in another list, too
        if 2 <= int(path.name.split("-")[0]) <= 5:
            copy = second / path.relative_to(first)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    (truncated,) = first.rglob("6-cutout-*")
    truncated.write_bytes(truncated.read_bytes()[:20_000])
    (missing,) = first.rglob("12-psf-*")
    missing.unlink()
    hudf_mosaic.build(folder / "hudf", n_galaxies=4, size=600)
    settings = IngestConfig(
        lenses=str(folder / "hsc"),
        sdss=str(folder / "sdss.csv"),
        mosaics=str(folder / "hudf"),
        redshifts=str(folder / "hudf/redshifts.csv"),
        workers=1,
    )
    return Archive(folder, settings, targets)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return build(tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def whole(archive):
    """The archive ingested without a break, and what was said."""
    out, said = archive.folder / "whole", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "say", said.append)
        assert command.run(replace(archive.settings, out=str(out))) == 0
    return out, said


@pytest.fixture(scope="module")
def only_lenses(archive):
    """The same without sources: the settings, and what came out."""
    out = archive.folder / "lenses_alone"
    settings = replace(archive.settings, mosaics=None, redshifts=None)
    assert command.run(replace(settings, out=str(out))) == 0
    return settings, out


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of a few objects, so that there are many."""
    monkeypatch.setattr(archives, "LENS_PART", 2)
    monkeypatch.setattr(archives, "SOURCE_PART", 4)


@pytest.fixture(scope="module")
def remembered(archive):
    """What comes of each object, so that it need not be read again and again."""
    found = {}
    for half in command.look(archive.settings):
        for name, item in zip(half.task.names, half.task.items, strict=True):
            found[half.name, name] = half.task.read(item)
    return found


@pytest.fixture
def quick(remembered, monkeypatch, small_parts):
    """Nothing is read from the archive."""
    look = command.look

    def halves(settings):
        for half in look(settings):
            items = [remembered[half.name, name] for name in half.task.names]
            task = half.task._replace(items=items, read=lambda found: found)
            yield half._replace(task=task)

    monkeypatch.setattr(command, "look", lambda settings: list(halves(settings)))


def digests(folder):
    """SHA-256 of everything below a folder, by path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def lines(out):
    with (out / ingest.REJECTED).open(newline="") as file:
        return list(csv.DictReader(file))


def records(out, half):
    builder = tfds.builder_from_directory(out / half / ingest.VERSION)
    return list(builder.as_data_source("train"))


# What comes out


def test_every_galaxy_is_counted_once(archive, whole):
    out, said = whole
    summary = json.loads((out / ingest.SUMMARY).read_bytes())
    assert summary[LENSES] == {
        "found": 9,
        "kept": 5,
        "refused": {"missing_psf": 1, "truncated": 1},
        "unmatched": 1,
        "duplicates": 1,
        "warnings": {},
    }
    counts = summary[SOURCES]
    assert counts["found"] == 15 and counts["kept"] == 8
    assert counts["refused"]["confidence below 2, or unknown"] == 1
    for half in (LENSES, SOURCES):
        counts = summary[half]
        left = sum(counts["refused"].values())
        left += counts["unmatched"] + counts["duplicates"]
        assert counts["found"] == counts["kept"] + left
        assert len(records(out, half)) == counts["kept"]
        # rows of a table that are no objects have no line
        named = [line["name"] for line in lines(out) if line["half"] == half]
        objects = {line["name"] for line in lines(out) if line["kept"] == "no"}
        assert len(objects & {*named}) == left - (3 if half == SOURCES else 0)
    text = "\n".join(said)
    assert "9 found = 5 kept + 2 refused + 1 without a match + 1 duplicate" in text
    assert "1 missing_psf; 1 truncated" in text


def test_what_was_left_out_is_listed_with_file_flag_and_reason(whole):
    found = {line["flag"]: line for line in lines(whole[0])}
    assert found["truncated"]["name"].endswith("/6")
    assert found["truncated"]["files"].startswith("0001/cutout/arch-230401-120000/6-")
    assert found["truncated"]["kept"] == "no" and found["saturated"]["kept"] == "yes"
    assert found["duplicate"]["name"].startswith("0002/")  # the first by name stays
    assert "0001/" in found["duplicate"]["message"]
    assert found["saturated"]["half"] == SOURCES


def test_what_is_stored_is_what_was_read_bit_for_bit(archive, whole):
    spectra = Table.read(archive.settings.sdss, converters={"specObjID": str})
    table = {str(row["specObjID"]): row for row in spectra}
    files = {f.name.split("/")[-1]: f for f in hsc.find(archive.folder / "hsc/0001")}
    kept = records(whole[0], LENSES)
    assert [r["id"] for r in kept] == sorted(r["id"] for r in kept)
    lines_ = {str(spectra["specObjID"][k]): archive.targets[k].line for k in range(7)}
    for record in kept:
        id_ = record["id"].decode()
        one = files[str(lines_[id_])]
        galaxy = hsc.read(one, HSC, 4)
        for name in ("image", "psf", "background", "ra", "dec"):
            np.testing.assert_array_equal(record[name], getattr(galaxy, name))
        assert record["image"].shape == (72, 72, 4) and record["flags"] == b""
        assert record["z"] == np.float32(table[id_]["z"])
        assert record["vdisp"] == np.float32(table[id_]["velDisp"])


def test_the_light_is_measured_as_the_catalogue_does(whole):
    measure = jax.jit(lambda image, psf: catalogue.measure(image, psf, HSC))
    for record in records(whole[0], LENSES):
        expected = measure(record["image"], record["psf"])
        for name in ("mag", "flux", "x", "y", "ex", "ey"):
            np.testing.assert_allclose(
                record[name], expected[name], rtol=1e-3, atol=1e-4
            )
        assert 17 < record["mag"][2] < 21.5


def test_sources_are_set_in_zeros_to_one_size(archive, whole):
    mosaics = hudf.open_mosaics(archive.settings.mosaics)
    known, _ = hudf.read_redshifts(archive.settings.redshifts)
    kept = records(whole[0], SOURCES)
    size = kept[0]["image"].shape[0]
    sizes = []
    for record in kept:
        row = list(known.id).index(record["id"].decode())
        galaxy = hudf.extract(mosaics, known, row, 27.0)
        edge = (size - galaxy.image.shape[0]) // 2
        framed = np.pad(galaxy.image, ((edge, edge), (edge, edge), (0, 0)))
        np.testing.assert_array_equal(record["image"], framed)
        assert record["z"] == np.float32(galaxy.z) and record["ra"] == galaxy.ra
        np.testing.assert_array_equal(record["mag"], np.float32(galaxy.mag))
        sizes.append(galaxy.image.shape[0])
    assert size == max(sizes) and size % 2 == 1 and min(sizes) < size


def test_the_table_beside_the_records_says_the_same(whole):
    for half in (LENSES, SOURCES):
        table = parquet.read(whole[0] / f"{half}.parquet")
        kept = records(whole[0], half)
        assert list(table["id"]) == [r["id"].decode() for r in kept]
        for name in ("z", "ra_deg", "dec_deg"):
            values = [r[name.removesuffix("_deg")] for r in kept]
            np.testing.assert_array_equal(table[name], values)
        np.testing.assert_array_equal(table["mag_i"], [r["mag"][2] for r in kept])
    assert str(table["ra_deg"].unit) == "deg"


def test_a_stamp_larger_than_ten_arcsec_is_cut_and_flagged(archive, monkeypatch):
    monkeypatch.setattr(archives, "LARGEST", 0.9)
    half = command.look(archive.settings)[1]
    found = archives.read_source(half.task.items[0], **half.task.read.keywords)
    assert found.stamps["image"].shape == (29, 29, 4) and "cropped" in found.flags
    assert "% of its light lies outside 0.9 arcsec" in found.flags["cropped"]


def test_tensorflow_is_not_needed(whole):
    assert records(whole[0], LENSES) and "tensorflow" not in sys.modules


# Ids


def test_without_spectra_ids_are_positions_and_redshifts_unknown(
    archive, quick, tmp_path
):
    settings = replace(
        archive.settings, sdss=None, mosaics=None, redshifts=None, out=str(tmp_path)
    )
    assert command.run(settings) == 0
    kept = records(tmp_path, LENSES)
    assert len(kept) == 6  # one more than with the table, the duplicate found again
    target = archive.targets[0]
    assert kept[0]["id"].decode() == archives.position(target.ra, target.dec)
    assert all(np.isnan([r["z"] for r in kept] + [r["vdisp"] for r in kept]))
    assert not (tmp_path / SOURCES).exists()


def test_names_of_places_are_cut_and_not_rounded():
    assert archives.position(150.1, 2.3) == "J100024.00+021800.0"
    assert archives.position(0.0, -0.5) == "J000000.00-003000.0"
    assert archives.position(359.99999, 89.99999) == "J235959.99+895959.9"
    assert archives.position(-0.1, -10.123456789) == "J235936.00-100724.4"
    assert archives.position(np.nan, np.nan) == ""


def test_a_galaxy_without_a_place_goes_by_its_files_name(archive):
    half = archives.lenses(archive.settings.lenses, None, HSC, 4)
    ids, _ = archives.identify(half, ["a/1"], np.array([np.nan]), np.array([np.nan]))
    assert ids == ["a/1"]


def test_spectra_of_headings_alone_match_no_galaxy(archive, tmp_path):
    table = tmp_path / "sdss.csv"
    table.write_text("specObjID,ra,dec,z,zErr,zWarning,velDisp,velDispErr\n")
    half = archives.lenses(archive.settings.lenses, str(table), HSC, 4)
    ids, numbers = archives.identify(half, ["a/1"], np.array([150.0]), np.array([2.0]))
    assert ids == [None] and np.isnan(numbers["z"]).all()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda ra, dec: (dec, ra), "ra and dec are swapped"),
        (lambda ra, dec: (ra / 15, dec), "ra is in hours: multiply it by 15"),
        (lambda ra, dec: (np.radians(ra), np.radians(dec)), "are in radians"),
        (lambda ra, dec: (ra, dec + 1 / 60), "the nearest is 60 arcsec off"),
    ],
)
def test_where_no_spectrum_matches_its_table_is_told_the_reason(tmp_path, wrong, words):
    ra, dec = np.array([40.0, 40.1, 40.2, np.nan]), np.array([2.0, 2.1, 2.2, 0.0])
    rows = np.transpose(wrong(ra[:3], dec[:3]))
    head = "specObjID,ra,dec,z,zErr,zWarning,velDisp,velDispErr"
    lines = [f"{k},{x:.9f},{y:.9f},.5,.001,0,250,10" for k, (x, y) in enumerate(rows)]
    (tmp_path / "sdss.csv").write_text("\n".join([head, *lines]))
    spectra, _ = sdss.read(tmp_path / "sdss.csv")
    assert (sdss.match(ra, dec, spectra) == -1).all()
    assert words in archives.why_unmatched(spectra, ra, dec)


def test_the_reason_why_no_spectrum_matches_is_said_at_the_end(
    archive, quick, tmp_path
):
    half = command.look(archive.settings)[0]
    half = half._replace(spectra=half.spectra._replace(ra=half.spectra.ra / 15))
    chosen = selection.choose(half, chunks.make(tmp_path, half.task))
    assert chosen.counts["kept"] == 0
    lines = ingest.describe({half.name: chosen.counts})
    assert "none has a spectrum: the table's ra is in hours" in lines[1]


def test_a_galaxy_that_cannot_be_measured_is_refused(archive, quick, tmp_path):
    half = command.look(archive.settings)[0]
    made = chunks.make(tmp_path, half.task)
    (first,) = (
        part for part in made if "0001/cutout/arch-230401-120000/2" in part.names
    )
    row = first.row[first.names.index("0001/cutout/arch-230401-120000/2")]
    first.numbers["ex"][row] = float("nan")
    chosen = selection.choose(half, made)
    assert chosen.counts["refused"]["unmeasured"] == 1
    assert chosen.counts["kept"] == 5  # the second cutout of it takes its place
    assert [line.flag for line in chosen.rejected].count("unmeasured") == 1


# Kills, damage and full disks


class Killed(BaseException):
    pass


def test_killed_anywhere_and_started_again_gives_the_same_bytes(
    archive, whole, quick, tmp_path, monkeypatch
):
    """Each run dies before another rename, as of SIGKILL: what it wrote stays."""
    settings = replace(archive.settings, out=str(tmp_path / "out"))
    rename, left = os.replace, []

    def mortal(*paths, **options):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        rename(*paths, **options)

    monkeypatch.setattr(os, "replace", mortal)
    deaths = []
    for attempt in range(200):
        left[:] = [attempt % 5]
        try:
            assert command.run(settings) == 0
            break
        except Killed:
            deaths.append(digests(tmp_path))
    # no run that died left what looks whole, and the last one left nothing else
    assert len(deaths) > 12
    assert not any(f"out/{ingest.SUMMARY}" in death for death in deaths)
    assert digests(tmp_path / "out") == digests(whole[0])


CHILD = """
import sys
from lensjax.commands import config, ingest
from lensjax.catalogue import archives

archives.LENS_PART, archives.SOURCE_PART = 2, 4
config.main("ingest", ingest.run)
"""


def started(settings, workers):
    """The command in a process group of its own."""
    arguments = [
        f"{name}={getattr(settings, name)}" for name in ("lenses", "sdss", "out")
    ]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments, f"workers={workers}"],
        cwd=Path(__file__).parents[1],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def wait_for(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.002)


def ended(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    "signum, status, workers",
    [(signal.SIGKILL, -9, 2), (signal.SIGTERM, 143, 1), (signal.SIGINT, 130, 2)],
)
def test_a_signal_to_the_process_ends_it_and_loses_nothing(
    archive, only_lenses, small_parts, tmp_path, signum, status, workers
):
    out = tmp_path / "out"
    settings = replace(only_lenses[0], out=str(out))
    process = started(settings, workers)
    try:
        wait_for((out / ingest.WORK / LENSES / "00001.json").exists)
        assert process.poll() is None
        before = time.monotonic()
        # a terminal sends SIGINT to all processes
        os.killpg(process.pid, signum) if signum == signal.SIGINT else os.kill(
            process.pid, signum
        )
        said, errors = process.communicate(timeout=30)
        assert time.monotonic() - before < 10  # one or two on a quiet machine
        assert process.returncode == status, errors
        if signum != signal.SIGKILL:
            assert "the same command goes on from there" in said and not errors
        wait_for(lambda: ended(process.pid), 10)  # nor do its readers stay
    finally:
        process.kill()
    assert not (out / ingest.SUMMARY).exists()
    if signum == signal.SIGKILL:  # in another process, too, the bytes are the same
        _, errors = started(settings, 1).communicate(timeout=120)
        assert not errors
    assert command.run(settings) == 0
    assert digests(out) == digests(only_lenses[1])


def begun(archive, out, monkeypatch):
    """An ingestion that was killed when all was read; its settings."""
    settings = replace(archive.settings, out=str(out))
    with monkeypatch.context() as patch:

        def killed(*_):
            raise Killed

        patch.setattr(ingest, "pack", killed)
        with pytest.raises(Killed):
            command.run(settings)
    return settings


def read_nothing(read, item):
    pytest.fail(f"{item} was read again")


def test_finished_parts_are_not_read_again(archive, quick, tmp_path, monkeypatch):
    settings = begun(archive, tmp_path, monkeypatch)
    monkeypatch.setattr(chunks, "_safely", read_nothing)
    assert command.run(settings) == 0


def test_what_a_kill_left_of_a_dataset_goes(
    archive, whole, quick, tmp_path, monkeypatch
):
    settings = begun(archive, tmp_path, monkeypatch)
    torn = tmp_path / ingest.WORK / "datasets" / LENSES / "incomplete.ABCDEF_1.0.0"
    torn.mkdir(parents=True)
    (torn / "lens_galaxies-train.array_record-00000-of-00001").write_bytes(b"torn")
    assert command.run(settings) == 0
    assert digests(tmp_path) == digests(whole[0])


@pytest.mark.parametrize("name", ["00001.npy", "00001.json"])
@pytest.mark.parametrize("damage", ["flipped", "short", "gone"])
def test_a_damaged_part_is_made_again(
    archive, whole, quick, tmp_path, monkeypatch, name, damage
):
    settings = begun(archive, tmp_path, monkeypatch)
    path = tmp_path / ingest.WORK / LENSES / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "short":
        content = content[:-1]
    path.write_bytes(content) if damage != "gone" else path.unlink()
    read, again = [], chunks._safely
    monkeypatch.setattr(
        chunks, "_safely", lambda read_, item: read.append(item) or again(read_, item)
    )
    assert command.run(settings) == 0
    assert len(read) == 2  # of that part alone
    assert digests(tmp_path) == digests(whole[0])


@pytest.mark.parametrize("of", ["part", "dataset"])
def test_a_full_disk_is_told_and_loses_no_part(
    archive, whole, quick, tmp_path, monkeypatch, capsys, of
):
    settings = replace(archive.settings, out=str(tmp_path))
    full = OSError(errno.ENOSPC, "No space left on device", "some/file")
    with monkeypatch.context() as patch:
        if of == "part":
            write, count = sealed.Hashed.write, []

            def refusing(file, data):
                count.append(1)
                if len(count) > 6:
                    raise full
                return write(file, data)

            patch.setattr(sealed.Hashed, "write", refusing)
        else:
            writer = "tensorflow_datasets.core.writer.ShardWriter.write"
            error = RuntimeError("write() failed: No space left on device; writing x")

            def failing(*_, **__):
                raise error

            patch.setattr(writer, failing)
        assert command.run(settings) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and errors.count("\n") == 1
    assert "No space left on device" in errors and "same command goes on" in errors
    assert (tmp_path / ingest.WORK / LENSES / "00000.json").exists()
    assert command.run(settings) == 0
    assert digests(tmp_path) == digests(whole[0])


def test_a_signal_while_records_are_written(archive, quick, tmp_path):
    half = command.look(archive.settings)[0]
    asked = ingest.plan([half], HSC)
    ingest.begin(tmp_path, asked, "new")
    chosen = selection.choose(half, chunks.make(tmp_path / "parts", half.task))

    def stop(done):
        if done == 3:
            raise command.Stopped(15)

    with pytest.raises(command.Stopped):
        ingest.pack(half, chosen, tmp_path, HSC, stop)
    assert not (tmp_path / LENSES).exists()
    ingest.pack(half, chosen, tmp_path, HSC)
    assert len(records(tmp_path, LENSES)) == 5


def test_files_that_vanish_while_others_are_read_are_a_flag(archive, tmp_path):
    folder = tmp_path / "hsc"
    shutil.copytree(archive.folder / "hsc/0001", folder)
    settings = replace(
        archive.settings, lenses=str(folder), mosaics=None, redshifts=None
    )
    half = command.look(settings)[0]
    next(folder.rglob("14-cutout-*")).unlink()
    made = chunks.make(tmp_path / "parts", half.task)
    counts = selection.choose(half, made).counts
    assert counts["refused"]["missing_file"] == 1 and counts["found"] == 8


def test_a_fault_that_nobody_thought_of_is_one_more_flag(archive, tmp_path):
    half = command.look(archive.settings)[0]

    def broken(item):
        raise ZeroDivisionError("in the archive's\nheader")

    made = chunks.make(tmp_path, half.task._replace(read=broken))
    chosen = selection.choose(half, made)
    assert chosen.counts["refused"] == {"failed": 9} and not chosen.ids
    assert chosen.rejected[0].message == "ZeroDivisionError: in the archive's header"


def test_nothing_that_can_be_used_is_a_valid_empty_catalogue(
    archive, small_parts, tmp_path
):
    folder, out = tmp_path / "hsc", tmp_path / "out"
    shutil.copytree(archive.folder / "hsc/0001", folder)
    for path in folder.rglob("*-psf-*"):
        path.write_text("<html>log in</html>")
    settings = IngestConfig(lenses=str(folder), out=str(out), workers=1)
    assert command.run(settings) == 0
    assert command.run(replace(settings, strict=True)) == 3
    table = parquet.read(out / f"{LENSES}.parquet")
    assert len(table) == 0 and "z" in table.colnames
    with pytest.raises(ConfigError, match="no lens_galaxies: none was kept, see"):
        config.DrawConfig(data=str(out), out="x").validate()


def test_many_shards_keep_the_order(archive, whole, quick, tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_builder, "SHARD", 250_000)  # bytes: two galaxies
    assert command.run(replace(archive.settings, out=str(tmp_path))) == 0
    folder = tmp_path / LENSES / ingest.VERSION
    assert len(list(folder.glob("*array_record*"))) == 3
    for one, other in zip(
        records(tmp_path, LENSES), records(whole[0], LENSES), strict=True
    ):
        np.testing.assert_equal(one, other)


# What is in a folder already


def test_a_finished_folder_is_left_alone(archive, whole, monkeypatch):
    said = []
    monkeypatch.setattr(progress, "say", said.append)
    monkeypatch.setattr(chunks, "make", None)  # to call it would fail
    before = digests(whole[0])
    settings = replace(archive.settings, out=str(whole[0]))
    assert command.run(settings) == 0
    assert command.run(replace(settings, strict=True)) == 3
    assert any("finished already: overwrite=true" in line for line in said)
    assert digests(whole[0]) == before


def test_another_ingestion_is_not_written_over(archive, quick, tmp_path, monkeypatch):
    settings = begun(archive, tmp_path, monkeypatch)
    other = replace(settings, margin=3)
    for stage in ("a part of other galaxies", "other galaxies"):
        with pytest.raises(ConfigError, match=f"holds {stage}.*overwrite=true"):
            command.run(other)
        assert command.run(settings) == 0
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / LENSES / "old").touch()
    assert command.run(replace(settings, mosaics=None, overwrite=True, sdss=None)) == 0
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (
        not (tmp_path / SOURCES).exists() and not (tmp_path / LENSES / "old").exists()
    )


def test_parts_of_another_ingestion_are_not_taken(
    archive, quick, tmp_path, monkeypatch
):
    settings = replace(begun(archive, tmp_path, monkeypatch), margin=3, overwrite=True)
    read, again = [], chunks._safely
    monkeypatch.setattr(
        chunks, "_safely", lambda read_, item: read.append(item) or again(read_, item)
    )
    assert command.run(settings) == 0
    assert len(read) == 9 + 12


def test_archives_that_change_in_between_are_told(
    archive, quick, tmp_path, monkeypatch
):
    settings = begun(archive, tmp_path / "out", monkeypatch)
    table = Table.read(settings.sdss)
    table["z"][0] += 0.001
    table.write(tmp_path / "sdss.csv")
    changed = replace(settings, sdss=str(tmp_path / "sdss.csv"))
    with pytest.raises(ConfigError, match="archives that have changed since"):
        command.run(changed)


def test_overwriting_that_was_killed_goes_on(
    archive, whole, quick, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    shutil.copytree(whole[0], out)
    settings = replace(archive.settings, out=str(out), overwrite=True)
    begun(replace_settings(archive, settings), out, monkeypatch)
    assert not (out / ingest.SUMMARY).exists() and not (out / LENSES).exists()
    monkeypatch.setattr(chunks, "_safely", read_nothing)
    assert command.run(settings) == 0
    assert digests(out) == digests(whole[0])


def replace_settings(archive, settings):
    return archive._replace(settings=settings)


def test_overwriting_that_was_killed_half_way_leaves_no_mixture(
    archive, quick, tmp_path, monkeypatch
):
    settings = replace(archive.settings, out=str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(ingest, "finish", None)  # killed when both datasets are there
        with pytest.raises(TypeError):
            command.run(settings)
    assert (tmp_path / LENSES).is_dir()

    def dying(path):
        next(path.rglob("*.json")).unlink()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", dying)
        with pytest.raises(Killed):
            command.run(replace(settings, margin=3, overwrite=True))
    with pytest.raises(ConfigError, match="a part of other galaxies"):
        command.run(settings)


def test_two_at_once_in_one_folder(archive, quick, tmp_path):
    from lensjax.storage import checkpoint

    settings = replace(archive.settings, out=str(tmp_path))
    (tmp_path / ingest.WORK).mkdir()
    with checkpoint.lock(tmp_path / ingest.WORK):
        with pytest.raises(ConfigError, match=f"in use by process {os.getpid()}.*out"):
            command.run(settings)


# Arguments


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["lens=x"], "no key 'lens': did you mean lenses"),
        (["out=x"], "nothing to read: give lenses="),
        (["lenses=."], "out is needed: give out="),
        (["lenses=/nowhere", "out=x"], "lenses: /nowhere is not there: give a folder"),
        (["sdss=.", "out=x"], "sdss needs lenses=..., too"),
        (["lenses=.", "sdss=.", "out=x"], "sdss: . is a folder: give a table"),
        (["mosaics=.", "out=x"], "mosaics needs redshifts=..., too"),
        (["redshifts=.", "out=x"], "redshifts needs mosaics=..., too"),
        (["positions=."], "positions needs upload_list=..., too"),
        (["upload_list=x"], "upload_list needs positions=..., too"),
        (["lenses=.", "positions=.", "upload_list=x"], "leave out lenses"),
        (["lenses=.", "out=x", "margin=-1"], "margin must be from 0 to 64"),
        (["lenses=.", "out=/dev/null/x", "workers=1.5"], "workers"),
        (["lenses=.", f"out={__file__}"], "is a file: give a folder"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(overrides, words):
    with pytest.raises(ConfigError, match=words) as caught:
        config.typed(config.compose("ingest", overrides), IngestConfig)
    assert "\n" not in str(caught.value)


def test_archives_that_cannot_be_used_at_all_are_named(archive, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "table.csv").write_text("specObjID,ra\n1,2\n")
    for changed, words in (
        ({"lenses": str(tmp_path / "empty")}, "lenses, sdss: .*holds no cutouts"),
        ({"sdss": str(tmp_path / "table.csv")}, "lenses, sdss: .*table.csv"),
        ({"mosaics": str(tmp_path / "empty")}, "mosaics, redshifts: .*empty"),
        ({"out": "/proc/out"}, "out: /proc/out: .*you may write to"),
    ):
        settings = replace(archive.settings, **{"out": str(tmp_path / "out")} | changed)
        with pytest.raises(ConfigError, match=words):
            command.run(settings)


def test_the_command_refuses_at_once_with_status_2():
    done = subprocess.run(
        [sys.executable, "-m", "experiments.ingest", "lenses=/nowhere", "out=x"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 2 and done.stderr.startswith("error: lenses: /nowhere")


def test_upload_lists_alone(archive, tmp_path, capsys):
    table = Table({"id": ["a", "b"], "ra": [150.0, 150.1], "dec": [2.0, 2.1]})
    table.write(tmp_path / "positions.csv")
    settings = IngestConfig(
        positions=str(tmp_path / "positions.csv"),
        upload_list=str(tmp_path / "lists"),
        rerun="pdr2_wide",
    )
    settings.validate()
    assert command.run(settings) == 0
    written = sorted((tmp_path / "lists").iterdir())
    assert len(written) == 2 and str(written[0]) in capsys.readouterr().out
    assert "pdr2_wide" in written[0].read_text()
    with pytest.raises(ConfigError, match="exists"):
        command.run(settings)
