"""The end of a run: its figures on the screen, its pictures and answers in its folder.

held_out.parquet has what the folds' best epochs answer for the lens galaxies that each
held out, test.parquet what the final network answers for the test set: one row a
system, the columns of systems.parquet and those of `who` answered (see `ANSWERS`).
`lensjax evaluate` reads them.
"""

import json
from pathlib import Path

import jax
import numpy as np
from astropy.table import Table
from rich.console import Console
from rich.table import Table as ScreenTable

from lensjax.commands import progress
from lensjax.commands.run_folder import Job, lost, read_metrics, write
from lensjax.commands.sample import survey_of
from lensjax.evaluation import metrics
from lensjax.learning import train
from lensjax.learning.loader import FromDisk, InMemory
from lensjax.learning.loop import Stage
from lensjax.mocks import sample, system
from lensjax.plotting import pictures, results
from lensjax.storage import parquet

PIECE = 512  # rows that are judged at a time
ANSWERS = {
    "network": "network",
    "light only": "light",
    "prior mean": "prior",
    "network, arcs removed": "no_arcs",  # in the final network's test only
}
"""Who answers, and how its columns begin."""
COLUMNS = {
    "x": "center_x_arcsec",
    "y": "center_y_arcsec",
    "ex": "ex",
    "ey": "ey",
    "theta_E": "theta_E_arcsec",
}
"""Columns of the targets; an answer's have its name in front."""
EXAMPLES = 12  # lenses whose images are kept for pictures


def rows_of(table: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """Rows of the sample, by member, without padding."""
    return [np.asarray(r[:n]) for r, n in zip(table, counts, strict=True)]


def best_epoch(run_dir: Path) -> int | None:
    """Epoch, from 1, at which the mean of the folds' validation losses is least.

    None where no epoch has a finite loss in every fold.
    """
    curve = metrics.mean_curve(read_metrics(run_dir / "metrics.jsonl"))
    return int(np.nanargmin(curve)) + 1 if np.isfinite(curve).any() else None


def conclude(
    job: Job, stage: Stage, feed: InMemory | FromDisk, state: train.State
) -> dict:
    """Judge the folds' best epochs on held-out lens galaxies, with pictures."""
    systems, folds = job.sample.systems, job.folds
    trained = rows_of(folds.train, folds.n_train)
    held_out = rows_of(folds.validation, folds.n_validation)
    state = jax.device_get(state)
    params = [
        jax.tree.map(lambda a, k=k: a[k], state.best_params)
        for k in range(len(held_out))
    ]
    answers = {"network": _predictions(stage, feed, params, held_out)}
    untrained = np.repeat(state.best_epoch == 0, [len(r) for r in held_out])
    answers["network"] = np.where(untrained[:, None], np.nan, answers["network"])
    answers |= metrics.baselines(systems, job.catalogue.lenses, trained, held_out)
    rows = np.concatenate(held_out)
    merits = _write_answers(job, rows, answers, "held_out.parquet")
    records = read_metrics(job.run_dir / "metrics.jsonl")
    curve = metrics.mean_curve(records)
    _draw(job, stage, feed, rows, answers["network"], merits["network"], "held_out")
    results.losses(records, job.run_dir / "losses.png")
    return {
        "folds": job.settings.folds,
        # folds whose losses were no numbers in the end
        "diverged": [r["fold"] for r in records[-len(held_out) :] if lost(r)],
        "best_epoch": state.best_epoch.tolist(),  # 0: none had a finite loss
        "best_val_loss": state.best_loss.tolist(),
        "mean_curve": {
            "best_epoch": best_epoch(job.run_dir),
            "val_loss": float(np.nanmin(curve)) if np.isfinite(curve).any() else None,
        },
        "systems": {
            "sample": len(systems.number),
            "training": [len(r) for r in trained],
            "held_out": [len(r) for r in held_out],
        },
        "seconds": _seconds(records, stage),
        "merits": merits,
    }


def conclude_final(
    job: Job, stage: Stage, feed: InMemory | FromDisk, state: train.State
) -> dict:
    """Apply the final network to the test set, once, also with the arcs removed."""
    folds = job.final
    trained = rows_of(folds.train, folds.n_train)
    tested = rows_of(folds.validation, folds.n_validation)
    params = [jax.tree.map(lambda a: a[0], train.judged(jax.device_get(state)))]
    systems = job.sample.systems
    answers = {"network": _predictions(stage, feed, params, tested)}
    answers |= metrics.baselines(systems, job.catalogue.lenses, trained, tested)
    bare = stage._replace(rendering=stage.rendering._replace(lens_only=True))
    unlensed = _WithoutArcs(job, feed)
    answers["network, arcs removed"] = _predictions(bare, unlensed, params, tested)
    merits = _write_answers(job, tested[0], answers, "test.parquet")
    _draw(job, stage, feed, tested[0], answers["network"], merits["network"], "test")
    truth = np.asarray(train.targets(systems))[tested[0]]
    weights = np.asarray(stage.members.weights[0])
    records = read_metrics(stage.folder / "metrics.jsonl")
    return {
        "epochs": stage.epochs,
        "diverged": not all(np.isfinite(a).all() for a in jax.tree.leaves(params)),
        "test_loss": {
            who: float(train.loss(a, truth, weights).mean())
            for who, a in answers.items()
        },
        "systems": {"training": len(trained[0]), "test": len(tested[0])},
        "seconds": _seconds(records, stage),
        "merits": merits,
    }


def finish(job: Job, summary: dict) -> dict:
    """Write summary.json, with which a run is finished."""
    summary = json.loads(json.dumps(summary), parse_constant=lambda name: None)
    text = json.dumps(summary, indent=2, allow_nan=False)
    write(job.run_dir / "summary.json", text + "\n")
    return summary


class _WithoutArcs:
    """A feed of the bare lens galaxies, even where images with arcs are kept."""

    def __init__(self, job: Job, feed: InMemory | FromDisk):
        self.job, self.feed = job, feed

    def rows(self, rows: np.ndarray):
        data = self.feed.rows(rows)
        catalogue = data.catalogue or self.job.catalogue
        return data._replace(images=None, catalogue=catalogue)


def _predictions(stage, feed, params, judged) -> np.ndarray:
    @jax.jit
    def answer(params, rows, data):
        return train.predict(params, rows, data, stage.setup, stage.rendering)

    found = []
    for own, rows in zip(params, judged, strict=True):
        answers = []
        for first in range(0, len(rows), PIECE):
            some = np.resize(rows[first : first + PIECE], min(PIECE, len(rows)))
            answers.append(np.asarray(answer(own, some, feed.rows(some))))
        found.append(np.concatenate(answers)[: len(rows)])
    return np.concatenate(found)


def _write_answers(job, rows, answers, name: str) -> dict:
    """Write a table of truth and answers; the merits of each answer."""
    drawn = job.sample._replace(
        systems=metrics.take(job.sample.systems, rows), weight=job.sample.weight[rows]
    )
    table = sample.to_table(drawn, job.catalogue, job.listing, survey_of(job.settings))
    truth = np.asarray(train.targets(drawn.systems), float)
    merits = {}
    for who, values in answers.items():
        for k, target in enumerate(train.TARGETS):
            column = f"{ANSWERS[who]}_{COLUMNS[target]}"
            table[column] = values[:, k].astype(np.float32)
            table[column].unit = table[COLUMNS[target]].unit
        by_name = metrics.merits(truth, values)
        merits[who] = {name: m._asdict() for name, m in by_name.items()}
    parquet.write(table, job.run_dir / name, overwrite=True)
    return merits


def answers_in(table: Table) -> dict[str, np.ndarray]:
    """Answers (N, 5) by who gave them, and the truth, from a table as written here."""
    found = {"truth": ""} | {who: f"{name}_" for who, name in ANSWERS.items()}
    return {
        who: np.stack([np.asarray(table[p + c], float) for c in COLUMNS.values()], -1)
        for who, p in found.items()
        if p + "ex" in table.colnames
    }


def _seconds(records: list[dict], stage: Stage) -> float:
    """How long the training steps took: neither rendering nor validation.

    An epoch that a stop cut off after its last step has no rate: it counts as others.
    """
    per_epoch = stage.steps * stage.setup.batch_size
    rates = [r["images_per_second"] for r in records[:: len(stage.labels)]]
    known = [rate for rate in rates if rate > 0]
    each = [per_epoch / (rate or np.median(known)) for rate in rates if known]
    return round(float(sum(each)), 1)


def _draw(job, stage, feed, rows, predicted, merits, name: str) -> None:
    """Pictures of some mocks and of all answers; <name>.npz, for other pictures."""
    systems = job.sample.systems
    truth = np.asarray(train.targets(systems))[rows]
    # wide lenses whose arcs stand out: what a reader can see
    wide = systems.log_flux_ratio + 3 * np.log10(systems.sie.theta_E)
    order = np.argsort(-wide[rows])
    shown = order[:: max(1, len(order) // 48)][:EXAMPLES]
    data = feed.rows(rows[shown])
    catalogue = data.catalogue or job.catalogue

    @jax.jit
    def layers(systems, catalogue):
        one = lambda s: system.layers(s, catalogue, stage.rendering)  # noqa: E731
        return jax.lax.map(one, systems)

    some = jax.tree.map(lambda a: a[rows[shown]], data.systems)
    images, arcs = map(np.asarray, layers(some, catalogue))
    ids = [system.identifier(n) for n in systems.number[rows[shown]]]
    temporary = job.run_dir / f".{name}.npz"
    np.savez(temporary, id=ids, mock=images + arcs, arcs=arcs)
    temporary.replace(job.run_dir / f"{name}.npz")
    pictures.mocks(
        images + arcs,
        truth[shown],
        stage.rendering.survey,
        job.run_dir / "mocks.png",
        predicted[shown],
        "mocks of lens galaxies not trained on and, beneath, their arcs alone; "
        "critical curve: truth dashed, prediction cyan",
        arcs=arcs,
    )
    by_name = {name: metrics.Merit(**m) for name, m in merits.items()}
    results.predictions(truth, predicted, by_name, job.run_dir / "predictions.png")


def show(summary: dict, run_dir: Path) -> None:
    """The summary as tables on the screen."""
    n = sum(summary["systems"]["held_out"])
    folds = ", ".join(map(str, summary["folds"]))
    epochs = ", ".join(map(str, summary["best_epoch"]))
    progress.say(
        f"{n:,} mocks of lens galaxies held out of training, fold {folds}, best epoch "
        f"{epochs}:"
    )
    _show_merits(summary["merits"])
    if "final" in summary:
        final = summary["final"]
        progress.say(
            f"final network, {final['epochs']} epochs, on the test set of "
            f"{final['systems']['test']:,} mocks; loss {_loss(final['test_loss'])}:"
        )
        _show_merits(final["merits"])
        if final["diverged"]:
            progress.say("the final network DIVERGED: lower learning_rate")
    for fold in summary["diverged"]:
        progress.say(f"fold {fold} DIVERGED, its losses are no numbers any more")
    if summary["diverged"]:
        progress.say("lower learning_rate and start a new run_dir")
    progress.say(f"pictures and checkpoints: {run_dir}/")
    for name in ("mocks.png", "predictions.png", "losses.png", "summary.json"):
        progress.say(f"  {run_dir / name}")
    progress.say(f"a report: lensjax evaluate run_dir={run_dir}")


def _loss(by_who: dict) -> str:
    """The network's loss on the test set, and what the baselines have."""
    values = [
        f"{who} {'-' if v is None else format(v, '.4f')}" for who, v in by_who.items()
    ]
    return ", ".join(values)


def _show_merits(by_who: dict) -> None:
    table = ScreenTable()
    table.add_column("parameter")
    table.add_column("by")
    headings = ("bias", "half of 16-84 %", "RMS", "R^2", "outliers")
    for name in headings:
        table.add_column(name, justify="right")
    formats = {
        "bias": "+.4f",
        "half_width": ".4f",
        "rms": ".4f",
        "r2": ".3f",
        "outliers": ".1%",
    }
    for name in reversed(train.TARGETS):
        label = name if name.startswith("e") else f"{name} (arcsec)"
        for who, merits in by_who.items():
            values = ((merits[name][key], form) for key, form in formats.items())
            figures = ["-" if v is None else format(v, form) for v, form in values]
            table.add_row(label, who, *figures)
            label = ""
        table.add_section()
    Console(width=110 if not Console().is_terminal else None).print(table)
