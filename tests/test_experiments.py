"""The commands end to end: a run stops, resumes and repeats exactly; predictions."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.io import fits
from test_cutouts import extensions, galaxy, save
from test_train import systems_of

from lensjax.catalogue import Catalogue, Lenses, Listing, Sources
from lensjax.commands import config, job, progress, resolve
from lensjax.commands import evaluate as evaluate_command
from lensjax.commands import predict as predict_command
from lensjax.commands import sample as sample_command
from lensjax.commands import train as train_command
from lensjax.commands.config import (
    ConfigError,
    DrawConfig,
    EvaluateConfig,
    PredictConfig,
    TrainConfig,
)
from lensjax.commands.signals import Stopped, stop_on_signals
from lensjax.learning import dataset, loop, paper_cnn
from lensjax.learning.dataset import Data
from lensjax.learning.loader import FromDisk, InMemory
from lensjax.mocks import system
from lensjax.mocks.sample import Sample
from lensjax.storage import checkpoint, parquet
from lensjax.storage.checkpoint import CheckpointError

TINY = TrainConfig(
    fold=3,
    size=60,
    n_lenses=20,
    n_sources=20,
    epochs=3,
    batch_size=8,
    seed=3,
    optimizer="sgd",
    learning_rate=0.01,
    average=0.9,
)


def galaxies():
    """Round lenses and sources in an instant; the population takes its time."""
    rng, n = np.random.default_rng(5), 20
    y, x = np.indices((64, 64)) - 31.5
    flux = rng.uniform(5, 30, (n, 1, 1, 1)) * np.array([0.3, 1.0, 2.0, 2.5])
    image = np.exp(-np.hypot(x, y) / 4)[None, :, :, None] * flux
    image += 0.05 * rng.normal(size=image.shape)
    numbers = {
        "z": rng.uniform(0.3, 0.7, n),
        "vdisp": rng.uniform(150, 300, n),
        "mag": 27 - 2.5 * np.log10(image.sum((1, 2))),
        "flux": image.sum((1, 2)),
        "background": np.full((n, 4), 0.05),
        **{name: rng.uniform(-0.1, 0.1, n) for name in ("x", "y", "ex", "ey")},
        "weight": np.ones(n),
    }
    which = jnp.zeros(n, jnp.int32)
    lenses = Lenses(
        jnp.asarray(image, jnp.float32),
        which,
        **{name: jnp.asarray(value, jnp.float32) for name, value in numbers.items()},
    )

    def blob(size, width):
        y, x = np.indices((size, size)) - (size - 1) / 2
        blob = np.exp(-(x**2 + y**2) / (2 * width**2))
        return jnp.asarray(blob / blob.sum(), jnp.float32)

    stamps = jnp.tile(blob(41, 7.0)[None, ..., None], (n, 1, 1, 1))
    flux = jnp.asarray(rng.uniform(5, 20, (n, 4)), jnp.float32)
    sources = Sources(stamps, flux, jnp.full(n, 2.0), 27 - 2.5 * jnp.log10(flux))
    psfs = jnp.tile(blob(13, 1.6)[None, ..., None], (1, 1, 1, 4))
    names = [tuple(f"{kind}-{i}" for i in range(n)) for kind in ("lens", "source")]
    listing = Listing(*names, 0.03, "made up", "a fingerprint")
    systems = jax.tree.map(np.asarray, systems_of(TINY.size, n, n))
    return (
        Catalogue(lenses, sources, psfs),
        listing,
        Sample(systems, {"accepted": 60}, np.ones(TINY.size, np.float32)),
    )


def draw_nothing(patch):
    """Give the commands these galaxies and this sample."""
    catalogue, listing, sample = galaxies()
    for module in (train_command, sample_command):
        patch.setattr(module, "catalogue_of", lambda _: (catalogue, listing))
        patch.setattr(module, "sample_of", lambda *_: sample)


class Run(NamedTuple):
    folder: Path
    job: job.Job
    loader: InMemory
    said: str


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The main job, once."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    caught, said = [], []
    names = ("prepare", "loader_of")

    def seen(function, *arguments):
        caught.append(function(*arguments))
        return caught[-1]

    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        for name in names:
            original = getattr(train_command, name)
            patch.setattr(train_command, name, partial(seen, original))
        patch.setattr(progress, "say", said.append)
        assert train_command.run(replace(TINY, run_dir=str(folder))) == 0
    return Run(folder, *caught, "\n".join(said))


def started(code, **options):
    """Python code in a process of its own, with the tests' settings of JAX."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def plan(job, **settings):
    """A tiny run's plan with other settings."""
    return resolve.plan_of(replace(TINY, **settings), job.listing)


def again(run, folder, loader=None, interrupt=None, **settings):
    """Train as `run` did in another folder; `interrupt` is called with images done."""
    folder.mkdir(exist_ok=True)
    own = run.job._replace(run_dir=folder, plan=plan(run.job, **settings))
    with pytest.MonkeyPatch.context() as patch:
        if interrupt:
            patch.setattr(progress, "track", tracked(interrupt))
        with stop_on_signals() as signals:
            stage = job.cross_validation(own)
            return job.trained(stage, loader or run.loader, signals)


def tracked(interrupt):
    class Track:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return lambda done, *_: interrupt(done)

        def __exit__(self, *_):
            return False

    return Track


def losses(folder):
    """metrics.jsonl without the clock's part."""
    text = (folder / "metrics.jsonl").read_text()
    records = [json.loads(line, parse_constant=no_json) for line in text.splitlines()]
    for record in records:
        assert record.pop("images_per_second") >= 0
    return records


def no_json(name):
    raise AssertionError(f"{name} is no JSON")


def assert_same_bits(one, two):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.fixture(scope="module")
def uninterrupted(tiny, tmp_path_factory):
    """The state that the tiny run ended with, and its losses, made again."""
    folder = tmp_path_factory.mktemp("again")
    return again(tiny, folder), losses(folder)


# The main job


def test_a_run_leaves_what_the_contract_says(tiny):
    assert config.from_yaml(tiny.folder / "config.yaml", TrainConfig) == replace(
        TINY, run_dir=str(tiny.folder)
    )
    records = losses(tiny.folder)
    assert [(r["fold"], r["epoch"]) for r in records] == [(3, 1), (3, 2), (3, 3)]
    assert all(np.isfinite([r["train_loss"], r["val_loss"]]).all() for r in records)
    summary = json.loads(
        (tiny.folder / "summary.json").read_text(), parse_constant=no_json
    )
    best = min(records, key=lambda r: r["val_loss"])
    assert summary["best_epoch"] == [best["epoch"]] and summary["diverged"] == []
    assert summary["best_val_loss"] == [pytest.approx(best["val_loss"])]
    assert list(summary["merits"]) == ["network", "light only", "prior mean"]
    assert summary["merits"]["prior mean"]["theta_E"]["r2"] <= 0
    facts = json.loads((tiny.folder / "provenance.json").read_text())
    assert facts["catalogue"]["fingerprint"] == tiny.job.listing.fingerprint
    assert len(parquet.read(tiny.folder / "systems.parquet")) == 60
    for name in ("mocks", "losses", "predictions"):
        assert (tiny.folder / f"{name}.png").stat().st_size > 10_000
    assert "best epoch" in tiny.said and str(tiny.folder / "mocks.png") in tiny.said


def test_a_run_of_one_fold_has_a_report_too(tiny):
    """Beside itself: two runs of one name are two runs."""
    settings = EvaluateConfig(str(tiny.folder), beside=(str(tiny.folder),))
    assert evaluate_command.run(settings) == 0
    text = (tiny.folder / "evaluation.json").read_text()
    found = json.loads(text, parse_constant=no_json)
    assert found["evaluated on"] == "galaxies held out of the folds"
    table = parquet.read(tiny.folder / "held_out.parquet")
    assert found["predictions"]["network"]["systems"] == len(table)
    assert "galaxies held out" in (tiny.folder / "report.html").read_text()


def test_one_seed_one_curve(tiny, uninterrupted):
    assert uninterrupted[1] == losses(tiny.folder)


def test_images_kept_or_rendered_in_the_step_give_the_same_losses(
    tiny, uninterrupted, tmp_path
):
    loader = InMemory(Data(tiny.loader.data.systems, tiny.job.catalogue))
    state = again(tiny, tmp_path, loader, keep_images="false", epochs=2)
    for one, other in zip(losses(tmp_path), uninterrupted[1], strict=False):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
        assert one["val_loss"] == pytest.approx(other["val_loss"], rel=1e-4)
    assert state.best_epoch[0] > 0


def test_images_that_are_kept_are_in_memory_once(tiny, monkeypatch):
    """They may be half of it: JAX takes over what they were rendered into."""
    aligned, buffers = dataset._aligned, []

    def seen(*what):
        buffers.append(aligned(*what))
        return buffers[-1]

    monkeypatch.setattr(dataset, "_aligned", seen)
    rendering = tiny.job.plan.rendering
    systems, catalogue = tiny.job.sample.systems, tiny.job.catalogue
    images = dataset.render_all(systems, catalogue, rendering)
    assert images.unsafe_buffer_pointer() == buffers[0].ctypes.data
    np.testing.assert_array_equal(images, tiny.loader.data.kept.seen)


def test_stamps_read_from_disk_as_they_are_due_give_the_same_losses(
    tiny, uninterrupted, tmp_path
):
    """No more galaxies are read at a time than two steps need."""
    own, asked = tiny.job, []

    class Stamps:
        def __init__(self, array):
            self.array = np.asarray(array)
            self.shape = array.shape

        def __getitem__(self, index):
            asked.append(len(index))
            return self.array[index]

    catalogue = own.catalogue._replace(
        lenses=own.catalogue.lenses._replace(image=Stamps(own.catalogue.lenses.image)),
        psfs=Stamps(own.catalogue.psfs),
    )
    stage = job.cross_validation(own)
    size = TINY.batch_size
    loader = FromDisk(own.sample.systems, catalogue, stage.members, size, 2, own.steps)
    read, look_up = [], loader._look_up
    loader._look_up = lambda what: read.append(what) or look_up(what)
    state = again(tiny, tmp_path, loader, epochs=3)
    for one, other in zip(losses(tmp_path), uninterrupted[1], strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
        assert one["val_loss"] == pytest.approx(other["val_loss"], rel=1e-4)
    # ahead, in the order of use, and nothing twice
    used = [what for what in read if what[-2] < what[-1]]
    epochs = [
        [("training", k, 0, 2), ("training", k, 2, 4), ("validation", 0, 1)]
        for k in range(3)
    ]
    assert used[1:10] == sum(epochs, [])  # the first is of compiling
    # two steps of eight images, of twenty galaxies
    assert 4 < max(asked[:12]) <= 16
    other = own._replace(run_dir=tmp_path, catalogue=catalogue)
    summary = train_command.conclude(other, stage, loader, state)
    known = json.loads((tiny.folder / "summary.json").read_text())
    for name, merit in summary["merits"]["network"].items():
        expected = known["merits"]["network"][name]["rms"]
        assert merit["rms"] == pytest.approx(expected, rel=1e-3)


def test_online_training_stops_resumes_and_counts_its_empty_slots(tiny, tmp_path):
    settings = dict(
        online=True, proposals=3, candidates=1, theta_E_min=0.3, arc_peak=0.0
    )
    own = tiny.job._replace(plan=plan(tiny.job, **settings))
    loader = job.loader_of(own, job.cross_validation(own))

    def go(name, **options):
        options = settings | options
        return again(tiny, tmp_path / name, loader, epochs=2, **options)

    state = go("whole")
    records = losses(tmp_path / "whole")
    slots = own.steps * TINY.batch_size
    assert all(0 < r["empty_slots"] < slots for r in records)
    assert records != losses(tiny.folder)[:2]

    def interrupt(done):
        if done == 6 * TINY.batch_size:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)

    with pytest.raises(Stopped):
        go("parts", interrupt=interrupt, steps_per_dispatch=1)
    assert_same_bits(go("parts"), state)
    assert losses(tmp_path / "parts") == records


def test_a_finished_run_says_so_and_does_not_train(tiny, monkeypatch, capsys):
    monkeypatch.setattr(train_command, "catalogue_of", None)  # to call it would fail
    before = (tiny.folder / "metrics.jsonl").read_bytes()
    assert train_command.run(replace(TINY, run_dir=str(tiny.folder))) == 0
    assert "is finished" in capsys.readouterr().out
    assert (tiny.folder / "metrics.jsonl").read_bytes() == before


def test_a_diverged_run_says_so_and_writes_valid_json(tiny, tmp_path, capsys):
    state = again(tiny, tmp_path, learning_rate=10.0, epochs=50)
    own = tiny.job._replace(run_dir=tmp_path, plan=plan(tiny.job, learning_rate=10.0))
    stage = job.cross_validation(own)
    summary = train_command.conclude(own, stage, tiny.loader, state)
    summary = train_command.finish(own, summary)
    train_command.show(summary, tmp_path)
    said = capsys.readouterr().out
    assert "fold 3 DIVERGED" in said and "lower learning_rate" in said
    assert summary["diverged"] == [3]
    json.loads((tmp_path / "summary.json").read_text(), parse_constant=no_json)
    records = losses(tmp_path)
    assert records[-1]["val_loss"] is None and len(records) < 50  # it did not go on
    for name in ("mocks", "losses", "predictions"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    kept = losses(tmp_path)
    again(tiny, tmp_path, learning_rate=10.0, epochs=50)  # nor does it when resumed
    assert losses(tmp_path) == kept


# Stopping and resuming


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("at", [1, 6])  # steps: of 4 an epoch
def test_a_stopped_run_resumes_exactly(tiny, uninterrupted, tmp_path, signum, at):
    def interrupt(done):
        if done == at * TINY.batch_size:
            os.kill(os.getpid(), signum)
            time.sleep(0.1)

    assert tiny.job.steps == 4
    with pytest.raises(Stopped) as stopped:
        again(tiny, tmp_path, interrupt=interrupt, steps_per_dispatch=1)
    assert stopped.value.status == 128 + signum
    assert checkpoint.latest(tmp_path / "checkpoints") == at
    state = again(tiny, tmp_path)
    assert_same_bits(state, uninterrupted[0])
    assert losses(tmp_path) == uninterrupted[1]


@pytest.mark.parametrize("at", [0, 2, 4, 7, 11])
def test_a_killed_run_resumes_exactly(tiny, uninterrupted, tmp_path, at):
    """As SIGKILL leaves it: checkpoints at any step, a torn line, a torn folder."""

    class Killed(Exception):
        pass

    def interrupt(done):
        if done == at * TINY.batch_size:
            raise Killed

    with pytest.raises(Killed):
        again(
            tiny, tmp_path, interrupt=interrupt, checkpoint_seconds=0.0,
            steps_per_dispatch=1,
        )  # fmt: skip
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"fold": 3, "epo')
    (tmp_path / "checkpoints" / "7-00000000").mkdir(parents=True)
    state = again(tiny, tmp_path)
    assert_same_bits(state, uninterrupted[0])
    assert losses(tmp_path) == uninterrupted[1]


CHILD = """
import sys
import conftest, pytest
from dataclasses import replace
import test_experiments as t
t.draw_nothing(pytest.MonkeyPatch())
settings = replace(t.TINY, epochs=100_000, checkpoint_seconds=0.5,
                   steps_per_dispatch=1, run_dir=sys.argv[1])
sys.exit(t.train_command.run(settings))
"""


def test_signals_to_the_process_lose_and_repeat_nothing(tiny, tmp_path):
    folder = tmp_path / "run"
    code = CHILD.replace("sys.argv[1]", repr(str(folder)))
    for signum, status in ((signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        enough = len(read(folder / "metrics.jsonl")) + 1000
        process = started(code)
        try:
            wait_for(partial(longer, folder / "metrics.jsonl", enough), process)
            time.sleep(np.random.default_rng().random())
            process.send_signal(signum)
            said, errors = process.communicate(timeout=30)
        finally:
            process.kill()
        assert process.returncode == status, errors
        # where nothing is unsaved it ends at once, and says so on stderr
        told = "goes on from here" in said or "goes on from there" in errors
        assert told == (signum == signal.SIGTERM)
    assert "resumed after" in said
    more = (folder / "metrics.jsonl").read_text().count("\n") + 3
    state = again(tiny, folder, epochs=more)
    whole = again(tiny, tmp_path / "whole", epochs=more)
    assert losses(folder) == losses(tmp_path / "whole")
    assert_same_bits(state, whole)


def longer(path, size):
    return len(read(path)) > size


def read(path):
    return path.read_bytes() if path.exists() else b""


def wait_for(condition, process, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.02)


@pytest.mark.parametrize(
    "signum, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_signal_while_the_sample_is_drawn_ends_the_run(tmp_path, signum, status):
    process = subprocess.Popen(
        [sys.executable, "-m", "lensjax", "train", "n_lenses=50000", "size=60"]
        + [f"run_dir={tmp_path / 'run'}", "batch_size=8"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout.readline().startswith("run ")
        time.sleep(1)  # well into the drawing, in one call of minutes
        began = time.monotonic()
        process.send_signal(signum)
        said, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == status
    assert time.monotonic() - began < 5
    assert "Traceback" not in said + errors
    assert not (tmp_path / "run" / "config.yaml").exists()  # the folder is nobody's


def test_many_short_epochs_do_not_spend_their_time_saving(tiny, tmp_path, monkeypatch):
    saved, save_ = [], checkpoint.save
    monkeypatch.setattr(
        checkpoint, "save", lambda *a, **k: saved.append(a[1]) or save_(*a, **k)
    )
    again(tiny, tmp_path, epochs=40)
    assert saved == [40 * tiny.job.steps]  # in the end, all within checkpoint_seconds


# Refusals


def test_two_jobs_in_one_folder(tiny):
    with checkpoint.lock(tiny.folder):
        with pytest.raises(ConfigError, match=f"in use by process {os.getpid()}"):
            train_command.run(replace(TINY, run_dir=str(tiny.folder)))


def test_a_folder_that_holds_another_run(tiny):
    with pytest.raises(ConfigError, match="seed=3, not 4: give it another folder"):
        train_command.run(replace(TINY, seed=4, run_dir=str(tiny.folder)))


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/run")):
        with pytest.raises(ConfigError, match="run_dir: .*: give a folder"):
            train_command.run(replace(TINY, run_dir=str(folder)))


@pytest.fixture
def drawn(monkeypatch):
    """The tiny run's galaxies and sample, instead of drawing them anew."""
    draw_nothing(monkeypatch)


def copied(tiny, folder, *names):
    """A begun run: the tiny one without its summary, or with `names` alone."""
    folder.mkdir()
    for path in tiny.folder.rglob("*"):
        name = path.relative_to(tiny.folder)
        if path.is_file() and path.name not in ("summary.json", ".lock"):
            if not names or name.parts[0] in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(path.read_bytes())
    return replace(TINY, run_dir=str(folder))


def test_galaxies_that_have_changed_since(tiny, drawn, tmp_path, monkeypatch):
    settings = copied(tiny, tmp_path / "run")
    other = tiny.job.listing._replace(fingerprint="another")
    monkeypatch.setattr(
        train_command, "catalogue_of", lambda _: (tiny.job.catalogue, other)
    )
    with pytest.raises(ConfigError, match="has changed since .* start a new run_dir"):
        train_command.run(settings)
    (tmp_path / "run" / "provenance.json").write_text("{")
    with pytest.raises(ConfigError, match="provenance.json is missing or damaged"):
        train_command.run(settings)


def test_settings_that_do_not_suit_the_sample_leave_the_folder_free(drawn, tmp_path):
    settings = replace(TINY, batch_size=50, run_dir=str(tmp_path / "run"))
    with pytest.raises(ConfigError, match="batch_size 50 is more than the .* lower it"):
        train_command.run(settings)
    assert not (tmp_path / "run" / "config.yaml").exists()


def flip(folder):
    """Change one byte of the largest file of a checkpoint, and name it."""
    files = [p for p in (folder / "checkpoints").rglob("*") if p.is_file()]
    path = max(files, key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path.name


def test_a_flipped_byte_is_reported_by_file_name(tiny, drawn, tmp_path, capsys):
    folder = tmp_path / "run"
    settings = copied(tiny, folder)
    name = flip(folder)
    assert train_command.run(settings) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and errors.count("\n") == 1
    assert name in errors and "damaged" in errors
    with pytest.raises(CheckpointError, match=name):
        again(tiny, folder)
    with pytest.raises(ConfigError, match=f"run_dir: .*{name} is damaged"):
        predict_command.run(
            PredictConfig(str(folder), "x", str(tmp_path / "o.parquet"))
        )


# The sample


COLUMNS = """id lens_id source_id rotation theta_E_arcsec ex ey center_x_arcsec
center_y_arcsec beta_x_arcsec beta_y_arcsec z_lens z_source vdisp_kms n_images
log_flux_ratio_i""".split()


@pytest.fixture(scope="module")
def images(tiny, tmp_path_factory):
    """The tiny sample's first mocks as FITS."""
    folder = tmp_path_factory.mktemp("images")
    few = jax.tree.map(lambda a: a[:12], tiny.job.sample.systems)
    sample_command.save_images(
        folder,
        tiny.job.sample._replace(systems=few),
        tiny.job.catalogue,
        tiny.job.plan.rendering,
    )
    return folder


def test_the_sample_command_writes_the_contracts_columns(tiny, drawn, tmp_path):
    out = tmp_path / "new" / "folder"
    assert sample_command.run(DrawConfig(size=60, out=str(out))) == 0
    table = parquet.read(out / "systems.parquet")
    assert set(COLUMNS) <= set(table.colnames)
    assert str(table["theta_E_arcsec"].unit) == "arcsec"
    np.testing.assert_array_equal(
        table["theta_E_arcsec"], tiny.job.sample.systems.sie.theta_E
    )
    assert "versions" in table.meta["provenance"]
    again_ = DrawConfig(size=60, out=str(out))
    with pytest.raises(ConfigError, match="overwrite=true"):
        again_.validate()
    with pytest.raises(ConfigError, match="overwrite=true"):
        sample_command.run(again_)
    # images of the former sample do not stay beside the new table
    (out / "images").mkdir()
    stale = out / "images" / "0000000001.fits"
    stale.touch()
    assert sample_command.run(replace(again_, overwrite=True)) == 0
    assert not stale.exists()


def test_a_place_that_cannot_be_written_is_told_before_drawing(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="out: "):
        sample_command.run(DrawConfig(out=str(tmp_path / "file" / "out")))


def test_mock_less_arcs_is_the_lens_galaxy(tiny, images):
    systems, lenses = tiny.job.sample.systems, tiny.job.catalogue.lenses
    for k in range(12):
        with fits.open(images / f"{system.identifier(systems.number[k])}.fits") as file:
            names = [hdu.name for hdu in file[1:]]
            assert names == [*"GRIZ", *(f"{band}_ARC" for band in "GRIZ")]
            mock = np.stack([file[band].data for band in "GRIZ"], -1)
            arc = np.stack([file[f"{band}_ARC"].data for band in "GRIZ"], -1)
            assert file["I"].header["PIXSCALE"] == 0.168
        lens = np.rot90(lenses.image[systems.lens_index[k]], -systems.rotation[k])
        np.testing.assert_allclose(mock - arc, lens, atol=2e-5 * lens.max())
        kept = tiny.loader.data.kept.seen[k]
        np.testing.assert_allclose(mock, kept, atol=2e-5 * lens.max())
        assert arc[..., 2].max() > lenses.background[systems.lens_index[k], 2]


# Predictions


def test_predictions_of_images_on_disk_are_those_in_memory(
    tiny, images, uninterrupted, tmp_path
):
    out = tmp_path / "lenses.parquet"
    assert (
        predict_command.run(PredictConfig(str(tiny.folder), str(images), str(out))) == 0
    )
    table = parquet.read(out)
    params = jax.tree.map(lambda a: jnp.asarray(a[0]), uninterrupted[0].best_params)
    images = tiny.loader.data.kept.seen[:12]
    expected = np.asarray(paper_cnn.predict(params, images, resolve.network_of(TINY)))
    columns = ("center_x_arcsec", "center_y_arcsec", "ex", "ey", "theta_E_arcsec")
    got = np.stack([table[name] for name in columns], -1)
    assert not any(table["flags"])
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert table.meta["model"]["run_dir"] == str(tiny.folder.resolve())


def test_broken_cutouts_among_good_ones(tiny, images, tmp_path):
    folder = tmp_path / "cutouts"
    folder.mkdir()
    good = sorted(images.iterdir())[0]
    (folder / "good.fits").write_bytes(good.read_bytes())
    broken = galaxy(seed=1)
    broken[5, 6, 2] = np.nan
    save(folder / "nan_pixel.fits", extensions(broken))
    broken[..., 3] = np.nan
    save(folder / "nan_band.fits", extensions(broken))
    save(folder / "missing_band.fits", extensions(galaxy(seed=2))[:3])
    save(folder / "too_small.fits", extensions(galaxy(60, 64, seed=3)))
    (folder / "truncated.fits").write_bytes(good.read_bytes()[:40000])
    (folder / "html.fits").write_text("<html><title>Log in</title></html>")
    settings = PredictConfig(str(tiny.folder), str(folder), str(tmp_path / "a.parquet"))
    assert predict_command.run(settings) == 0
    table = parquet.read(settings.out)
    for row in table:
        if row["id"] == "good":
            assert row["flags"] == "" and np.isfinite(row["theta_E_arcsec"])
        else:
            assert row["flags"] and row["message"], row["id"]
            assert np.isnan(row["theta_E_arcsec"])
    strict = replace(settings, strict=True, out=str(tmp_path / "b.parquet"))
    assert predict_command.run(strict) == 3
    with pytest.raises(ConfigError, match="overwrite=true"):  # it is there
        predict_command.run(settings)


def test_a_run_that_has_only_begun_cannot_predict(tiny, tmp_path):
    settings = copied(tiny, tmp_path / "run", "config.yaml", "provenance.json")
    asked = PredictConfig(settings.run_dir, "x", str(tmp_path / "out.parquet"))
    with pytest.raises(ConfigError, match="run_dir: no checkpoint in"):
        predict_command.run(asked)
    # stopped in its first epoch: what is saved is not trained
    folder = Path(settings.run_dir)
    stage = job.cross_validation(tiny.job)._replace(folder=folder / "new")
    start = loop.begin(stage).state
    checkpoint.save(folder / "checkpoints", 1, loop.to_save(start, 0, 1))
    with pytest.raises(ConfigError, match="fold 3.*: train on, or lower"):
        predict_command.run(asked)
    (folder / "config.yaml").write_text("fold: [1")
    with pytest.raises(ConfigError, match="config.yaml cannot be read"):
        predict_command.run(asked)


# Progress


def test_a_log_gets_plain_lines(capsys, monkeypatch):
    clock = iter(np.arange(0, 1000, 1.0))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    with progress.track("training", 1000, "images") as update:
        for done in range(400, 1001, 10):  # resumed at 400
            update(done, "a note")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "training: 400 of 1,000 images, a note"
    assert "images/s" in lines[1] and "left" in lines[1]
    assert (
        lines[-1].startswith("training: 1,000 of 1,000 images") and "took" in lines[-1]
    )
    assert 5 < len(lines) < 40


def test_a_terminal_gets_a_bar_and_loses_no_line():
    code = (
        "import time\nfrom lensjax.commands import progress\n"
        "with progress.track('training', 500, 'images') as update:\n"
        "    for done in range(0, 501, 100):\n"
        "        update(done, 'validation loss 0.1')\n"
        "        progress.say(f'line {done}')\n"
        "        time.sleep(0.15)\n"
    )
    master, slave = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=slave, stderr=slave, env=environment
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            shown += os.read(master, 4096)
        except OSError:  # the other side is closed
            break
    os.close(master)
    assert process.wait() == 0
    text = shown.decode()
    assert all(f"line {done}\r\n" in text for done in range(0, 501, 100))
    for part in ("500/500", "images/s", "left", "validation loss 0.1", "took"):
        assert part in text
    assert text.rstrip().endswith("\x1b[?25h")  # the cursor is back
