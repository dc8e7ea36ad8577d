"""What a run came to, as tables on the screen."""

from pathlib import Path

from rich.table import Table

from lensjax import parameters
from lensjax.commands import progress


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
        progress.say(f"fold {fold} DIVERGED: its losses are NaN or infinite")
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
    table = Table()
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
    for parameter in reversed(parameters.WITHOUT_SHEAR):
        name, unit = parameter.name, parameter.unit
        label = f"{name} ({unit})" if unit else name
        for who, merits in by_who.items():
            values = ((merits[name][key], form) for key, form in formats.items())
            figures = ["-" if v is None else format(v, form) for v, form in values]
            table.add_row(label, who, *figures)
            label = ""
        table.add_section()
    progress.show(table, 110)
