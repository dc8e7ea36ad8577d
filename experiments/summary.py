"""The end of a run: its figures on the screen, its pictures in its folder."""

import json
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from experiments import progress
from experiments.feed import FromDisk, InMemory
from experiments.run import Job, network_settings, read_metrics, write
from experiments.sample import rendering_of
from lensjax import evaluate, plots, system, train

PIECE = 512  # held-out rows that are judged at a time


def conclude(job: Job, feed: InMemory | FromDisk, state: train.State) -> dict:
    """Judge the best epochs on held-out lens galaxies: pictures, then summary.json."""
    settings, systems, folds = job.settings, job.sample.systems, job.folds
    truth = np.asarray(train.targets(systems))
    rows = [np.asarray(r[:n]) for r, n in zip(folds.train, folds.n_train, strict=True)]
    held_out = [
        np.asarray(r[:n])
        for r, n in zip(folds.validation, folds.n_validation, strict=True)
    ]

    rendering = rendering_of(settings, job.listing)

    @jax.jit
    def answer(params, rows, data):
        setup = network_settings(settings)
        return train.predict(params, rows, data, setup, rendering)

    state = jax.device_get(state)
    predicted = []
    for k, r in enumerate(held_out):
        params = jax.tree.map(lambda a, k=k: a[k], state.best_params)
        answers = []
        for first in range(0, len(r), PIECE):
            some = np.resize(r[first : first + PIECE], min(PIECE, len(r)))
            answers.append(np.asarray(answer(params, some, feed.rows(some))))
        predicted.append(np.concatenate(answers)[: len(r)])
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
    # wide lenses whose arcs stand out: what a reader can see
    wide = systems.log_flux_ratio + 3 * np.log10(systems.sie.theta_E)
    order = np.argsort(-wide[held_out])
    shown = order[:: max(1, len(order) // 48)][:12]
    images, arcs = _pictures(job, feed, held_out[shown])
    plots.mocks(
        np.asarray(images),
        truth[held_out][shown],
        rendering.survey,
        job.run_dir / "mocks.png",
        predicted[shown],
        "held-out mocks and, beneath, their arcs alone; critical curve: truth dashed, "
        "prediction cyan",
        arcs=np.asarray(arcs),
    )
    plots.losses(records, job.run_dir / "losses.png")
    plots.predictions(
        truth[held_out], predicted, merits["network"], job.run_dir / "predictions.png"
    )
    # last: with it the run is finished
    text = json.dumps(summary, indent=2, allow_nan=False)
    write(job.run_dir / "summary.json", text + "\n")
    return summary


def _pictures(job: Job, feed: InMemory | FromDisk, rows: np.ndarray):
    """Mocks (N, n, n, band), and their arcs alone."""
    data = feed.rows(rows)
    catalogue = data.catalogue or job.catalogue
    rendering = rendering_of(job.settings, job.listing)

    @jax.jit
    def layers(systems, catalogue):
        return jax.lax.map(lambda s: system.layers(s, catalogue, rendering), systems)

    images, arcs = layers(jax.tree.map(lambda a: a[rows], data.systems), catalogue)
    return images + arcs, arcs


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
