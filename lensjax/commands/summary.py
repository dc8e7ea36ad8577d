"""The end of a run: its networks on what they have not seen, and summary.json.

held_out.parquet has what the folds' best epochs predict for the lens galaxies that each
held out, test.parquet what the final network predicts for the test set (`held_out`).
`lensjax evaluate` reads them.
"""

import json
from pathlib import Path

import jax
import numpy as np

from lensjax.commands import held_out
from lensjax.commands.job import Job
from lensjax.evaluation import metrics
from lensjax.learning import paper_cnn, program, records, step
from lensjax.learning.estimator import targets
from lensjax.learning.loader import FromDisk, InMemory
from lensjax.learning.loop import Stage
from lensjax.learning.records import Record
from lensjax.learning.step import State
from lensjax.mocks import system
from lensjax.plotting import pictures, results
from lensjax.storage import atomic

PIECE = 512  # rows that are predicted at a time
EXAMPLES = 12  # lenses whose images are kept for pictures


def rows_of(table: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """Rows of the sample, by member, without padding."""
    return [np.asarray(r[:n]) for r, n in zip(table, counts, strict=True)]


def best_epoch(run_dir: Path) -> int | None:
    """Epoch, from 1, at which the mean of the folds' validation losses is least.

    None where no epoch has a finite loss in every fold.
    """
    curve = metrics.mean_curve(records.read(run_dir / "metrics.jsonl"))
    return int(np.nanargmin(curve)) + 1 if np.isfinite(curve).any() else None


def conclude(job: Job, stage: Stage, loader: InMemory | FromDisk, state: State) -> dict:
    """Evaluate the folds' best epochs on held-out lens galaxies, with pictures."""
    systems, folds = job.sample.systems, job.folds
    trained = rows_of(folds.train, folds.n_train)
    unseen = rows_of(folds.validation, folds.n_validation)
    state = jax.device_get(state)
    params = [
        jax.tree.map(lambda a, k=k: a[k], state.best_params) for k in range(len(unseen))
    ]
    predicted = _predictions(stage, loader, params, unseen)
    untrained = np.repeat(state.best_epoch == 0, [len(r) for r in unseen])
    predicted = {"network": np.where(untrained[:, None], np.nan, predicted)}
    predicted |= metrics.baselines(systems, job.catalogue.lenses, trained, unseen)
    rows = np.concatenate(unseen)
    merits = _write(job, "held_out", rows, predicted)
    epochs = records.read(job.run_dir / "metrics.jsonl")
    curve = metrics.mean_curve(epochs)
    _draw(job, stage, loader, rows, predicted["network"], merits, "held_out")
    results.losses(epochs, job.run_dir / "losses.png")
    return {
        "folds": job.plan.folds,
        # folds whose losses were NaN or infinite in the end
        "diverged": [r["fold"] for r in epochs[-len(unseen) :] if records.diverged(r)],
        "best_epoch": state.best_epoch.tolist(),  # 0: none had a finite loss
        "best_val_loss": state.best_loss.tolist(),
        "mean_curve": {
            "best_epoch": best_epoch(job.run_dir),
            "val_loss": float(np.nanmin(curve)) if np.isfinite(curve).any() else None,
        },
        "systems": {
            "sample": len(systems.number),
            "training": [len(r) for r in trained],
            "held_out": [len(r) for r in unseen],
        },
        "seconds": _seconds(epochs, stage),
        "merits": merits,
    }


def conclude_final(
    job: Job, stage: Stage, loader: InMemory | FromDisk, state: State
) -> dict:
    """Apply the final network to the test set, once, also with the arcs removed."""
    folds = job.final
    trained = rows_of(folds.train, folds.n_train)
    tested = rows_of(folds.validation, folds.n_validation)
    params = [jax.tree.map(lambda a: a[0], step.in_use(jax.device_get(state)))]
    systems = job.sample.systems
    predicted = {"network": _predictions(stage, loader, params, tested)}
    predicted |= metrics.baselines(systems, job.catalogue.lenses, trained, tested)
    bare = stage._replace(rendering=stage.rendering._replace(lens_only=True))
    unlensed = _WithoutArcs(job, loader)
    predicted["network, arcs removed"] = _predictions(bare, unlensed, params, tested)
    merits = _write(job, "test", tested[0], predicted)
    _draw(job, stage, loader, tested[0], predicted["network"], merits, "test")
    truth = np.asarray(targets(systems))[tested[0]]
    weights = np.asarray(stage.members.weights[0])
    epochs = records.read(stage.folder / "metrics.jsonl")
    return {
        "epochs": stage.epochs,
        "diverged": not all(np.isfinite(a).all() for a in jax.tree.leaves(params)),
        "test_loss": {
            who: float(paper_cnn.loss(values, truth, weights).mean())
            for who, values in predicted.items()
        },
        "systems": {"training": len(trained[0]), "test": len(tested[0])},
        "seconds": _seconds(epochs, stage),
        "merits": merits,
    }


def finish(job: Job, summary: dict) -> dict:
    """Write summary.json, with which a run is finished."""
    summary = json.loads(json.dumps(summary), parse_constant=lambda name: None)
    text = json.dumps(summary, indent=2, allow_nan=False)
    atomic.write(job.run_dir / "summary.json", text + "\n")
    return summary


class _WithoutArcs:
    """A loader of the bare lens galaxies, even where images with arcs are kept."""

    def __init__(self, job: Job, loader: InMemory | FromDisk):
        self.job, self.loader = job, loader

    def rows(self, rows: np.ndarray):
        data = self.loader.rows(rows)
        catalogue = data.catalogue or self.job.catalogue
        return data._replace(kept=None, catalogue=catalogue)


def _predictions(stage, loader, params, unseen) -> np.ndarray:
    """What each network (params) predicts of its rows (unseen), one behind another."""

    @jax.jit
    def predict(params, rows, data):
        return program.predict(params, rows, data, stage.estimator, stage.rendering)

    found = []
    for own, rows in zip(params, unseen, strict=True):
        pieces = []
        for first in range(0, len(rows), PIECE):
            some = np.resize(rows[first : first + PIECE], min(PIECE, len(rows)))
            pieces.append(np.asarray(predict(own, some, loader.rows(some))))
        found.append(np.concatenate(pieces)[: len(rows)])
    return np.concatenate(found)


def _write(job, name: str, rows, predicted: dict[str, np.ndarray]) -> dict:
    return held_out.write(
        job.run_dir / f"{name}.parquet",
        rows,
        predicted,
        job.sample,
        job.catalogue,
        job.listing,
        job.plan.rendering.survey,
    )


def _seconds(epochs: list[Record], stage: Stage) -> float:
    """How long the training steps took: neither rendering nor validation.

    An epoch that a stop cut off after its last step has no rate: it counts as others.
    """
    per_epoch = stage.steps * stage.settings.batch_size
    rates = [r["images_per_second"] for r in epochs[:: len(stage.labels)]]
    known = [rate for rate in rates if rate > 0]
    each = [per_epoch / (rate or np.median(known)) for rate in rates if known]
    return round(float(sum(each)), 1)


def _draw(job, stage, loader, rows, predicted, merits, name: str) -> None:
    """Pictures of some mocks and of all predictions; <name>.npz, for others."""
    systems = job.sample.systems
    truth = np.asarray(targets(systems))[rows]
    # wide lenses whose arcs stand out: what a reader can see
    wide = systems.log_flux_ratio + 3 * np.log10(systems.sie.theta_E)
    order = np.argsort(-wide[rows])
    shown = order[:: max(1, len(order) // 48)][:EXAMPLES]
    data = loader.rows(rows[shown])
    catalogue = data.catalogue or job.catalogue

    @jax.jit
    def layers(systems, catalogue):
        one = lambda s: system.layers(s, catalogue, stage.rendering)  # noqa: E731
        return jax.lax.map(one, systems)

    some = jax.tree.map(lambda a: a[rows[shown]], data.systems)
    images, arcs = map(np.asarray, layers(some, catalogue))
    ids = [system.identifier(n) for n in systems.number[rows[shown]]]
    atomic.write(
        job.run_dir / f"{name}.npz",
        lambda file: np.savez(file, id=ids, mock=images + arcs, arcs=arcs),
    )
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
    by_name = {name: metrics.Merit(**m) for name, m in merits["network"].items()}
    results.predictions(truth, predicted, by_name, job.run_dir / "predictions.png")
