"""Training: the paper's loss and optimiser, and folds that never meet."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax import catalogue, parameters
from lensjax.learning import folds, members, paper_cnn, step, train
from lensjax.learning.dataset import Data
from lensjax.learning.estimator import Estimator, Scene
from lensjax.learning.network import Architecture
from lensjax.learning.train import Hyperparameters, Settings
from lensjax.mocks.system import Rendering, System
from lensjax.shear import Shear
from lensjax.sie import SIE
from lensjax.survey import HSC

SMALL = Architecture(size=16, channels=(3,), dense=(8,))
PAPER = paper_cnn.estimator(paper_cnn.Settings(SMALL))
SETTINGS = Settings(batch_size=8)
CHOICE = Hyperparameters(learning_rate=0.02, seed=7)
RENDERING = Rendering(HSC._replace(image_size=16), 0.03)
N, LENSES = 90, 30


def systems_of(n=N, lenses=LENSES, sources=5, seed=0):
    rng = np.random.default_rng(seed)

    def real(low=-0.1, high=0.1):
        return jnp.asarray(rng.uniform(low, high, n), jnp.float32)

    def whole(high):
        return jnp.asarray(rng.integers(0, high, n), jnp.int32)

    sie = SIE(real(0.5, 2.0), real(), real(), real(), real())
    zero, no = jnp.zeros(n), jnp.zeros(n, bool)
    return System(
        number=jnp.arange(n),
        lens_index=whole(lenses),
        source_index=whole(sources),
        psf_index=jnp.zeros(n, jnp.int32),
        rotation=whole(4),
        shift_x=jnp.zeros(n, jnp.int32),
        shift_y=jnp.zeros(n, jnp.int32),
        sie=sie,
        shear=Shear(zero, zero),
        light_x=real(),
        light_y=real(),
        light_ex=real(),
        light_ey=real(),
        beta_x=real(),
        beta_y=real(),
        z_lens=real(0.2, 0.6),
        z_source=real(1, 2),
        vdisp=real(150, 300),
        z_drawn=no,
        vdisp_drawn=no,
        n_images=2 + whole(4),
        arc_peak=real(),
        log_flux_ratio=real(),
    )


@pytest.fixture(scope="module")
def data():
    """Noise in which theta_E is the mean brightness: something to learn."""
    systems = systems_of()
    noise = np.random.default_rng(1).normal(size=(N, 16, 16, 4))
    images = noise + np.asarray(systems.sie.theta_E)[:, None, None, None]
    return Data(systems, None, Scene(jnp.asarray(images, jnp.float32)))


PART = catalogue.split([f"lens-{i}" for i in range(LENSES)])


def folds_of(data, numbers):
    return folds.split_rows(PART, data.systems.lens_index, numbers)


def trained(
    data,
    numbers,
    devices,
    epochs=2,
    settings=SETTINGS,
    cuts=(),
    choices=(CHOICE,),
    estimator=PAPER,
):
    """Losses (epoch, train and validation, member) and the final state."""
    rows = train.members(folds_of(data, numbers), choices, estimator.space)
    steps = folds.steps_per_epoch(PART, data.systems.lens_index, settings.batch_size)
    some = jax.devices()[:devices]
    program = train.compile(estimator, settings, steps, rows, RENDERING, some)
    state, rows = program.place((train.start(estimator, settings, rows), rows))
    losses = []
    for epoch in range(epochs):
        for first, last in itertools.pairwise((0, *cuts, steps)):
            state = program.run(state, rows, data, epoch, first, last)
        state = program.validate(state, rows, data, 0, program.blocks)
        state, both = program.finish(state, rows, epoch)
        losses.append(np.stack(both))
    return np.stack(losses), jax.device_get(state)


@pytest.fixture(scope="module")
def five(data):
    return trained(data, [0, 1, 2, 3, 4], 5)


def test_weights_sum_to_the_number_of_targets_and_keep_their_ratio():
    for weight in (1.0, 5.0, 20.0):
        weights = train.target_weights(weight)
        assert weights.sum() == pytest.approx(5)
        np.testing.assert_allclose(weights / weights[0], [1, 1, 1, 1, weight], 1e-6)
    weights = train.target_weights(5.0, 3.0)
    np.testing.assert_allclose(weights, np.array([3, 3, 1, 1, 5]) * 5 / 13, 1e-6)


def test_loss_is_equation_6_by_hand():
    outputs = jnp.array([[0.1, 0.0, 0.2, -0.1, 1.5], [0.0, 0.0, 0.0, 0.0, 1.0]])
    truth = jnp.array([[0.0, 0.1, 0.0, 0.1, 1.0], [0.0, 0.3, 0.0, 0.0, 3.0]])
    # w = 5 (1, 1, 1, 1, 5) / 9; L = sum over systems and targets of w d^2, over 2 x 5
    first = 5 / 9 * (0.01 + 0.01 + 0.04 + 0.04) + 25 / 9 * 0.25
    second = 5 / 9 * 0.09 + 25 / 9 * 4
    got = train.loss(outputs, truth, jnp.asarray(train.target_weights(5.0)))
    np.testing.assert_allclose(got, [first / 5, second / 5], rtol=1e-6)
    assert float(got.mean()) == pytest.approx((first + second) / 10, rel=1e-6)


def test_targets_are_in_the_order_of_their_names():
    systems = systems_of(3)
    values = np.asarray(train.targets(systems))
    for k, name in enumerate(train.TARGETS):
        np.testing.assert_array_equal(values[:, k], getattr(systems.sie, name))


def test_optimizer_is_the_sgd_of_pytorch():
    rate, momentum, decay = 0.1, 0.9, 0.05
    settings = Settings(momentum=momentum, weight_decay=decay)
    rule = train.optimizer(settings, rate)
    params = jnp.array([1.0, -2.0, 0.5])
    state, ours = rule.init(params), params
    theirs, buffer = np.array(params, float), None
    for gradient in np.random.default_rng(0).normal(size=(6, 3)):
        update, state = rule.update(jnp.asarray(gradient, jnp.float32), state, ours)
        ours = ours + update
        gradient = gradient + decay * theirs  # torch.optim.SGD, nesterov=False
        buffer = gradient if buffer is None else momentum * buffer + gradient
        theirs = theirs - rate * buffer
    np.testing.assert_allclose(ours, theirs, rtol=2e-6)


def test_adam_is_that_of_its_authors():
    """Kingma & Ba (2015), with the decay apart as in Loshchilov & Hutter (2019)."""
    rate, decay = 0.1, 0.05
    settings = Settings(optimizer="adam", weight_decay=decay)
    rule = train.optimizer(settings, rate)
    params = jnp.array([1.0, -2.0, 0.5])
    state, ours = rule.init(params), params
    theirs, m, v = np.array(params, float), np.zeros(3), np.zeros(3)
    for t, gradient in enumerate(np.random.default_rng(0).normal(size=(6, 3)), 1):
        update, state = rule.update(jnp.asarray(gradient, jnp.float32), state, ours)
        ours = ours + update
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        theirs = theirs - rate * (step + decay * theirs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    with pytest.raises(ValueError, match="sgd or adam, not 'lbfgs'"):
        train.optimizer(Settings(optimizer="lbfgs"))


def test_no_lens_galaxy_is_on_both_sides_of_a_fold(data):
    lens = np.asarray(data.systems.lens_index)
    rows = folds_of(data, range(5))
    tested = set(np.flatnonzero(PART == -1))
    assert len(tested) == round(0.3 * LENSES)
    held_out = []
    for k in range(5):
        train_rows = rows.train[k][: rows.n_train[k]]
        validation = rows.validation[k][: rows.n_validation[k]]
        here, there = set(lens[train_rows]), set(lens[validation])
        assert here and there and not here & there
        assert not tested & (here | there)
        assert len(set(np.asarray(train_rows).tolist())) == rows.n_train[k]
        held_out += np.asarray(validation).tolist()
        # the padding repeats rows of the same side
        assert set(lens[rows.train[k]]) == here
        assert set(lens[rows.validation[k]]) == there
    assert sorted(held_out) == np.flatnonzero(PART[lens] >= 0).tolist()


def test_the_final_network_trains_on_all_folds_and_is_held_from_the_test_set(data):
    lens, final = (
        np.asarray(data.systems.lens_index),
        folds.final_rows(PART, data.systems.lens_index),
    )
    assert final.number.tolist() == [5]
    rows, tested = np.asarray(final.train[0]), np.asarray(final.validation[0])
    assert rows.tolist() == np.flatnonzero(PART[lens] >= 0).tolist()
    assert tested.tolist() == np.flatnonzero(PART[lens] == -1).tolist()
    assert set(np.asarray(final.lenses[0])) == set(np.flatnonzero(PART >= 0))
    nothing = jnp.where(PART[lens] == -1, np.flatnonzero(PART == 0)[0], lens)
    with pytest.raises(ValueError, match="the test set has no validation systems"):
        folds.final_rows(PART, nothing)


def test_adam_trains_under_strict_promotion(data):
    settings = SETTINGS._replace(optimizer="adam", average=0.9)
    losses, state = trained(data, [3], 1, settings=settings)
    assert losses[1, 0, 0] < losses[0, 0, 0] and state.best_epoch[0] > 0


def test_a_fold_alone_has_the_shapes_it_has_in_company(data):
    alone, company = folds_of(data, [3]), folds_of(data, range(5))
    for one, all_ in zip(alone, company, strict=True):
        np.testing.assert_array_equal(one[0], all_[3])


def test_a_fold_without_systems_is_an_error(data):
    lens_index = data.systems.lens_index
    nobody = jnp.where(PART[lens_index] == 2, np.flatnonzero(PART == 1)[0], lens_index)
    with pytest.raises(ValueError, match="fold 2 has no validation systems: draw"):
        folds.split_rows(PART, nobody, [0])
    with pytest.raises(ValueError, match="batch_size 500 .* lower it"):
        folds.steps_per_epoch(PART, lens_index, 500)


def test_every_row_comes_up_once_an_epoch():
    rows, n = jnp.arange(100, 150), jnp.int32(40)
    first = folds.shuffled(jax.random.key(0), rows, n)
    second = folds.shuffled(jax.random.key(1), rows, n)
    for order in (first, second):
        assert sorted(np.asarray(order[:40]).tolist()) == list(range(100, 140))
    assert (first != second).any()


@pytest.mark.parametrize("devices", [1, 5])
def test_fold_3_alone_is_row_3_of_all(data, five, devices):
    losses, state = trained(data, [3], devices)
    np.testing.assert_allclose(losses[..., 0], five[0][..., 3], rtol=2e-5)
    for own, among in zip(
        jax.tree.leaves(state), jax.tree.leaves(five[1]), strict=True
    ):
        np.testing.assert_allclose(own[0], among[3], rtol=2e-4, atol=2e-6)


def test_one_device_equals_five(data, five):
    losses, state = trained(data, [0, 1, 2, 3, 4], 1)
    np.testing.assert_allclose(losses, five[0], rtol=2e-5)
    for one, other in zip(
        jax.tree.leaves(state), jax.tree.leaves(five[1]), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-6)


GRID = [
    CHOICE,
    Hyperparameters(learning_rate=1e6, seed=7),  # diverges
    Hyperparameters(learning_rate=0.02, seed=8),
    Hyperparameters(learning_rate=0.02, seed=7, weight_theta_E=5.0),
    Hyperparameters(learning_rate=0.002, seed=7),
]


def test_members_differ_and_one_that_diverges_disturbs_no_other(data, five):
    losses, state = trained(data, [0, 3], 5, choices=GRID)
    losses = losses.reshape(2, 2, len(GRID), 2)  # epoch, kind, choice, fold
    alone = five[0][..., [0, 3]]
    np.testing.assert_allclose(losses[:, :, 0], alone, rtol=2e-5)
    assert not np.isfinite(losses[-1, :, 1]).any()
    others = losses[:, :, [0, 2, 3, 4]]
    assert np.isfinite(others).all()
    assert len(set(others[-1, 1].ravel().tolist())) == 8
    for leaf in jax.tree.leaves(state.best_params):
        assert np.isfinite(leaf).all()  # what is kept is never of a lost epoch
    weighted, _ = trained(data, [3], 1, choices=[GRID[3]])
    np.testing.assert_allclose(losses[:, :, 3, 1], weighted[..., 0], rtol=2e-5)


def test_side_by_side_is_one_by_one(data, five, monkeypatch):
    """As an accelerator has it: by vmap."""
    monkeypatch.setattr(
        members, "side_by_side", lambda function, *rows: jax.vmap(function)(*rows)
    )
    losses, _ = trained(data, range(5), 1)
    np.testing.assert_allclose(losses, five[0], rtol=2e-5)


def test_the_running_mean_of_parameters_by_hand(data):
    """With decay d after many steps: d times itself, 1 - d times the parameters."""
    settings = SETTINGS._replace(average=0.9)
    own = train.members(folds_of(data, [3]), [CHOICE])
    program = train.compile(PAPER, settings, 3, own, RENDERING, jax.devices()[:1])
    state, own = program.place((train.start(PAPER, settings, own), own))
    mean = jax.device_get(state.params)
    for epoch, number in itertools.product(range(4), range(3)):
        state = program.run(state, own, data, epoch, number, number + 1)
        step = 3 * epoch + number
        keep = min(0.9, (1 + step) / (10 + step))
        params = jax.device_get(state.params)
        mean = jax.tree.map(lambda m, p, k=keep: k * m + (1 - k) * p, mean, params)
        state = state._replace(loss_sum=jnp.zeros_like(state.loss_sum))
    for one, other in zip(
        jax.tree.leaves(state.average), jax.tree.leaves(mean), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    state = program.validate(state, own, data, 0, program.blocks)
    rows = own.fold.validation[0][: own.fold.n_validation[0]]
    params = jax.tree.map(lambda a: a[0], state.average)
    outputs = np.asarray(train.predict(params, rows, data, PAPER, RENDERING))
    truth = np.asarray(train.targets(data.systems))[rows]
    assert float(state.validation_sum[0]) == pytest.approx(
        ((outputs - truth) ** 2).mean(), rel=1e-5
    )
    state, _ = program.finish(state, own, 3)
    for one, other in zip(
        jax.tree.leaves(state.best_params), jax.tree.leaves(state.average), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_without_best_parameters_the_curves_are_the_same(data, five):
    own = train.members(folds_of(data, [3]), [CHOICE])
    program = train.compile(PAPER, SETTINGS, 3, own, RENDERING, jax.devices()[:1])
    start = train.start(PAPER, SETTINGS, own, keep_best=False)
    assert start.best_params == ()
    state, own = program.place((start, own))
    state = program.run(state, own, data, 0, 0, 3)
    state = program.validate(state, own, data, 0, program.blocks)
    state, losses = program.finish(state, own, 0)
    assert state.best_params == () and state.best_epoch.tolist() == [1]
    np.testing.assert_array_equal(state.best_loss, losses[1])


def test_it_learns_and_the_folds_differ(five):
    losses, state = five
    assert (losses[1, 0] < losses[0, 0]).all()
    assert len(set(losses[1, 1].tolist())) == 5
    best = losses[:, 1].argmin(0)
    np.testing.assert_array_equal(state.best_epoch, best + 1)
    np.testing.assert_array_equal(state.best_loss, losses[:, 1].min(0))


def test_an_epoch_in_pieces_is_the_same_bit_for_bit(data):
    estimator = paper_cnn.estimator(
        paper_cnn.Settings(SMALL._replace(dropout=0.3), "standardize")
    )
    whole, state = trained(data, [1], 1, estimator=estimator)
    parts, other = trained(data, [1], 1, estimator=estimator, cuts=(1, 3))
    np.testing.assert_array_equal(whole, parts)
    for one, two in zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(one, two)


def test_validation_loss_is_that_of_the_held_out_rows(data, five):
    rows = folds_of(data, range(5))
    rows = rows.validation[2][: rows.n_validation[2]]
    params = jax.tree.map(lambda a: a[2], five[1].params)
    outputs = train.predict(params, rows, data, PAPER, RENDERING)
    truth = np.asarray(train.targets(data.systems))[rows]
    expected = ((np.asarray(outputs) - truth) ** 2).mean()
    assert five[0][-1, 1, 2] == pytest.approx(expected, rel=1e-5)


def test_a_cosine_warms_up_and_comes_down_to_nothing():
    settings = SETTINGS._replace(schedule="cosine", epochs=4)
    done = np.linspace(0, 1, 1001)
    pace = np.asarray([step.pace(d, settings) for d in done])
    assert pace[0] < 0.01
    assert pace[-1] < 1e-6
    assert done[pace.argmax()] == pytest.approx(step.WARM_UP, abs=2e-3)
    assert pace[500] == pytest.approx(0.5, abs=1e-3)
    assert step.pace(0.3, SETTINGS) == 1
    with pytest.raises(ValueError, match="constant or cosine, not 'linear'"):
        step.pace(0.3, SETTINGS._replace(schedule="linear"))


def test_a_clipped_gradient_has_its_direction_and_no_more_than_its_length(data):
    """One step of plain descent by hand, with and without."""
    estimator = mean_brightness()
    plain = SETTINGS._replace(optimizer="sgd", momentum=0.0, weight_decay=0.0, clip=0.0)
    rows = train.members(folds_of(data, [0]), [CHOICE], estimator.space)
    member = jax.tree.map(lambda a: a[0], rows)
    begun = jax.tree.map(lambda a: a[0], train.start(estimator, plain, rows))
    batch = step.of_sample(
        member.fold.train, jnp.array(0), 8, data, RENDERING, estimator
    )

    def moved(settings):
        after = step.learn(
            begun,
            member,
            batch,
            jax.random.key(1),
            jnp.array(0),
            10,
            estimator,
            settings,
        )
        change = jax.tree.map(lambda a, b: a - b, after.params, begun.params)
        return np.concatenate([np.ravel(a) for a in jax.tree.leaves(change)])

    free, short = moved(plain), moved(plain._replace(clip=0.05))
    rate = float(member.learning_rate)
    assert np.linalg.norm(free) > 0.1 * rate
    assert np.linalg.norm(short) == pytest.approx(0.05 * rate, rel=1e-3)
    np.testing.assert_allclose(
        short / np.linalg.norm(short), free / np.linalg.norm(free), atol=1e-3
    )
    long = moved(plain._replace(clip=1e3))
    np.testing.assert_allclose(long, free, rtol=1e-5)


# Another estimator: nothing but these lines


def mean_brightness():
    """theta_E, and a shear of zero, of an image's mean: two numbers of a line."""
    space = (parameters.THETA_E, parameters.G1)

    def predict(params, images):
        mean = images.mean((1, 2, 3))
        return params["slope"] * mean[:, None] + params["level"][None]

    def loss(params, scenes, systems, weights, key):
        wrong = predict(params, scenes.seen) - train.targets(systems, space)
        return (jnp.abs(wrong) * weights[None]).mean(-1)

    def init(key):
        return {"slope": jax.random.normal(key), "level": jnp.zeros(2)}

    return Estimator(init, loss, predict, space)


def test_another_estimator_is_trained_by_the_same_program(data):
    estimator = mean_brightness()
    settings = SETTINGS._replace(optimizer="adam", weight_decay=0.0, average=0.5)
    choices = [Hyperparameters(0.05, seed=2, weight_theta_E=3.0)]
    losses, state = trained(
        data, [0, 3], 1, 20, settings, choices=choices, estimator=estimator
    )
    assert (losses[-1] < 0.5 * losses[0]).all()
    assert state.params["level"].shape == (2, 2)
    params = jax.tree.map(lambda a: a[1], state.best_params)
    rows = jnp.arange(N)
    got = np.asarray(train.predict(params, rows, data, estimator, RENDERING))
    theta_E = np.asarray(data.systems.sie.theta_E)
    assert np.corrcoef(got[:, 0], theta_E)[0, 1] > 0.99
    np.testing.assert_allclose(
        train.target_weights(3.0, space=estimator.space), [1.5, 0.5]
    )


def test_the_papers_estimator_is_made_once_for_the_same_settings():
    """Else every program would be compiled anew."""
    again = paper_cnn.Settings(Architecture(size=16, channels=(3,), dense=(8,)))
    assert paper_cnn.estimator(again) is PAPER
    assert paper_cnn.estimator(again._replace(scaling="asinh")) != PAPER
