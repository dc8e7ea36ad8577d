"""The paper's networks, one after the other: `python -m experiments.paper`.

Trains rows of Table 1 of Schuldt et al. (2021) at a share of the paper's sample sizes,
folds, final network, test set and report each, and prints ours beside theirs.  The same
command goes on after a stop; rows that are done are not trained again.
`add=[DIR,DIR]` records finished runs in docs/paper/ and makes the tables of
docs/paper.md anew.
"""

import json
from pathlib import Path

from experiments.settings import PaperConfig
from lensjax.commands import config

if __name__ == "__main__":  # a wrong key is told before JAX is loaded
    config.check("paper")

from experiments import page
from experiments.published import ROWS
from lensjax.commands import evaluate, progress, train
from lensjax.commands.config import EvaluateConfig, TrainConfig
from lensjax.storage import atomic

DOCS = Path(__file__).parent.parent / "docs"


def name_of(settings: TrainConfig) -> str | None:
    """The row that a run's settings are of, if any."""
    preset = config.typed(
        config.compose("train", [f"sample={settings.sample}"]), TrainConfig
    )
    drawn = ("theta_E_min", "theta_E_max", "arc_peak", "rotate", "cap", "shear", "data",
             "dither", "vary_psf", "arc_noise", "survey", "channels", "dense",
             "dropout", "scaling", "weight_center")  # fmt: skip
    if any(getattr(settings, k) != getattr(preset, k) for k in drawn):
        return None
    for name, row in ROWS.items():
        extra = (bool(settings.lens_only), settings.source_boost)
        wanted = ("lens_only=true" in row.extra, float("source_boost=1" in row.extra))
        same = (row.sample, row.multiplicity, row.weight, wanted) == (
            settings.sample,
            settings.multiplicity,
            settings.weight_theta_E,
            extra,
        )
        if same:
            return name
    return None


def record(run_dir: Path) -> dict:
    """A finished run in a few kilobytes: how it was made and what came of it."""
    settings = config.from_yaml(run_dir / "config.yaml", TrainConfig)
    name = name_of(settings)
    if name is None:
        raise config.ConfigError(f"{run_dir} is none of the paper's networks")
    try:
        summary, evaluation, facts = (
            json.loads((run_dir / f).read_text())
            for f in ("summary.json", "evaluation.json", "provenance.json")
        )
        final = summary["final"]
    except (OSError, KeyError) as error:
        raise config.ConfigError(
            f"{run_dir} is not finished and judged, or has no final network "
            f"({error}): train it with fold=all final=true, then python -m "
            "experiments.evaluate"
        ) from error
    return {
        "row": name + (page.ONLINE if settings.online else ""),
        "command": config.command_line(settings),
        "systems": summary["systems"]["sample"],
        "trained on": final["systems"]["training"],
        "tested on": final["systems"]["test"],
        "folds' epochs": settings.epochs,
        "epochs": final["epochs"],
        "optimizer": settings.optimizer,
        "average": settings.average,
        "learning_rate": settings.learning_rate,
        "batch_size": settings.batch_size,
        "seed": settings.seed,
        "seconds": [summary["seconds"], final["seconds"]],
        "device": facts["device"],
        "commit": facts["commit"],
        "versions": facts["versions"],
        "validation loss": summary["mean_curve"]["val_loss"],
        "test loss": final["test_loss"],
        "predictions": evaluation["predictions"],
    }


def _rounded(value, digits: int = 5):
    """Records of five digits are small, and enough for any table."""
    if isinstance(value, dict):
        return {k: _rounded(v, digits) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v, digits) for v in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def settings_of(name: str, settings: PaperConfig) -> TrainConfig:
    """The run that stands for a row, at the scale that was asked for."""
    row, kind = ROWS[name], page.ONLINE if settings.online else ""
    systems = row.systems or ROWS[row.sample].systems
    keys = [
        f"sample={row.sample}",
        f"multiplicity={row.multiplicity}",
        f"weight_theta_E={row.weight:g}",
        f"size={round(settings.scale * systems)}",
        f"epochs={settings.epochs}",
        f"optimizer={settings.optimizer}",
        f"average={settings.average}",
        f"learning_rate={settings.learning_rate}",
        f"batch_size={settings.batch_size}",
        f"seed={settings.seed}",
        "fold=all",
        "final=true",
        f"online={settings.online}",
        f"run_dir={Path(settings.out) / name}{kind}",
        *row.extra,
    ]
    for key in ("n_lenses", "n_sources"):
        if value := getattr(settings, key):
            keys.append(f"{key}={value}")
    if settings.once is not None and row.sample == "uniform":
        keys.append(f"once={settings.once}")
    return config.typed(config.compose("train", keys), TrainConfig)


def run(settings: PaperConfig) -> int:
    """Train and judge rows, or record finished runs; the exit status of `train`."""
    if settings.add or settings.first:
        (DOCS / "paper").mkdir(exist_ok=True)
        named = [(Path(settings.first), "first")] if settings.first else []
        for run_dir, name in [*named, *((Path(d), None) for d in settings.add)]:
            made = record(run_dir)
            path = DOCS / "paper" / f"{name or made['row']}.json"
            atomic.write(path, json.dumps(_rounded(made)) + "\n")
            progress.say(f"{run_dir}: {path}")
        page.fill(
            DOCS / "paper.md",
            page.records_in(DOCS / "paper"),
            page.first_in(DOCS),
            page.varied_in(DOCS),
        )
        return 0
    # what cannot work is told before the first row trains
    wanted = {name: settings_of(name, settings) for name in settings.rows}
    found = {}
    for name, own in wanted.items():
        progress.say(f"--- {name}: {config.command_line(own)}")
        status = train.run(own)
        if status:
            return status
        evaluate.run(EvaluateConfig(own.run_dir))
        try:
            found[name] = record(Path(own.run_dir))
        except config.ConfigError:  # its folds diverged, as train has said
            progress.say(f"{name} has no final network: it is left out")
    progress.say("\n" + page.first_table(found))
    return 0


if __name__ == "__main__":
    config.main("paper", run)
