"""Model your own cutouts with a network that comes with lensjax, or with a run's.

    lensjax predict cutouts=DIR out=FILE.parquet [run_dir=DIR]

Writes a Parquet table, one row a file; what is wrong with a file stands in its flags.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.commands import config, progress, runs
from lensjax.commands.run_folder import network_settings
from lensjax.commands.sample import survey_of
from lensjax.learning import prediction, pretrained, train
from lensjax.survey import Survey

MOST_READERS = 16
MANY_FILES = 2000  # nine seconds of reading by one core; processes take two to start


class Model(NamedTuple):
    """Who answers, for which survey's images, and what is known of it."""

    answer: Callable[[np.ndarray], np.ndarray]  # images -> (n, 5)
    survey: Survey
    facts: dict


def of_run(run_dir: Path) -> Model:
    """The final network where a run has come to its end, else the mean of its folds."""
    try:
        settings = config.from_yaml(run_dir / "config.yaml", config.TrainConfig)
        params = runs.final(run_dir, settings)
        if params is None:
            params = runs.best_of_folds(run_dir, settings)
        facts = json.loads((run_dir / "provenance.json").read_text())
    except config.ConfigError:
        raise
    except (OSError, ValueError) as error:  # CheckpointError is a ValueError
        raise config.ConfigError(f"run_dir: {error}") from error
    setup = network_settings(settings)

    @jax.jit
    def answers(params, images):
        one = jax.vmap(lambda p: train.answer(p, images, setup))
        return one(params).mean(0)

    return Model(
        lambda images: np.asarray(answers(params, jnp.asarray(images))),
        survey_of(settings),
        facts | {"run_dir": str(run_dir.resolve())},
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
    return Model(
        lambda images: np.asarray(pretrained.answer(model, jnp.asarray(images))),
        model.survey,
        model.about,
    )


def readers() -> int:
    """One a core that this process may use, but no more than keep a network busy."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MOST_READERS)
    return min(os.cpu_count() or 1, MOST_READERS)


def many(cutouts: str) -> bool:
    """Whether there are files enough for processes to be worth their start."""
    try:
        return len(prediction.find(cutouts)) >= MANY_FILES
    except ValueError:  # told where they are read
        return False


def run(settings: config.PredictConfig) -> int:
    """Read, predict, write; returns the exit status."""
    if settings.run_dir is not None:
        model = of_run(Path(settings.run_dir))
    else:
        model = of_file(settings.weights or pretrained.DEFAULT)
    processes = settings.processes
    if processes is None:
        processes = readers() if many(settings.cutouts) else 0
    with progress.track("predicting", 0, "cutouts") as update:
        return prediction.run(
            model.answer,
            settings.cutouts,
            settings.out,
            model.survey,
            strict=settings.strict,
            overwrite=settings.overwrite,
            batch_size=settings.batch_size,
            processes=processes,
            provenance=model.facts,
            progress=lambda done, total: update(done, total=total),
            echo=lambda text: print(
                text, file=sys.stderr if text.startswith("error") else sys.stdout
            ),
        )
