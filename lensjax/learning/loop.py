"""Networks trained to their last epoch, saved as they go, stopped and resumed.

    begun = loop.begin(stage)
    state = loop.train(stage, loader, begun)

The loop prints nothing and knows no signals: it tells `progress` how far it is and asks
`stop` whether to go on.
"""

import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lensjax.learning import program, records, step
from lensjax.learning.estimator import Estimator
from lensjax.learning.loader import FromDisk, InMemory
from lensjax.learning.members import Member
from lensjax.learning.records import Record
from lensjax.learning.step import Settings, State
from lensjax.mocks.online import Online
from lensjax.mocks.system import Rendering
from lensjax.storage import checkpoint


class Stopped(Exception):
    """Training was asked to stop; what was done is in the checkpoint."""


class Stage(NamedTuple):
    """Networks that are trained together, and how."""

    folder: Path  # of their metrics.jsonl and checkpoints/
    members: Member
    labels: list[dict]  # what a record says of each member
    estimator: Estimator
    settings: Settings
    steps: int  # an epoch
    epochs: int
    rendering: Rendering
    online: Online | None = None
    validates: bool = True  # after each epoch
    keep_best: bool = True  # the parameters of each member's best epoch
    checkpoint_seconds: float = 20.0
    steps_per_dispatch: int = 50  # at most
    seconds_per_dispatch: float = 1.0  # about: `stop` waits so long to be asked
    devices: int = 0  # members are spread over so many; 0: all there are
    about: dict | None = None  # what the networks see and mean, sealed with them

    def images(self, epochs: int | None = None, steps: int = 0) -> int:
        """Images that all members see in so many epochs (all of them) and steps."""
        epochs = self.epochs if epochs is None else epochs
        batch = self.settings.batch_size * len(self.labels)
        return (epochs * self.steps + steps) * batch


class Begun(NamedTuple):
    """Where training is: a state, and the epochs and steps that led to it."""

    state: State
    epoch: int = 0
    step: int = 0  # within the epoch


def begin(stage: Stage) -> Begun:
    """Untrained networks, or where the latest checkpoint has them."""
    folder = stage.folder / "checkpoints"
    new = Begun(
        step.start(stage.estimator, stage.settings, stage.members, stage.keep_best)
    )
    if checkpoint.latest(folder) is None:
        return new
    saved = checkpoint.restore(folder, to_save(*new), about=stage.about)
    return Begun(saved["state"], int(saved["epoch"]), int(saved["step"]))


def to_save(state: State, epoch: int, step: int) -> dict[str, Any]:
    """What a checkpoint holds."""
    return {
        "state": state,
        "epoch": jnp.asarray(epoch, jnp.int32),
        "step": jnp.asarray(step, jnp.int32),
    }


def train(
    stage: Stage,
    loader: InMemory | FromDisk,
    begun: Begun,
    progress: Callable[[int, str], None] = lambda images, note: None,
    stop: Callable[[bool], bool] = lambda unsaved: False,
) -> State:
    """Train to the last epoch, and return the state that it ends with.

    Ends early where every member has diverged.  progress: called with the images seen
    so far (see `Stage.images`) and what the last epoch came to.  stop: whether to end
    now; called after every dispatch and every save, with whether there are steps that
    no checkpoint has yet.  Raises Stopped, the state saved, where it says so.
    """
    return _Run(stage, loader, begun, progress, stop).to_the_end()


class _Run:
    """A stage that is being trained."""

    def __init__(self, stage, loader, begun, progress, stop):
        self.stage, self.loader = stage, loader
        self.progress, self.stop = progress, stop
        state, self.epoch, self.step = begun
        stage.folder.mkdir(exist_ok=True)
        self.metrics = stage.folder / "metrics.jsonl"
        self.records = records.keep_epochs(self.metrics, self.epoch)
        self.program = program.compile(
            stage.estimator,
            stage.settings,
            stage.steps,
            stage.members,
            stage.rendering,
            jax.local_devices()[: stage.devices or None],
            stage.online,
            loader.renders,
        )
        self.state, self.members = self.program.place((state, stage.members))
        self.pace = _Pace(loader, stage.steps_per_dispatch, stage.seconds_per_dispatch)
        self._compile()
        self.saved_at, self.unsaved = time.monotonic(), False

    def _compile(self) -> None:
        """No step at all: neither `stop` nor the clock need wait for it later."""
        if self.stage.validates:
            self._validate(0, 0)
        self._run(self.step, self.step)

    def _run(self, first: int, last: int) -> None:
        data = self.loader.training(self.epoch, first, last)
        self.state = self.program.run(
            self.state, self.members, data, self.epoch, first, last
        )
        jax.block_until_ready(self.state.loss_sum)

    def _validate(self, first: int, last: int) -> None:
        data = self.loader.validation(first, last)
        self.state = self.program.validate(self.state, self.members, data, first, last)
        jax.block_until_ready(self.state.validation_sum)

    def to_the_end(self) -> State:
        stage = self.stage
        note = ""
        self._report(note)
        while self.epoch < stage.epochs and not records.all_diverged(
            self.records, len(stage.labels)
        ):
            rate = self._steps(note)
            self._validate_all()
            note = self._end_epoch(rate)
            self._report(note)
            if self._due():
                self._save()
        if self.unsaved:
            self._save()
        if self.stop(False):
            raise Stopped
        return self.state

    def _steps(self, note: str) -> float:
        """The rest of an epoch's steps; images a second of each member."""
        steps, from_step, seconds = self.stage.steps, self.step, 0.0
        while self.step < steps:
            to = min(self.step + self.pace.dispatch, steps)
            with self.pace.timed() as took:
                self._run(self.step, to)
            self.step, self.unsaved = to, True
            seconds += took()
            self._heed()
            if self.step < steps:
                self._report(note)
                self._heed()  # what `progress` does may take its time
                if self._due():
                    self._save()
        images = (steps - from_step) * self.stage.settings.batch_size
        return images / max(seconds, 1e-9)

    def _validate_all(self) -> None:
        sums = self.state.validation_sum
        self.state = self.state._replace(validation_sum=jnp.zeros_like(sums))
        blocks = self.program.blocks if self.stage.validates else 0
        for first in range(0, blocks, self.pace.dispatch):
            self._validate(first, min(first + self.pace.dispatch, blocks))
            self._heed()

    def _end_epoch(self, rate: float) -> str:
        """Records of the epoch; what a person should hear of it."""
        stage = self.stage
        empty = jax.device_get(self.state.empty) if stage.online else None
        self.state, losses = self.program.finish(self.state, self.members, self.epoch)
        self.epoch, self.step = self.epoch + 1, 0
        new = records.of_epoch(
            stage.labels, self.epoch, losses, rate, empty, stage.validates
        )
        records.append(self.metrics, new)
        self.records += new
        note = _note(new, stage)
        if empty is not None and empty.sum():
            share = empty.mean() / (stage.steps * stage.settings.batch_size)
            note += f", {share:.1%} of slots empty"
        return note

    def _report(self, note: str) -> None:
        self.progress(self.stage.images(self.epoch, self.step), note)

    def _due(self) -> bool:
        return time.monotonic() - self.saved_at > self.stage.checkpoint_seconds

    def _save(self) -> None:
        checkpoint.save(
            self.stage.folder / "checkpoints",
            self.epoch * self.stage.steps + self.step,
            to_save(self.state, self.epoch, self.step),
            about=self.stage.about,
        )
        self.saved_at, self.unsaved = time.monotonic(), False
        if self.stop(False):
            raise Stopped

    def _heed(self) -> None:
        if self.stop(self.unsaved):
            if self.unsaved:
                self._save()
            raise Stopped


def _note(new: list[Record], stage: Stage) -> str:
    kind = "val_loss" if stage.validates else "train_loss"
    values = [r[kind] for r in new]
    name = "validation loss " if stage.validates else "training loss "
    if len(values) <= 5:
        return name + " ".join("nan" if v is None else f"{v:.4f}" for v in values)
    finite = sorted(v for v in values if v is not None)
    best = f"{finite[0]:.4f} to {finite[-1]:.4f}" if finite else "nan"
    lost = len(values) - len(finite)
    return name + best + (f", {lost} diverged" if lost else "")


class _Pace:
    """How many steps go into one dispatch: so many that it is soon over, and few."""

    def __init__(self, loader: InMemory | FromDisk, most: int, seconds: float):
        self.fixed = loader.dispatch is not None
        self.most, self.seconds = most, seconds
        self.dispatch = loader.dispatch if self.fixed else 1

    @contextmanager
    def timed(self):
        took = []
        began = time.monotonic()
        yield lambda: took[0]
        took.append(time.monotonic() - began)
        if self.fixed:
            return
        if took[0] < 0.5 * self.seconds:
            self.dispatch = min(2 * self.dispatch, self.most)
        elif took[0] > 2 * self.seconds:
            self.dispatch = max(self.dispatch // 2, 1)
