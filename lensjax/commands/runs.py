"""The networks that a run's checkpoints hold."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.commands import config
from lensjax.commands.run_folder import network_settings
from lensjax.learning import train
from lensjax.learning.batches import Folds
from lensjax.learning.loop import to_save
from lensjax.storage import checkpoint


def final(run_dir: Path, settings: config.TrainConfig) -> dict | None:
    """Parameters, with one network in front, of a final network; None before its end.

    ConfigError where it has diverged.
    """
    summary = run_dir / "summary.json"
    if not summary.exists() or "final" not in json.loads(summary.read_text()):
        return None
    setup = network_settings(settings)
    state = _saved(run_dir / "final" / "checkpoints", setup, 1, keep_best=False)
    params = train.judged(state)
    if not all(np.isfinite(p).all() for p in jax.tree.leaves(params)):
        raise config.ConfigError(
            f"run_dir: the final network of {run_dir} has diverged: lower learning_rate"
        )
    return params


def best_of_folds(run_dir: Path, settings: config.TrainConfig) -> dict:
    """Parameters, with the folds in front, of each fold's best epoch so far."""
    setup = network_settings(settings)
    state = _saved(run_dir / "checkpoints", setup, len(settings.folds))
    untrained = np.asarray(state.best_epoch) == 0
    if untrained.any():
        raise config.ConfigError(
            f"run_dir: {run_dir} has no epoch with a finite validation loss yet "
            f"(fold {settings.folds[untrained.argmax()]}): train on, or lower "
            "learning_rate"
        )
    return state.best_params


def _saved(folder: Path, setup: train.Settings, members: int, keep_best: bool = True):
    """The state of a run's networks as its latest checkpoint has it."""
    like = jax.eval_shape(lambda: to_save(_untrained(setup, members, keep_best), 0, 0))
    return checkpoint.restore(folder, like)["state"]


def _untrained(setup: train.Settings, members: int, keep_best: bool) -> train.State:
    nothing = jnp.zeros((members, 1), jnp.int32)
    folds = Folds(nothing[:, 0], *[nothing, nothing[:, 0]] * 3)
    rows = train.members(folds, [train.Hyperparameters()])
    return train.start(setup, rows, keep_best)
