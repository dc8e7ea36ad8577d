"""docs/paper.md: tables of the paper's numbers and ours, made from records of runs.

A record is what `experiments.paper.record` keeps of a finished and judged run.
"""

import json
import re
from pathlib import Path

from experiments.published import ROWS, THEIRS
from experiments.settings import PAPER_ROWS
from lensjax.commands.report import markdown_table, quantiles
from lensjax.storage import atomic

ONLINE = "-online"  # ends the name of a row's record that was trained so
MAIN = ("natural-5", "natural_wide-5", "uniform-5")  # of section 4


def table_1(records: dict[str, dict]) -> str:
    """Every network of Table 1, ours beside theirs, as Markdown."""
    head = [
        "network", "systems, theirs", "ours", "loss, theirs", "ours", "arcs removed",
        "light only", "prior mean", "epochs, theirs", "ours",
        "rate, batch, seed, theirs", "ours",
    ]  # fmt: skip
    lines = []
    for name, row in ROWS.items():
        r = records.get(name)
        theirs = [row.learning_rate, row.batch_size, row.seed]
        line = [f"`{name}`", _whole(row.systems), _whole(r and r["systems"])]
        line += [_form(row.loss, ".4f")]
        for who in ("network", "network, arcs removed", "light only", "prior mean"):
            line.append(_form(r and r["test loss"].get(who), ".4f"))
        line += [_form(row.epoch), _form(r and r["epochs"])]
        line.append(", ".join(map(str, theirs)) if row.seed else "-")
        ours = r and [
            r[k] for k in ("optimizer", "learning_rate", "batch_size", "seed")
        ]
        line.append(", ".join(map(str, ours)) if ours else "not run yet")
        lines.append(line)
    return markdown_table(head, lines)


def errors(records: dict[str, dict]) -> str:
    """Errors of the parameters: theirs where the text has them, ours, the baselines."""
    head = ["network", "by", "theta_E", "half width", "RMS", "R^2", "theta_E > 0.8"]
    head += ["ex", "ey", "x", "y"]
    lines = []
    for name in ROWS:
        theirs = {k: THEIRS.get((name, k), "") for k in ("theta_E", "theta_E > 0.8",
                  "ex", "ey", "x", "y")}  # fmt: skip
        if any(theirs.values()):
            first = [theirs["theta_E"], "", "", "", theirs["theta_E > 0.8"]]
            rest = [theirs[k] for k in ("ex", "ey", "x", "y")]
            lines.append([f"`{name}`", "paper", *first, *rest])
        for who, a in _predictions(records, name, everyone=name in MAIN):
            m = a["merits"]["theta_E"]
            line = [f"`{name}`", who, quantiles(a["error"]["theta_E"])]
            line += [_form(m[k], ".2f") for k in ("half_width", "rms", "r2")]
            line.append(quantiles(a["theta_E > 0.8"]["theta_E error"]))
            line += [quantiles(a["error"][k], ".3f") for k in ("ex", "ey", "x", "y")]
            lines.append(line)
    return markdown_table(head, lines)


def bins(records: dict[str, dict]) -> str:
    """Errors of theta_E of the main networks, by its true value and by the arcs."""
    head = ["network", "of systems with", "number", "bias", "half width", "RMS"]
    head += ["light only: bias", "half width", "RMS"]
    lines = []
    for name in MAIN:
        predictions = dict(_predictions(records, name, everyone=False))
        for kind, what in (
            ("by theta_E", "theta_E"),
            ("by log flux ratio", "log flux ratio"),
        ):
            pairs = zip(*(a[kind] for a in predictions.values()), strict=True)
            for both in pairs:
                low, high, number = (both[0][k] for k in ("from", "to", "systems"))
                if not number:
                    continue
                said = (
                    f"{what} below {high:g}" if low in (-10, 0)
                    else f"above {low:g}" if high in (5, 10)
                    else f"{low:g} to {high:g}"
                )  # fmt: skip
                line = [f"`{name}`", said, f"{number:,}"]
                for one in both:
                    m = one["merits"] and one["merits"]["theta_E"]
                    line += [
                        _form(m and m[k], ".2f") for k in ("bias", "half_width", "rms")
                    ]
                lines.append(line)
    return markdown_table(head, lines)


def _predictions(records: dict[str, dict], name: str, everyone: bool) -> list[tuple]:
    """Who answered for a row's test set and how; else the network and light only."""
    found = records.get(name, {"predictions": {}})["predictions"]
    return [
        (who, a)
        for who, a in found.items()
        if everyone or who in ("network", "light only")
    ]


def next_images(records: dict[str, dict]) -> str:
    """Section 6: positions and delays of the next images, theta_E > 0.8 and all."""
    head = ["network", "by", "other number of images", "x", "y", "delay [days]"]
    head += ["fraction", "delay, all theta_E", "fraction, all theta_E"]
    lines = []
    for name in MAIN:
        theirs = [
            THEIRS.get((name, k), "")
            for k in ("other", "next x", "next y", "delay", "fraction", "delay, all",
                      "fraction, all")
        ]  # fmt: skip
        if any(theirs):
            lines.append([f"`{name}`", "paper", *theirs])
        for who, a in _predictions(records, name, everyone=True):
            wide, every = a["next images, theta_E > 0.8"], a["next images"]
            line = [f"`{name}`", who, _form(wide["other number of images"], ".1%")]
            line += [quantiles(wide["all"][k]) for k in ("x", "y")]
            for found in (wide, every):
                line.append(quantiles(found["all"]["delay"], ".0f"))
                line.append(quantiles(found["all"]["fraction"]))
            lines.append(line)
    return markdown_table(head, lines)


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
        for name, r in records.items()
    ]
    return markdown_table(head, lines)


def online(records: dict[str, dict]) -> str:
    """Rows that were trained on a finite sample and on fresh systems, side by side."""
    head = ["network", "trained on", "images seen", "loss", "arcs removed"]
    head += ["theta_E half width", "RMS", "R^2"]
    lines = []
    for name in ROWS:
        if name + ONLINE not in records:
            continue
        for r, what in (
            (records.get(name), "{:,} systems, again and again"),
            (records[name + ONLINE], "fresh systems"),
        ):
            if r is None:
                continue
            m = r["predictions"]["network"]["merits"]["theta_E"]
            seen = r["epochs"] * (r["trained on"] // r["batch_size"]) * r["batch_size"]
            line = [f"`{name}`", what.format(r["trained on"]), f"{seen:,}"]
            line += [
                _form(r["test loss"].get(who), ".4f")
                for who in ("network", "network, arcs removed")
            ]
            line += [_form(m[k], ".3f") for k in ("half_width", "rms", "r2")]
            lines.append(line)
    return markdown_table(head, lines)


def variants(result: dict) -> str:
    """What `benchmarks/variants.py` found: loss, theta_E, and R^2 of the others."""
    head = ["variant", "loss", "theta_E half width", "R^2 of theta_E", "ex, ey", "x, y"]
    lines = []
    for name, one in result.get("variants", {}).items():
        r2 = {k: _form(v, ".2f") for k, v in one["r2"].items()}
        line = [name, _form(one["loss"], ".4f"), _form(one["half_width"], ".3f")]
        line += [r2["theta_E"], f"{r2['ex']}, {r2['ey']}", f"{r2['x']}, {r2['y']}"]
        lines.append(line)
    return markdown_table(head, lines)


TABLES = {
    "table 1": table_1,
    "errors": errors,
    "bins": bins,
    "next images": next_images,
    "online": online,
    "runs": runs,
}


def fill(
    page: Path,
    records: dict[str, dict],
    first: dict[str, dict] | None = None,
    varied: dict | None = None,
) -> None:
    """Fill the marked places of a page with tables made from records.

    first: the record of the page's first command.  varied: what the variants came to.
    """
    text = page.read_text()
    tables = {name: (table, records) for name, table in TABLES.items()}
    tables["first table"] = first_table, first or {}
    tables["variants"] = variants, varied or {}
    for name, (table, records) in tables.items():
        block = f"<!-- {name} -->\n\n{table(records)}\n<!-- end -->"
        pattern = rf"<!-- {name} -->.*?<!-- end -->"
        text = re.sub(pattern, lambda _, b=block: b, text, flags=re.DOTALL)
    atomic.write(page, text)


def records_in(folder: Path) -> dict[str, dict]:
    """Records of runs by the row that they are of."""
    names = [name + end for name in PAPER_ROWS for end in ("", ONLINE)]
    paths = [folder / f"{name}.json" for name in names]
    found = [json.loads(path.read_text()) for path in paths if path.exists()]
    return {r["row"]: r for r in found}


def first_in(docs: Path) -> dict[str, dict]:
    """The record of the page's first command, by its row."""
    path = docs / "paper" / "first.json"
    if not path.exists():
        return {}
    found = json.loads(path.read_text())
    return {found["row"]: found}


def varied_in(docs: Path) -> dict:
    """What the variants came to."""
    path = docs / "paper" / "variants.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _form(value, form: str = "") -> str:
    form = f"z{form}" if form.endswith("f") else form  # no minus before zero
    return "-" if value is None else format(value, form)


def first_table(records: dict[str, dict]) -> str:
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
        for who, a in r["predictions"].items()
    ]
    return markdown_table(head, lines)


def _whole(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
