"""The networks that a run's checkpoints hold."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.commands import config
from lensjax.learning import step
from lensjax.learning.estimator import Estimator
from lensjax.learning.folds import Folds
from lensjax.learning.loop import to_save
from lensjax.learning.members import Hyperparameters, members
from lensjax.learning.step import Settings, State
from lensjax.storage import checkpoint


def final(run_dir: Path, estimator: Estimator, settings: Settings) -> dict | None:
    """Parameters, with one network in front, of a final network; None before its end.

    ConfigError where it has diverged.
    """
    summary = run_dir / "summary.json"
    if not summary.exists() or "final" not in json.loads(summary.read_text()):
        return None
    folder = run_dir / "final" / "checkpoints"
    params = step.in_use(saved(folder, estimator, settings, 1, keep_best=False))
    if not all(np.isfinite(p).all() for p in jax.tree.leaves(params)):
        raise config.ConfigError(
            f"run_dir: the final network of {run_dir} has diverged: lower learning_rate"
        )
    return params


def best_of_folds(
    run_dir: Path, estimator: Estimator, settings: Settings, folds: list[int]
) -> dict:
    """Parameters, with the folds in front, of each fold's best epoch so far."""
    state = saved(run_dir / "checkpoints", estimator, settings, len(folds))
    untrained = np.asarray(state.best_epoch) == 0
    if untrained.any():
        raise config.ConfigError(
            f"run_dir: {run_dir} has no epoch with a finite validation loss yet "
            f"(fold {folds[untrained.argmax()]}): train on, or lower learning_rate"
        )
    return state.best_params


def saved(
    folder: Path,
    estimator: Estimator,
    settings: Settings,
    members: int,
    keep_best: bool = True,
) -> State:
    """The state of so many networks as their latest checkpoint has it."""

    def like():
        return to_save(_untrained(estimator, settings, members, keep_best), 0, 0)

    return checkpoint.restore(folder, jax.eval_shape(like))["state"]


def _untrained(estimator, settings, n: int, keep_best: bool) -> State:
    nothing = jnp.zeros((n, 1), jnp.int32)
    folds = Folds(nothing[:, 0], *[nothing, nothing[:, 0]] * 3)
    rows = members(folds, [Hyperparameters()], estimator.space)
    return step.start(estimator, settings, rows, keep_best)
