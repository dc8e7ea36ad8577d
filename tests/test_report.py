"""The paper's way to the end: five folds, the final network, its test and a report."""

import json
import os
import re
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_experiments import (
    TINY,
    assert_same_bits,
    copied,
    draw_nothing,
    galaxies,
    losses,
    no_json,
    tracked,
)

from lensjax import catalogue, parameters
from lensjax.commands import evaluate as evaluate_command
from lensjax.commands import export as export_command
from lensjax.commands import predict as predict_command
from lensjax.commands import progress, resolve, runs
from lensjax.commands import train as train_command
from lensjax.commands.config import ConfigError, EvaluateConfig, ExportConfig
from lensjax.learning import dataset, paper_cnn, pretrained
from lensjax.storage import checkpoint, parquet

WHOLE = replace(TINY, fold="all", final=True, epochs=2)
COLUMNS = parameters.columns()


def rendered(rows=slice(None), **other):
    """Images of rows of the sample."""
    catalogue, listing, sample = galaxies()
    rendering = resolve.rendering_of(WHOLE, listing)._replace(**other)
    systems = jax.tree.map(lambda a: a[rows], sample.systems)
    return dataset.render_all(systems, catalogue, rendering)


def saved(folder, of="final"):
    """The state that a run's final network ended with."""
    own = resolve.estimator_of(WHOLE), resolve.learning_of(WHOLE)
    return runs.saved(folder / of / "checkpoints", *own, 1, keep_best=False)


@pytest.fixture(scope="module")
def finished(cache, tmp_path_factory):
    """A run with its final network, and the report on it."""
    folder = tmp_path_factory.mktemp("runs") / "a <b> run"
    said = []
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        patch.setattr(progress, "say", said.append)
        settings = replace(WHOLE, run_dir=str(folder))
        assert train_command.run(settings) == 0
        assert evaluate_command.run(EvaluateConfig(str(folder))) == 0
    summary = json.loads((folder / "summary.json").read_text(), parse_constant=no_json)
    return SimpleNamespace(folder=folder, said="\n".join(said), summary=summary)


def test_the_final_network_trains_for_the_best_mean_epoch(finished):
    records = losses(finished.folder)
    mean = [
        np.mean([r["val_loss"] for r in records if r["epoch"] == e]) for e in (1, 2)
    ]
    best = int(np.argmin(mean)) + 1
    assert finished.summary["mean_curve"]["best_epoch"] == best
    assert finished.summary["mean_curve"]["val_loss"] == pytest.approx(min(mean))
    final = losses(finished.folder / "final")
    assert [r["epoch"] for r in final] == list(range(1, best + 1))
    assert all(r["fold"] == "final" and r["val_loss"] is None for r in final)
    assert all(np.isfinite(r["train_loss"]) for r in final)


def test_the_test_set_is_judged_once_and_by_the_final_network(finished):
    table = parquet.read(finished.folder / "test.parquet")
    _, listing, sample = galaxies()
    part = catalogue.split(listing.lens_id)
    tested = np.flatnonzero(part[sample.systems.lens_index] == -1)
    assert table["id"].tolist() == [f"{n:010d}" for n in tested]
    own = resolve.estimator_of(WHOLE), resolve.learning_of(WHOLE)
    params = runs.final(finished.folder, *own)
    params = jax.tree.map(lambda a: jnp.asarray(a[0]), params)
    network = resolve.network_of(WHOLE)
    expected = paper_cnn.predict(params, rendered()[tested], network)
    got = np.stack([table[f"network_{c}"] for c in COLUMNS], -1)
    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=1e-5)
    truth = np.stack([table[c] for c in COLUMNS], -1)
    loss = ((got - truth) ** 2).mean()  # all weights are one
    assert finished.summary["final"]["test_loss"]["network"] == pytest.approx(loss)
    # without arcs it sees the lens galaxies alone
    expected = paper_cnn.predict(params, rendered(lens_only=True)[tested], network)
    got = np.stack([table[f"no_arcs_{c}"] for c in COLUMNS], -1)
    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=1e-5)


def test_held_out_answers_are_by_the_fold_that_did_not_see_the_galaxy(finished):
    table = parquet.read(finished.folder / "held_out.parquet")
    _, listing, _ = galaxies()
    part = dict(zip(listing.lens_id, catalogue.split(listing.lens_id), strict=True))
    folds = [part[name] for name in table["lens_id"]]
    assert folds == sorted(folds) and set(folds) == {0, 1, 2, 3, 4}
    # the prior's mean is that of the other folds: one value a fold
    by_fold = [
        {v for v, k in zip(table["prior_ex"], folds, strict=True) if k == fold}
        for fold in range(5)
    ]
    assert [len(values) for values in by_fold] == [1] * 5


def test_a_stop_in_the_final_stage_loses_nothing(finished, cache, tmp_path):
    folder = tmp_path / "run"
    per_epoch = 5 * 4 * WHOLE.batch_size

    def interrupt(done):
        folds_done = (folder / "held_out.parquet").exists()
        if folds_done and done == WHOLE.batch_size < per_epoch:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)

    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        patch.setattr(progress, "track", tracked(interrupt))
        settings = replace(WHOLE, run_dir=str(folder), steps_per_dispatch=1)
        assert train_command.run(settings) == 143
    assert checkpoint.latest(folder / "final" / "checkpoints") == 1
    assert not (folder / "summary.json").exists()
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        assert train_command.run(replace(WHOLE, run_dir=str(folder))) == 0
    assert losses(folder) == losses(finished.folder)
    assert losses(folder / "final") == losses(finished.folder / "final")
    assert_same_bits(saved(folder), saved(finished.folder))


def test_predict_takes_the_final_network(finished):
    got = predict_command.of_run(finished.folder).predict(rendered(slice(30)))
    table = parquet.read(finished.folder / "test.parquet")
    rows = {name: k for k, name in enumerate(table["id"])}
    for k in range(30):
        if (name := f"{k:010d}") in rows:
            row = table[rows[name]]
            assert row["network_theta_E_arcsec"] == pytest.approx(got[k, 4], rel=1e-3)


def test_the_report_is_one_file_that_asks_for_nothing(finished):
    page = (finished.folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 8
    assert not re.search(r"(src|href)=\"(?!data:)", page) and "<script" not in page
    assert "a &lt;b&gt; run" in page and "<b>" not in page
    for text in ("light only", "prior mean", "arcs removed", "fingerprint", "test set"):
        assert text in page
    for name in ("models", "histograms", "errors", "flux_ratio", "next_images"):
        assert (finished.folder / f"{name}.png").stat().st_size > 5_000


def test_the_evaluation_is_of_the_table(finished):
    found = json.loads(
        (finished.folder / "evaluation.json").read_text(), parse_constant=no_json
    )
    assert found["evaluated on"] == "the test set"
    table = parquet.read(finished.folder / "test.parquet")
    network = found["predictions"]["network"]
    assert network["systems"] == len(table)
    error = np.asarray(table["network_ex"], float) - np.asarray(table["ex"], float)
    low, median, high = np.percentile(error, [16, 50, 84])
    quantiles = network["error"]["ex"]
    assert quantiles["median"] == pytest.approx(median, abs=1e-6)
    assert quantiles["plus"] == pytest.approx(high - median, abs=1e-6)
    assert network["merits"]["ex"]["half_width"] == pytest.approx((high - low) / 2)
    bins = [b["systems"] for b in network["by theta_E"]]
    assert sum(bins) == len(table)
    assert set(network["merits"]) == {*parameters.names()}


def test_a_run_that_is_not_there_or_not_done(tmp_path):
    with pytest.raises(ConfigError, match="run_dir: .* holds no training run"):
        EvaluateConfig(str(tmp_path)).validate()
    (tmp_path / "config.yaml").touch()
    settings = EvaluateConfig(str(tmp_path), beside=str(tmp_path / "other"))
    with pytest.raises(ConfigError, match="beside: .*other holds no training run"):
        settings.validate()
    with pytest.raises(ConfigError, match="no held_out.parquet: let the run finish"):
        evaluate_command.run(EvaluateConfig(str(tmp_path)))


def test_a_final_network_in_a_file_answers_as_its_run(finished, tmp_path, capsys):
    out = tmp_path / "mine.safetensors"
    settings = ExportConfig(str(finished.folder), str(out))
    settings.validate()
    assert export_command.run(settings) == 0
    model = pretrained.load(out)
    images = rendered(slice(30))
    expected = predict_command.of_run(finished.folder).predict(images)
    np.testing.assert_allclose(pretrained.predict(model, images), expected, rtol=1e-5)
    # what it says of itself is what the run came to
    summary_ = json.loads((finished.folder / "summary.json").read_text())["final"]
    assert model.about["test"]["loss"] == summary_["test_loss"]
    assert model.about["trained on"]["systems"] == summary_["systems"]["training"]
    theta_E = np.asarray(galaxies()[2].systems.sie.theta_E)
    np.testing.assert_allclose(
        model.about["ranges"]["theta_E"], [theta_E.min(), theta_E.max()], rtol=5e-3
    )
    card = out.with_suffix(".md").read_text()
    assert card.startswith("# mine\n") and "not on real ones" in card
    with pytest.raises(ConfigError, match="exists: pass overwrite=true"):
        settings.validate()


def test_only_a_run_with_a_final_network_is_exported(finished, tmp_path):
    folder = copied(
        finished, tmp_path / "run", "config.yaml", "provenance.json"
    ).run_dir
    with pytest.raises(ConfigError, match="has no final network: .*final=true"):
        export_command.run(ExportConfig(folder, str(tmp_path / "a.safetensors")))
    with pytest.raises(ConfigError, match="must end in .safetensors"):
        ExportConfig(folder, str(tmp_path / "a.pt")).validate()
    with pytest.raises(ConfigError, match="no folder"):
        ExportConfig(folder, str(tmp_path / "no" / "a.safetensors")).validate()
