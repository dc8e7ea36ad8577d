"""Model your own cutouts with a network that comes with lensjax, or with a run's.

    lensjax predict cutouts=DIR out=FILE.parquet [run_dir=DIR]

Writes a Parquet table, one row a file; what is wrong with a file stands in its flags.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from astropy.table import Table

from lensjax.commands import config, places, progress, run_folder, runs
from lensjax.commands.resolve import decisive, estimator_of, learning_of, survey_of
from lensjax.learning import predicted, prediction, pretrained
from lensjax.parameters import WITHOUT_SHEAR, Space
from lensjax.survey import Survey

MOST_READERS = 16
WIDE = 1.0  # [arcsec] range of centres in the training, from which on any will do
MANY_FILES = 2000  # nine seconds of reading by one core; processes take two to start


class Model(NamedTuple):
    """Who predicts, for which survey's images, and what is known of it."""

    predict: Callable[[np.ndarray], np.ndarray]  # images -> (n, len(space))
    survey: Survey
    facts: dict
    space: Space = WITHOUT_SHEAR
    trained: tuple[float, float] | None = None  # theta_E between these [arcsec]
    centred: bool = True  # whether it knows lenses in the middle only


def of_run(run_dir: Path) -> Model:
    """The final network where a run has come to its end, else the mean of its folds."""
    try:
        settings = config.from_yaml(run_dir / "config.yaml", config.TrainConfig)
        estimator, learning = estimator_of(settings), learning_of(settings)
        about = decisive(settings)
        params = runs.final(run_dir, estimator, learning, about)
        if params is None:
            params = runs.best_of_folds(
                run_dir, estimator, learning, settings.folds, about
            )
        facts = run_folder.facts(run_dir, "provenance.json")
    except config.ConfigError:
        raise
    except (OSError, ValueError) as error:  # CheckpointError is a ValueError
        raise config.ConfigError(f"run_dir: {error}") from error

    @jax.jit
    def mean(params, images):
        if estimator.posterior is not None:
            return _described(estimator, params, images)
        seen = estimator.see(images)
        return jax.vmap(lambda p: estimator.predict(p, seen))(params).mean(0)

    return Model(
        lambda images: jax.tree.map(np.asarray, mean(params, jnp.asarray(images))),
        survey_of(settings),
        facts | {"run_dir": str(run_dir.resolve())},
        estimator.space,
        (settings.theta_E_min, settings.theta_E_max),
        settings.dither == 0,
    )


def of_file(name: str) -> Model:
    """A network that comes with lensjax, or of a file made by `lensjax export`."""
    try:
        model = pretrained.load(name)
    except ValueError as error:
        raise config.ConfigError(f"weights: {error}") from error
    progress.say(f"weights {pretrained.summary(model)}")
    if warning := model.about.get("warning"):
        progress.say(warning)
    ranges = model.about.get("ranges", {})
    low, high = ranges.get("x", (0, 0))
    return Model(
        partial(estimates, model),
        model.survey,
        model.about,
        trained=tuple(ranges.get("theta_E", (0, np.inf))),
        centred=high - low < WIDE,
    )


def estimates(model: pretrained.Model, images: np.ndarray):
    """Numbers (n, 5) of images, or, of posteriors, arrays (n,) by name."""
    images = jnp.asarray(images)
    if model.estimator.posterior is None:
        return np.asarray(pretrained.predict(model, images))
    with_one = jax.tree.map(lambda a: a[None], model.params)
    return jax.tree.map(np.asarray, _described(model.estimator, with_one, images))


_described = jax.jit(pretrained.posteriors, static_argnums=0)


def readers() -> int:
    """One a core that this process may use, but no more than keep a network busy."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MOST_READERS)
    return min(os.cpu_count() or 1, MOST_READERS)


def found(settings: config.PredictConfig) -> list[str]:
    """The files to read; ConfigError without any, or where `out` cannot be written."""
    places.table("out", Path(settings.out), settings.overwrite)
    try:
        return prediction.find(settings.cutouts)
    except ValueError as error:
        raise config.ConfigError(f"cutouts: {error}") from error


def _kept_elsewhere(table: Table, name: str) -> str:
    """Hours of work, where there is room for them: where that is, in words."""
    try:
        path = Path(tempfile.mkdtemp(prefix="lensjax-")) / name
        prediction.write(table, path)
    except (OSError, ValueError):
        return "make room and give the same command again"
    return f"what was predicted is kept in {path}"


def run(settings: config.PredictConfig) -> int:
    """Read, predict, write.  Returns the exit status.

    0: written, whatever the flags.  1: the table could not be written in the end (it
    is kept in a temporary folder, if that has room).  3: written, but `strict` is set
    and some row has no prediction.
    """
    if settings.run_dir is not None:
        model = of_run(Path(settings.run_dir))
    else:
        model = of_file(settings.weights or pretrained.DEFAULT)
    paths = found(settings)
    processes = settings.processes
    if processes is None:
        processes = readers() if len(paths) >= MANY_FILES else 0
    with progress.track("predicting", len(paths), "cutouts") as update:
        table = prediction.predict(
            model.predict,
            paths,
            model.survey,
            space=model.space,
            trained=model.trained,
            centred=model.centred,
            batch_size=settings.batch_size,
            processes=processes,
            provenance=model.facts,
            progress=lambda done, total: update(done),
        )
    try:
        prediction.write(table, settings.out, settings.overwrite)
    except (OSError, ValueError) as error:
        kept = _kept_elsewhere(table, Path(settings.out).name)
        print(
            f"error: out: {settings.out} was not written: {error}; {kept}",
            file=sys.stderr,
        )
        return 1
    progress.say(predicted.summary(table))
    return 3 if settings.strict and predicted.without(table) else 0
