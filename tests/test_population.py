"""The embedded population: drawn galaxies follow the densities they are drawn from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.cosmology import FlatLambdaCDM
from scipy import integrate, stats

from lensjax import cosmology, psf
from lensjax.mocks import population
from lensjax.survey import HSC

COSMO = cosmology.PAPER
ASTROPY = FlatLambdaCDM(H0=72, Om0=0.32)
N = 4096


@pytest.fixture(scope="module")
def galaxies():
    draw = jax.jit(population.ellipticals, static_argnums=1)
    return jax.tree.map(np.asarray, draw(jax.random.key(1), N, COSMO))


@pytest.fixture(scope="module")
def sources():
    """Sums, least pixels and variances along x of 1024 stamps; redshifts and mags."""

    def one(k):
        stamp, z, mag = population.source(jax.random.key(k), COSMO, HSC)
        profile = stamp[..., 2].sum(0) / stamp[..., 2].sum()
        axis = jnp.arange(96.0) - 47.5
        variance = (profile * axis**2).sum() - (profile * axis).sum() ** 2
        return stamp.sum((0, 1)), stamp.min(), variance, z, mag

    draw = jax.jit(lambda k: jax.lax.map(one, k))
    return jax.tree.map(np.asarray, draw(jnp.arange(1024)))


@pytest.fixture(scope="module")
def drawn():
    return population.catalogue(jax.random.key(2), 96, 16, HSC, COSMO)


def cumulative(axis, density):
    total = integrate.cumulative_trapezoid(density, axis, initial=0)
    return lambda t: np.interp(t, axis, total / total[-1])


def brightness(z, sigma):
    """Mean i magnitude of a galaxy: relation of M_r and sigma, distance, K_i."""
    v = np.log10(sigma)
    m_r = (-0.37 + np.sqrt(0.37**2 - 0.024 * (2.97 + v))) / 0.012
    k = np.interp(z, population._Z, population._K_I)
    return m_r + ASTROPY.distmod(z).value + k


def test_absolute_magnitudes_are_those_of_the_published_relation():
    # -22.3, -23.4 and -24.3 at 200, 250 and 300 km/s
    modulus = ASTROPY.distmod(0.2).value - 0.26
    found = [brightness(0.2, s) - modulus for s in (200.0, 250.0, 300.0)]
    np.testing.assert_allclose(found, [-22.3, -23.4, -24.3], atol=0.1)


def test_dispersions_and_redshifts_follow_phi_sigma4_dV_within_the_magnitude_limit(
    galaxies,
):
    z, sigma = np.linspace(0.1, 1.0, 181)[:, None], np.linspace(120, 450, 331)
    volume = ASTROPY.differential_comoving_volume(z).value
    s = sigma / 161
    density = volume * s**2.32 * np.exp(-(s**2.67)) * s**4
    visible = stats.norm.cdf((20.5 - brightness(z, sigma)) / 0.3)
    density = density * visible
    of_sigma = cumulative(sigma, density.sum(0))
    of_z = cumulative(z[:, 0], density.sum(1))
    assert stats.kstest(galaxies.vdisp, of_sigma).pvalue > 1e-3
    assert stats.kstest(galaxies.z, of_z).pvalue > 1e-3
    # the limit matters: without it the redshifts are other ones
    whole = cumulative(z[:, 0], volume[:, 0])
    assert stats.kstest(galaxies.z, whole).pvalue < 1e-6


def test_lenses_are_brighter_than_the_limit_and_lie_on_the_relation(galaxies):
    i = galaxies.mag[:, 2]
    assert (i < 20.5).all()
    residual = i - brightness(galaxies.z, galaxies.vdisp)
    safe = brightness(galaxies.z, galaxies.vdisp) < 19.3  # 4 sigma above the cut
    assert abs(residual[safe].mean()) < 0.05 and abs(residual[safe].std() - 0.3) < 0.03
    colours = -np.diff(galaxies.mag, axis=1)
    for band, table in enumerate((population._G_R, population._R_I, population._I_Z)):
        excess = colours[:, band] - np.interp(galaxies.z, population._Z, table)
        assert abs(excess.mean()) < 0.004 and abs(excess.std() - 0.05) < 0.003


def test_axis_ratios_are_rayleigh_about_round(galaxies):
    spread = 0.378 - 0.000572 * galaxies.vdisp
    flattening = (1 - galaxies.q) / spread
    inside = galaxies.q > 0.2 + 1e-6
    assert stats.kstest(flattening[inside], "rayleigh").pvalue > 1e-3
    assert stats.kstest(galaxies.phi / np.pi, "uniform").pvalue > 1e-3


def test_source_redshifts_and_magnitudes_follow_their_densities(sources):
    _, _, _, z, mag = sources
    axis = np.linspace(0.1, 5, 2000)
    of_z = cumulative(axis, axis**2 * np.exp(-((axis / 0.13) ** 0.7)))
    assert stats.kstest(z, of_z).pvalue > 1e-3
    axis = np.linspace(*population.SOURCE_RANGE, 2000)
    of_i = cumulative(axis, 10 ** (0.28 * axis))
    assert stats.kstest(mag[:, 2], of_i).pvalue > 1e-3


def test_source_stamps_hold_the_flux_of_their_magnitudes(sources):
    total, least, _, _, mag = sources
    np.testing.assert_allclose(total, 10 ** (-0.4 * (mag - 27.0)), rtol=1e-4)
    assert (least > -1e-5 * total.max(1)).all()


def test_no_source_is_sharper_than_hst_would_show_it(sources):
    # a Gaussian of FWHM 0.1 arcsec has this variance, in pixels of 0.03 arcsec
    least = (0.1 / 0.03) ** 2 / (8 * np.log(2))
    assert (sources[2] > least).all()


def test_seeing_has_the_surveys_medians_and_psfs_are_nearly_round():
    keys = jax.random.split(jax.random.key(5), 512)
    kernels = jax.jit(jax.vmap(lambda k: psf.seeing(k, HSC)))(keys)
    kernels = np.asarray(kernels, float)
    np.testing.assert_allclose(kernels.sum((1, 2)), 1, rtol=1e-5)
    for band, median in enumerate(HSC.fwhm):
        profiles = kernels[:, 21, 21:, band]
        half = profiles[:, :1] / 2
        first = (profiles > half).sum(1)  # the half maximum lies before this pixel
        rows = np.arange(len(profiles))
        above, below = profiles[rows, first - 1], profiles[rows, first]
        radius = first - 1 + (above - half[:, 0]) / (above - below)
        fwhm = 2 * radius * HSC.pixel_scale
        error = 1.25 * 0.122 / np.sqrt(len(fwhm))
        np.testing.assert_allclose(np.median(fwhm), median, rtol=4 * error + 0.02)
        scatter = (np.percentile(fwhm, 84) - np.percentile(fwhm, 16)) / 2
        np.testing.assert_allclose(scatter / median, np.hypot(0.07, 0.10), rtol=0.2)


def test_sky_noise_has_the_surveys_level_and_a_slight_correlation():
    empty = jnp.zeros((48, 48, 4))
    observe = jax.jit(jax.vmap(lambda k: population.observe(k, empty, HSC)))
    noise = np.asarray(observe(jax.random.split(jax.random.key(6), 256)), float)
    sigma = noise.std((1, 2))
    scatter = np.array([0.25, 0.25, 0.30, 0.30])
    medians = np.median(sigma, 0)
    np.testing.assert_allclose(medians, HSC.sky_sigma, rtol=4 * 1.25 * 0.3 / 16)
    np.testing.assert_allclose(np.log(sigma).std(0), scatter, rtol=0.15)
    unit = noise / sigma[:, None, None]
    # white noise plus 0.1 of each of four neighbours, at unit variance
    neighbour = (unit[:, 1:] * unit[:, :-1]).mean()
    np.testing.assert_allclose(neighbour, 0.2 / 1.04, atol=0.005)
    corner = (unit[:, 1:, 1:] * unit[:, :-1, :-1]).mean()
    np.testing.assert_allclose(corner, 0.02 / 1.04, atol=0.005)


def test_photon_noise_has_the_variance_of_the_counts():
    survey = HSC._replace(sky_sigma=(1e-6,) * 4, gain=(50.0,) * 4)
    image = jnp.full((64, 64, 4), 8.0)
    noise = population.observe(jax.random.key(7), image, survey) - 8.0
    np.testing.assert_allclose(np.asarray(noise).var((0, 1)), 8 / 50, rtol=0.1)


def test_what_is_unknown_is_drawn_like_its_neighbours_in_magnitude_and_colour(galaxies):
    among = jax.tree.map(jnp.asarray, galaxies)
    mag, keys = among.mag[5], jax.random.split(jax.random.key(8), 4000)
    nan = jnp.array(jnp.nan)

    @jax.jit
    def draw(z, vdisp):
        return jax.vmap(
            lambda k: population.redshift_and_dispersion(k, mag, z, vdisp, among)
        )(keys)

    z, vdisp = draw(nan, nan)
    colours = np.diff(galaxies.mag - galaxies.mag[5], axis=1)
    chi2 = ((galaxies.mag[:, 2] - galaxies.mag[5, 2]) / 0.2) ** 2
    chi2 += ((colours / 0.1) ** 2).sum(1)
    chi2 = np.minimum(chi2, 20 + chi2 / 100)
    weight = np.exp(-chi2 / 2) / galaxies.vdisp.astype(float) ** 4
    weight /= weight.sum()
    for found, values in ((z, galaxies.z), (vdisp, galaxies.vdisp)):
        mean = (weight * values).sum()
        width = np.sqrt((weight * (values - mean) ** 2).sum())
        assert abs(found.mean() - mean) < 5 * width / np.sqrt(4000)
    np.testing.assert_array_equal(draw(jnp.array(0.5), jnp.array(210.0))[0], 0.5)
    np.testing.assert_array_equal(draw(jnp.array(0.5), jnp.array(210.0))[1], 210.0)


def test_measured_ellipticities_follow_the_true_ones(drawn):
    # adaptive moments weigh the round, blurred core: a slope below one, little scatter
    catalogue, _ = drawn
    galaxies = jax.jit(population.ellipticals, static_argnums=1)(
        jax.random.split(jax.random.key(2), 4)[0], 96, COSMO
    )
    e = (1 - galaxies.q**2) / (1 + galaxies.q**2)
    true = np.concatenate([e * np.cos(2 * galaxies.phi), e * np.sin(2 * galaxies.phi)])
    found = np.concatenate([catalogue.lenses.ex, catalogue.lenses.ey])
    fit = stats.linregress(true, found)
    assert 0.6 < fit.slope < 1.0 and abs(fit.intercept) < 0.02 and fit.rvalue > 0.93


def test_a_drawn_catalogue_is_whole(drawn):
    catalogue, listing = drawn
    lenses, sources, psfs = catalogue
    assert lenses.image.shape == (96, 64, 64, 4) and psfs.shape[1:] == (43, 43, 4)
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(catalogue))
    assert len(listing.lens_id) == 96 and len(set(listing.lens_id)) == 96
    expected = (np.asarray(lenses.vdisp) / 200) ** -4.0
    np.testing.assert_allclose(lenses.weight, expected, rtol=1e-5)
    # the corner rule takes the emptiest corner: a little below the sky's noise
    ratio = np.median(np.asarray(lenses.background) / np.array(HSC.sky_sigma), 0)
    assert ((ratio > 0.75) & (ratio < 1.25)).all()
