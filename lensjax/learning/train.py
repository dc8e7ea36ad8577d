"""Training in one place: `lensjax.train`, what research code imports.

    folds = train.split_rows(part, systems.lens_index, [3])
    rows = train.members(folds, [train.Hyperparameters(learning_rate=0.001)])
    program = train.compile(estimator, settings, steps, rows, rendering)
    state, rows = program.place((train.start(estimator, settings, rows), rows))
    state = program.run(state, rows, data, epoch, 0, steps)

Each piece has its module: `estimator` says what is trained (`paper_cnn`: the network of
Schuldt et al. 2021), `folds` and `dataset` on what, `members` who beside whom, `step`
how, `program` what is compiled of it; `loop` goes through all epochs with checkpoints.
"""

from lensjax import parameters
from lensjax.learning.dataset import BLOCK, Data
from lensjax.learning.estimator import Estimator, targets
from lensjax.learning.folds import Folds, final_rows, split_rows, steps_per_epoch
from lensjax.learning.members import (
    Hyperparameters,
    Member,
    members,
    order,
    side_by_side,
    target_weights,
)
from lensjax.learning.paper_cnn import loss
from lensjax.learning.paper_cnn import predict as answer
from lensjax.learning.program import Program, compile, predict
from lensjax.learning.step import Settings, State, finite, in_use, optimizer, start

TARGETS = parameters.names()
"""What the paper's network predicts, in its order: x, y, theta_E in arcsec."""

__all__ = [
    "BLOCK",
    "TARGETS",
    "Data",
    "Estimator",
    "Folds",
    "Hyperparameters",
    "Member",
    "Program",
    "Settings",
    "State",
    "answer",
    "compile",
    "final_rows",
    "finite",
    "in_use",
    "loss",
    "members",
    "optimizer",
    "order",
    "predict",
    "side_by_side",
    "split_rows",
    "start",
    "steps_per_epoch",
    "target_weights",
    "targets",
]
