"""A trained network on mocks of other galaxies than those it was trained on.

    python -m benchmarks.transfer --run DIR --data DIR [--systems 2000] [--out FILE]

Draws a sample of the run's kind from the galaxies of --data, renders it with and
without arcs, and judges the run's final network on it.  Errors of systems with the same
lens galaxy are alike, so they are also told by galaxy: what few of them can show is
limited by the scatter between galaxies, whatever the number of systems.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from lensjax.commands import config, predict, progress
from lensjax.commands.provenance import commit
from lensjax.commands.resolve import catalogue_of, rendering_of, sample_of
from lensjax.evaluation import metrics
from lensjax.learning import dataset
from lensjax.learning.estimator import targets

NAMES = ("theta_E", "ex", "ey")


def rounded(merits: dict) -> dict:
    """Merits of the parameters that a network learns, to four digits."""
    return {
        name: {k: round(v, 4) for k, v in merits[name]._asdict().items()}
        for name in NAMES
    }


def by_galaxy(errors: np.ndarray, galaxy: np.ndarray, names: list[str]) -> dict:
    """Median error, half width and number of systems of each lens galaxy."""
    found = {}
    for k in np.unique(galaxy):
        low, middle, high = np.percentile(errors[galaxy == k], [16, 50, 84])
        found[names[k]] = {
            "systems": int((galaxy == k).sum()),
            "bias": round(float(middle), 4),
            "half_width": round(float(high - low) / 2, 4),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True, type=Path, help="a finished run")
    parser.add_argument("--data", required=True, help="galaxies, as for train data=DIR")
    parser.add_argument("--systems", type=int, default=2000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    trained = config.from_yaml(options.run / "config.yaml", config.TrainConfig)
    model = predict.of_run(options.run).predict
    settings = replace(trained, data=options.data, size=options.systems)
    catalogue, listing = catalogue_of(settings)
    systems = sample_of(settings, catalogue, listing).systems
    truth = np.asarray(targets(systems))
    rendering = rendering_of(settings, listing)

    predictions = {}
    for who, bare in (("network", False), ("network, arcs removed", True)):
        kind = rendering._replace(lens_only=bare)
        with progress.track("rendering mocks", len(truth), "mocks") as update:
            images = dataset.render_all(systems, catalogue, kind, update)
        blocks = np.array_split(images, -(-len(truth) // 512))
        predictions[who] = np.concatenate([model(block) for block in blocks])
    error = predictions["network"][:, -1] - truth[:, -1]
    galaxy = np.asarray(systems.lens_index)
    galaxies = by_galaxy(error, galaxy, listing.lens_id)
    biases = [one["bias"] for one in galaxies.values()]
    result = {
        "commit": commit(),
        "run": str(options.run),
        "data": listing.origin,
        "systems": len(truth),
        "theta_E of the sample": {
            "mean": round(float(truth[:, -1].mean()), 4),
            "scatter": round(float(truth[:, -1].std()), 4),
        },
        "merits": {
            k: rounded(metrics.merits(truth, a)) for k, a in predictions.items()
        },
        "theta_E by lens galaxy": galaxies,
        "scatter of the galaxies' biases": round(float(np.std(biases, ddof=1)), 4),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
