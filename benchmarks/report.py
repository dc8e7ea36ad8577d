"""docs/benchmarks.md: tables and plots, made from the figures in docs/benchmarks/."""

import math
import re
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import NullFormatter

from benchmarks import record
from lensjax.commands.report import markdown_table

UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
OURS = ("lensjax", "side by side", "kept in memory")


def make(docs: Path) -> None:
    """Fill the marked places of the page, and draw its plots."""
    devices = devices_in(docs)
    page = docs / "benchmarks.md"
    text = page.read_text()
    for name, table in TABLES.items():
        parts = [
            f"{_device(name, of)}\n\n{table(of)}" + PLOTS.get(name, "").format(stem)
            for stem, of in devices.items()
            if name == "aims" or name in of
        ]
        block = f"<!-- {name} -->\n\n" + "\n".join(parts) + "\n<!-- end -->"
        pattern = rf"<!-- {name} -->.*?<!-- end -->"
        text = re.sub(pattern, lambda _, b=block: b, text, flags=re.DOTALL)
    page.write_text(text)
    for stem, of in devices.items():
        if "growth" in of:
            growth_plot(of["growth"], docs / "benchmarks" / f"growth-{stem}.png")
        rivals_plot(of, docs / "benchmarks" / f"rivals-{stem}.png")


def devices_in(docs: Path) -> dict[str, dict]:
    """Figures of each device, by the name of its file; a CPU's come first."""
    paths = sorted((docs / "benchmarks").glob("*.json"))
    found = {p.stem: record.read(p) for p in paths}
    return dict(sorted(found.items(), key=lambda item: item[0] != "cpu"))


def _device(name: str, of: dict) -> str:
    facts = (of[name] if name in of else next(iter(of.values())))["facts"]
    commits = dict.fromkeys(r["facts"]["commit"] for r in of.values())
    if name != "aims":
        commits = [facts["commit"]]
    where = facts["device"]
    if facts["platform"] == "cpu":
        where = f"{facts['cores']} cores of an {where} processor"
    return f"*{where}; commit {', '.join(commits)}, {facts['date'][:10]}*"


def seconds(value: float) -> str:
    """A time in the unit that suits it, three digits."""
    for size, unit in UNITS:
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / UNITS[-1][0]:.2g} {UNITS[-1][1]}"


def ratio(value: float) -> str:
    """How many times as long."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _rows(result: dict) -> list[dict]:
    """Rows with the time of ours for the same work beside each."""
    base = {}
    for r in result["rows"]:
        if r["who"] in OURS:
            base.setdefault(r["work"], r["seconds"])
    return [r | {"ours": base.get(r["work"])} for r in result["rows"]]


def compared(*more: tuple[str, str, str]):
    """Make a table of codes and work; `more` are (heading, key, form)."""

    def table(of: dict, question: str) -> str:
        head = ["work", "code", "time", "x lensjax's", "fastest", "to compile"]
        head += ["memory", *(heading for heading, *_ in more)]
        lines = []
        for r in _rows(of[question]):
            if "missing" in r:
                lines.append(
                    [r["work"], r["who"], r["missing"]] + ["-"] * (len(head) - 3)
                )
                continue
            line = [r["work"], r["who"], seconds(r["seconds"])]
            line += [ratio(r["seconds"] / r["ours"]) if r["ours"] else "-"]
            line += [seconds(r["least"]), seconds(r["compile"])]
            line += [f"{r['peak MB']:,} MB"]
            line += [format(r[key], form) if key in r else "-" for _, key, form in more]
            lines.append(line)
        return markdown_table(head, lines)

    return table


def beginnings(of: dict) -> str:
    """Imports, and what a training run takes to begin."""
    found = of["beginning"]
    imports = [[f"`import {k}`", seconds(v)] for k, v in found["imports"].items()]
    stages = [
        "settings read",
        "galaxies",
        "systems",
        "first step",
        "first epoch",
        "end",
    ]
    head = ["a training run, seconds until", *stages]
    runs = [
        [name, *(f"{r[k]:.1f}" for k in stages), f"{r['peak MB']:,.0f} MB"]
        for name, r in found["runs"].items()
    ]
    return (
        markdown_table(["a Python process that does", "takes"], imports)
        + "\n"
        + markdown_table([*head, "memory"], runs)
    )


def stages(of: dict) -> str:
    """Time of each stage of a step with mocks in it, beside its two floors."""
    found = of["stages"]
    head = ["stage", "time", "share", "operations", "arithmetic alone", "bytes"]
    head += ["memory alone", "time over the larger", "memory of the process"]
    total = found["rows"][-1]["whole"]
    lines = []
    for r in found["rows"]:
        floor = max(r["arithmetic"], r["memory"])
        line = [r["who"], seconds(r["seconds"]), f"{r['seconds'] / total:z.0%}"]
        line += [f"{r['operations']:.2g}", seconds(r["arithmetic"])]
        line += [f"{r['bytes']:.2g}", seconds(r["memory"])]
        line += [ratio(r["seconds"] / floor) if min(floor, r["seconds"]) > 0 else "-"]
        lines.append([*line, f"{r['peak MB']:,} MB"])
    rates = ", ".join(f"{v:.2g} {k}" for k, v in found["rates"].items())
    return markdown_table(head, lines) + f"\n{seconds(total)} in all; {rates}\n"


def growths(of: dict) -> str:
    """Time of the whole work at every size, and the slope between the last two."""
    head = ["what grows", "time at each size", "slope at the end"]
    lines = []
    for kind, points in _growth(of["growth"]).items():
        told = ", ".join(f"{size:,}: {seconds(t)}" for size, t in points)
        slope = "-"
        if len(points) > 1:
            (a, s), (b, t) = points[-2:]
            slope = f"{math.log(t / s) / math.log(b / a):.2f}"
        lines.append([kind, told, slope])
    return markdown_table(head, lines)


def _growth(result: dict) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for r in result["rows"]:
        if "seconds" in r:
            found.setdefault(r["work"], []).append((r["size"], r["whole"]))
    return found


def aims(of: dict) -> str:
    """What was aimed at on this device, and what came of it."""
    cpu = next(iter(of.values()))["facts"]["platform"] == "cpu"
    lines = []

    def line(question: str, aim: str, got: float | None, enough: bool) -> None:
        said = "not measured" if got is None else ratio(got)
        if aim == "-":
            lines.append([question, aim, said, "-"])
            return
        lines.append(
            [question, aim, said, "yes" if got is not None and enough else "no"]
        )

    for r in of.get("deflection", {"rows": []})["rows"]:
        if r["who"] != "lensjax":
            continue
        if cpu:
            got = _against(of["deflection"], r["work"], skip=("copy",))
            line(f"deflection, {r['work']}", "2 x the best rival", got, (got or 0) >= 2)
        else:
            got = _against(of["deflection"], r["work"], only=("copy",))
            aim = "0.7 x a bare copy"
            line(f"deflection, {r['work']}", aim, got, (got or 0) >= 0.7)
    if "equation" in of:
        result = of["equation"]
        if cpu:
            got = _against(result, "SIE in shear", only=("lenstronomy, analytical",))
            aim = "100 x lenstronomy, analytical"
            line("lens equation", aim, got, (got or 0) >= 100)
        else:
            got = 1 / result["rows"][0]["seconds"]
            line("lens equation", "10^7 systems a second", got, got >= 1e7)
    if "mocks" in of:
        if cpu:
            got = _against(of["mocks"], "mock in four bands", only=("lenstronomy",))
            line("mocks", "10 x lenstronomy", got, (got or 0) >= 10)
        else:
            got = 1 / of["mocks"]["rows"][0]["seconds"]
            line("mocks", "50,000 a second", got, got >= 5e4)
    if "step" in of:
        rows = of["step"]["rows"]
        alone = next(r for r in rows if r["work"].startswith("network alone"))
        inside = next(r for r in rows if r["who"] == "made in the step")
        same = next(r for r in rows if r["who"] == "kept in memory")
        least = 1 if cpu else 2
        got = _against(of["step"], alone["work"])
        line(
            "training step, network alone",
            f"{least} x PyTorch",
            got,
            (got or 0) >= least,
        )
        share = 1 - same["seconds"] / inside["seconds"]
        aim = "-" if cpu else "below 0.3"
        line("share of a step that mocks take", aim, share, cpu or share < 0.3)
        least = 1.5 if cpu else 5
        for work in dict.fromkeys(r["work"] for r in rows):
            if "folds" in work or "grid" in work:
                got = _against(of["step"], work)
                line(work, f"{least} x one at a time", got, (got or 0) >= least)
    if "prediction" in of and cpu:
        for work in dict.fromkeys(r["work"] for r in of["prediction"]["rows"]):
            if "delays" not in work:
                got = _against(of["prediction"], work)
                line(work, "1 x PyTorch", got, (got or 0) >= 1)
    if "beginning" in of:
        found = of["beginning"]
        got = found["imports"]["lensjax"]
        line("import lensjax [s]", "below 2", got, got < 2)
        for name, run in found["runs"].items():
            if "cache" not in name:
                got = run["first step"]
                line(f"first training step, {name} [s]", "below 30", got, got < 30)
    return markdown_table(["question", "aim", "reached", "met"], lines)


def _against(
    result: dict, work: str, only: tuple = (), skip: tuple = ()
) -> float | None:
    """How many times as long the best rival takes for the same work."""
    rows = [r for r in _rows(result) if r["work"] == work and "seconds" in r]
    rivals = [
        r
        for r in rows
        if not r["who"].startswith(OURS)
        and r["who"] not in skip
        and (not only or r["who"] in only)
    ]
    if not rivals:
        return None
    return min(r["seconds"] for r in rivals) / rivals[0]["ours"]


def rivals_plot(of: dict, path: Path) -> None:
    """Bars: how many times as long every code takes as lensjax."""
    bars = []
    for question in ("deflection", "equation", "mocks", "step", "prediction"):
        for r in _rows(of[question]) if question in of else []:
            if "seconds" in r and r["ours"] and not r["who"].startswith(OURS):
                bars.append((f"{r['work']}: {r['who']}", r["seconds"] / r["ours"]))
    if not bars:
        return
    figure, axes = plt.subplots(figsize=(9, 0.32 * len(bars) + 1))
    names, values = zip(*bars[::-1], strict=True)
    colours = ["#b5483a" if v < 1 else "#3b6ea5" for v in values]
    axes.barh(range(len(bars)), [v - 1 for v in values], left=1, color=colours)
    for k, v in enumerate(values):
        axes.annotate(
            f" {ratio(v)} ",
            (v, k),
            va="center",
            ha="left" if v > 1 else "right",
            size=8,
        )
    axes.set(xscale="log", xlabel="time, in units of lensjax's for the same work")
    axes.set_yticks(range(len(bars)), names, size=8)
    axes.axvline(1, color="black", lw=0.8)
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)


def growth_plot(result: dict, path: Path) -> None:
    """Time against size for all that grows, beside what grows with number or area."""
    found = _growth(result)
    columns = 4
    rows = -(-len(found) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(3 * columns, 2.7 * rows), layout="constrained"
    )
    for axes, (kind, points) in zip(grid.flat, found.items(), strict=False):
        size, t = zip(*points, strict=True)
        axes.loglog(size, t, "o-", color="#3b6ea5")
        power = 2 if "side" in kind else 1
        straight = [t[-1] * (s / size[-1]) ** power for s in size]
        axes.loglog(size, straight, ":", color="grey")
        axes.set_title(kind, size=9)
        axes.set_ylabel("time [s]", size=8)
        axes.tick_params(labelsize=8)
        wide = size[-1] / size[0] > 1000
        axes.set_xticks(size, [f"{s:,}" if not wide else f"{s:.0e}" for s in size])
        axes.set_xticks([], minor=True)
        axes.yaxis.set_minor_formatter(NullFormatter())
        low, high = math.log10(min(straight + list(t))), math.log10(max(t))
        axes.set_ylim(10 ** math.floor(low), 10 ** math.ceil(high))
    for axes in list(grid.flat)[len(found) :]:
        axes.set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


TABLES = {
    "aims": aims,
    "deflection": lambda of: compared(("error [arcsec]", "error", ".1e"))(
        of, "deflection"
    ),
    "equation": lambda of: compared(
        ("images", "images", ",d"),
        ("lost", "lost", "d"),
        ("too many", "more", "d"),
        ("traced past the source [arcsec]", "miss", ".0e"),
        ("magnification off by", "magnification", ".0e"),
        ("delays", "delay", ".4f"),
    )(of, "equation"),
    "mocks": lambda of: compared(("RMS error [sky noise]", "rms", ".2g"))(of, "mocks"),
    "step": lambda of: compared()(of, "step"),
    "stages": stages,
    "prediction": lambda of: compared()(of, "prediction"),
    "beginning": beginnings,
    "growth": growths,
}

PLOTS = {
    "aims": "\n![Time of the codes in units of lensjax's](benchmarks/rivals-{}.png)\n",
    "growth": "\n![Time against size](benchmarks/growth-{}.png)\n",
}
