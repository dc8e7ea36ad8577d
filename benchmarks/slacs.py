"""Einstein radii of real SLACS lenses by `lensjax.inference`, beside published ones.

    python -m benchmarks.slacs --data DIR [--lenses 30] [--out FILE]

DIR/slacs has lenses.csv and cutouts in F814W, 0.05 arcsec a pixel, with NOISE and PSF.
Truth is b_SIE of Bolton et al. (2008) and Auger et al. (2009), along the intermediate
axis, turned into the theta_E of `lensjax.sie`: b (1 + q) / (2 sqrt q).  No network, no
mask, nothing by hand.  Prints a line a lens, then a table of accuracies in Markdown for
each way of `LADDER`, and TinyLensGpu's own column of lenses.csv.
"""

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lensjax import inference
from lensjax.inference import Settings, candidate, table
from lensjax.storage import atomic

LADDER = {
    "as it is": Settings(),
    "no wider than the noise says": Settings(spread=1.0),
    "six starts": Settings(starts=6),
}
THETA_E = inference.NAMES.index("theta_E")
PUBLISHED = 0.02  # error of b_SIE
MISS = 0.15  # of theta_E, which a flag should tell


def intermediate(theta_e: Any, q: Any) -> Any:
    """b_SIE of a lens of axis ratio q whose theta_E is that of `lensjax.sie`."""
    return theta_e * 2 * np.sqrt(q) / (1 + q)


def run(rows: list[dict], folder: Path, settings: Settings) -> list[dict]:
    """Fit each lens; what came of it beside the published radius."""
    found = []
    for row in rows:
        read = candidate.read(folder / row["file"])
        began = time.perf_counter()
        fit = inference.fit(read.observation, settings)
        fit = jax.tree.map(np.asarray, fit)
        seconds = time.perf_counter() - began
        theta, low, high = (float(a[THETA_E]) for a in (fit.median, fit.p16, fit.p84))
        q = float(row["qSIE"])
        numbers = table.numbers(fit, read.survey.bands)
        flags = table.judged(numbers, settings)
        found.append(
            {
                "name": row["name"],
                "published": float(row["bSIE"]) / intermediate(1.0, q),
                "theta_E": theta,
                "p16": low,
                "p84": high,
                "flags": sorted(flags),
                "pull": float(fit.pull[0]),
                "lone": float(fit.lone[0]),
                "gain": float(fit.gain[0]),
                "chi2": float(fit.chi2[0]),
                "probability": np.asarray(fit.probability).round(3).tolist(),
                "effective": float(fit.effective),
                "seconds": seconds,
            }
        )
        one = found[-1]
        off = theta / one["published"] - 1
        print(
            f"{one['name']}  {one['published']:.3f}  {theta:.3f} "
            f"-{theta - low:.3f} +{high - theta:.3f}  {off:+.1%}"
            f"  gain {one['gain']:,.0f}"
            f"  chi2 {one['chi2']:.2f}  draws {one['effective']:.0f}"
            f"  {one['seconds']:.1f} s  {' '.join(one['flags'])}",
            flush=True,
        )
    return found


def line(name: str, ratio: np.ndarray) -> str:
    """A row of the table: bias, scatter, shares within 5, 10 and 15 %."""
    off = np.asarray(ratio) - 1
    low, high = np.percentile(off, [16, 84])
    within = " / ".join(
        f"{np.mean(abs(off) < limit):.0%}" for limit in (0.05, 0.1, 0.15)
    )
    return f"| {name} | {np.median(off):+.1%} | {(high - low) / 2:.1%} | {within} |"


def flagged(found: list[dict]) -> str:
    """How many misses have a flag, and how many of the others, in words."""
    miss = np.array([abs(o["theta_E"] / o["published"] - 1) > MISS for o in found])
    told = np.array([bool(set(o["flags"]) - {"few_draws"}) for o in found])
    inside = np.array([o["p16"] <= o["published"] <= o["p84"] for o in found])
    half = np.array([(o["p84"] - o["p16"]) / 2 for o in found])
    off = np.array([abs(o["theta_E"] - o["published"]) for o in found])
    own = np.array([PUBLISHED * o["published"] for o in found])
    both = off < np.hypot(half, own)
    return (
        f"{(miss & told).sum()} of {miss.sum()} misses beyond {MISS:.0%} flagged, "
        f"{(told & ~miss).mean():.0%} false flags; {inside.mean():.0%} within 16-84 %, "
        f"{both.mean():.0%} with {PUBLISHED:.0%} for the published radius"
    )


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--lenses", type=int, default=30)
    parser.add_argument("--out", type=Path, help="JSON of all numbers")
    asked = parser.parse_args()
    folder = asked.data / "slacs"
    with open(folder / "lenses.csv", newline="") as file:
        rows = list(csv.DictReader(file))[: asked.lenses]
    results = {}
    for name, settings in LADDER.items():
        print(name)
        results[name] = run(rows, folder, settings)
    lines = [
        "| fit | median | half of 16-84 % | within 5 / 10 / 15 % |",
        "|---|---|---|---|",
    ]
    for name, found in results.items():
        ratio = np.array([one["theta_E"] / one["published"] for one in found])
        lines.append(line(name, ratio))
    other = np.array([float(row["thetaE_tinylens_med"]) for row in rows])
    b = np.array([float(row["bSIE"]) for row in rows])
    lines.append(line("TinyLensGpu's column, to b_SIE", other / b))
    lines.append(f"\n{len(rows)} lenses")
    print("\n".join(["", *lines]))
    for name, found in results.items():
        seconds = np.median([one["seconds"] for one in found[1:]])
        print(f"{name}: {seconds:.1f} s a lens, the first (compiling) apart; "
              f"{flagged(found)}")  # fmt: skip
    if asked.out:
        atomic.write(asked.out, json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
