"""A run's network in one small file, with what is known of it.

    lensjax export run_dir=DIR out=FILE.safetensors

Writes the file that `lensjax.pretrained.load` and `lensjax predict` weights=FILE`
read, and its card, FILE.md.  The network is the run's final one, or that of the best
epoch where a single fold was trained.
"""

from pathlib import Path

import jax
import numpy as np

from lensjax.commands import config, progress, run_folder, runs
from lensjax.commands.report import markdown_table
from lensjax.commands.resolve import (
    decisive,
    estimator_of,
    learning_of,
    network_of,
    survey_of,
)
from lensjax.learning import network, pretrained
from lensjax.parameters import WITHOUT_SHEAR
from lensjax.storage import atomic

RANGES = {p.name: p.column for p in WITHOUT_SHEAR} | {
    name: name for name in ("z_lens", "z_source")
}
"""Columns of a sample whose ranges are reported."""

KINDS = {
    "paper": "the paper's: Schuldt et al. 2021",
    "posterior": "residual, its answer a posterior",
}

NOT_FOR_REAL = {
    "paper": "It was trained on drawn galaxies, not on real ones: of real ones its "
    "predictions are biased (docs/paper.md), so train on the survey's own galaxies.",
    "posterior": "It was trained on drawn galaxies, not on real ones: docs/networks.md "
    "says how it does on mocks of real galaxies.",
}


def about(run_dir: Path, settings: config.TrainConfig, name: str) -> dict:
    """All that a file says of a run's network."""
    summary = run_folder.facts(run_dir, "summary.json")
    tested = tests_of(summary)
    facts = run_folder.facts(run_dir, "provenance.json")
    drawn = run_folder.table(run_dir, "systems.parquet")
    catalogue = facts["catalogue"]
    own = settings.data is not None
    origin = f"galaxies of {Path(settings.data).name}" if own else catalogue["origin"]
    return {
        "name": name,
        "survey": survey_of(settings).name,
        **pretrained.described(network_of(settings)),
        "targets": [[p.name, p.unit, p.meaning] for p in WITHOUT_SHEAR],
        "trained on": {
            "systems": tested["systems"]["training"],
            "catalogue": origin,
            "lens_galaxies": catalogue["lens_galaxies"],
            "sources": catalogue["sources"],
            "fingerprint": catalogue["fingerprint"],
            "epochs": tested["epochs"],
            "command": config.command_line(settings),
            **begun(settings),
        },
        "warning": "" if own else NOT_FOR_REAL[settings.estimator],
        "ranges": {
            key: [float(f"{edge(drawn[column]):.3g}") for edge in (np.min, np.max)]
            for key, column in RANGES.items()
        },
        "test": {
            "systems": tested["systems"]["test"],
            "loss": tested["test_loss"],
            "merits": tested["merits"],
        },
        "provenance": {
            k: facts[k] for k in ("created", "commit", "device", "versions")
        },
    }


def begun(settings: config.TrainConfig) -> dict:
    """What is known of the training of the weights that a run began with, if any."""
    if settings.init is None:
        return {}
    return {"begun with": pretrained.load(settings.init).about["trained on"]}


def tests_of(summary: dict) -> dict:
    """What a summary has of the final network, or of a single fold's best epoch."""
    if "final" in summary:
        return summary["final"]
    (trained,), (held_out,) = (summary["systems"][k] for k in ("training", "held_out"))
    return {
        "epochs": summary["best_epoch"][0],
        "systems": {"training": trained, "test": held_out},
        "test_loss": {"network": summary["best_val_loss"][0]},
        "merits": summary["merits"],
    }


def card(model: pretrained.Model) -> str:
    """What one should know before using a network, as Markdown."""
    about = model.about
    on, test, came = about["trained on"], about["test"], about["provenance"]
    columns = ("bias", "half_width", "rms", "r2")
    merits = [
        [f"{name} [{unit}]" if unit else name, who, *(f"{m[k]:z.3f}" for k in columns)]
        for name, unit, _ in about["targets"]
        for who, by_name in test["merits"].items()
        for m in [by_name[name]]
    ]
    ranges = [
        [k, f"{low:g}", f"{high:g}"] for k, (low, high) in about["ranges"].items()
    ]
    meanings = [[name, unit or "-", text] for name, unit, text in about["targets"]]
    losses = [[who, f"{value:.4f}"] for who, value in test["loss"].items()]
    side, size = model.survey.image_size, network.count_parameters(model.params)
    lines = [
        f"# {model.name}",
        f"A network of {size:,} parameters ({KINDS[about.get('estimator', 'paper')]}), "
        "that predicts an SIE from an image.",
        f"    lensjax predict weights={model.name} cutouts=DIR out=FILE",
        about["warning"],
        "## What it sees",
        f"Cutouts of {model.survey.name}: {side} x {side} pixels of "
        f"{model.survey.pixel_scale} arcsec, bands {', '.join(model.survey.bands)} in "
        f"this order, counts of zero point {model.survey.zero_point:g}; "
        + (
            f"it takes the scaling `{about['scaling']}` of them itself."
            if "scaling" in about
            else "it measures their noise and takes the lens's light off itself."
        ),
        "## What it predicts",
        markdown_table(["parameter", "unit", "meaning"], meanings),
        "## What it was trained on",
        f"{on['systems']:,} mocks of the {on['catalogue']} ({on['lens_galaxies']:,} "
        f"lens galaxies, {on['sources']:,} sources), for {on['epochs']} epochs:",
        f"    {on['command']}",
        *_before(on),
        "with a sample of these ranges:",
        markdown_table(["", "least", "largest"], ranges),
        f"Commit {came['commit']}, {came['created'][:10]}, {came['device']}, jax "
        f"{came['versions']['jax']}.",
        "## How well it does",
        f"On {test['systems']:,} mocks of lens galaxies that it never saw. "
        "*Light only* and *prior mean* know nothing of the arcs, or of the image.",
        markdown_table(["parameter", "by", "bias", "half width", "RMS", "R^2"], merits),
        markdown_table(["by", "loss"], losses),
    ]
    return "\n\n".join(line.rstrip() for line in lines if line) + "\n"


def _before(on: dict) -> list[str]:
    """Lines of the card: the training before, whose weights this one began with."""
    if "begun with" not in on:
        return []
    before = on["begun with"]
    return [
        f"It began with weights that {before['systems']:,} mocks had trained, for "
        f"{before['epochs']} epochs:",
        f"    {before['command']}",
    ]


def run(settings: config.ExportConfig) -> int:
    """Write the file and its card; returns the exit status."""
    run_dir, out = Path(settings.run_dir), Path(settings.out)
    try:
        own = config.from_yaml(run_dir / "config.yaml", config.TrainConfig)
        kind = estimator_of(own), learning_of(own)
        params = runs.final(run_dir, *kind, decisive(own))
        if params is None and len(own.folds) == 1:
            params = runs.best_of_folds(run_dir, *kind, own.folds, decisive(own))
        if params is None:
            raise config.ConfigError(
                f"run_dir: {run_dir} has no final network: train it with fold=all "
                "final=true, to its end, or one fold alone"
            )
        known = about(run_dir, own, settings.name or out.stem)
    except config.ConfigError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise config.ConfigError(f"run_dir: {run_dir}: {error}") from error
    try:
        pretrained.save(out, jax.tree.map(lambda a: a[0], params), known)
        atomic.write(out.with_suffix(".md"), card(pretrained.load(out)))
    except OSError as error:
        raise config.ConfigError(f"out: {out} was not written: {error}") from error
    progress.say(f"{out}: {out.stat().st_size:,} bytes; {out.with_suffix('.md')}")
    return 0
