"""Samples: what is drawn, how it scatters, and what is accepted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy import units as u
from astropy.constants import c
from astropy.cosmology import FlatLambdaCDM
from test_mock import lenstronomy_arcs, optics

from lensjax import cosmology, images, sie
from lensjax.catalogue import Catalogue, Lenses, Listing, Sources
from lensjax.mocks import population, sample, system
from lensjax.mocks.proposals import Criteria
from lensjax.mocks.system import Rendering
from lensjax.survey import HSC

SURVEY = HSC._replace(image_size=24)
SCALE = 0.1  # of the source stamps [arcsec]
RENDERING = Rendering(SURVEY, SCALE)
NAN = np.nan
KEY = jax.random.key(11)


solve = jax.jit(jax.vmap(images.solve))


def count_images(systems):
    """How many images each source's centre has; blocks of one shape compile once."""
    n, counts = len(systems.number), []
    for start in range(0, n, 512):
        rows = np.arange(start, start + 512) % n
        some = jax.tree.map(lambda a, rows=rows: jnp.asarray(a[rows]), systems)
        found = solve(jax.vmap(system.mass_of)(some), some.beta_x, some.beta_y)
        counts.append(np.asarray(found.valid.sum(1)))
    return np.concatenate(counts)[:n]


def toy(z, vdisp, q, phi, weight, source_z, flux=1.0):
    """Blank lens images with known noise, round sources: only the numbers matter."""
    n = len(z)
    e = (1 - np.square(q)) / (1 + np.square(q))
    place = np.linspace(-0.2, 0.3, n)
    # a galaxy at z = 0.5 with its colours
    mag = np.array([22.1, 20.45, 19.5, 19.13]) + np.zeros((n, 1))
    lenses = Lenses(
        image=np.full((n, 24, 24, 4), 0.5),
        psf=np.zeros(n, int),
        z=z,
        vdisp=vdisp,
        mag=mag,
        flux=np.full((n, 4), 24 * 24 * 0.5),
        background=np.full((n, 4), 0.08),
        x=place,
        y=-place,
        ex=e * np.cos(2 * np.asarray(phi)),
        ey=e * np.sin(2 * np.asarray(phi)),
        weight=weight,
    )
    axis = np.arange(-6, 7) * SCALE
    stamp = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * 0.15**2))
    m = len(source_z)
    sources = Sources(
        np.repeat((stamp / stamp.sum())[None, ..., None], m, 0),
        flux * np.linspace(3.0, 12.0, m)[:, None] * np.array([0.8, 0.9, 1.0, 1.1]),
        source_z,
        np.full((m, 4), 25.0),
    )
    axis = np.arange(-7, 8)
    psf = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * 1.6**2))
    psf = np.repeat((psf / psf.sum())[None, ..., None], 4, -1)

    def device(a):
        a = np.asarray(a)
        return jnp.asarray(a, jnp.float32 if a.dtype.kind == "f" else jnp.int32)

    made = Catalogue(lenses, sources, psf)
    return jax.tree.map(device, made, is_leaf=lambda a: isinstance(a, list))


@pytest.fixture(scope="module")
def mixed():
    """Six lenses, of which some lack a redshift, a dispersion or both."""
    return toy(
        z=[0.3, 0.45, NAN, 0.6, NAN, 0.25],
        vdisp=[250.0, 300.0, 280.0, NAN, NAN, 220.0],
        q=[0.9, 0.7, 0.8, 0.6, 0.95, 0.75],
        phi=[0.1, 0.8, 1.5, 2.2, 2.9, -0.6],
        weight=[1.0] * 6,
        source_z=[0.2, 0.9, 1.6, 2.5, 3.5],
    )


@pytest.fixture(scope="module")
def drawn(mixed):
    criteria = Criteria(rotate=True, arc_peak=3.0)
    return sample.draw(KEY, 256, mixed, RENDERING, criteria, batch=2048)


def three_lenses():
    """All is known of them; their weights differ."""
    return toy(
        z=[0.3, 0.5, 0.4],
        vdisp=[220.0, 330.0, 270.0],
        q=[0.7, 0.98, 0.5],
        phi=[0.4, 1.0, 2.5],
        weight=[1.0, 0.25, 0.7],
        source_z=[1.5, 2.5],
    )


@pytest.fixture(scope="module")
def known():
    return three_lenses()


def test_the_same_key_gives_the_same_table_whatever_the_batches(mixed, drawn):
    criteria = Criteria(rotate=True, arc_peak=3.0)
    again = sample.draw(KEY, 64, mixed, RENDERING, criteria, batch=512)
    for one, other in zip(
        jax.tree.leaves(drawn.systems), jax.tree.leaves(again.systems), strict=True
    ):
        np.testing.assert_array_equal(one[:64], other)


def test_rows_are_in_order_and_counts_add_up(drawn):
    s, counts = drawn.systems, drawn.counts
    assert all(len(a) == 256 for a in jax.tree.leaves(s))
    assert (np.diff(s.number) > 0).all()
    assert list(counts.values()) == sorted(counts.values(), reverse=True)
    assert counts["accepted"] == 256 and counts["proposed"] == s.number[-1] + 1


def test_every_accepted_system_meets_the_criteria(mixed, drawn):
    s = drawn.systems
    np.testing.assert_array_equal(count_images(s), s.n_images)
    assert (s.n_images >= 2).all() and (s.arc_peak >= 3).all()
    assert (s.sie.theta_E >= 0.5).all() and (s.sie.theta_E <= 5).all()
    q, _ = sie.axis_ratio(s.sie)
    assert (q > 0.2 - 1e-5).all() and set(s.rotation) == {0, 1, 2, 3}
    np.testing.assert_allclose(s.z_source, mixed.sources.z[s.source_index])


def test_einstein_radii_follow_equation_3_in_astropys_cosmology(drawn):
    s = drawn.systems
    cosmo = FlatLambdaCDM(H0=72, Om0=0.32)
    d_s = cosmo.angular_diameter_distance(s.z_source)
    d_l = cosmo.comoving_distance(s.z_lens) / (1 + s.z_source)
    ratio = ((d_s - d_l) / d_s).to_value(u.one)
    theta_E = 4 * np.pi * ((s.vdisp * u.km / u.s / c) ** 2).to_value(u.one) * ratio
    expected = (theta_E * u.rad).to_value(u.arcsec)
    np.testing.assert_allclose(s.sie.theta_E, expected, rtol=2e-5)


def test_arc_peaks_are_those_of_the_rendered_image(mixed, drawn):
    render = jax.jit(lambda row: system.render(row, mixed, RENDERING))
    for k in range(0, 256, 64):
        row = jax.tree.map(lambda a, k=k: jnp.asarray(a[k]), drawn.systems)
        arcs = np.asarray(render(row))[..., 2] - 0.5
        np.testing.assert_allclose(row.arc_peak, arcs.max() / 0.08, rtol=5e-3)
        ratio = arcs.sum() / (0.5 * 24 * 24)
        np.testing.assert_allclose(row.log_flux_ratio, np.log10(ratio), atol=0.01)


def test_what_the_catalogue_lacks_is_drawn_and_said_so(mixed, drawn):
    s, i = drawn.systems, drawn.systems.lens_index
    z, vdisp = (np.asarray(a)[i] for a in (mixed.lenses.z, mixed.lenses.vdisp))
    np.testing.assert_array_equal(s.z_drawn, np.isnan(z))
    np.testing.assert_array_equal(s.vdisp_drawn, np.isnan(vdisp))
    assert 0 < s.z_drawn.sum() < len(z) and 0 < s.vdisp_drawn.sum() < len(z)
    np.testing.assert_array_equal(s.z_lens[~s.z_drawn], z[~s.z_drawn])
    np.testing.assert_array_equal(s.vdisp[~s.vdisp_drawn], vdisp[~s.vdisp_drawn])
    # colours and magnitude of a galaxy at z = 0.5 give redshifts near it
    assert np.abs(np.median(s.z_lens[s.z_drawn]) - 0.5) < 0.07
    assert len(np.unique(s.vdisp[s.vdisp_drawn])) > 10
    assert ((s.vdisp > 120) & (s.vdisp < 450)).all()


def test_quads_alone_and_a_cap_on_each_bin(known):
    criteria = Criteria(multiplicity="quads", cap=2)
    s = sample.draw(
        KEY, 7, known, RENDERING, criteria, batch=8192, patience=200_000
    ).systems
    assert (s.n_images == 4).all() and (count_images(s) == 4).all()
    assert np.bincount((s.sie.theta_E / 0.1).astype(int)).max() == 2


def test_arcs_near_the_threshold_are_judged_by_a_mocks_full_number_of_rays(known):
    """A look at every arc with two rays, and a closer one where 5 % would decide."""
    free = sample.draw(KEY, 192, known, RENDERING, Criteria(arc_peak=0.0)).systems
    least = float(np.median(free.arc_peak))
    s = sample.draw(KEY, 96, known, RENDERING, Criteria(arc_peak=least)).systems
    near = np.flatnonzero(s.arc_peak < (1 + sample.DOUBT) * least)
    assert 2 <= len(near) < len(s.number) and s.arc_peak.min() >= least
    render = jax.jit(lambda row: system.render(row, known, RENDERING))
    for k in near[:3]:
        row = jax.tree.map(lambda a, k=k: jnp.asarray(a[k]), s)
        arcs = np.asarray(render(row))[..., 2] - 0.5
        np.testing.assert_allclose(row.arc_peak, arcs.max() / 0.08, rtol=2e-5)


def test_weights_say_how_much_rarer_quads_are(known):
    """The cross-sections of doubles and quads drawn apart mix them as nature does."""

    def drawn(multiplicity, size):
        criteria = Criteria(multiplicity=multiplicity, arc_peak=0.0)
        return sample.draw(KEY, size, known, RENDERING, criteria)

    doubles, quads, both = (
        drawn("doubles", 512),
        drawn("quads", 512),
        drawn("both", 2048),
    )
    apart = quads.weight.sum() / doubles.weight.sum()
    four = (both.systems.n_images == 4).sum()
    together = four / (both.systems.n_images == 2).sum()
    assert abs(np.log(apart / together)) < 4 / np.sqrt(four)
    total = doubles.weight.sum() + quads.weight.sum()
    np.testing.assert_allclose(both.weight.sum(), total, rtol=0.25)


def test_weights_undo_the_cap():
    lenses, ones = np.linspace(0, 1, 40), np.ones(40)
    many = toy(
        z=0.3 + 0.3 * lenses,
        vdisp=220 + 100 * lenses,
        q=0.8 * ones,
        phi=lenses,
        weight=ones,
        source_z=[1.5, 2.0, 2.5],
    )
    free = sample.draw(KEY, 1024, many, RENDERING, Criteria(arc_peak=0.0))
    capped = sample.draw(KEY, 64, many, RENDERING, Criteria(arc_peak=0.0, cap=8))
    np.testing.assert_allclose(capped.weight.sum(), free.weight.sum(), rtol=0.2)
    one, other = free.systems.sie.theta_E, capped.systems.sie.theta_E
    assert capped.weight.max() > 1.5 * capped.weight.min()
    order = np.argsort(other)
    cumulative = np.cumsum(capped.weight[order]) / capped.weight.sum()
    for part in (0.25, 0.5, 0.75):
        undone = other[order][np.searchsorted(cumulative, part)]
        assert abs((one < undone).mean() - part) < 0.12


def test_no_lens_comes_twice_in_one_rotation(mixed):
    criteria = Criteria(arc_peak=0.0, rotate=True, once=True)
    s = sample.draw(KEY, 20, mixed, RENDERING, criteria).systems
    pairs = list(zip(s.lens_index.tolist(), s.rotation.tolist(), strict=True))
    assert len(set(pairs)) == 20 and len(set(s.lens_index.tolist())) == 6
    with pytest.raises(ValueError, match="6 lens galaxies make no more than 24 .* 25"):
        sample.draw(KEY, 25, mixed, RENDERING, criteria)


def test_rows_that_wait_for_a_full_block_are_not_forgotten(known):
    """Few come in the patience that is left: they are judged, and it begins anew."""
    criteria = Criteria(multiplicity="quads", arc_peak=0.0)
    whole = sample.draw(KEY, 240, known, RENDERING, criteria).systems
    gaps = np.diff(whole.number, prepend=0)
    least = int(gaps.max()) + 512
    assert 5 * least < whole.number[-1]
    again = sample.draw(
        KEY, 240, known, RENDERING, criteria, batch=512, patience=2 * least
    ).systems
    np.testing.assert_array_equal(whole.number, again.number)


def test_a_shift_beyond_the_cutouts_edge_is_refused(mixed):
    with pytest.raises(ValueError, match="dither=1 .* at least 26 pixels.* have 24"):
        sample.draw(KEY, 5, mixed, RENDERING, Criteria(dither=1))


def test_a_sample_that_cannot_be_filled_is_refused_with_its_counts(known):
    with pytest.raises(
        ValueError, match=r"2,048 proposals .* after 0 of 10 .*theta_E_min"
    ):
        criteria = Criteria(theta_E_min=3.1)
        sample.draw(KEY, 10, known, RENDERING, criteria, batch=1024, patience=2048)
    with pytest.raises(ValueError, match="no lens .* above 3.14 .* theta_E_min is 4.9"):
        sample.draw(KEY, 10, known, RENDERING, Criteria(theta_E_min=4.9))


def test_a_table_has_the_contracts_columns_and_units(mixed, drawn):
    listing = Listing(
        tuple(f"lens {i}" for i in range(6)),
        tuple(f"source {i}" for i in range(5)),
        SCALE,
        "a toy",
        "no fingerprint",
    )
    table = sample.to_table(drawn, mixed, listing, SURVEY)
    contract = (
        "id lens_id source_id rotation theta_E_arcsec ex ey center_x_arcsec "
        "center_y_arcsec beta_x_arcsec beta_y_arcsec z_lens z_source vdisp_kms "
        "n_images log_flux_ratio_i"
    ).split()
    assert set(contract) <= set(table.colnames)
    assert len(set(table["id"])) == len(table) == 256
    assert table["theta_E_arcsec"].unit == u.arcsec and table["phi_rad"].unit == u.rad
    assert table["vdisp_kms"].unit == u.km / u.s and table["ex"].unit is None
    k = 17
    assert table["lens_id"][k] == f"lens {drawn.systems.lens_index[k]}"
    e = (1 - table["q"] ** 2) / (1 + table["q"] ** 2)
    angle = 2 * np.asarray(table["phi_rad"])
    np.testing.assert_allclose(table["ex"], e * np.cos(angle), atol=1e-5)
    np.testing.assert_allclose(table["ey"], e * np.sin(angle), atol=1e-5)


@pytest.mark.filterwarnings("ignore:`axes` should not be:DeprecationWarning")
def test_a_row_rendered_by_lenstronomy_from_the_same_stamps_is_the_same_mock():
    """Turned, shifted and sheared: to 1 % of the sky noise in every band."""
    factor = 5
    fine, effective = optics(factor)
    stamp, z, mag = population.source(jax.random.key(3), cosmology.PAPER, HSC)
    n, four = 72, np.ones((2, 4))
    rng = np.random.default_rng(0)
    e = np.array([0.3, -0.2], np.float32)
    lenses = Lenses(
        image=rng.normal(size=(2, n, n, 4)).astype(np.float32),
        psf=jnp.zeros(2, jnp.int32),
        z=np.array([0.3, 0.5], np.float32),
        vdisp=np.array([280.0, 310.0], np.float32),
        mag=20 * four,
        flux=100 * four,
        background=np.array(HSC.sky_sigma) * four,
        x=0.1 * e,
        y=-0.2 * e,
        ex=e,
        ey=0.5 * e,
        weight=np.ones(2, np.float32),
    )
    # a bright one, i = 22.3; what the rays miss of its core grows with it
    flux = jnp.full((1, 4), 0.9)
    sources = Sources(stamp[None], flux, jnp.array([2.0]), mag[None])
    psfs = jnp.asarray(np.repeat(effective[None, ..., None], 4, -1), jnp.float32)
    made = Catalogue(jax.tree.map(jnp.asarray, lenses), sources, psfs)
    rendering = Rendering(HSC, population.SOURCE_PIXEL_SCALE)
    criteria = Criteria(rotate=True, shear=0.03, dither=4)
    s = sample.draw(jax.random.key(5), 3, made, rendering, criteria, batch=512).systems
    layers = jax.jit(system.layers, static_argnums=2)
    for k in range(3):
        row = jax.tree.map(lambda a, k=k: jnp.asarray(a[k]), s)
        image, arcs = layers(row, made, rendering)
        lens = jax.tree.map(float, system.mass_of(row))
        beta = float(row.beta_x), float(row.beta_y)
        source = system.source_of(row, sources, rendering)
        for band, sky in enumerate(HSC.sky_sigma):
            theirs = lenstronomy_arcs(lens, beta, source, fine, factor, band)
            difference = np.asarray(arcs)[..., band] - theirs
            assert theirs.max() > sky and np.sqrt((difference**2).mean()) < 0.01 * sky
        turned = np.rot90(lenses.image[row.lens_index], -int(row.rotation))
        rolled = np.roll(turned, (int(row.shift_y), int(row.shift_x)), (0, 1))
        np.testing.assert_array_equal(image, rolled[4:-4, 4:-4])
    assert len({*s.rotation.tolist()}) > 1 and np.abs(s.shift_x).max() > 0


def test_a_share_of_a_sample_has_no_arcs_and_the_rest_is_as_without(mixed):
    criteria = Criteria(rotate=True, arc_peak=3.0)
    whole = sample.draw(KEY, 128, mixed, RENDERING, criteria, batch=2048)
    some = sample.draw(
        KEY, 128, mixed, RENDERING, criteria._replace(arc_free=0.25), batch=2048
    )
    bare = some.systems.n_images == 0
    assert 16 < bare.sum() < 50  # 32, sigma 4.9
    assert (some.systems.arc_peak[bare] == 0).all()
    assert (some.systems.log_flux_ratio[bare] == system.NO_ARCS).all()
    changed = ("n_images", "arc_peak", "log_flux_ratio")
    for name in changed:
        one, other = getattr(some.systems, name), getattr(whole.systems, name)
        np.testing.assert_array_equal(one[~bare], other[~bare])
    same = dict.fromkeys(changed, 0)
    for one, other in zip(
        jax.tree.leaves(some.systems._replace(**same)),
        jax.tree.leaves(whole.systems._replace(**same)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
