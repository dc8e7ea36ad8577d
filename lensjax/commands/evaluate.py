"""Evaluate a trained run: `lensjax evaluate run_dir=DIR`.

Reads what the run predicted for lens galaxies that it was not trained on, and writes
report.html (one file, for a browser), evaluation.json and the figures into the run's
folder.  `beside=[DIR,DIR]` draws other runs into the figures that compare several.
"""

import json
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from astropy.table import Table

from lensjax import cosmology, next_images, parameters
from lensjax.commands import config, held_out, progress, report, run_folder
from lensjax.commands.provenance import commit
from lensjax.commands.resolve import COSMOLOGY, survey_of
from lensjax.evaluation import metrics
from lensjax.evaluation.metrics import Predictions, quantiles
from lensjax.parameters import WITHOUT_SHEAR
from lensjax.plotting import paper_figures, pictures
from lensjax.plotting.paper_figures import WIDE
from lensjax.shear import Shear
from lensjax.storage import atomic
from lensjax.survey import Survey

THETA_E_BINS = (0.0, 0.8, 1.2, 1.6, 2.0, 2.5, 5.0)  # [arcsec]
RATIO_BINS = (-10.0, -2.5, -2.0, -1.5, 10.0)
PIECE = 4096  # systems that are solved at a time
_compare = jax.jit(jax.vmap(next_images.compare))  # compiled once, whoever predicts


def predictions_of(table: Table) -> dict[str, Predictions]:
    """Predictions by who made them, each with the next images that it predicts."""
    truth, by_who = held_out.read(table)
    band = next(n for n in table.colnames if n.startswith("log_flux_ratio_"))
    beta = [np.asarray(table[f"beta_{k}_arcsec"], np.float32) for k in "xy"]
    shear = [np.asarray(table[f"shear_{k}"], np.float32) for k in ("g1", "g2")]
    z = [np.asarray(table[n], np.float32) for n in ("z_lens", "z_source")]
    distance = np.asarray(cosmology.time_delay_distance(COSMOLOGY, *z))
    true = parameters.to_lens(truth.astype(np.float32))._replace(shear=Shear(*shear))
    found = {}
    for who, predicted in by_who.items():
        # the network knows of no shear: its model has none
        model = parameters.to_lens(predicted.astype(np.float32))
        pieces = []
        for first in range(0, len(table), PIECE):
            some = np.minimum(np.arange(first, first + PIECE), len(table) - 1)
            rows = jax.tree.map(lambda a, i=some: np.asarray(a)[i], (true, model))
            pieces.append(_compare(*rows, *(b[some] for b in beta), distance[some]))
        images = jax.tree.map(
            lambda *a: np.concatenate([np.asarray(p) for p in a])[: len(table)], *pieces
        )
        ratio = np.asarray(table[band], float)
        found[who] = Predictions(truth, predicted, ratio, images)
    return found


def figures_of_merit(predictions: Predictions) -> dict:
    """All of one network's figures: whole sample, in bins, and of its next images."""
    truth, predicted = predictions.truth, predictions.predicted

    def merits(keep):
        if keep.sum() < 2:
            return None
        by_name = metrics.merits(truth[keep], predicted[keep])
        return {name: m._asdict() for name, m in by_name.items()}

    def binned(values, edges):
        pairs = list(zip(edges[:-1], edges[1:], strict=True))
        inside = [(values >= low) & (values < high) for low, high in pairs]
        return [
            {"from": low, "to": high, "systems": int(i.sum()), "merits": merits(i)}
            for (low, high), i in zip(pairs, inside, strict=True)
        ]

    theta_E = truth[:, 4]
    wide = theta_E > WIDE
    return {
        "systems": len(truth),
        "merits": merits(np.ones(len(truth), bool)),
        "error": {
            p.name: quantiles((predicted - truth)[:, k])
            for k, p in enumerate(WITHOUT_SHEAR)
        },
        f"theta_E > {WIDE}": {
            "systems": int(wide.sum()),
            "merits": merits(wide),
            "theta_E error": quantiles((predicted - truth)[wide, 4]),
        },
        "by theta_E": binned(theta_E, THETA_E_BINS),
        "by log flux ratio": binned(predictions.log_flux_ratio, RATIO_BINS),
        "next images": of_next_images(predictions, 0.0),
        f"next images, theta_E > {WIDE}": of_next_images(predictions, WIDE),
    }


def of_next_images(predictions: Predictions, least: float) -> dict:
    """Section 6 in numbers: offsets [arcsec], delays [days], counts that differ."""
    f = predictions.followup
    kept = predictions.truth[:, 4] > least
    other = (f.n_true != f.n_predicted)[kept]
    single = (f.n_predicted == 1)[kept][other]
    d = paper_figures.differences(predictions, least)
    kinds = {
        "all": d.n_images > 0,
        "doubles": d.n_images == 2,
        "quads": d.n_images == 4,
    }
    return {
        "systems": int(kept.sum()),
        "other number of images": float(other.mean()) if kept.any() else None,
        # the model has the source beyond its cut: no image is to come
        "of them a single image": float(single.mean()) if other.any() else None,
        **{
            kind: {
                "images": int(which.sum()),
                **{
                    name: quantiles(getattr(d, name)[which])
                    for name in ("x", "y", "delay", "fraction")
                },
            }
            for kind, which in kinds.items()
        },
    }


class Unseen(NamedTuple):
    """What a run is evaluated on."""

    name: str  # of the table and of its examples' images
    what: str
    table: Table
    predictions: dict[str, Predictions]  # by who made them


def unseen_by(run_dir: Path) -> Unseen:
    """The test set of a run that has come to its final network, else its folds."""
    final = run_folder.has_final(run_dir)
    name = "test" if final else "held_out"
    what = "the test set" if final else "galaxies held out of the folds"
    path = run_dir / f"{name}.parquet"
    if path.exists():
        table = run_folder.table(run_dir, path.name)
        return Unseen(name, what, table, predictions_of(table))
    raise config.ConfigError(
        f"run_dir: {run_dir} has no held_out.parquet: let the run finish (the same "
        f"command with run_dir={run_dir})"
    )


def draw(
    run_dir: Path, survey: Survey, unseen: Unseen, by_name: dict[str, Predictions]
) -> None:
    """The figures, as PNG files in the run's folder; the run comes first in by_name."""
    own, table = unseen.predictions["network"], unseen.table
    paper_figures.histograms(own, run_dir / "histograms.png")
    paper_figures.error_pairs(by_name, run_dir / "errors.png")
    paper_figures.against_flux_ratio(by_name, run_dir / "flux_ratio.png")
    paper_figures.follow_up(by_name, run_dir / "next_images.png")
    paper_figures.delays_against_theta_E(by_name, run_dir / "delays.png")
    examples = run_folder.arrays(run_dir, f"{unseen.name}.npz")
    ids = {name: k for k, name in enumerate(table["id"])}
    rows = np.array([ids[name] for name in examples["id"].tolist()])
    pictures.models(
        examples["mock"],
        jax.tree.map(lambda a: a[rows], own),
        np.array([table[f"beta_{k}_arcsec"][rows] for k in "xy"], float).T,
        np.array([table[f"shear_{k}"][rows] for k in ("g1", "g2")], float).T,
        survey,
        run_dir / "models.png",
        ids=examples["id"].tolist(),
    )


def run(settings: config.EvaluateConfig) -> int:
    """Figures, numbers and report of one run."""
    run_dir = Path(settings.run_dir)
    unseen = unseen_by(run_dir)
    trained = config.from_yaml(run_dir / "config.yaml", config.TrainConfig)
    by_name = {report.title(run_dir, trained): unseen.predictions["network"]}
    for other in map(Path, settings.beside):
        others = config.from_yaml(other / "config.yaml", config.TrainConfig)
        title = report.title(other, others)
        if title in by_name:  # folders of one name
            title += f", {other}"
        by_name[title] = unseen_by(other).predictions["network"]
    draw(run_dir, survey_of(trained), unseen, by_name)
    evaluation = {
        "run": run_dir.name,
        "evaluated on": unseen.what,
        "commit": commit(),
        "predictions": {
            who: figures_of_merit(one) for who, one in unseen.predictions.items()
        },
    }
    text = json.dumps(evaluation, indent=1)
    evaluation = json.loads(text, parse_constant=lambda name: None)
    text = json.dumps(evaluation, indent=1) + "\n"
    atomic.write(run_dir / "evaluation.json", text)
    path = report.make(run_dir, evaluation)
    merit = evaluation["predictions"]["network"]["merits"]["theta_E"]
    progress.say(
        f"{len(unseen.table):,} systems of {unseen.what}: theta_E "
        f"{_number(merit['bias'])} +- {_number(merit['half_width'])} "
        f"arcsec (median, half of 16-84 %), R^2 {_number(merit['r2'])}"
    )
    progress.say(f"open {path} in a browser")
    return 0


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
