"""Variants of the network and of what it sees, side by side on one sample.

    python -m benchmarks.variants --dir DIR [--size 6000] [--epochs 10] [--out FILE]

Section 3 of the paper tries dropout, one more convolution or dense layer, other widths,
other scalings of the images and more weight on the centre.  Here each variant trains
its five folds on the same images in memory and is judged, by each fold's best epoch, on
the lens galaxies that the fold held out.  Stopped, the same command goes on; variants
that are done are not trained again.  Prints a table in Markdown.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from experiments import page
from lensjax import parameters
from lensjax.commands import config, job, progress, summary, train
from lensjax.commands.provenance import commit
from lensjax.commands.resolve import plan_of
from lensjax.commands.run_folder import open_run
from lensjax.commands.signals import Stopped, stop_on_signals
from lensjax.learning.members import target_weights
from lensjax.learning.scaling import SCALINGS
from lensjax.storage import atomic

VARIANTS = {
    "as it is": {},
    **{f"dropout={p}": {"dropout": p} for p in (0.1, 0.3, 0.5, 0.7, 0.9)},
    "channels=[6,16,32]": {"channels": (6, 16, 32)},
    "channels=[12,32]": {"channels": (12, 32)},
    "dense=[120,84,84]": {"dense": (120, 84, 84)},
    "dense=[240,168]": {"dense": (240, 168)},
    "dense=[60,42]": {"dense": (60, 42)},
    **{f"scaling={name}": {"scaling": name} for name in SCALINGS if name != "asinh"},
    "weight_center=5": {"weight_center": 5.0},
    "weight_center=25": {"weight_center": 25.0},
    "optimizer=sgd": {"optimizer": "sgd", "average": 0.0, "learning_rate": 0.01},
}


def figures_of(merits: dict, weights: np.ndarray) -> dict:
    """What the table tells of one answer: eq. 6 with the weights of all, and R^2."""
    rms = np.array([merits[name]["rms"] for name in parameters.names()], float)
    return {
        "loss": float((weights * rms**2).mean()),
        "half_width": merits["theta_E"]["half_width"],
        "r2": {name: merits[name]["r2"] for name in parameters.names()},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir", required=True, type=Path, help="for the runs")
    parser.add_argument("--size", type=int, default=6000)
    parser.add_argument("--lenses", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, metavar="VARIANT")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    asked = ["fold=all", "weight_theta_E=5", f"size={options.size}"]
    asked += [f"epochs={options.epochs}", f"n_lenses={options.lenses}"]
    asked += [f"run_dir={options.dir}"]
    base = config.typed(config.compose("train", asked), config.TrainConfig)
    open_run(base)  # refuses a folder of other settings
    made = train.prepare(base, options.dir)
    loader = job.loader_of(made, job.cross_validation(made))
    weights = target_weights(base.weight_theta_E, base.weight_center)
    found, seconds = {}, 0.0
    for name, changes in VARIANTS.items():
        if options.only and name not in options.only:
            continue
        plan = plan_of(replace(base, **changes), made.listing)
        own = made._replace(plan=plan, run_dir=options.dir / name)
        path = own.run_dir / "summary.json"
        if not path.exists():
            progress.say(f"--- {name}")
            own.run_dir.mkdir(exist_ok=True)
            stage = job.cross_validation(own)
            try:
                with stop_on_signals() as signals:
                    state = job.trained(stage, loader, signals)
                    summary.finish(own, summary.conclude(own, stage, loader, state))
            except Stopped as stopped:
                return stopped.status
        came = json.loads(path.read_text())
        found[name] = figures_of(came["merits"]["network"], weights)
        seconds += came["seconds"]
    for who in ("light only", "prior mean"):
        found[who] = figures_of(came["merits"][who], weights)
    result = {
        "commit": commit(),
        "size": options.size,
        "lens galaxies": options.lenses,
        "epochs": options.epochs,
        "seconds": round(seconds),
        "variants": found,
    }
    print(page.variants(result))
    if options.out:
        atomic.write(options.out, json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
