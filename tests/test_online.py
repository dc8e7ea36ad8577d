"""Online training: systems of the same kind as a sample's, none of them twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from test_sample import KEY, RENDERING, count_images, toy

from lensjax import cosmology
from lensjax.learning import dataset, folds, members, network, paper_cnn, train
from lensjax.learning.dataset import Data
from lensjax.learning.network import Architecture
from lensjax.learning.train import Settings
from lensjax.mocks import acceptance, online, proposals, sample
from lensjax.mocks.online import Online
from lensjax.mocks.proposals import Criteria

CRITERIA = Criteria(arc_peak=3.0)


@pytest.fixture(scope="module")
def galaxies():
    n = 12
    return toy(
        z=np.linspace(0.3, 0.6, n),
        vdisp=np.linspace(210, 320, n),
        q=np.linspace(0.5, 0.95, n),
        phi=np.linspace(0, 3, n),
        weight=np.ones(n),
        source_z=[1.0, 1.5, 2.5],
    )


@pytest.fixture(scope="module")
def drawn(galaxies):
    return sample.draw(KEY, 400, galaxies, RENDERING, CRITERIA)


@pytest.fixture(scope="module")
def data(galaxies, drawn):
    survey = RENDERING.survey
    pool = proposals.pool(KEY, galaxies, survey, CRITERIA, cosmology.PAPER)
    share = jnp.asarray(online.thinning(drawn, CRITERIA))
    systems = jax.tree.map(jnp.asarray, drawn.systems)
    return Data(systems, galaxies, None, pool, share)


def drawn_of(key, n, among, data, setup):
    return online.draw(
        key, n, among, data.pool, data.catalogue, data.thinning, RENDERING, setup
    )


def slots_of(data, n, setup, lenses=range(12)):
    """Slots of these lenses alone: a table of twelve, the rest of it padding."""
    among = jnp.resize(jnp.array(lenses, jnp.int32), 12), jnp.int32(len(lenses))
    return jax.tree.map(np.asarray, _slots(jax.random.key(0), n, among, data, setup))


_slots = jax.jit(drawn_of, static_argnums=(1, 4))


@pytest.fixture(scope="module")
def fresh(data):
    return slots_of(data, 400, Online(CRITERIA))


def test_fresh_systems_meet_the_criteria_and_are_all_different(fresh):
    systems, found = fresh
    assert found.mean() > 0.97
    systems = jax.tree.map(lambda a: a[found], systems)
    assert len(set(systems.beta_x.tolist())) == found.sum()
    np.testing.assert_array_equal(count_images(systems), systems.n_images)
    assert (systems.n_images >= 2).all() and (systems.arc_peak >= 3).all()


def test_they_are_distributed_as_a_sample_is(fresh, drawn):
    new, old = jax.tree.map(lambda a: a[fresh[1]], fresh[0]), drawn.systems
    for of in (
        lambda s: s.sie.theta_E,
        lambda s: s.arc_peak,
        lambda s: s.z_lens,
        lambda s: np.hypot(s.beta_x - s.sie.x, s.beta_y - s.sie.y),
    ):
        assert stats.ks_2samp(of(new), of(old)).pvalue > 1e-3


def test_slots_that_find_nothing_say_so(data):
    """With one proposal a slot as many find something as proposals are accepted."""
    setup = Online(CRITERIA, proposals=1, candidates=1)
    _, found = slots_of(data, 600, setup)
    again = sample.draw(KEY, 300, data.catalogue, RENDERING, CRITERIA).counts
    rate = again["accepted"] / again["proposed"]
    assert 0 < found.sum() < 600
    assert abs(found.mean() - rate) < 4 * np.sqrt(rate / 600 + rate / 300 * rate)


def test_only_the_folds_own_lenses_are_used(data):
    systems, found = slots_of(data, 400, Online(CRITERIA), [3, 7, 8])
    assert found.any() and set(systems.lens_index[found]) <= {3, 7, 8}


def test_a_cap_is_kept_on_average(galaxies):
    criteria = CRITERIA._replace(cap=12)
    capped = sample.draw(KEY, 120, galaxies, RENDERING, criteria)
    share = online.thinning(capped, criteria)
    free = sample.draw(KEY, 600, galaxies, RENDERING, CRITERIA).systems.sie.theta_E
    came = np.bincount(acceptance.bins(free), minlength=len(share))
    full = np.bincount(acceptance.bins(capped.systems.sie.theta_E)) == 12
    full = np.flatnonzero(full)
    # where the cap was reached, what came times what is let in is the same everywhere
    assert len(full) > 3 and (share[came == 0] == 1).all()
    admitted = (came * share)[full]
    error = np.sqrt(1 / came[full] + 1 / 12)
    assert (np.abs(np.log(admitted / np.median(admitted))) < 3.5 * error).all()
    assert share[full].min() < 0.6 * share[full].max()


def test_the_loss_counts_only_slots_that_found_something(data):
    """A step whose slots are half empty moves as one with the other half alone."""
    small = Architecture(size=24, channels=(3,), dense=(8,))
    settings = Settings(batch_size=16)
    estimator = paper_cnn.estimator(paper_cnn.Settings(small))
    part = np.arange(12) % 6 - 1
    fold = folds.split_rows(part, data.systems.lens_index, [2])
    setup = Online(CRITERIA, proposals=4, candidates=1)
    rows = train.members(fold, [train.Hyperparameters(learning_rate=0.01)])
    program = train.compile(
        estimator, settings, 1, rows, RENDERING, jax.devices()[:1], setup
    )
    state, placed = program.place((train.start(estimator, settings, rows), rows))
    before = jax.device_get(state.params)
    state = jax.device_get(program.run(state, placed, data, 0, 0, 1))

    among = fold.lenses[0], fold.n_lenses[0]
    key = members.key_of(jax.tree.map(lambda a: a[0], rows), 0)
    key = jax.random.fold_in(jax.random.fold_in(key, 2), 0)
    systems, found = _slots(key, 16, among, data, setup)
    assert int(state.empty[0]) == int((~found).sum()) and 0 < found.sum() < 16
    some = jax.tree.map(lambda a: a[np.asarray(found)], systems)
    images = jax.jit(dataset.render, static_argnums=2)(some, data.catalogue, RENDERING)

    def loss(params):
        outputs = network.apply(params, images, small)
        return train.loss(outputs, train.targets(some), jnp.ones(5)).mean()

    params = jax.tree.map(lambda a: jnp.asarray(a[0]), before)
    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    np.testing.assert_allclose(state.loss_sum[0], value, rtol=1e-4)
    after = jax.tree.map(
        lambda p, g: p - 0.01 * (g + settings.weight_decay * p), params, gradient
    )
    for one, other in zip(
        jax.tree.leaves(after), jax.tree.leaves(state.params), strict=True
    ):
        np.testing.assert_allclose(one, other[0], rtol=1e-3, atol=1e-6)
