"""Grids of hyperparameters: each network is what it is alone, and none disturbs."""

import csv
import json
import os
import signal
import time
from dataclasses import asdict, replace

import pytest
from test_experiments import (
    TINY,
    draw_nothing,
    losses,
    tracked,
)

from lensjax.commands import config, grid, progress
from lensjax.commands import train as train_command
from lensjax.commands.config import ConfigError, GridConfig

GRID = GridConfig(
    **{
        k: v for k, v in asdict(TINY).items() if k not in ("fold", "checkpoint_seconds")
    },
    fold=3,
    learning_rates=(0.01, 10.0),
    batch_sizes=(8, 16),
    seeds=(3, 4),
    weights_theta_E=(1.0, 5.0),
)


def trained(settings):
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        return grid.run(settings)


@pytest.fixture(scope="module")
def whole(cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("grids") / "whole"
    assert trained(replace(GRID, run_dir=str(folder))) == 0
    return folder


def curve(folder, **choice):
    return [
        (r["train_loss"], r["val_loss"])
        for r in losses(folder)
        if all(r[k] == v for k, v in choice.items())
    ]


@pytest.mark.parametrize("batch_size, weight", [(8, 1.0), (16, 5.0)])
def test_a_network_of_the_grid_is_that_of_a_run_alone(
    whole, tmp_path, batch_size, weight
):
    settings = replace(
        TINY,
        run_dir=str(tmp_path / "alone"),
        batch_size=batch_size,
        weight_theta_E=weight,
        learning_rate=0.01,
    )
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        patch.setattr(train_command, "conclude", lambda *_: {})
        patch.setattr(train_command, "show", lambda *_: None)
        assert train_command.run(settings) == 0
    got = curve(
        whole / f"batch_{batch_size}", learning_rate=0.01, seed=3, weight_theta_E=weight
    )
    alone = curve(tmp_path / "alone")
    assert len(got) == len(alone) == TINY.epochs
    for one, other in zip(got, alone, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_who_diverges_is_marked_and_nobody_else(whole):
    with (whole / "members.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    for row in rows:
        lost = row["learning_rate"] == "10.0"
        assert row["diverged"] == str(int(lost))
        assert (row["loss"] == "") == (lost and row["best_epoch"] == "")
        assert row["epochs"] == "3" and row["folds"] == "1"
    for weight in ("1.0", "5.0"):
        found = [r["loss"] for r in rows if r["weight_theta_E"] == weight]
        finite = [float(v) for v in found if v]
        assert finite == sorted(finite) and found[len(finite) :] == [""] * (
            len(found) - len(finite)
        )


def test_a_stopped_grid_goes_on_and_comes_to_the_same(whole, tmp_path, capsys):
    folder = tmp_path / "parts"

    def interrupt(done):
        if (folder / "batch_16").exists() and done == 5 * 16 * 8:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "track", tracked(interrupt))
        settings = replace(GRID, run_dir=str(folder), steps_per_dispatch=1)
        assert trained(settings) == 143
    assert not (folder / "members.csv").exists()
    assert trained(replace(GRID, run_dir=str(folder))) == 0
    said = capsys.readouterr().out
    assert "batch size 8: done already" in said and "resumed after" in said
    assert (folder / "members.csv").read_text() == (whole / "members.csv").read_text()


def test_parts_trained_apart_make_one_table(whole, tmp_path):
    together = grid.gather(whole.parent)
    assert together == grid.gather(whole)
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(config.to_yaml(replace(TINY, learning_rate=0.5)))
    record = {"fold": 3, "epoch": 1, "train_loss": 1.0, "val_loss": 2.0}
    (run / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    (row,) = grid.gather(tmp_path)
    assert row["learning_rate"] == 0.5 and row["loss"] == 2.0 and row["folds"] == 1
    assert "dropout" not in row
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.yaml").write_text(config.to_yaml(replace(TINY, dropout=0.3)))
    (other / "metrics.jsonl").write_text(json.dumps(record | {"val_loss": 1.0}) + "\n")
    rows = grid.gather(tmp_path)  # no mean of networks that are not alike
    assert [(r["dropout"], r["loss"]) for r in rows] == [(0.3, 1.0), (0.0, 2.0)]


def test_a_loss_on_its_way_to_infinity_is_a_divergence():
    label = dict.fromkeys(grid.Axes._fields, 1)
    records = [
        label | {"fold": k, "epoch": e, "val_loss": loss}
        for k, losses_ in enumerate([(0.1, 0.2), (0.3, 1e7), (0.2, None)])
        for e, loss in enumerate(losses_, 1)
    ]
    (row,) = grid.rows_of(records)
    assert row["diverged"] == 2 and row["folds"] == 3
    early = [r for r in records if (r["fold"], r["epoch"]) != (2, 2)]
    (row,) = grid.rows_of(early)  # one ended before the others: no mean without it
    assert row["best_epoch"] == 1 and row["diverged"] == 1
    assert row["best_epoch"] == 1 and row["loss"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"learning_rates": ()}, "learning_rates must be a list of numbers"),
        ({"learning_rates": (0.1, 0.1)}, "learning_rates has a value twice"),
        ({"batch_sizes": (32, 0)}, "batch_size must be from 1"),
        ({"seeds": (1.5,)}, "seeds must be a list of numbers"),
        ({"final": True}, "final=true trains one network"),
        ({"online": True}, "online=true is not for a grid"),
        ({"tables": "/nowhere"}, "tables: /nowhere is no folder"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        replace(GridConfig(), **wrong).validate()
