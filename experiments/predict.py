"""Model your own cutouts with a trained run.

    python -m experiments.predict run_dir=DIR cutouts=DIR out=FILE.parquet

Writes a Parquet table, one row a file; what is wrong with a file stands in its flags.
"""

import json
import os
import sys
from pathlib import Path

from experiments import config

if __name__ == "__main__":  # a wrong key is told before JAX is loaded
    config.check("predict")

import jax
import jax.numpy as jnp
import numpy as np

from experiments import progress
from experiments.fit import to_save
from experiments.run import network_settings
from experiments.sample import survey_of
from lensjax import checkpoint, predict, train
from lensjax.batches import Folds

MOST_READERS = 16
MANY_FILES = 2000  # nine seconds of reading by one core; processes take two to start


def load(run_dir: Path, settings: config.TrainConfig):
    """The trained model of a run, images -> (n, 5).

    The final network where the run has come to its end, else the mean of the folds'
    best epochs.
    """
    setup = network_settings(settings)
    summary = run_dir / "summary.json"
    finished = summary.exists() and "final" in json.loads(summary.read_text())
    if finished:
        state = _saved(run_dir / "final" / "checkpoints", setup, 1, keep_best=False)
        params = train.judged(state)
        if not all(np.isfinite(p).all() for p in jax.tree.leaves(params)):
            raise config.ConfigError(
                f"run_dir: the final network of {run_dir} has diverged: lower "
                "learning_rate"
            )
    else:
        state = _saved(run_dir / "checkpoints", setup, len(settings.folds))
        params, untrained = state.best_params, np.asarray(state.best_epoch) == 0
        if untrained.any():
            raise config.ConfigError(
                f"run_dir: {run_dir} has no epoch with a finite validation loss yet "
                f"(fold {settings.folds[untrained.argmax()]}): train on, or lower "
                "learning_rate"
            )

    @jax.jit
    def answers(params, images):
        one = jax.vmap(lambda p: train.answer(p, images, setup))
        return one(params).mean(0)

    return lambda images: np.asarray(answers(params, jnp.asarray(images)))


def _saved(folder: Path, setup: train.Settings, members: int, keep_best: bool = True):
    """The state of a run's networks as its latest checkpoint has it."""
    like = jax.eval_shape(lambda: to_save(_untrained(setup, members, keep_best), 0, 0))
    return checkpoint.restore(folder, like)["state"]


def _untrained(setup: train.Settings, members: int, keep_best: bool) -> train.State:
    nothing = jnp.zeros((members, 1), jnp.int32)
    folds = Folds(nothing[:, 0], *[nothing, nothing[:, 0]] * 3)
    rows = train.members(folds, [train.Hyperparameters()])
    return train.start(setup, rows, keep_best)


def readers() -> int:
    """One a core that this process may use, but no more than keep a network busy."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MOST_READERS)
    return min(os.cpu_count() or 1, MOST_READERS)


def many(cutouts: str) -> bool:
    """Whether there are files enough for processes to be worth their start."""
    try:
        return len(predict.find(cutouts)) >= MANY_FILES
    except ValueError:  # told where they are read
        return False


def run(settings: config.PredictConfig) -> int:
    """Read, predict, write; returns the exit status."""
    run_dir = Path(settings.run_dir)
    try:
        trained = config.from_yaml(run_dir / "config.yaml", config.TrainConfig)
        model = load(run_dir, trained)
        facts = json.loads((run_dir / "provenance.json").read_text())
    except config.ConfigError:
        raise
    except (OSError, ValueError) as error:  # CheckpointError is a ValueError
        raise config.ConfigError(f"run_dir: {error}") from error
    facts["run_dir"] = str(run_dir.resolve())
    processes = settings.processes
    if processes is None:
        processes = readers() if many(settings.cutouts) else 0
    with progress.track("predicting", 0, "cutouts") as update:
        return predict.run(
            model,
            settings.cutouts,
            settings.out,
            survey_of(trained),
            strict=settings.strict,
            overwrite=settings.overwrite,
            batch_size=settings.batch_size,
            processes=processes,
            provenance=facts,
            progress=lambda done, total: update(done, total=total),
            echo=lambda text: print(
                text, file=sys.stderr if text.startswith("error") else sys.stdout
            ),
        )


if __name__ == "__main__":
    config.main("predict", run)
