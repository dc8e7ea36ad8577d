"""Proposals: how mass scatters about light, and where sources are placed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from test_sample import KEY, SURVEY, count_images, three_lenses

from lensjax import cosmology, images, sie
from lensjax.mocks import proposals
from lensjax.mocks.proposals import Criteria


@pytest.fixture(scope="module")
def known():
    return three_lenses()


def proposed(galaxies, criteria, n, among=None):
    """Pairs and whether they go on, then the same placed and whether they go on."""
    pool = proposals.pool(KEY, galaxies, SURVEY, criteria, cosmology.PAPER)

    @jax.jit
    def look(numbers):
        def one(number):
            key = jax.random.fold_in(KEY, number)
            row, plausible = proposals.pair(
                key, number, pool, criteria, cosmology.PAPER, among
            )
            return row, plausible, *proposals.place(key, row, criteria)

        return jax.vmap(one)(numbers)

    return jax.tree.map(np.asarray, look(jnp.arange(n, dtype=jnp.int32)))


def rows(systems, keep):
    return jax.tree.map(lambda a: a[keep], systems)


@pytest.fixture(scope="module")
def doubles(known):
    return proposed(known, Criteria(), 40_000)


@pytest.fixture(scope="module")
def quads(known):
    return proposed(known, Criteria(multiplicity="quads"), 200_000)


def test_mass_scatters_about_light_by_the_papers_widths(known, doubles):
    s = doubles[0]
    n = len(s.number)
    tolerance = 4 / np.sqrt(2 * n / 3)
    i = s.lens_index
    light_x, light_y = np.asarray(known.lenses.x)[i], np.asarray(known.lenses.y)[i]
    for d in (s.sie.x - light_x, s.sie.y - light_y):
        np.testing.assert_allclose(d.std(), 0.05, rtol=tolerance)
        assert abs(d.mean()) < 4 * 0.05 / np.sqrt(n)
    q, phi = (np.asarray(a) for a in sie.axis_ratio(s.sie))
    for lens, (true_q, true_phi) in enumerate([(0.7, 0.4), (0.98, 1.0), (0.5, 2.5)]):
        own = i == lens
        d = phi[own & (q < 0.9999)] - true_phi
        d = np.angle(np.exp(2j * d)) / 2
        np.testing.assert_allclose(d.std(), 0.17, rtol=tolerance)
        assert abs(d.mean()) < 4 * 0.17 / np.sqrt(own.sum())
        if true_q < 0.9:
            np.testing.assert_allclose(q[own].std(), 0.05, rtol=tolerance)
            np.testing.assert_allclose(q[own].mean(), true_q, atol=1e-3)


def test_an_axis_ratio_above_one_is_drawn_once_more_and_then_is_one(doubles):
    s = doubles[0]
    own = s.lens_index == 1
    q = np.asarray(sie.axis_ratio(s.sie)[0])[own]
    above = stats.norm.sf(1, 0.98, 0.05)  # of one draw
    n = own.sum()
    share = (q > 1 - 1e-6).mean()
    assert abs(share - above**2) < 4 * np.sqrt(above**2 / n)

    def cumulative(t):
        """P(q < t) for t < 1: the first draw, or the second where that was above 1."""
        return stats.norm.cdf(t, 0.98, 0.05) * (1 + above)

    steps = np.linspace(0.8, 0.99, 20)
    found = (q[:, None] < steps).mean(0)
    np.testing.assert_allclose(found, cumulative(steps), atol=4 * 0.5 / np.sqrt(n))


def in_lens_frame(systems):
    """Source positions from the lens's centre, along its axes, over theta_E."""
    q, phi = (np.asarray(a) for a in sie.axis_ratio(systems.sie))
    z = systems.beta_x - systems.sie.x + 1j * (systems.beta_y - systems.sie.y)
    return q, z * np.exp(-1j * phi) / systems.sie.theta_E


def curves(q, t):
    """Cut and caustic of an SIE of theta_E = 1 at angles t, in its frame."""
    b, f = 2 * q / (1 + q), np.sqrt(1 - q**2)
    delta = np.sqrt((q * np.cos(t)) ** 2 + np.sin(t) ** 2)
    x = b / f * np.arctan(f * np.cos(t) / delta)
    y = b / f * np.arctanh(f * np.sin(t) / delta)
    return (x, y), (b * np.cos(t) / delta - x, b * np.sin(t) / delta - y)


def area(x, y):
    twice = x[:-1] * np.diff(y, axis=0) - y[:-1] * np.diff(x, axis=0)
    return np.abs(twice.sum(0)) / 2


def test_sources_lie_anywhere_in_the_circle_with_equal_chance(doubles):
    q, z = in_lens_frame(doubles[2])
    q = np.minimum(q, 1 - 1e-5)
    t = np.linspace(0, 2 * np.pi, 4001)[:, None]
    tip = np.maximum(*[np.hypot(*c).max(0) for c in curves(q[:4000], t)])
    inside = (np.abs(z[:4000]) / (proposals.SPARE * tip)) ** 2
    for uniform in (inside, np.angle(z) / (2 * np.pi) + 0.5):
        assert stats.kstest(uniform, "uniform").pvalue > 1e-3


def test_sources_of_quads_lie_anywhere_inside_the_caustic(quads):
    """Points of a star-shaped region, drawn evenly, have squared depths that are."""
    _, plausible, systems, _ = quads
    s = rows(systems, np.flatnonzero(plausible & (systems.lens_index != 1))[:3000])
    q, z = in_lens_frame(s)
    t = np.linspace(0, 2 * np.pi, 20001)
    depth = []
    for one, place in zip(q, z, strict=True):
        _, (x, y) = curves(one, t)
        edge = np.interp(
            np.angle(place), *_sorted(np.angle(x + 1j * y), np.hypot(x, y))
        )
        depth.append((np.abs(place) / (proposals.SPARE * edge)) ** 2)
    assert stats.kstest(np.minimum(depth, 1), "uniform").pvalue > 1e-3


def _sorted(angle, value):
    order = np.argsort(angle)
    return angle[order], value[order]


def test_what_is_placed_for_quads_is_nearly_always_one(quads):
    _, plausible, systems, kept = quads
    s = rows(systems, np.flatnonzero(plausible & kept)[:2000])
    n = count_images(s)
    # the rest: beyond the caustic by the spare percent, or a naked cusp
    assert 0.95 < (n == 4).mean() < 1


@pytest.mark.parametrize("multiplicity", ["both", "quads"])
def test_no_region_is_larger_than_the_largest(multiplicity):
    q = np.linspace(proposals.LEAST_AXIS_RATIO, 0.9999, 500)
    cut, caustic = curves(q, np.linspace(0, 2 * np.pi, 20001)[:, None])
    reach = np.maximum(np.hypot(*cut).max(0), np.hypot(*caustic).max(0))
    regions = area(*caustic) if multiplicity == "quads" else np.pi * reach**2
    largest = proposals.largest_region(multiplicity, 0.0)
    assert regions.max() < largest < 1.05 * regions.max()


@pytest.mark.parametrize("multiplicity", ["both", "quads"])
def test_lenses_are_accepted_by_weight_times_cross_section(
    known, doubles, quads, multiplicity
):
    _, plausible, s, placed = quads if multiplicity == "quads" else doubles
    kept = rows(s, plausible & placed)
    n = count_images(kept)
    good = n == 4 if multiplicity == "quads" else n >= 2
    accepted = np.bincount(kept.lens_index[good], minlength=3)
    t = np.linspace(0, 2 * np.pi, 2001)[:, None]
    expected = []
    for i in range(3):
        own = np.flatnonzero(s.lens_index == i)[:1000]
        q = np.minimum(np.asarray(sie.axis_ratio(rows(s, own).sie)[0]), 1 - 1e-5)
        cut, caustic = curves(q, t)
        region = area(*(caustic if multiplicity == "quads" else cut))
        strength = known.lenses.weight[i] * s.sie.theta_E[own] ** 2
        expected.append((strength * region).mean())
    expected = np.array(expected) / sum(expected)
    share = accepted / accepted.sum()
    error = np.sqrt(share * (1 - share) / accepted.sum()) + 0.03 * share
    assert (np.abs(share - expected) < 4 * error).all()


def test_quads_among_both_are_as_quads_alone(doubles, quads):
    """The same lenses, and the same places behind them."""
    _, plausible, s, placed = doubles
    both = rows(s, plausible & placed)
    both = rows(both, count_images(both) == 4)
    _, plausible, s, placed = quads
    alone = rows(s, plausible & placed)
    alone = rows(alone, count_images(alone) == 4)
    assert len(both.number) > 100 and len(alone.number) > 1000
    for of in (
        lambda s: s.sie.theta_E,
        lambda s: np.asarray(sie.axis_ratio(s.sie)[0]),
        lambda s: np.abs(in_lens_frame(s)[1]),
    ):
        assert stats.ks_2samp(of(both), of(alone)).pvalue > 1e-3


def test_shear_has_its_scatter_and_caustics_grow_with_it(known):
    criteria = Criteria(shear=0.05, multiplicity="quads")
    _, plausible, s, kept = proposed(known, criteria, 40_000)
    for g in s.shear:
        assert abs(g.std() / 0.05 - 1) < 0.02 and abs(g.mean()) < 1e-3
    assert np.hypot(*s.shear).max() <= 4 * 0.05 * (1 + 1e-5)
    keep = rows(s, np.flatnonzero(plausible & kept)[:1000])
    assert ((count_images(keep) == 4).mean()) > 0.9
    # a round lens has a caustic in shear, of half-axes about 2 |g| theta_E
    round_ = np.flatnonzero(keep.lens_index == 1)
    assert len(round_) > 20
    assert proposals.largest_region("quads", 0.2) > 1.2 * proposals.largest_region(
        "quads", 0.0
    )


def test_light_and_mass_move_with_a_shifted_image(known):
    criteria = Criteria(dither=3)
    s = proposed(known, criteria, 4000)[0]
    still = proposed(known, Criteria(), 4000)[0]
    assert set(s.shift_x) == set(s.shift_y) == set(range(-3, 4))
    assert (still.shift_x == 0).all() and (still.shift_y == 0).all()
    for axis, shift in (("x", s.shift_x), ("y", s.shift_y)):
        moved = getattr(s, f"light_{axis}") - getattr(still, f"light_{axis}")
        np.testing.assert_allclose(moved, shift * SURVEY.pixel_scale, atol=1e-6)
        moved = getattr(s.sie, axis) - getattr(still.sie, axis)
        np.testing.assert_allclose(moved, shift * SURVEY.pixel_scale, atol=1e-5)


def test_only_the_lenses_among_which_one_may_choose_come_up(known):
    among = jnp.array([2, 0, 1], jnp.int32), jnp.int32(2)  # the third is padding
    s = proposed(known, Criteria(), 2000, among)[0]
    assert set(s.lens_index) == {0, 2}


def test_psfs_are_the_lenss_own_or_any(known):
    lenses = known.lenses._replace(psf=jnp.array([0, 2, 1], jnp.int32))
    three = known._replace(lenses=lenses, psfs=jnp.tile(known.psfs, (1, 1, 1, 1)))
    three = three._replace(psfs=jnp.stack([known.psfs] * 3))
    s = proposed(three, Criteria(), 2000)[0]
    np.testing.assert_array_equal(s.psf_index, np.array([0, 2, 1])[s.lens_index])
    s = proposed(three, Criteria(vary_psf=True), 3000)[0]
    for i in range(3):
        counts = np.bincount(s.psf_index[s.lens_index == i], minlength=3)
        assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(
    ("multiplicity", "wanted"),
    [("both", {2, 3, 4, 5}), ("doubles", {2}), ("quads", {4})],
)
def test_multiplicity_says_which_image_counts_are_wanted(
    monkeypatch, doubles, multiplicity, wanted
):
    row = jax.tree.map(lambda a: jnp.asarray(a[0]), doubles[0])
    for count in range(6):
        zero = jnp.zeros(8)
        found = images.Images(zero, zero, zero, jnp.arange(8) < count)
        monkeypatch.setattr(images, "solve", lambda *_, found=found: found)
        n = proposals.count_images(row)
        kept = proposals.wanted(n, multiplicity)
        assert n == count and bool(kept) == (count in wanted)


def test_a_free_theta_E_is_flat_in_its_logarithm_whatever_the_lens(known):
    criteria = Criteria(theta_E_min=0.5, theta_E_max=2.5, free_theta_E=True)
    pairs, plausible, _, placed = proposed(known, criteria, 20_000)
    some = rows(pairs, plausible & placed)
    span = np.log(2.5 / 0.5)
    share = np.log(some.sie.theta_E / 0.5) / span
    assert stats.kstest(share, "uniform").pvalue > 1e-3
    # every lens galaxy is as likely as the next, and none tells theta_E
    count = np.bincount(some.lens_index, minlength=3)
    assert stats.chisquare(count).pvalue > 1e-3
    for k in range(3):
        assert stats.kstest(share[some.lens_index == k], "uniform").pvalue > 1e-3
    # the dispersion is the one that such a lens would have
    wanted = cosmology.einstein_radius(
        cosmology.PAPER, some.vdisp, some.z_lens, some.z_source
    )
    np.testing.assert_allclose(some.sie.theta_E, wanted, rtol=1e-4)
    assert some.vdisp_drawn.all()


def test_a_source_in_front_of_the_lens_is_no_pair_even_where_theta_E_is_free(known):
    front = known._replace(sources=known.sources._replace(z=jnp.array([0.1, 0.2])))
    pool = proposals.pool(KEY, known, SURVEY, Criteria(), cosmology.PAPER)
    pool = pool._replace(source_z=front.sources.z)
    criteria = Criteria(free_theta_E=True)
    one = jax.vmap(
        lambda n: proposals.pair(
            jax.random.fold_in(KEY, n), n, pool, criteria, cosmology.PAPER
        )
    )
    found, plausible = one(jnp.arange(500, dtype=jnp.int32))
    assert not plausible.any()
    assert jnp.isfinite(found.vdisp).all()
