"""The paper's networks, one after the other: `python -m experiments.paper`.

Trains rows of Table 1 of Schuldt et al. (2021) at a share of the paper's sample sizes,
folds, final network, test set and report each, and prints ours beside theirs.  The same
command goes on after a stop; rows that are done are not trained again.
`add=[DIR,DIR]` records finished runs in docs/paper/ and makes the tables of
docs/paper.md anew.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

from experiments import config

if __name__ == "__main__":  # a wrong key is told before JAX is loaded
    config.check("paper")

from experiments import evaluate, progress, train
from experiments.config import EvaluateConfig, TrainConfig
from experiments.report import quantiles
from experiments.run import write
from experiments.settings import PAPER_ROWS

DOCS = Path(__file__).parent.parent / "docs"


class Row(NamedTuple):
    """A network of the paper's Table 1, or of its section 5."""

    sample: str
    multiplicity: str
    weight: float  # of theta_E
    systems: int | None  # None: not said
    loss: float | None  # of the test set
    epoch: int | None
    learning_rate: float | None
    batch_size: int | None
    seed: int | None
    section: str
    extra: tuple[str, ...] = ()  # further settings


def _row(name: str, *values, extra: tuple[str, ...] = ()) -> tuple[str, Row]:
    images = next((k for k in ("doubles", "quads") if k in name), "both")
    sample = name.split("-")[0]
    return name, Row(sample, images, 5.0 if "-5" in name else 1.0, *values, extra)


ROWS = dict(
    [
        _row("natural", 65_472, 0.0201, 115, 0.005, 64, 3, "4.1"),
        _row("natural-5", 65_472, 0.0496, 123, 0.001, 64, 3, "4.1"),
        _row("natural_wide", 25_623, 0.0120, 85, 0.01, 32, 3, "4.2"),
        _row("natural_wide-5", 25_623, 0.0209, 85, 0.008, 32, 2, "4.2"),
        _row("natural-doubles", None, 0.0193, 242, 0.008, 64, 1, "5.1"),
        _row("natural-doubles-5", None, 0.0474, 117, 0.001, 64, 3, "5.1"),
        # the paper lists two networks of this loss; the other: 96, 0.01, 32, 2
        _row("natural_wide-doubles", None, 0.0118, 163, 0.05, 64, 3, "5.1"),
        _row("natural_wide-doubles-5", None, 0.0217, 62, 0.008, 32, 3, "5.1"),
        _row("natural-quads", 42_063, 0.0193, 151, 0.008, 32, 2, "5.1"),
        _row("natural-quads-5", 42_063, 0.0441, 69, 0.001, 32, 2, "5.1"),
        _row("natural_wide-quads", 19_176, 0.0129, 267, 0.01, 64, 2, "5.1"),
        _row("natural_wide-quads-5", 19_176, 0.0268, 285, 0.005, 32, 1, "5.1"),
        _row("uniform", 140_812, 0.0223, 147, 0.001, 32, 1, "4.3"),
        _row("uniform-5", 140_812, 0.0528, 112, 0.0005, 64, 2, "4.3"),
        _row("uniform-quads", 28_398, 0.0288, 73, 0.008, 64, 2, "5.1"),
        _row("uniform-quads-5", 28_398, 0.0688, 56, 0.001, 32, 2, "5.1"),
        _row(
            "uniform-quads-5-brighter", 42_597, 0.0673, None, None, None, None, "5.1",
            extra=("source_boost=1",),
        ),
        _row(
            "natural-5-no-arcs", 65_472, None, None, None, None, None, "5.2",
            extra=("lens_only=true",),
        ),
    ]
)  # fmt: skip
assert tuple(ROWS) == PAPER_ROWS  # the command line knows them without JAX

THEIRS = {  # the paper's text: median, plus, minus
    ("natural-5", "theta_E"): "0.02 +0.21 -0.18",
    ("natural-5", "theta_E > 0.8"): "0.00 +0.17 -0.14",
    ("natural-5", "ex"): "0.00 +0.08 -0.09",
    ("natural-5", "ey"): "0.01 +0.09 -0.08",
    ("natural-5", "x"): "0.00 +0.05 -0.05",
    ("natural-5", "y"): "0.00 +0.05 -0.05",
    ("natural-5", "delay"): "1 +18 -11",
    ("natural-5", "fraction"): "0.01 +0.19 -0.12",
    ("natural-5", "delay, all"): "2 +18 -6",
    ("natural-5", "fraction, all"): "0.05 +0.47 -0.09",
    ("uniform-5", "theta_E"): "0.07 +0.29 -0.12",
    ("uniform-5", "theta_E > 0.8"): "0.07 +0.25 -0.08",
    ("uniform-5", "ex"): "-0.01 +0.08 -0.09",
    ("uniform-5", "ey"): "0.00 +0.08 -0.09",
    ("uniform-5", "x"): "0.00 +0.05 -0.05",
    ("uniform-5", "y"): "0.00 +0.05 -0.05",
    ("uniform-5", "next x"): "0.00 +0.29 -0.29",
    ("uniform-5", "next y"): "0.00 +0.32 -0.31",
    ("uniform-5", "delay"): "6 +36 -8",
    ("uniform-5", "fraction"): "0.04 +0.27 -0.05",
    ("uniform-5", "delay, all"): "7 +38 -6",
    ("uniform-5", "fraction, all"): "0.06 +0.45 -0.05",
    ("uniform-5", "other"): "7.8 %",
    ("natural-5-no-arcs", "theta_E"): "half width 0.41",
}
"""Centres in arcsec: the paper prints pixels of 0.168 arcsec as arcsec."""


def name_of(settings: TrainConfig) -> str | None:
    """The row that a run's settings are of, if any."""
    preset = config.typed(
        config.compose("train", [f"sample={settings.sample}"]), TrainConfig
    )
    drawn = ("theta_E_min", "theta_E_max", "arc_peak", "rotate", "cap", "shear", "data",
             "dither", "vary_psf", "arc_noise", "survey")  # fmt: skip
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


def command(settings: TrainConfig) -> str:
    """The command that makes a run: what differs from the defaults."""
    preset = config.typed(
        config.compose("train", [f"sample={settings.sample}"]), TrainConfig
    )
    keys = [f"sample={settings.sample}"]
    local = ("run_dir", "checkpoint_seconds", "steps_per_dispatch", "devices", "sample")
    for key, value in vars(settings).items():
        if key not in local and value != getattr(preset, key):
            keys.append(f"{key}={_typed(value)}")
    return "python -m experiments.train " + " ".join(keys)


def _typed(value) -> str:
    """A value as one types it."""
    if isinstance(value, tuple):
        return "[" + ",".join(map(str, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


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
        "row": name,
        "command": command(settings),
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
        "answers": evaluation["answers"],
    }


def table_1(records: dict[str, dict]) -> str:
    """Every network of Table 1, ours beside theirs, as Markdown."""
    head = [
        "network", "systems, theirs", "ours", "loss, theirs", "ours", "light only",
        "prior mean", "epochs, theirs", "ours", "rate, batch, seed, theirs", "ours",
    ]  # fmt: skip
    lines = []
    for name, row in ROWS.items():
        r = records.get(name)
        theirs = [row.learning_rate, row.batch_size, row.seed]
        line = [f"`{name}`", _whole(row.systems), _whole(r and r["systems"])]
        line += [_form(row.loss, ".4f")]
        for who in ("network", "light only", "prior mean"):
            line.append(_form(r and r["test loss"][who], ".4f"))
        line += [_form(row.epoch), _form(r and r["epochs"])]
        line.append(", ".join(map(str, theirs)) if row.seed else "-")
        ours = r and [
            r[k] for k in ("optimizer", "learning_rate", "batch_size", "seed")
        ]
        line.append(", ".join(map(str, ours)) if ours else "not run yet")
        lines.append(line)
    return _markdown(head, lines)


def errors(records: dict[str, dict]) -> str:
    """Errors of the parameters: theirs where the text has them, ours, the baselines."""
    head = ["network", "by", "theta_E", "half width", "RMS", "R^2", "theta_E > 0.8"]
    head += ["ex", "ey", "x", "y"]
    lines = []
    for name in ROWS:
        theirs = {k: THEIRS.get((name, k), "") for k in ("theta_E", "theta_E > 0.8",
                  "ex", "ey", "x", "y")}  # fmt: skip
        if not (any(theirs.values()) or name in records):
            continue
        if any(theirs.values()):
            first = [theirs["theta_E"], "", "", "", theirs["theta_E > 0.8"]]
            rest = [theirs[k] for k in ("ex", "ey", "x", "y")]
            lines.append([f"`{name}`", "paper", *first, *rest])
        for who, a in records.get(name, {"answers": {}})["answers"].items():
            m = a["merits"]["theta_E"]
            line = [f"`{name}`", who, quantiles(a["error"]["theta_E"])]
            line += [_form(m[k], ".2f") for k in ("half_width", "rms", "r2")]
            line.append(quantiles(a["theta_E > 0.8"]["theta_E error"]))
            line += [quantiles(a["error"][k], ".3f") for k in ("ex", "ey", "x", "y")]
            lines.append(line)
    return _markdown(head, lines)


def next_images(records: dict[str, dict]) -> str:
    """Section 6: positions and delays of the next images, theta_E > 0.8 and all."""
    head = ["network", "by", "other number of images", "x", "y", "delay [days]"]
    head += ["fraction", "delay, all theta_E", "fraction, all theta_E"]
    lines = []
    for name in ("natural-5", "natural_wide-5", "uniform-5"):
        theirs = [
            THEIRS.get((name, k), "")
            for k in ("other", "next x", "next y", "delay", "fraction", "delay, all",
                      "fraction, all")
        ]  # fmt: skip
        if any(theirs):
            lines.append([f"`{name}`", "paper", *theirs])
        for who, a in records.get(name, {"answers": {}})["answers"].items():
            wide, every = a["next images, theta_E > 0.8"], a["next images"]
            line = [f"`{name}`", who, _form(wide["other number of images"], ".1%")]
            line += [quantiles(wide["all"][k]) for k in ("x", "y")]
            for found in (wide, every):
                line.append(quantiles(found["all"]["delay"], ".0f"))
                line.append(quantiles(found["all"]["fraction"]))
            lines.append(line)
    return _markdown(head, lines)


def runs(records: dict[str, dict]) -> str:
    """How each run was made: command, time, device, commit."""
    head = ["network", "command", "trained on, tested on", "training [min]", "device"]
    lines = [
        [
            f"`{name}`",
            f"`{r['command']}`",
            f"{r['trained on']:,}, {r['tested on']:,}",
            f"{sum(r['seconds']) / 60:.0f}",
            f"{r['device']}, commit {r['commit']}",
        ]
        for name in ROWS
        if (r := records.get(name))
    ]
    return _markdown(head, lines)


TABLES = {
    "table 1": table_1,
    "errors": errors,
    "next images": next_images,
    "runs": runs,
}


def make_page(
    records: dict[str, dict], page: Path, first: dict[str, dict] | None = None
) -> None:
    """Fill the marked places of a page with tables made from records.

    first: the record of the page's first command.
    """
    text = page.read_text()
    tables = {name: (table, records) for name, table in TABLES.items()}
    tables["first table"] = short_table, first or {}
    for name, (table, records) in tables.items():
        block = f"<!-- {name} -->\n\n{table(records)}\n<!-- end -->"
        pattern = rf"<!-- {name} -->.*?<!-- end -->"
        text = re.sub(pattern, lambda _, b=block: b, text, flags=re.DOTALL)
    write(page, text)


def records_in(folder: Path) -> dict[str, dict]:
    """Records of runs by the row that they are of."""
    found = [json.loads((folder / f"{n}.json").read_text()) for n in PAPER_ROWS
             if (folder / f"{n}.json").exists()]  # fmt: skip
    return {r["row"]: r for r in found}


def first_in(docs: Path) -> dict[str, dict]:
    """The record of the page's first command, by its row."""
    path = docs / "paper" / "first.json"
    if not path.exists():
        return {}
    found = json.loads(path.read_text())
    return {found["row"]: found}


def _form(value, form: str = "") -> str:
    form = f"z{form}" if form.endswith("f") else form  # no minus before zero
    return "-" if value is None else format(value, form)


def _rounded(value, digits: int = 5):
    """Records of five digits are small, and enough for any table."""
    if isinstance(value, dict):
        return {k: _rounded(v, digits) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v, digits) for v in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def _whole(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _markdown(head: list[str], lines: list[list[str]]) -> str:
    rule = "|" + "---|" * len(head)
    rows = [head, *lines]
    text = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([text[0], rule, *text[1:]]) + "\n"


def settings_of(name: str, settings: config.PaperConfig) -> TrainConfig:
    """The run that stands for a row, at the scale that was asked for."""
    row = ROWS[name]
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
        f"run_dir={Path(settings.out) / name}",
        *row.extra,
    ]
    for key in ("n_lenses", "n_sources"):
        if value := getattr(settings, key):
            keys.append(f"{key}={value}")
    return config.typed(config.compose("train", keys), TrainConfig)


def run(settings: config.PaperConfig) -> int:
    """Train and judge rows, or record finished runs; the exit status of `train`."""
    if settings.add or settings.first:
        (DOCS / "paper").mkdir(exist_ok=True)
        named = [(Path(settings.first), "first")] if settings.first else []
        for run_dir, name in [*named, *((Path(d), None) for d in settings.add)]:
            made = record(run_dir)
            path = DOCS / "paper" / f"{name or made['row']}.json"
            write(path, json.dumps(_rounded(made)) + "\n")
            progress.say(f"{run_dir}: {path}")
        make_page(records_in(DOCS / "paper"), DOCS / "paper.md", first_in(DOCS))
        return 0
    # what cannot work is told before the first row trains
    wanted = {name: settings_of(name, settings) for name in settings.rows}
    found = {}
    for name, own in wanted.items():
        progress.say(f"--- {name}: {command(own)}")
        status = train.run(own)
        if status:
            return status
        evaluate.run(EvaluateConfig(own.run_dir))
        try:
            found[name] = record(Path(own.run_dir))
        except config.ConfigError:  # its folds diverged, as train has said
            progress.say(f"{name} has no final network: it is left out")
    progress.say("\n" + short_table(found))
    return 0


def short_table(records: dict[str, dict]) -> str:
    """The first table of docs/paper.md: what a small run shows."""
    head = ["network", "by", "loss", "theta_E half width [arcsec]", "RMS", "R^2"]
    lines = [
        [
            f"`{name}`",
            who,
            _form(r["test loss"][who], ".2f"),
            _form(a["merits"]["theta_E"]["half_width"], ".2f"),
            _form(a["merits"]["theta_E"]["rms"], ".2f"),
            _form(a["merits"]["theta_E"]["r2"], ".1f"),
        ]
        for name, r in records.items()
        for who, a in r["answers"].items()
    ]
    return _markdown(head, lines)


if __name__ == "__main__":
    config.main("paper", run)
