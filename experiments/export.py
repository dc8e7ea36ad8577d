"""A run's final network in one small file, with what is known of it.

    python -m experiments.export run_dir=DIR out=FILE.safetensors

Writes the file that `lensjax.pretrained.load` and `experiments.predict weights=FILE`
read, and its card, FILE.md.
"""

import json
from pathlib import Path

from experiments import config

if __name__ == "__main__":  # a wrong key is told before JAX is loaded
    config.check("export")

import jax
import numpy as np

from experiments import paper, progress, trained
from experiments.run import network_settings, write
from experiments.sample import survey_of
from experiments.summary import COLUMNS
from lensjax import pretrained, tables, train

RANGES = {
    **{name: COLUMNS[name] for name in train.TARGETS},
    "z_lens": "z_lens",
    "z_source": "z_source",
}
"""Columns of a sample whose ranges are told."""

NOT_FOR_REAL = (
    "It was trained on drawn galaxies, not on real ones: for real ones its answers are "
    "biased (docs/paper.md), so train on the survey's own galaxies."
)


def about(run_dir: Path, settings: config.TrainConfig, name: str) -> dict:
    """All that a file says of a run's final network."""
    summary = json.loads((run_dir / "summary.json").read_text())
    facts = json.loads((run_dir / "provenance.json").read_text())
    drawn, final = tables.read(run_dir / "systems.parquet"), summary["final"]
    catalogue, setup = facts["catalogue"], network_settings(settings)
    own = settings.data is not None
    origin = f"galaxies of {Path(settings.data).name}" if own else catalogue["origin"]
    return {
        "name": name,
        "survey": survey_of(settings).name,
        "scaling": setup.scaling,
        "zero_point": setup.zero_point,
        "architecture": pretrained.described(setup.architecture),
        "targets": [[t, *pretrained.MEANINGS[t]] for t in train.TARGETS],
        "trained on": {
            "systems": final["systems"]["training"],
            "catalogue": origin,
            "lens_galaxies": catalogue["lens_galaxies"],
            "sources": catalogue["sources"],
            "fingerprint": catalogue["fingerprint"],
            "epochs": final["epochs"],
            "command": paper.command(settings),
        },
        "warning": "" if own else NOT_FOR_REAL,
        "ranges": {
            key: [float(f"{edge(drawn[column]):.3g}") for edge in (np.min, np.max)]
            for key, column in RANGES.items()
        },
        "test": {
            "systems": final["systems"]["test"],
            "loss": final["test_loss"],
            "merits": final["merits"],
        },
        "provenance": {
            k: facts[k] for k in ("created", "commit", "device", "versions")
        },
    }


def run(settings: config.ExportConfig) -> int:
    """Write the file and its card; returns the exit status."""
    run_dir, out = Path(settings.run_dir), Path(settings.out)
    try:
        own = config.from_yaml(run_dir / "config.yaml", config.TrainConfig)
        params = trained.final(run_dir, own)
        if params is None:
            raise config.ConfigError(
                f"run_dir: {run_dir} has no final network: train it with fold=all "
                "final=true, to its end"
            )
        told = about(run_dir, own, settings.name or out.stem)
        pretrained.save(out, jax.tree.map(lambda a: a[0], params), told)
        write(out.with_suffix(".md"), pretrained.card(pretrained.load(out)))
    except config.ConfigError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise config.ConfigError(f"run_dir: {run_dir}: {error}") from error
    progress.say(f"{out}: {out.stat().st_size:,} bytes; {out.with_suffix('.md')}")
    return 0


if __name__ == "__main__":
    config.main("export", run)
