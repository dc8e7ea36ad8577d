"""Train networks on mocks: `python -m experiments.train fold=3`.

Draws or reads galaxies, draws a sample, trains one fold or all five side by side, and
ends with a summary and pictures in the run's folder.  The same command with the same
run_dir resumes a run that was stopped, and repeats nothing.
"""

import contextlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from experiments import config

if __name__ == "__main__":  # a wrong key is told before JAX is loaded
    config.check("train")

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from experiments import progress, provenance
from experiments.sample import SURVEY, catalogue_of, sample_of
from lensjax import catalogue as catalogues
from lensjax import checkpoint, evaluate, plots, sample, tables, train
from lensjax.catalogue import Catalogue, Listing
from lensjax.network import Architecture
from lensjax.sample import Sample
from lensjax.train import Data, Folds, Settings

KEEP_AT_MOST = 6e9  # bytes of images that keep_images=auto holds in memory


class Stopped(Exception):
    """A signal asked for the end; what was done is in the checkpoint."""

    def __init__(self, signum: int):
        self.status = 128 + signum


class Job(NamedTuple):
    """All that a run trains on."""

    settings: config.TrainConfig
    run_dir: Path
    catalogue: Catalogue
    listing: Listing
    sample: Sample
    folds: Folds
    steps: int  # an epoch


def network_settings(settings: config.TrainConfig) -> Settings:
    """The part of a configuration that compiled programs depend on."""
    return Settings(
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        weight_theta_E=settings.weight_theta_E,
        scaling=settings.scaling,
        seed=settings.seed,
        architecture=Architecture(dropout=settings.dropout),
    )


def open_run(settings: config.TrainConfig) -> Path:
    """The run's folder, new or to be resumed; ConfigError where it is another run's.

    It is a run's once config.yaml is there; how a run is computed may change later.
    """
    run_dir = Path(
        settings.run_dir
        or f"runs/{settings.sample}-fold{settings.fold}-{datetime.now():%Y%m%d-%H%M%S}"
    )
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=run_dir):
            pass
    except OSError as error:
        raise config.ConfigError(
            f"run_dir: {run_dir}: {error.strerror}: give a folder you may write to"
        ) from error
    path = run_dir / "config.yaml"
    if path.exists():
        before = config.from_yaml(path, config.TrainConfig)
        free = {"run_dir", "checkpoint_seconds", "steps_per_dispatch", "devices"}
        for name, value in vars(before).items():
            if name not in free and str(value) != str(getattr(settings, name)):
                raise config.ConfigError(
                    f"run_dir: {run_dir} holds a run with {name}={value}, not "
                    f"{getattr(settings, name)}: give it another folder"
                )
    return run_dir


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


def prepare(settings: config.TrainConfig, run_dir: Path) -> Job:
    """Galaxies, sample and folds of a run; ConfigError where they have changed."""
    catalogue, listing = catalogue_of(settings)
    begun = (run_dir / "config.yaml").exists()
    if begun and _fingerprint(run_dir / "provenance.json") != listing.fingerprint:
        raise config.ConfigError(
            f"data: {listing.origin} has changed since {run_dir} was begun (or the "
            "versions of jax have): start a new run_dir"
        )
    drawn = sample_of(settings, catalogue, listing)
    lens_index = drawn.systems.lens_index
    try:
        part = catalogues.split(listing.lens_id)
        folds = train.split_rows(part, lens_index, settings.folds)
        steps = train.steps_per_epoch(part, lens_index, settings.batch_size)
    except ValueError as error:
        raise config.ConfigError(str(error)) from error
    if not begun:
        table = sample.to_table(drawn, catalogue, listing, SURVEY)
        tables.write(table, run_dir / "systems.parquet", overwrite=True)
        facts = provenance.collect(settings, listing) | {"sample": drawn.counts}
        _write(run_dir / "provenance.json", json.dumps(facts, indent=2) + "\n")
        _write(run_dir / "config.yaml", config.to_yaml(settings))
    return Job(settings, run_dir, catalogue, listing, drawn, folds, steps)


def _fingerprint(path: Path) -> str:
    try:
        return json.loads(path.read_text())["catalogue"]["fingerprint"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise config.ConfigError(
            f"run_dir: {path} is missing or damaged ({error!r}): start a new run_dir"
        ) from error


def data_of(job: Job) -> Data:
    """What the training step reads: rows to render, or images kept in memory."""
    settings, systems = job.settings, job.sample.systems
    size = len(systems.number) * np.prod(job.catalogue.lenses.image.shape[1:]) * 4
    on_cpu = jax.default_backend() == "cpu"
    keep = settings.keep_images
    if keep == "true" or (keep == "auto" and on_cpu and size < KEEP_AT_MOST):
        with progress.track("rendering mocks", len(systems.number), "mocks") as update:
            images = train.render_all(
                systems, job.catalogue, SURVEY, job.listing.source_pixel_scale, update
            )
        return Data(jax.tree.map(jnp.asarray, systems), None, images)
    return Data(jax.tree.map(jnp.asarray, systems), job.catalogue, None)


class Signals:
    """What SIGTERM and SIGINT have to say to a run."""

    received = 0  # the first one, if there was anything to save
    unsaved = False  # whether there is; else the process ends at once


@contextmanager
def stop_on_signals() -> Iterator[Signals]:
    """End at SIGTERM or SIGINT: at once, or, with steps to save, after saving them.

    A second signal ends it at once in any case.  A thread listens: Python's own
    handlers wait while JAX compiles or computes, which may take minutes.
    """
    signals = Signals()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def listen():
        while byte := os.read(reader, 1):
            if signals.unsaved and not signals.received:
                signals.received = byte[0]
            elif byte[0] in (signal.SIGTERM, signal.SIGINT):
                with contextlib.suppress(OSError):  # nobody reads it any more
                    os.write(2, b"\nstopped; the same run_dir goes on from there\n")
                    if sys.__stdout__.isatty():
                        os.write(1, b"\x1b[?25h")  # the cursor, which a bar hides
                os._exit(128 + byte[0])

    handlers = {
        number: signal.signal(number, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield signals
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.close(writer)  # the thread reads the end
        thread.join()
        os.close(reader)


def fit(job: Job, data: Data, signals: Signals) -> train.State:
    """Train to the last epoch, from the latest checkpoint if there is one.

    Ends early where every fold has diverged.  Raises Stopped, the state saved, at the
    first step after a signal.
    """
    settings, steps = job.settings, job.steps
    program = train.compile(
        network_settings(settings),
        steps,
        len(settings.folds),
        SURVEY,
        job.listing.source_pixel_scale,
        jax.local_devices()[: settings.devices or None],
    )
    folder, metrics = job.run_dir / "checkpoints", job.run_dir / "metrics.jsonl"
    state = train.start(network_settings(settings), job.folds)
    epoch, step = 0, 0
    if checkpoint.latest(folder) is not None:
        saved = checkpoint.restore(folder, _saved(state, 0, 0))
        state, epoch, step = saved["state"], int(saved["epoch"]), int(saved["step"])
        progress.say(f"resumed after {epoch} epochs and {step} of {steps} steps")
    records = _keep_epochs(metrics, epoch)
    state, folds = program.place((state, job.folds))
    # no step at all, to compile: neither a signal nor the clock need wait for it later
    state = program.run(state, folds, data, epoch, step, step)
    jax.block_until_ready(state.loss_sum)
    saved_at, dispatch = time.monotonic(), 1

    def save():
        nonlocal saved_at
        checkpoint.save(folder, epoch * steps + step, _saved(state, epoch, step))
        saved_at, signals.unsaved = time.monotonic(), False

    def due():
        return time.monotonic() - saved_at > settings.checkpoint_seconds

    def done():
        return (epoch * steps + step) * settings.batch_size * len(settings.folds)

    per_epoch = steps * settings.batch_size * len(settings.folds)
    with progress.track("training", settings.epochs * per_epoch, "images") as update:
        note = ""
        update(done())
        while epoch < settings.epochs and not diverged(records, settings.folds):
            seconds, from_step = 0.0, step
            while step < steps:
                to = min(step + dispatch, steps)
                began = time.monotonic()
                state = program.run(state, folds, data, epoch, step, to)
                jax.block_until_ready(state.loss_sum)
                step, signals.unsaved = to, True
                took = time.monotonic() - began
                seconds += took
                # about a second each: soon to stop, and few of them
                if took < 0.5:
                    dispatch = min(2 * dispatch, settings.steps_per_dispatch)
                elif took > 2:
                    dispatch = max(dispatch // 2, 1)
                if step < steps:
                    update(done(), note)
                if signals.received:
                    save()
                    raise Stopped(signals.received)
                if step < steps and due():
                    save()
            state, losses = program.finish(state, folds, data, epoch, steps)
            rate = (steps - from_step) * settings.batch_size / max(seconds, 1e-9)
            epoch, step = epoch + 1, 0
            new = _records(settings.folds, epoch, losses, rate)
            _append(metrics, new)
            records += new
            note = "validation loss " + " ".join(f"{v:.4f}" for v in losses[1])
            update(done(), note)
            if due():
                save()
        if signals.unsaved:
            save()
    if signals.received:
        raise Stopped(signals.received)
    return state


def diverged(records: list[dict], folds: list[int]) -> bool:
    """Whether no fold had a finite loss in the last epoch: they never recover."""
    last = records[-len(folds) :]
    return bool(last) and all(r["val_loss"] is None for r in last)


def _saved(state: train.State, epoch: int, step: int) -> dict[str, Any]:
    return {
        "state": state,
        "epoch": jnp.asarray(epoch, jnp.int32),
        "step": jnp.asarray(step, jnp.int32),
    }


def _records(folds: list[int], epoch: int, losses, rate: float) -> list[dict]:
    return [
        {
            "fold": fold,
            "epoch": epoch,
            # nan is no JSON: a fold that diverged has null
            "train_loss": float(train_) if np.isfinite(train_) else None,
            "val_loss": float(validation) if np.isfinite(validation) else None,
            "images_per_second": round(rate, 1),
        }
        for fold, train_, validation in zip(
            folds, *map(np.asarray, losses), strict=True
        )
    ]


def _append(path: Path, records: list[dict]) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(r) + "\n" for r in records)


def read_metrics(path: Path) -> list[dict]:
    """The records of a metrics file; a last line torn by a kill is left out."""
    records = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def _keep_epochs(path: Path, epoch: int) -> list[dict]:
    """Drop the records of epochs that the checkpoint does not know and will repeat."""
    kept = [r for r in read_metrics(path) if r["epoch"] <= epoch]
    _write(path, "".join(json.dumps(r) + "\n" for r in kept))
    return kept


def conclude(job: Job, data: Data, state: train.State) -> dict:
    """Judge the best epochs on held-out lens galaxies: pictures, then summary.json."""
    settings, systems, folds = job.settings, job.sample.systems, job.folds
    truth = np.asarray(train.targets(systems))
    rows = [np.asarray(r[:n]) for r, n in zip(folds.train, folds.n_train, strict=True)]
    held_out = [
        np.asarray(r[:n])
        for r, n in zip(folds.validation, folds.n_validation, strict=True)
    ]

    @jax.jit
    def answer(params, rows, data):
        return train.predict(
            params,
            rows,
            data,
            network_settings(settings),
            SURVEY,
            job.listing.source_pixel_scale,
        )

    state = jax.device_get(state)
    predicted = []
    for k, r in enumerate(held_out):
        params = jax.tree.map(lambda a, k=k: a[k], state.best_params)
        predicted.append(
            np.asarray(answer(params, folds.validation[k], data))[: len(r)]
        )
    records = read_metrics(job.run_dir / "metrics.jsonl")
    last = [r["fold"] for r in records if r["epoch"] == records[-1]["epoch"]]
    lost = [r["fold"] for r in records[-len(last) :] if r["val_loss"] is None]
    merits = evaluate.summary(
        systems, job.catalogue.lenses, rows, held_out, predicted, truth
    )
    summary = {
        "folds": settings.folds,
        "diverged": lost,  # folds whose losses were no numbers in the end
        "best_epoch": state.best_epoch.tolist(),  # 0: none had a finite loss
        "best_val_loss": state.best_loss.tolist(),
        "systems": {
            "sample": len(systems.number),
            "training": [len(r) for r in rows],
            "held_out": [len(r) for r in held_out],
        },
        "merits": {
            who: {name: m._asdict() for name, m in by_name.items()}
            for who, by_name in merits.items()
        },
    }
    summary = json.loads(json.dumps(summary), parse_constant=lambda name: None)

    predicted, held_out = np.concatenate(predicted), np.concatenate(held_out)
    order = np.argsort(-systems.arc_peak[held_out])[: max(24, len(held_out) // 2)]
    shown = order[:: max(1, len(order) // 24)][:24]  # from bright arcs to faint ones
    images_of = jax.jit(lambda rows, data: _pictures(rows, data, job))
    plots.mocks(
        np.asarray(images_of(held_out[shown], data)),
        truth[held_out][shown],
        SURVEY,
        job.run_dir / "mocks.png",
        predicted[shown],
        "held-out mocks, brightest arcs first; critical curve: truth dashed, "
        "prediction cyan",
    )
    plots.losses(records, job.run_dir / "losses.png")
    plots.predictions(
        truth[held_out], predicted, merits["network"], job.run_dir / "predictions.png"
    )
    # last: with it the run is finished
    text = json.dumps(summary, indent=2, allow_nan=False)
    _write(job.run_dir / "summary.json", text + "\n")
    return summary


def _pictures(rows, data: Data, job: Job):
    return train.images_of(data, rows, SURVEY, job.listing.source_pixel_scale)


def show(summary: dict, run_dir: Path) -> None:
    """The summary as a table on the screen."""
    n = sum(summary["systems"]["held_out"])
    folds = ", ".join(map(str, summary["folds"]))
    epochs = ", ".join(map(str, summary["best_epoch"]))
    progress.say(
        f"{n:,} mocks of lens galaxies held out of training, fold {folds}, best epoch "
        f"{epochs}:"
    )
    table = Table()
    table.add_column("parameter")
    table.add_column("by")
    for name in ("bias", "half of 16-84 %", "RMS", "R^2"):
        table.add_column(name, justify="right")
    formats = {"bias": "+.4f", "half_width": ".4f", "rms": ".4f", "r2": ".3f"}
    for name in reversed(train.TARGETS):
        label = name if name.startswith("e") else f"{name} (arcsec)"
        for who, merits in summary["merits"].items():
            values = ((merits[name][key], form) for key, form in formats.items())
            figures = ["-" if v is None else format(v, form) for v, form in values]
            table.add_row(label, who, *figures)
            label = ""
        table.add_section()
    Console(width=100 if not Console().is_terminal else None).print(table)
    for fold in summary["diverged"]:
        progress.say(f"fold {fold} DIVERGED, its losses are no numbers any more")
    if summary["diverged"]:
        progress.say("lower learning_rate and start a new run_dir")
    progress.say(f"pictures and checkpoints: {run_dir}/")
    for name in ("mocks.png", "predictions.png", "losses.png", "summary.json"):
        progress.say(f"  {run_dir / name}")


def run(settings: config.TrainConfig) -> int:
    """The main job.  Returns the exit status.

    0: trained, even where folds diverged, which the summary says.  1: a checkpoint is
    damaged or cannot be written.  128 + n: stopped by signal n.
    """
    run_dir = open_run(settings)
    try:
        with checkpoint.lock(run_dir), stop_on_signals() as signals:
            path = run_dir / "summary.json"
            if path.exists() and (run_dir / "config.yaml").exists():
                progress.say(f"run {run_dir} is finished: give another run_dir")
                show(json.loads(path.read_text()), run_dir)
                return 0
            progress.say(
                f"run {run_dir} (to resume it: the same command with run_dir={run_dir})"
            )
            job = prepare(settings, run_dir)
            data = data_of(job)
            state = fit(job, data, signals)
            show(conclude(job, data, state), run_dir)
    except Stopped as stopped:
        progress.say(
            f"stopped; the same command with run_dir={run_dir} goes on from here"
        )
        return stopped.status
    except checkpoint.LockError as error:
        raise config.ConfigError(f"run_dir: {error}") from error
    except checkpoint.CheckpointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    config.main("train", run)
