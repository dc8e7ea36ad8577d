"""The networks that a run's checkpoints hold."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.commands import config, run_folder
from lensjax.learning import step
from lensjax.learning.estimator import Estimator
from lensjax.learning.folds import Folds
from lensjax.learning.loop import to_save
from lensjax.learning.members import Hyperparameters, members
from lensjax.learning.step import Settings, State
from lensjax.storage import checkpoint


def final(
    run_dir: Path,
    estimator: Estimator,
    settings: Settings,
    about: dict | None = None,
) -> dict | None:
    """Parameters, with one network in front, of a final network; None before its end.

    about: what they are good for, see `checkpoint.restore`.  ConfigError where the
    network has diverged.
    """
    if not run_folder.has_final(run_dir):
        return None
    folder = run_dir / "final" / "checkpoints"
    params = step.in_use(saved(folder, estimator, settings, 1, False, about))
    if not all(np.isfinite(p).all() for p in jax.tree.leaves(params)):
        raise config.ConfigError(
            f"run_dir: the final network of {run_dir} has diverged: lower learning_rate"
        )
    return params


def best_of_folds(
    run_dir: Path,
    estimator: Estimator,
    settings: Settings,
    folds: list[int],
    about: dict | None = None,
) -> dict:
    """Parameters, with the folds in front, of each fold's best epoch so far."""
    folder = run_dir / "checkpoints"
    state = saved(folder, estimator, settings, len(folds), about=about)
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
    about: dict | None = None,
) -> State:
    """The state of so many networks as their latest checkpoint has it."""

    def like():
        return to_save(_untrained(estimator, settings, members, keep_best), 0, 0)

    return checkpoint.restore(folder, jax.eval_shape(like), about=about)["state"]


def _untrained(estimator, settings, n: int, keep_best: bool) -> State:
    nothing = jnp.zeros((n, 1), jnp.int32)
    folds = Folds(nothing[:, 0], *[nothing, nothing[:, 0]] * 3)
    rows = members(folds, [Hyperparameters()], estimator.space)
    return step.start(estimator, settings, rows, keep_best)
