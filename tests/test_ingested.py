"""Reading an ingested catalogue: in memory, from the disk, and what is refused."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from test_ingest import build

from lensjax.catalogue import ingest, ingested
from lensjax.catalogue.archives import LENSES
from lensjax.commands import config
from lensjax.commands import ingest as command
from lensjax.commands import sample as sample_command
from lensjax.commands.config import ConfigError, DrawConfig
from lensjax.storage import parquet
from lensjax.survey import DES, HSC


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An ingested archive, its settings, and what `read` gives."""
    folder = tmp_path_factory.mktemp("archive")
    settings = replace(build(folder).settings, out=str(folder / "out"))
    assert command.run(settings) == 0
    return folder / "out", settings, ingested.read(folder / "out", HSC)


@pytest.fixture
def folder(whole, tmp_path):
    """The same, to be broken."""
    return shutil.copytree(whole[0], tmp_path / "data")


def edit(folder, change):
    summary = json.loads((folder / ingest.SUMMARY).read_bytes())
    change(summary)
    (folder / ingest.SUMMARY).write_text(json.dumps(summary))


def array_record(folder, half=LENSES):
    (path,) = folder.glob(f"{half}/*/*array_record*")
    return path


def test_a_catalogue_is_what_the_records_hold(whole):
    folder, _, (catalogue, listing) = whole
    builder = tfds.builder_from_directory(folder / LENSES / ingest.VERSION)
    records = list(builder.as_data_source("train"))
    lenses = catalogue.lenses
    assert listing.lens_id == tuple(r["id"].decode() for r in records)
    assert lenses.image.shape == (5, 72, 72, 4) and catalogue.psfs.shape[0] == 5
    for k, record in enumerate(records):
        for name in set(lenses._fields) - {"psf", "weight", "parts"}:
            np.testing.assert_array_equal(getattr(lenses, name)[k], record[name])
        np.testing.assert_array_equal(catalogue.psfs[lenses.psf[k]], record["psf"])
    assert (np.asarray(lenses.weight) == 1).all()
    sources = catalogue.sources
    flux = np.asarray(sources.image).sum((1, 2)) * np.asarray(sources.flux)
    bright = np.isfinite(sources.mag).all(1) & (flux > 0).all(1)
    assert bright.sum() > 5
    np.testing.assert_allclose(
        27 - 2.5 * np.log10(flux[bright]), sources.mag[bright], atol=0.01
    )
    assert listing.source_pixel_scale == pytest.approx(0.03)
    assert any("9 found = 5 kept" in note for note in listing.notes)
    for leaf in jax.tree.leaves(catalogue):
        assert isinstance(leaf, jax.Array) and leaf.dtype in (np.float32, np.int32)


def test_from_the_disk_it_is_the_same_catalogue(whole):
    folder, _, (catalogue, listing) = whole
    lazy, listed = ingested.stream(folder, HSC)
    assert listed == listing
    assert isinstance(lazy.lenses.image, ingested.Stamps)
    for one, other in (
        (lazy.lenses.image, catalogue.lenses.image),
        (lazy.psfs, catalogue.psfs),
    ):
        assert one.shape == other.shape and one.dtype == other.dtype
        np.testing.assert_array_equal(one[:], other)
    small = lazy._replace(lenses=lazy.lenses._replace(image=None), psfs=None)
    for one, other in zip(
        jax.tree.leaves(small),
        jax.tree.leaves(
            catalogue._replace(lenses=catalogue.lenses._replace(image=None), psfs=None)
        ),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "indices",
    [2, -1, [3, 0, 3], [], slice(1, 4), slice(None, None, -2), [[0, 1], [4, 2]]]
    + [np.array([True, False, False, True, True])],
)
def test_stamps_are_indexed_as_an_array(whole, indices):
    lazy, _ = ingested.stream(whole[0], HSC)
    array = np.asarray(whole[2][0].lenses.image)
    at = indices if isinstance(indices, slice) else np.asarray(indices)
    expected = array[at.astype(int) if np.size(at) == 0 else at]
    got = lazy.lenses.image[indices]
    assert isinstance(got, np.ndarray) and got.shape == expected.shape
    np.testing.assert_array_equal(got, expected)


def test_many_stamps_are_read_by_threads_in_order(whole, monkeypatch):
    monkeypatch.setattr(ingested, "BATCH", 2)
    image = ingested.stream(whole[0], HSC)[0].lenses.image
    order = np.random.default_rng(0).integers(0, 5, 51)
    expected = np.asarray(whole[2][0].lenses.image)[order]
    np.testing.assert_array_equal(image[order], expected)


def test_batches_are_read_ahead_in_the_given_order(whole):
    lazy, _ = ingested.stream(whole[0], HSC)
    catalogue = whole[2][0]
    batches = [[4, 1], [0], [], [2, 2, -1]]
    images = list(ingested.prefetch(lazy.lenses.image, batches))
    assert [len(images_) for images_ in images] == [2, 1, 0, 3]
    pairs = list(ingested.prefetch((lazy.lenses.image, lazy.psfs), batches))
    for batch, image, (again, psf) in zip(batches, images, pairs, strict=True):
        at = np.array(batch, int)
        np.testing.assert_array_equal(image, np.asarray(catalogue.lenses.image)[at])
        np.testing.assert_array_equal(again, image)
        np.testing.assert_array_equal(psf, np.asarray(catalogue.psfs)[at])


def test_a_stamp_that_is_not_there_is_an_error(whole):
    image = ingested.stream(whole[0], HSC)[0].lenses.image
    with pytest.raises(IndexError, match="index 5 is out of bounds"):
        image[[0, 5]]
    with pytest.raises(IndexError, match="index 5 is out of bounds"):
        list(ingested.prefetch(image, [[0], [5]]))


def test_room_around_the_cutouts_is_what_was_asked_for(whole):
    folder, _, (catalogue, _) = whole
    image = np.asarray(catalogue.lenses.image)
    for room in (0, 3, 4):
        cut = slice(4 - room, 68 + room)
        for way in (ingested.read, ingested.stream):
            got = way(folder, HSC, room)[0].lenses.image
            assert got.shape == (5, 64 + 2 * room, 64 + 2 * room, 4)
            np.testing.assert_array_equal(np.asarray(got[:]), image[:, cut, cut])
    with pytest.raises(ValueError, match="4 pixels of room .* not 5.*margin of 5"):
        ingested.read(folder, HSC, 5)


def test_sources_may_come_from_another_folder(whole, tmp_path):
    folder, settings, (catalogue, listing) = whole
    halves = {
        "lenses": replace(settings, mosaics=None, redshifts=None),
        "sources": replace(settings, lenses=None, sdss=None),
    }
    for name, half in halves.items():
        assert command.run(replace(half, out=str(tmp_path / name))) == 0
    with pytest.raises(ValueError, match="no source_galaxies: run .*and redshi"):
        ingested.read(tmp_path / "lenses", HSC)
    with pytest.raises(ValueError, match="no lens_galaxies: run .*lenses, too"):
        ingested.read(tmp_path / "sources", HSC)
    ingested.check(tmp_path / "lenses", tmp_path / "sources")
    both, listed = ingested.read(tmp_path / "lenses", HSC, None, tmp_path / "sources")
    for one, other in zip(
        jax.tree.leaves(both), jax.tree.leaves(catalogue), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert listed.source_id == listing.source_id
    other = ingested.stream(tmp_path / "lenses", HSC, None, folder)[1].fingerprint
    assert len({listed.fingerprint, listing.fingerprint, other}) == 3


def test_the_fingerprint_is_of_the_galaxies(whole, folder, tmp_path):
    settings = replace(whole[1], out=str(tmp_path / "other"), sdss=None)
    assert command.run(settings) == 0
    fingerprints = [
        ingested.stream(path, HSC)[1].fingerprint
        for path in (whole[0], folder, tmp_path / "other")
    ]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


# What is refused


def test_a_damaged_file_is_named(folder):
    ingested.verify(folder)
    path = array_record(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    ingested.check(folder)  # of the right size
    with pytest.raises(ValueError, match="lens_galaxies/1.0.0 is damaged .*copy it"):
        ingested.read(folder, HSC)
    with pytest.raises(ValueError, match=f"{path.name} is damaged"):
        ingested.verify(folder)
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=f"{path.name} has .* overwriting it"):
        ingested.check(folder)
    path.unlink()
    with pytest.raises(ValueError, match=f"{path.name} is missing"):
        ingested.read(folder, HSC)


def test_what_is_not_finished_is_told(folder):
    (folder / ingest.SUMMARY).rename(folder / "elsewhere")
    assert not ingested.is_ingested(folder)
    with pytest.raises(ValueError, match="is no catalogue that `lensjax ingest"):
        ingested.check(folder)
    (folder / ingest.WORK).mkdir()
    assert ingested.is_ingested(folder)
    with pytest.raises(ConfigError, match="data: .* is not finished: run the same"):
        DrawConfig(data=str(folder), out="x").validate()


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"files": 3}'])
def test_a_damaged_summary_is_named(folder, text):
    (folder / ingest.SUMMARY).write_text(text)
    with pytest.raises(ValueError, match="ingest.json is damaged .*overwriting it"):
        ingested.check(folder)


def test_galaxies_of_another_survey_are_refused(whole):
    with pytest.raises(ValueError, match="made for HSC, whose pixel_scale is 0.168"):
        ingested.read(whole[0], DES)


# Use


def test_mocks_are_made_of_an_ingested_catalogue(whole, tmp_path):
    """Two commands from archives to a sample."""
    settings = DrawConfig(
        data=str(whole[0]), size=8, out=str(tmp_path), dither=2, rotate=True
    )
    settings.validate()
    assert sample_command.run(settings) == 0
    table = parquet.read(tmp_path / "systems.parquet")
    listing = whole[2][1]
    assert len(table) == 8 and set(table["lens_id"]) <= set(listing.lens_id)
    assert set(table["source_id"]) <= set(listing.source_id)
    facts = table.meta["provenance"]["catalogue"]
    assert facts["fingerprint"] == listing.fingerprint
    with pytest.raises(ConfigError, match="margin of 9"):
        sample_command.catalogue_of(replace(settings, dither=9))


def test_nothing_heavy_is_loaded_before_it_is_needed(whole):
    code = (
        "import sys\n"
        "from lensjax.catalogue import ingested\n"
        "from lensjax.survey import HSC\n"
        f"assert ingested.is_ingested({str(whole[0])!r})\n"
        "assert not {'tensorflow_datasets', 'grain'} & {*sys.modules}\n"
        f"catalogue, _ = ingested.stream({str(whole[0])!r}, HSC)\n"
        "assert 'grain' not in sys.modules\n"
        "assert len(list(ingested.prefetch(catalogue.psfs, [[0], [1]]))) == 2\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_the_schema_is_known_to_the_command_line():
    assert config.SCHEMAS["ingest"] is config.IngestConfig
    assert "lenses" in config.usage("ingest")
