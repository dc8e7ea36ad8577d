"""What a network says of an observation, and what a fit makes of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax import survey
from lensjax.commands import fit_network, resolve
from lensjax.commands.config import ConfigError, TrainConfig
from lensjax.inference import table
from lensjax.inference.candidate import Candidate
from lensjax.inference.problem import Settings
from lensjax.inference.scene import Priors
from lensjax.learning import posterior, pretrained, reading
from lensjax.observation import Observation

SETTINGS = posterior.settings_of(survey.HSC, 4, 0, shear=False)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A network that was never trained, but says something."""
    rng = np.random.default_rng(3)
    begun = posterior.estimator(SETTINGS).init(jax.random.key(0))
    params = jax.tree.map(
        lambda a: np.asarray(a + 0.1 * rng.normal(size=a.shape), np.float32), begun
    )
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    pretrained.save(path, params, {
        "name": "small", "survey": "HSC", **pretrained.described(SETTINGS),
        "ranges": {"theta_E": [0.4, 3.2], "x": [-0.9, 0.9]},
        "trained on": {"systems": 10, "catalogue": "toy galaxies"},
    })  # fmt: skip
    return path


def observed(rng, n=64):
    x = (np.arange(n) - (n - 1) / 2) * survey.HSC.pixel_scale
    r2 = x[None] ** 2 + x[:, None] ** 2
    image = 30 * np.exp(-r2 / 2)[..., None] * np.array([0.3, 1, 2, 3])
    sky = np.array(survey.HSC.sky_sigma)
    image = image + sky * rng.normal(size=image.shape)
    variance = np.broadcast_to(sky**2, image.shape)
    psf = np.ones((1, 1, 4))
    mask = np.zeros(image.shape, bool)
    return Observation(image, variance, psf, mask, survey.HSC.pixel_scale)


def test_a_file_gives_back_the_network_it_was_made_of(file, rng):
    model = pretrained.load(file)
    assert model.settings == SETTINGS
    assert model.estimator is posterior.estimator(SETTINGS)
    images = jnp.asarray(observed(rng).image[None], jnp.float32)
    predicted = pretrained.predict_posterior(model, images)
    assert predicted.parts.shape == (1, 64, 64, 3)
    assert predicted.numbers.mean.shape == (1, 8 * posterior.COMPONENTS, 7)
    assert pretrained.predict(model, images).shape == (1, 5)


def test_a_network_of_points_has_no_posterior(rng):
    model = pretrained.load("uniform-5")
    with pytest.raises(ValueError, match="predicts points"):
        pretrained.predict_posterior(model, jnp.zeros((1, 64, 64, 4)))


def test_what_is_read_of_a_larger_image_is_that_of_its_middle(file, rng):
    model = pretrained.load(file)
    large = observed(rng, 81)
    own = large._replace(
        **{k: getattr(large, k)[8:72, 8:72] for k in ("image", "variance", "mask")}
    )
    one, other = reading.read(large, model), reading.read(own, model)
    half = survey.HSC.pixel_scale / 2
    # of an odd image the middle lies between: the crop's is half a pixel below
    for name in ("x", "x_p16", "y_p84", "source_x"):
        assert one.numbers[name] == pytest.approx(other.numbers[name] - half, abs=1e-5)
    assert one.numbers["theta_E"] == pytest.approx(other.numbers["theta_E"])
    assert one.ln_theta_E == pytest.approx(other.ln_theta_E)
    np.testing.assert_array_equal(one.neighbours[8:72, 8:72], other.neighbours)
    assert not one.neighbours[:8].any()
    np.testing.assert_allclose(one.arcs[8:72, 8:72], other.arcs)


def test_an_image_of_another_kind_has_nothing_to_read(file, rng):
    model, own = pretrained.load(file), observed(rng)
    assert reading.unreadable(own, survey.HSC, model) == ""
    coarse = own._replace(pixel_scale=0.2)
    assert "0.2" in reading.unreadable(coarse, survey.HSC, model)
    assert "VIS" in reading.unreadable(own, survey.named("Euclid"), model)
    small = own._replace(image=own.image[:40, :40])
    assert "64 pixels" in reading.unreadable(small, survey.HSC, model)
    points = pretrained.load("uniform-5")
    assert "points" in reading.unreadable(own, survey.HSC, points)


def test_a_fit_is_given_a_prior_and_a_mask(file, rng):
    own = observed(rng)
    found = Candidate(own, survey.HSC, None, {}, (np.nan, np.nan))
    usual = Priors()
    said = reading.read(own, pretrained.load(file))
    masked, priors, row = fit_network.read(str(file), found, usual)
    mean, sigma = said.ln_theta_E
    assert priors.ln_theta_E[0] == pytest.approx(mean)
    assert priors.ln_theta_E[1] == pytest.approx(max(sigma, 0.1))
    assert priors._replace(ln_theta_E=usual.ln_theta_E) == usual
    mask = np.asarray(masked.observation.mask)
    np.testing.assert_array_equal(mask, said.neighbours[..., None] & np.ones(4, bool))
    assert row.numbers["neighbours"] == pytest.approx(said.neighbours.mean())
    assert 0 < row.numbers["p_arc"] < 1
    assert row.flags == {}


def test_a_fit_without_a_network_or_of_another_image_is_as_before(file, rng):
    own = observed(rng)
    found = Candidate(own, survey.HSC, None, {}, (np.nan, np.nan))
    usual = Priors()
    assert fit_network.read(None, found, usual) == (found, usual, fit_network.NOTHING)
    other = found._replace(observation=own._replace(pixel_scale=0.05))
    same, priors, row = fit_network.read(str(file), other, usual)
    assert same is other
    assert priors == usual
    assert "0.05" in row.flags["no_network"]
    assert "no_network" in table.WARNING


def test_weights_that_say_nothing_of_errors_are_refused(file, tmp_path):
    assert fit_network.checked(str(file)) == str(file)
    assert fit_network.checked(None) is None
    with pytest.raises(ConfigError, match="estimator=posterior"):
        fit_network.checked("uniform-5")
    with pytest.raises(ConfigError, match="weights: "):
        fit_network.checked(str(tmp_path / "none.safetensors"))


def test_training_begins_with_weights_where_they_are_given(file):
    asked = {"estimator": "posterior", "width": 4, "blocks": 0, "sample": "decoupled"}
    settings = TrainConfig(**asked, init=str(file))
    begun = resolve.estimator_of(settings)
    params = begun.init(jax.random.key(7))
    for one, other in zip(
        jax.tree.leaves(params),
        jax.tree.leaves(pretrained.load(file).params),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    assert resolve.estimator_of(settings) is begun
    with pytest.raises(ConfigError, match="init: .* is another network"):
        resolve.estimator_of(TrainConfig(**asked | {"width": 8}, init=str(file)))
    with pytest.raises(ConfigError, match="init: no network is named"):
        resolve.estimator_of(TrainConfig(init="nothere"))


@pytest.mark.parametrize(("off", "flagged"), [(2.0, False), (3.0, True)])
def test_a_fit_far_from_the_network_is_flagged(off, flagged):
    row = dict.fromkeys(("theta_E_second_arcsec", "r_hat"), np.nan) | {
        "theta_E_arcsec": 1.0, "network_theta_E_arcsec": 1.0 + 0.1 * off,
        "network_theta_E_arcsec_sigma": 0.1, "arc_gain": 500.0, "arc_lone": 0.2,
        "probability": 1.0, "pull": 5.0, "chi2": 1.0, "effective_draws": 50.0,
        "n_images": 2,
    }  # fmt: skip
    assert ("network_differs" in table.judged(row, Settings())) == flagged
    without = {k: v for k, v in row.items() if not k.startswith("network")}
    assert table.judged(without, Settings()) == {}
