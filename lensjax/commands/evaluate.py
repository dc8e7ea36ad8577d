"""Judge a trained run: `lensjax evaluate run_dir=DIR`.

Reads what the run answered for lens galaxies that it was not trained on, and writes
report.html (one file, for a browser), evaluation.json and the figures into the run's
folder.  `beside=[DIR,DIR]` draws other runs into the figures that compare several.
"""

import json
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from astropy.table import Table

from lensjax import cosmology, lens, next_images
from lensjax.commands import config, progress, report
from lensjax.commands.provenance import commit
from lensjax.commands.run_folder import write
from lensjax.commands.sample import COSMOLOGY, survey_of
from lensjax.commands.summary import answers_in
from lensjax.evaluation import metrics
from lensjax.evaluation.metrics import Answers, quantiles
from lensjax.learning.train import TARGETS
from lensjax.lens import Lens
from lensjax.plotting import paper_figures, pictures
from lensjax.plotting.paper_figures import WIDE
from lensjax.shear import Shear
from lensjax.sie import SIE
from lensjax.storage import parquet

THETA_E_BINS = (0.0, 0.8, 1.2, 1.6, 2.0, 2.5, 5.0)  # [arcsec]
RATIO_BINS = (-10.0, -2.5, -2.0, -1.5, 10.0)
PIECE = 4096  # systems that are solved at a time
_compare = jax.jit(jax.vmap(next_images.compare))  # compiled once, whoever answers


def answers_of(table: Table) -> dict[str, Answers]:
    """Answers by who gave them, each with the next images that it predicts."""
    answers = answers_in(table)
    truth = answers.pop("truth")
    band = next(n for n in table.colnames if n.startswith("log_flux_ratio_"))
    beta = [np.asarray(table[f"beta_{k}_arcsec"], np.float32) for k in "xy"]
    shear = [np.asarray(table[f"shear_{k}"], np.float32) for k in ("g1", "g2")]
    z = [np.asarray(table[n], np.float32) for n in ("z_lens", "z_source")]
    distance = np.asarray(cosmology.time_delay_distance(COSMOLOGY, *z))
    true = Lens(sie_of(truth), Shear(*shear))
    found = {}
    for who, predicted in answers.items():
        # the network knows of no shear: its model has none
        model = lens.without_shear(sie_of(predicted))
        pieces = []
        for first in range(0, len(table), PIECE):
            some = np.minimum(np.arange(first, first + PIECE), len(table) - 1)
            rows = jax.tree.map(lambda a, i=some: np.asarray(a)[i], (true, model))
            pieces.append(_compare(*rows, *(b[some] for b in beta), distance[some]))
        images = jax.tree.map(
            lambda *a: np.concatenate([np.asarray(p) for p in a])[: len(table)], *pieces
        )
        found[who] = Answers(truth, predicted, np.asarray(table[band], float), images)
    return found


def sie_of(targets: np.ndarray) -> SIE:
    """SIEs (N,) of rows of targets (N, 5)."""
    values = dict(zip(TARGETS, np.asarray(targets, np.float32).T, strict=True))
    return SIE(**{name: values[name] for name in SIE._fields})


def figures_of_merit(answers: Answers) -> dict:
    """All of one network's figures: whole sample, in bins, and of its next images."""
    truth, predicted = answers.truth, answers.predicted

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
            name: quantiles((predicted - truth)[:, k]) for k, name in enumerate(TARGETS)
        },
        f"theta_E > {WIDE}": {
            "systems": int(wide.sum()),
            "merits": merits(wide),
            "theta_E error": quantiles((predicted - truth)[wide, 4]),
        },
        "by theta_E": binned(theta_E, THETA_E_BINS),
        "by log flux ratio": binned(answers.log_flux_ratio, RATIO_BINS),
        "next images": next_images(answers, 0.0),
        f"next images, theta_E > {WIDE}": next_images(answers, WIDE),
    }


def next_images(answers: Answers, least: float) -> dict:
    """Section 6 in numbers: offsets [arcsec], delays [days], counts that differ."""
    f = answers.followup
    kept = answers.truth[:, 4] > least
    other = (f.n_true != f.n_predicted)[kept]
    single = (f.n_predicted == 1)[kept][other]
    d = paper_figures.differences(answers, least)
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


class Judged(NamedTuple):
    """What a run is judged by."""

    name: str  # of the table and of its examples' images
    what: str
    table: Table
    answers: dict[str, Answers]


def judge(run_dir: Path) -> Judged:
    """The test set of a run that has come to its final network, else its folds."""
    summary = run_dir / "summary.json"
    final = summary.exists() and "final" in json.loads(summary.read_text())
    name = "test" if final else "held_out"
    what = "the test set" if final else "galaxies held out of the folds"
    path = run_dir / f"{name}.parquet"
    if path.exists():
        return Judged(name, what, table := parquet.read(path), answers_of(table))
    raise config.ConfigError(
        f"run_dir: {run_dir} has no held_out.parquet: let the run finish (the same "
        f"command with run_dir={run_dir})"
    )


def draw(run_dir: Path, settings, judged: Judged, by_name: dict[str, Answers]) -> None:
    """The figures, as PNG files in the run's folder; the run comes first in by_name."""
    own, table = judged.answers["network"], judged.table
    paper_figures.histograms(own, run_dir / "histograms.png")
    paper_figures.error_pairs(by_name, run_dir / "errors.png")
    paper_figures.against_flux_ratio(by_name, run_dir / "flux_ratio.png")
    paper_figures.follow_up(by_name, run_dir / "next_images.png")
    paper_figures.delays_against_theta_E(by_name, run_dir / "delays.png")
    with np.load(run_dir / f"{judged.name}.npz", allow_pickle=False) as examples:
        ids = {name: k for k, name in enumerate(table["id"])}
        rows = np.array([ids[name] for name in examples["id"].tolist()])
        pictures.models(
            examples["mock"],
            jax.tree.map(lambda a: a[rows], own),
            np.array([table[f"beta_{k}_arcsec"][rows] for k in "xy"], float).T,
            np.array([table[f"shear_{k}"][rows] for k in ("g1", "g2")], float).T,
            survey_of(settings),
            run_dir / "models.png",
            ids=examples["id"].tolist(),
        )


def run(settings: config.EvaluateConfig) -> int:
    """Figures, numbers and report of one run."""
    run_dir = Path(settings.run_dir)
    judged = judge(run_dir)
    answers = judged.answers
    trained = config.from_yaml(run_dir / "config.yaml", config.TrainConfig)
    by_name = {report.title(run_dir, trained): answers["network"]}
    for other in map(Path, settings.beside):
        others = config.from_yaml(other / "config.yaml", config.TrainConfig)
        title = report.title(other, others)
        if title in by_name:  # folders of one name
            title += f", {other}"
        by_name[title] = judge(other).answers["network"]
    draw(run_dir, trained, judged, by_name)
    evaluation = {
        "run": run_dir.name,
        "judged by": judged.what,
        "commit": commit(),
        "answers": {who: figures_of_merit(a) for who, a in answers.items()},
    }
    text = json.dumps(evaluation, indent=1)
    evaluation = json.loads(text, parse_constant=lambda name: None)
    write(run_dir / "evaluation.json", json.dumps(evaluation, indent=1) + "\n")
    path = report.make(run_dir, evaluation)
    merit = evaluation["answers"]["network"]["merits"]["theta_E"]
    progress.say(
        f"{len(judged.table):,} systems of {judged.what}: theta_E "
        f"{_number(merit['bias'])} +- {_number(merit['half_width'])} "
        f"arcsec (median, half of 16-84 %), R^2 {_number(merit['r2'])}"
    )
    progress.say(f"open {path} in a browser")
    return 0


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
