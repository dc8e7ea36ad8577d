"""Train networks on mocks: `python -m experiments.train fold=3`.

Draws or reads galaxies, draws a sample, trains one fold or all five side by side, and
ends with a summary and pictures in the run's folder.  The same command with the same
run_dir resumes a run that was stopped, and repeats nothing.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from experiments import config, progress, provenance
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
    part: np.ndarray  # of each lens galaxy: -1 the test set, else its fold


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
    """The run's folder, new or to be resumed; ConfigError where it is another run's."""
    run_dir = Path(
        settings.run_dir
        or f"runs/{settings.sample}-fold{settings.fold}-{datetime.now():%Y%m%d-%H%M%S}"
    )
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise config.ConfigError(f"run_dir: {run_dir}: {error.strerror}") from error
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
    else:
        _write(path, config.to_yaml(settings))
    return run_dir


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


def prepare(settings: config.TrainConfig, run_dir: Path) -> Job:
    """Galaxies, sample and folds of a run; ConfigError where they have changed."""
    catalogue, listing = catalogue_of(settings)
    try:
        part = catalogues.split(listing.lens_id)
    except ValueError as error:
        raise config.ConfigError(str(error)) from error
    path = run_dir / "provenance.json"
    if path.exists():
        before = json.loads(path.read_text())["catalogue"]["fingerprint"]
        if before != listing.fingerprint:
            raise config.ConfigError(
                f"{listing.origin} has changed since {run_dir} was begun (or the "
                "versions of jax have): start a new run_dir"
            )
    drawn = sample_of(settings, catalogue, listing)
    if not path.exists():
        table = sample.to_table(drawn, catalogue, listing, SURVEY)
        tables.write(table, run_dir / "systems.parquet", overwrite=True)
        facts = provenance.collect(settings, listing) | {"sample": drawn.counts}
        _write(path, json.dumps(facts, indent=2) + "\n")
    return Job(settings, run_dir, catalogue, listing, drawn, part)


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


@contextmanager
def stop_on_signals() -> Iterator[list[int]]:
    """A list that fills when SIGTERM or SIGINT arrives; a second one kills at once."""
    received: list[int] = []

    def note(signum, _frame):
        received.append(signum)
        signal.signal(signum, signal.SIG_DFL)

    before = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def fit(job: Job, data: Data, folds: Folds, stop: list[int]) -> train.State:
    """Train to the last epoch, from the latest checkpoint if there is one.

    Raises Stopped, the state saved, soon after `stop` fills.
    """
    settings = job.settings
    steps = train.steps_per_epoch(
        job.part, job.sample.systems.lens_index, settings.batch_size
    )
    program = train.compile(
        network_settings(settings),
        steps,
        len(settings.folds),
        SURVEY,
        job.listing.source_pixel_scale,
        jax.local_devices()[: settings.devices or None],
    )
    folder, metrics = job.run_dir / "checkpoints", job.run_dir / "metrics.jsonl"
    state = train.start(network_settings(settings), folds)
    epoch, step = 0, 0
    if checkpoint.latest(folder) is not None:
        saved = checkpoint.restore(folder, _saved(state, 0, 0))
        state, epoch, step = saved["state"], int(saved["epoch"]), int(saved["step"])
        progress.say(f"resumed at epoch {epoch + 1}, step {step} of {steps}")
    _keep_epochs(metrics, epoch)
    state, folds = program.place((state, folds))
    saved_at = time.monotonic()

    def save():
        checkpoint.save(folder, epoch * steps + step, _saved(state, epoch, step))

    per_epoch = steps * settings.batch_size * len(settings.folds)
    with progress.track("training", settings.epochs * per_epoch, "images") as update:
        note = ""
        update(epoch * per_epoch + step * per_epoch // steps)
        while epoch < settings.epochs:
            began, from_step = time.monotonic(), step
            while step < steps:
                to = min(step + settings.steps_per_dispatch, steps)
                state = program.run(state, folds, data, epoch, step, to)
                jax.block_until_ready(state.loss_sum)
                step = to
                update(epoch * per_epoch + step * per_epoch // steps, note)
                if stop:
                    save()
                    raise Stopped(stop[0])
            seconds = time.monotonic() - began
            state, losses = program.finish(state, folds, data, epoch, steps)
            rate = (steps - from_step) * settings.batch_size / max(seconds, 1e-9)
            epoch, step = epoch + 1, 0
            _append(metrics, _records(settings.folds, epoch, losses, rate))
            note = "validation loss " + " ".join(f"{v:.4f}" for v in losses[1])
            if time.monotonic() - saved_at > settings.checkpoint_seconds:
                save()
                saved_at = time.monotonic()
        save()
    return state


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


def _keep_epochs(path: Path, epoch: int) -> None:
    """Drop the records of epochs that the checkpoint does not know and will repeat."""
    kept = [r for r in read_metrics(path) if r["epoch"] <= epoch]
    _write(path, "".join(json.dumps(r) + "\n" for r in kept))


def conclude(job: Job, data: Data, folds: Folds, state: train.State) -> dict:
    """Judge the best epochs on held-out lens galaxies: summary.json and pictures."""
    settings, systems = job.settings, job.sample.systems
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
    if not all(np.isfinite(p).all() for p in predicted):
        progress.say("training diverged: lower learning_rate")
    merits = evaluate.summary(
        systems, job.catalogue.lenses, rows, held_out, predicted, truth
    )
    summary = {
        "folds": settings.folds,
        "best_epoch": state.best_epoch.tolist(),
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
    _write(job.run_dir / "summary.json", json.dumps(summary, indent=2) + "\n")

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
        "held-out mocks, brightest arcs first; critical curve true (white), "
        "predicted (cyan)",
    )
    plots.losses(
        read_metrics(job.run_dir / "metrics.jsonl"), job.run_dir / "losses.png"
    )
    plots.predictions(
        truth[held_out], predicted, merits["network"], job.run_dir / "predictions.png"
    )
    return summary


def _pictures(rows, data: Data, job: Job):
    return train.images_of(data, rows, SURVEY, job.listing.source_pixel_scale)


def show(summary: dict, run_dir: Path) -> None:
    """The summary as a table on the screen."""
    n = sum(summary["systems"]["held_out"])
    table = Table(
        title=f"{n:,} mocks of lens galaxies held out of training "
        f"(folds {summary['folds']}, best epochs {summary['best_epoch']})",
        title_justify="left",
    )
    table.add_column("parameter")
    table.add_column("by")
    for name in ("bias", "half of 16-84 %", "RMS", "R^2"):
        table.add_column(name, justify="right")
    for name in reversed(train.TARGETS):
        unit = "" if name.startswith("e") else " [arcsec]"
        for who, merits in summary["merits"].items():
            m = merits[name]
            values = [f"{m[k]:+.4f}" for k in ("bias",)]
            values += [f"{m[k]:.4f}" for k in ("half_width", "rms")]
            label = name + unit if who == "network" else ""
            table.add_row(label, who, *values, f"{m['r2']:.3f}")
        table.add_section()
    Console(width=100 if not Console().is_terminal else None).print(table)
    progress.say(f"pictures and checkpoints: {run_dir}/")
    for name in ("mocks.png", "predictions.png", "losses.png", "summary.json"):
        progress.say(f"  {run_dir / name}")


def run(settings: config.TrainConfig) -> int:
    """The main job."""
    run_dir = open_run(settings)
    progress.say(
        f"run {run_dir} (to resume it: the same command with run_dir={run_dir})"
    )
    try:
        with checkpoint.lock(run_dir), stop_on_signals() as stop:
            job = prepare(settings, run_dir)
            lens_index = job.sample.systems.lens_index
            try:
                folds = train.split_rows(job.part, lens_index, settings.folds)
                train.steps_per_epoch(job.part, lens_index, settings.batch_size)
            except ValueError as error:
                raise config.ConfigError(str(error)) from error
            data = data_of(job)
            state = fit(job, data, folds, stop)
            show(conclude(job, data, folds, state), run_dir)
    except Stopped as stopped:
        progress.say(
            f"stopped; the same command with run_dir={run_dir} goes on from here"
        )
        return stopped.status
    except (checkpoint.LockError, checkpoint.CheckpointError) as error:
        progress.say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    config.main("train", run)
