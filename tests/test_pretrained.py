"""Networks in files: what was saved is what predicts, and damage is reported."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from lensjax.commands import config, resolve
from lensjax.commands import export as export_command
from lensjax.commands import predict as predict_command
from lensjax.commands.config import ConfigError, PredictConfig
from lensjax.learning import dataset, network, paper_cnn, pretrained, scaling, train
from lensjax.learning.network import Architecture
from lensjax.survey import HSC

SMALL = Architecture(size=20, channels=(3,), dense=(7,), convolution="lax")


def about(**more):
    return {
        "name": "small",
        "survey": "HSC",
        **pretrained.described(paper_cnn.Settings(SMALL, "asinh", 27.0)),
        "ranges": {"theta_E": [0.5, 3.0]},
        "trained on": {"systems": 1234, "catalogue": "toy galaxies"},
    } | more


@pytest.fixture
def params():
    return jax.tree.map(np.asarray, network.init(jax.random.key(1), SMALL))


@pytest.fixture
def file(params, tmp_path):
    path = tmp_path / "small.safetensors"
    pretrained.save(path, params, about())
    return path


def test_a_saved_network_predicts_as_before(file, params, rng):
    model = pretrained.load(file)
    assert (model.name, model.survey) == ("small", HSC)
    images = jnp.asarray(rng.normal(1, 2, (3, 20, 20, 4)), jnp.float32)
    expected = network.apply(params, scaling.scaled(images, "asinh"), SMALL)
    np.testing.assert_allclose(pretrained.predict(model, images), expected, atol=1e-6)
    # the tensors are plain: other programs read them
    tensors = safetensors.numpy.load_file(file)
    np.testing.assert_array_equal(tensors["dense2.bias"], params["dense2"]["bias"])
    assert pretrained.summary(model) == (
        "small: trained on 1,234 mocks of the toy galaxies, theta_E 0.5 to 3 arcsec"
    )


def test_every_flipped_byte_of_the_numbers_is_seen(file, rng):
    whole = file.read_bytes()
    first = 8 + int.from_bytes(whole[:8], "little")
    for place in rng.integers(first, len(whole), 20):
        broken = bytearray(whole)
        broken[place] ^= 1 << rng.integers(8)
        file.write_bytes(broken)
        with pytest.raises(ValueError, match="small.safetensors: damaged"):
            pretrained.load(file)
    # and of what is said of them
    file.write_bytes(whole.replace(b"27.0", b"29.0"))
    with pytest.raises(ValueError, match="small.safetensors: damaged"):
        pretrained.load(file)


def test_what_is_no_network_of_lensjax_is_told_as_such(file, params, tmp_path):
    def refused(path, why):
        with pytest.raises(ValueError, match=why) as error:
            pretrained.load(path)
        assert str(path) in str(error.value)

    file.write_bytes(file.read_bytes()[:1000])
    refused(file, "cannot be read")
    file.write_text("<html>")
    refused(file, "cannot be read")
    refused(tmp_path / "absent.safetensors", "cannot be read")
    safetensors.numpy.save_file({"a": np.zeros(3)}, file)
    refused(file, "no network of lensjax")
    safetensors.numpy.save_file({"a": np.zeros(3)}, file, {"lensjax": "{"})
    refused(file, "delimiter|property name")
    pretrained.save(file, params, about(survey="HCS"))
    refused(file, "did you mean HSC")
    pretrained.save(file, params, about(architecture={"size": 4}))
    refused(file, "too small")
    pretrained.save(file, params, about(format=2))
    refused(file, "format 2, not 1")
    pretrained.save(file, params, about(architecture={"size": 24, "channels": [3]}))
    refused(file, "its architecture")
    params["dense1"]["kernel"] = np.full_like(params["dense1"]["kernel"], np.inf)
    pretrained.save(file, params, about())
    refused(file, "not finite")


def test_an_unknown_name_is_told_with_those_that_there_are():
    with pytest.raises(ValueError, match=f"there are .*{pretrained.DEFAULT}"):
        pretrained.load("unifrom")


def test_a_save_that_fails_leaves_the_former_file(file, params):
    before = file.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        pretrained.save(file, params, about(ranges={"theta_E": float("nan")}))
    assert file.read_bytes() == before and len(list(file.parent.iterdir())) == 1


# The networks that come with lensjax


@pytest.mark.parametrize("name", pretrained.names())
def test_a_packaged_network_is_small_whole_and_has_its_card(name):
    path = pretrained.FOLDER / f"{name}.safetensors"
    assert path.stat().st_size < 5e6
    model = pretrained.load(name)
    assert model.name == name
    assert path.with_suffix(".md").read_text() == export_command.card(model)
    assert set(model.about) >= {"targets", "trained on", "ranges", "test", "warning"}
    assert [t[0] for t in model.about["targets"]] == list(train.TARGETS)


def test_the_networks_own_command_says_which_weights_and_warns(tmp_path, capsys):
    settings = PredictConfig(cutouts="nowhere", out=str(tmp_path / "o.parquet"))
    settings.validate()
    with pytest.raises(ConfigError, match="nothing there"):  # but the network is
        predict_command.run(settings)
    said = capsys.readouterr()
    assert f"weights {pretrained.DEFAULT}: trained on " in said.out + said.err
    assert "not on real ones" in said.out + said.err
    with pytest.raises(ConfigError, match="weights: no network is named 'x'"):
        predict_command.run(replace(settings, weights="x"))
    with pytest.raises(ConfigError, match="both given"):
        replace(settings, weights="x", run_dir="y").validate()


@pytest.mark.parametrize(
    "name, sample",
    [
        ("uniform-5", ["sample=uniform", "once=false"]),
        ("decoupled-1", ["sample=decoupled", "arc_free=0.3"]),
    ],
)
def test_a_network_reads_galaxies_that_it_never_saw(name, sample):
    """As well as its card says, on other galaxies drawn by another seed."""
    keys = [*sample, "size=200", "n_lenses=80", "n_sources=40"]
    composed = config.compose("sample", [*keys, "sample_seed=7", "out=nowhere"])
    settings = config.typed(composed, config.DrawConfig)
    catalogue, listing = resolve.catalogue_of(settings)
    systems = resolve.sample_of(settings, catalogue, listing).systems
    rendering = resolve.rendering_of(settings, listing)
    images = dataset.render_all(systems, catalogue, rendering)
    model = pretrained.load(name)
    error = pretrained.predict(model, images) - train.targets(systems)
    told = model.about["test"]["merits"]["network"]
    for k, number in enumerate(train.TARGETS):
        rms = float(jnp.sqrt((error[:, k] ** 2).mean()))
        assert 0.7 < rms / told[number]["rms"] < 1.4, number
