"""Networks trained to their last epoch, saved as they go, stopped and resumed."""

import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lensjax.commands import progress
from lensjax.commands.run_folder import append, diverged, keep_epochs, records_of
from lensjax.commands.signals import Signals, Stopped
from lensjax.learning import train
from lensjax.learning.loader import FromDisk, InMemory
from lensjax.learning.train import Member
from lensjax.mocks.online import Endless
from lensjax.mocks.system import Rendering
from lensjax.storage import checkpoint


class Stage(NamedTuple):
    """Networks that are trained together, and how."""

    folder: Path  # of their metrics.jsonl and checkpoints/
    members: Member
    labels: list[dict]  # what a record says of each member
    setup: train.Settings
    steps: int  # an epoch
    epochs: int
    rendering: Rendering
    endless: Endless | None = None
    judged: bool = True  # validate after each epoch
    keep_best: bool = True  # the parameters of each member's best epoch
    checkpoint_seconds: float = 20.0
    steps_per_dispatch: int = 50  # at most
    seconds_per_dispatch: float = 1.0  # about: a signal waits so long
    devices: int = 0  # members are spread over so many; 0: all there are

    def start(self) -> train.State:
        """Untrained networks."""
        return train.start(self.setup, self.members, self.keep_best)


def fit(stage: Stage, feed: InMemory | FromDisk, signals: Signals) -> train.State:
    """Train to the last epoch, from the latest checkpoint if there is one.

    Ends early where every member has diverged.  Raises Stopped, the state saved, at the
    first step after a signal.
    """
    steps, batch_size, members = stage.steps, stage.setup.batch_size, stage.members
    n_members = len(stage.labels)
    program = train.compile(
        stage.setup,
        steps,
        members,
        stage.rendering,
        jax.local_devices()[: stage.devices or None],
        stage.endless,
    )
    folder, metrics = stage.folder / "checkpoints", stage.folder / "metrics.jsonl"
    stage.folder.mkdir(exist_ok=True)
    state, epoch, step = stage.start(), 0, 0
    if checkpoint.latest(folder) is not None:
        saved = checkpoint.restore(folder, to_save(state, 0, 0))
        state, epoch, step = saved["state"], int(saved["epoch"]), int(saved["step"])
        progress.say(f"resumed after {epoch} epochs and {step} of {steps} steps")
    records = keep_epochs(metrics, epoch)
    state, members = program.place((state, members))
    # no step at all, to compile: neither a signal nor the clock need wait for it later
    if stage.judged:
        state = program.validate(state, members, feed.validation(0, 0), 0, 0)
    state = program.run(state, members, feed.training(epoch, step, step), epoch, 0, 0)
    jax.block_until_ready(state.loss_sum)
    saved_at = time.monotonic()
    pace = _Pace(feed, stage.steps_per_dispatch, stage.seconds_per_dispatch)

    def save():
        nonlocal saved_at
        checkpoint.save(folder, epoch * steps + step, to_save(state, epoch, step))
        saved_at, signals.unsaved = time.monotonic(), False

    def due():
        return time.monotonic() - saved_at > stage.checkpoint_seconds

    def heed_signals():
        if signals.received:
            save()
            raise Stopped(signals.received)

    def done():
        return (epoch * steps + step) * batch_size * n_members

    total = stage.epochs * steps * batch_size * n_members
    with progress.track("training", total, "images") as update:
        note = ""
        update(done())
        while epoch < stage.epochs and not diverged(records, n_members):
            seconds, from_step = 0.0, step
            while step < steps:
                to = min(step + pace.dispatch, steps)
                with pace.timed() as took:
                    data = feed.training(epoch, step, to)
                    state = program.run(state, members, data, epoch, step, to)
                    jax.block_until_ready(state.loss_sum)
                step, signals.unsaved = to, True
                seconds += took()
                if step < steps:
                    update(done(), note)
                heed_signals()
                if step < steps and due():
                    save()
            state = state._replace(validation_sum=jnp.zeros_like(state.validation_sum))
            blocks = program.blocks if stage.judged else 0
            for block in range(0, blocks, pace.dispatch):
                to = min(block + pace.dispatch, blocks)
                data = feed.validation(block, to)
                state = program.validate(state, members, data, block, to)
                jax.block_until_ready(state.validation_sum)
                heed_signals()
            empty = jax.device_get(state.empty) if stage.endless else None
            state, losses = program.finish(state, members, epoch)
            rate = (steps - from_step) * batch_size / max(seconds, 1e-9)
            epoch, step = epoch + 1, 0
            new = records_of(stage.labels, epoch, losses, rate, empty, stage.judged)
            append(metrics, new)
            records += new
            note = _note(new, stage)
            if empty is not None and empty.sum():
                share = empty.mean() / (steps * batch_size)
                note += f", {share:.1%} of slots empty"
            update(done(), note)
            if due():
                save()
        if signals.unsaved:
            save()
    if signals.received:
        raise Stopped(signals.received)
    return state


def _note(records: list[dict], stage: Stage) -> str:
    kind = "val_loss" if stage.judged else "train_loss"
    values = [r[kind] for r in records]
    name = "validation loss " if stage.judged else "training loss "
    if len(values) <= 5:
        return name + " ".join("nan" if v is None else f"{v:.4f}" for v in values)
    finite = sorted(v for v in values if v is not None)
    best = f"{finite[0]:.4f} to {finite[-1]:.4f}" if finite else "nan"
    lost = len(values) - len(finite)
    return name + best + (f", {lost} diverged" if lost else "")


class _Pace:
    """How many steps go into one dispatch: so many that it is soon over, and few."""

    def __init__(self, feed: InMemory | FromDisk, most: int, seconds: float):
        self.fixed = isinstance(feed, FromDisk)
        self.most, self.seconds = most, seconds
        self.dispatch = feed.dispatch if self.fixed else 1

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


def to_save(state: train.State, epoch: int, step: int) -> dict[str, Any]:
    """What a checkpoint holds."""
    return {
        "state": state,
        "epoch": jnp.asarray(epoch, jnp.int32),
        "step": jnp.asarray(step, jnp.int32),
    }
