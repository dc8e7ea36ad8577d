"""The embedded HSC-like population: galaxies drawn instead of listed, no file needed.

Massive early-type galaxies that may lens, the faint galaxies behind them, and HSC's
seeing and noise.  docs/mocks.md gives the source of each figure and says where the
draws look like real HSC cutouts and where they do not.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lensjax import catalogue as _catalogue
from lensjax import cosmology, light, photometry, psf
from lensjax.catalogue import Catalogue, Lenses, Listing, Sources
from lensjax.cosmology import FlatLambdaCDM
from lensjax.mock import MARGIN, photon_noise, ray_grid
from lensjax.mocks import batching
from lensjax.survey import Survey

# Colours and K_i = m_i - M_r - DM of passive galaxies in HSC griz against redshift.
_Z = (0.20, 0.31, 0.39, 0.48, 0.53, 0.64, 0.70, 0.77, 0.86, 1.01)
_G_R = (1.23, 1.48, 1.66, 1.61, 1.60, 1.61, 1.66, 1.75, 2.00, 1.97)
_R_I = (0.50, 0.65, 0.71, 0.89, 1.02, 1.22, 1.28, 1.35, 1.26, 1.20)
_I_Z = (0.22, 0.23, 0.29, 0.36, 0.40, 0.43, 0.40, 0.46, 0.68, 0.77)
_K_I = (-0.26, -0.20, -0.12, -0.03, 0.02, 0.18, 0.22, 0.33, 0.55, 0.80)

VDISP_RANGE = (120.0, 450.0)  # [km/s]
FAINTEST_LENS = 20.5  # i [mag]
SOURCE_RANGE = (22.0, 26.5)  # i [mag]; fainter ones have no spectrum in the HUDF
FINE_PIXELS = 3  # along the side of a survey pixel, for the light of lens galaxies
STAMP = 96  # side of a source stamp [pixel]
SOURCE_PIXEL_SCALE = 0.03  # [arcsec], as HST's drizzled images
SOURCE_FWHM = 0.10  # of HST's PSF in them [arcsec]


class SourceLooks(NamedTuple):
    """How drawn sources look; static under jit.  The defaults are the paper's way."""

    slope: float = 0.28  # of log10 N against i
    size: float = 1.0  # factor on the published radii
    colours: tuple[float, float, float] = (0.20, 0.05, 0.12)  # mean g-r, r-i, i-z
    scatter: tuple[float, float, float] = (0.25, 0.18, 0.15)  # about them
    most_clumps: int = 4
    in_clumps: tuple[float, float] = (0.1, 0.5)  # share of the light
    noise: float = 0.0  # of the image that a stamp is, a pixel [total of the source]


SMOOTH_LOOKS = SourceLooks()


class Ellipticals(NamedTuple):
    """Early-type galaxies as drawn; each field (n,) or (n, band)."""

    z: Array
    vdisp: Array  # [km/s]
    mag: Array  # (n, band) total AB magnitude, griz as drawn
    radius: Array  # circularised half-light radius [arcsec]
    sersic: Array  # Sersic index
    q: Array  # axis ratio of the light
    phi: Array  # its angle [rad from +x]


def ellipticals(key: Array, n: int, cosmo: FlatLambdaCDM) -> Ellipticals:
    """`n` early-type galaxies brighter than i = 20.5, drawn as lenses are: by sigma^4.

    The density is phi(sigma) sigma^4 dV/dz with the velocity dispersion function of
    Choi et al. (2007), so that massive galaxies are not rare among them;
    `Lenses.weight` takes the sigma^4 out again where a sample is drawn.
    """
    keys = jax.random.split(key, 8)
    candidates = 16 * n
    z_axis, s_axis = jnp.linspace(0.1, 1.0, 181), jnp.linspace(*VDISP_RANGE, 166)
    d_c = cosmology.comoving_distance(cosmo, z_axis)
    volume = d_c**2 * jnp.gradient(d_c)
    s = s_axis / 161.0
    function = s**2.32 * jnp.exp(-(s**2.67)) * s**4
    z = _inverse_transform(keys[0], z_axis, volume, candidates)
    vdisp = _inverse_transform(keys[1], s_axis, function, candidates)

    v = jnp.log10(vdisp)
    mean_r = (-0.37 + jnp.sqrt(0.37**2 - 0.024 * (2.97 + v))) / 0.012
    absolute_r = mean_r + 0.3 * jax.random.normal(keys[2], (candidates,))
    d_a = cosmology.angular_diameter_distance(cosmo, 0.0, z)
    modulus = 5 * jnp.log10((1 + z) ** 2 * d_a * 1e5)
    i = absolute_r + modulus + jnp.interp(z, jnp.array(_Z), jnp.array(_K_I))
    colours = jnp.stack(
        [jnp.interp(z, jnp.array(_Z), jnp.array(c)) for c in (_G_R, _R_I, _I_Z)], -1
    )
    g_r, r_i, i_z = (colours + 0.05 * jax.random.normal(keys[3], colours.shape)).T
    mag = jnp.stack([i + r_i + g_r, i + r_i, i, i - i_z], -1)

    # twice the published sizes and a lower index than early types' 4 to 5: so the
    # growth curves come near those of real HSC cutouts (docs/mocks.md)
    log_kpc = 2.46 - 2.79 * v + 0.84 * v**2 + np.log10(2.0)
    log_kpc += 0.11 * jax.random.normal(keys[4], (candidates,))
    radius = 10**log_kpc / (1000 * d_a) / cosmology.ARCSEC
    index = jnp.clip(3.5 + 0.8 * jax.random.normal(keys[5], (candidates,)), 2, 6)
    spread = 0.378 - 0.000572 * vdisp
    uniform = jax.random.uniform(keys[6], (candidates,), minval=1e-6)
    q = jnp.clip(1 - spread * jnp.sqrt(-2 * jnp.log(uniform)), 0.2, 1)
    phi = jax.random.uniform(keys[7], (candidates,), maxval=jnp.pi)
    drawn = Ellipticals(z, vdisp, mag, radius, index, q, phi)

    (bright,) = jnp.nonzero(i < FAINTEST_LENS, size=n, fill_value=-1)
    return jax.tree.map(lambda a: a[bright], drawn)


def _inverse_transform(key: Array, axis: Array, density: Array, n: int) -> Array:
    """`n` draws from a density given on an even axis."""
    steps = (density[1:] + density[:-1]) / 2
    cumulative = jnp.concatenate([jnp.zeros(1), jnp.cumsum(steps)])
    return jnp.interp(jax.random.uniform(key, (n,)), cumulative / cumulative[-1], axis)


def redshift_and_dispersion(
    key: Array, mag: Array, z: Array, vdisp: Array, among: Ellipticals
) -> tuple[Array, Array]:
    """(z, vdisp) of a galaxy of magnitudes `mag` (band,), those that are nan drawn.

    Draws one of `among`, weighted by how near it is in i and in colours, and in what is
    known of the redshift and dispersion; sigma^4 is weighted out of `among`.
    """

    def distance2(width, theirs, own):
        return jnp.where(jnp.isfinite(own), ((theirs - own) / width) ** 2, 0)

    i = min(2, mag.shape[0] - 1)
    colours = jnp.diff(among.mag, axis=-1) - jnp.diff(mag)[None]
    chi2 = distance2(0.2, among.mag[:, i], mag[i]) + ((colours / 0.1) ** 2).sum(-1)
    chi2 += distance2(0.05, among.z, z) + distance2(20.0, among.vdisp, vdisp)
    # far from all of them the softer of two widths decides, so that someone is drawn
    chi2 = jnp.minimum(chi2, 20 + chi2 / 100)
    one = jax.random.categorical(key, -chi2 / 2 - 4 * jnp.log(among.vdisp))
    z = jnp.where(jnp.isfinite(z), z, among.z[one])
    return z, jnp.where(jnp.isfinite(vdisp), vdisp, among.vdisp[one])


def cutout(
    key: Array, galaxy: Ellipticals, kernel: Array, survey: Survey, room: int = 0
) -> Array:
    """Image (n, n, band) [counts] of one galaxy: Sersic light, neighbours, noise.

    n is the survey's image size and, on each side, `room` to shift it in.
    """
    k_near, k_noise = jax.random.split(key)
    n = survey.image_size + 2 * room + 2 * MARGIN
    scale = survey.pixel_scale / FINE_PIXELS
    x, y = ray_grid(n * FINE_PIXELS, scale, float)
    counts = 10 ** (
        -0.4 * (photometry.in_bands(galaxy.mag, survey) - survey.zero_point)
    )
    profile = light.sersic(x, y, galaxy.radius, galaxy.sersic, galaxy.q, galaxy.phi)
    scene = profile[..., None] * counts[None, None]
    scene += neighbours(k_near, x, y, survey)
    finer = survey.psf_oversampling
    image = psf.blur_and_sample(scene * scale**2, kernel, FINE_PIXELS, finer)
    return observe(k_noise, image[MARGIN:-MARGIN, MARGIN:-MARGIN], survey)


def neighbours(key: Array, x: Array, y: Array, survey: Survey) -> Array:
    """Surface brightness (..., band) of field galaxies at the grid (x, y) [arcsec].

    Poisson(3) to i = 26 in a 10.8 arcsec square, exponential discs and a few red ones.
    """
    k_number, k_place, k_mag, k_colour, k_size, k_shape = jax.random.split(key, 6)
    margin = MARGIN * FINE_PIXELS / x.shape[0]  # lies outside the cutout
    half = x.shape[0] * survey.pixel_scale / FINE_PIXELS * (0.5 - margin)
    expected = 3.0 * (2 * half / 10.752) ** 2
    most = int(expected + 3 * math.sqrt(expected))
    there = jnp.arange(most) < jax.random.poisson(k_number, expected)
    x0, y0 = jax.random.uniform(k_place, (2, most), minval=-half, maxval=half)
    # none on top of the lens: what lies there is part of its light
    there &= jnp.hypot(x0, y0) > 1.5
    i = counts_slope(k_mag, most, 0.30, 20.0, 26.0)
    red = jax.random.uniform(jax.random.fold_in(k_colour, 1), (most,)) < 0.25
    colour = jnp.where(
        red[:, None], jnp.array([1.5, 0.8, 0.3]), jnp.array([0.5, 0.3, 0.1])
    )
    colour += 0.15 * jax.random.normal(k_colour, (most, 3))
    mag = jnp.stack(
        [i + colour[:, 0] + colour[:, 1], i + colour[:, 1], i, i - colour[:, 2]], -1
    )
    counts = 10 ** (-0.4 * (photometry.in_bands(mag, survey) - survey.zero_point))
    counts = jnp.where(there[:, None], counts, 0)
    radius = (
        0.3
        * 10 ** (-0.1 * (i - 24))
        * jnp.exp(0.3 * jax.random.normal(k_size, (most,)))
    )
    q, phi = jax.random.uniform(k_shape, (2, most))
    q, phi = 0.4 + 0.6 * q, jnp.pi * phi

    def add(total, one):
        x0, y0, counts, radius, q, phi = one
        profile = light.sersic(x - x0, y - y0, radius, 1.0, q, phi)
        return total + profile[..., None] * counts[None, None], None

    total = jnp.zeros((*x.shape, len(survey.bands)), x.dtype)
    return jax.lax.scan(add, total, (x0, y0, counts, radius, q, phi))[0]


def observe(key: Array, image: Array, survey: Survey) -> Array:
    """One noisy coadd of `image` (n, n, band) [counts].

    Sky noise of the survey's level, with its scatter from place to place and the slight
    correlation that resampling leaves between neighbouring pixels; photon noise.
    """
    k_level, k_sky, k_photon = jax.random.split(key, 3)
    scatter = jnp.array([0.30 if band in "IZ" else 0.25 for band in survey.bands])
    level = jnp.exp(scatter * jax.random.normal(k_level, scatter.shape))
    sigma = jnp.array(survey.sky_sigma) * level
    white = jax.random.normal(k_sky, image.shape)
    near = sum(jnp.roll(white, step, axis) for step in (1, -1) for axis in (0, 1))
    sky = (white + 0.1 * near) / np.sqrt(1 + 4 * 0.1**2) * sigma[None, None]
    return image + sky + photon_noise(k_photon, image, survey)


def counts_slope(
    key: Array, n: int, slope: float, bright: float, faint: float
) -> Array:
    """Magnitudes with number counts N(m) ~ 10^(slope m) between two limits."""
    u = jax.random.uniform(key, (n,))
    low, high = 10 ** (slope * bright), 10 ** (slope * faint)
    return jnp.log10(low + u * (high - low)) / slope


def source(
    key: Array,
    cosmo: FlatLambdaCDM,
    survey: Survey,
    looks: SourceLooks = SMOOTH_LOOKS,
) -> tuple[Array, Array, Array]:
    """A faint, clumpy, mostly star-forming galaxy: stamp (m, m, band), redshift, mag.

    A Sersic body and one to four (or more) bluer clumps on it, as sharp as HST would
    show them: a real stamp is no sharper, and rays 0.056 arcsec apart would miss finer
    detail.
    """
    k_z, k_mag, k_colour, k_size, k_shape, k_clump = jax.random.split(key, 6)
    axis = jnp.linspace(0.1, 5.0, 491)
    density = axis**2 * jnp.exp(-((axis / 0.13) ** 0.70))
    z = _inverse_transform(k_z, axis, density, 1)[0]
    i = counts_slope(k_mag, 1, looks.slope, *SOURCE_RANGE)[0]
    g_r, r_i, i_z = jnp.array(looks.colours) + jnp.array(
        looks.scatter
    ) * jax.random.normal(k_colour, (3,))
    mag = jnp.stack([i + r_i + g_r, i + r_i, i, i - i_z])

    d_a = cosmology.angular_diameter_distance(cosmo, 0.0, z)
    modulus = 5 * jnp.log10((1 + z) ** 2 * d_a * 1e5)
    absolute = i - modulus + 2.5 * jnp.log10(1 + z)
    kpc = 10 ** (-(absolute + 18) / 4 + 0.35 * jax.random.normal(k_size))
    kpc *= ((1 + z) / 1.6) ** -1.2
    radius = looks.size * kpc / (1000 * d_a) / cosmology.ARCSEC
    radius = jnp.clip(radius, 0.06, 0.6)
    u = jax.random.uniform(k_shape, (2,), minval=1e-6)
    q = jnp.clip(1 - 0.3 * jnp.sqrt(-2 * jnp.log(u[0])), 0.2, 1)
    phi = jnp.pi * u[1]
    index = jnp.clip(
        1.2 * jnp.exp(0.4 * jax.random.normal(jax.random.fold_in(k_shape, 1))), 0.5, 4
    )

    x, y = ray_grid(STAMP, SOURCE_PIXEL_SCALE, float)
    body = light.sersic(x, y, radius, index, q, phi)
    k_n, k_place, k_small, k_share = jax.random.split(k_clump, 4)
    most = looks.most_clumps
    there = jnp.arange(most) < jax.random.randint(k_n, (), 1, most + 1)
    along, across = radius * 0.8 * jax.random.normal(k_place, (2, most))
    across *= q
    c, s = jnp.cos(phi), jnp.sin(phi)
    small = radius * jax.random.uniform(k_small, (most,), minval=0.1, maxval=0.3)
    share = jnp.where(there, jax.random.uniform(k_share, (most,)), 0)
    low, high = looks.in_clumps
    in_clumps = jax.random.uniform(
        jax.random.fold_in(k_share, 1), minval=low, maxval=high
    )
    share *= in_clumps / share.sum()
    clumps = sum(
        share[k]
        * light.sersic(
            x - (c * along[k] - s * across[k]),
            y - (s * along[k] + c * across[k]),
            jnp.maximum(small[k], 0.04),
            1.0,
            1.0,
            0.0,
        )
        for k in range(most)
    )
    # clumps are bluer than the body by 0.2 mag from g to z; the total keeps its colours
    blue = 10 ** (0.4 * jnp.array([0.12, 0.04, -0.03, -0.08]))
    shape = (1 - in_clumps) * body[..., None] + clumps[..., None] * blue[None, None]
    shape = _gaussian_blur(shape, SOURCE_FWHM / SOURCE_PIXEL_SCALE)
    edge = jnp.hypot(x, y) / (STAMP / 2 * SOURCE_PIXEL_SCALE)
    taper = jnp.where(
        edge < 0.8, 1, jnp.cos(jnp.pi / 2 * jnp.clip(edge - 0.8, 0, 0.2) / 0.2)
    )
    shape = shape / shape.sum((0, 1))[None, None]
    if looks.noise:
        # one image, coloured by the galaxy's magnitudes, brings its noise to all bands
        white = jax.random.normal(jax.random.fold_in(k_clump, 1), (STAMP, STAMP, 1))
        shape = shape + looks.noise * 3.0 * _gaussian_blur(white, 2.0)
    shape = shape * taper[..., None] ** 2
    shape = shape / shape.sum((0, 1))[None, None]
    seen = photometry.in_bands(mag, survey)
    if survey.bands == ("VIS",):
        shape = shape[..., 1:].mean(-1, keepdims=True)
    counts = 10 ** (-0.4 * (seen - survey.zero_point))
    return shape * counts[None, None], z, seen


def _gaussian_blur(image: Array, fwhm: float) -> Array:
    """Image (n, n, c), periodic, seen through a Gaussian of `fwhm` [pixel]."""
    n = image.shape[0]
    k2 = np.fft.fftfreq(n)[:, None] ** 2 + np.fft.rfftfreq(n)[None, :] ** 2
    transfer = np.exp(-2 * np.pi**2 * k2 * fwhm**2 / (8 * np.log(2)))
    spectrum = jnp.fft.rfft2(image, axes=(0, 1))
    spectrum *= jnp.asarray(transfer, spectrum.dtype)[..., None]
    return jnp.fft.irfft2(spectrum, s=(n, n), axes=(0, 1))


class Drawing(NamedTuple):
    """How the population's galaxies are drawn; static under jit."""

    # as `cutout`, and the map of its parts (n, n), where they are told apart
    cutout: Callable[..., tuple[Array, Array | None]]
    looks: SourceLooks


def _without_parts(*arguments) -> tuple[Array, None]:
    return cutout(*arguments), None


SMOOTH = Drawing(_without_parts, SMOOTH_LOOKS)
"""One ellipse of light, whose neighbours are part of its cutout; clumpy sources."""


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def _lens_stamps(
    key: Array,
    numbers: Array,
    galaxies: Ellipticals,
    kernels: Array,
    survey: Survey,
    room: int,
    drawing: Drawing,
) -> tuple[Array, Array | None, dict[str, Array]]:
    """Cutouts (n, side, side, band) of lens galaxies (n,), their parts and measures."""

    def one(row):
        number, galaxy, kernel = row
        own = jax.random.fold_in(key, number)
        image, parts = drawing.cutout(own, galaxy, kernel, survey, room)
        return image, parts, _catalogue.measure(image, kernel, survey)

    return jax.lax.map(one, (numbers, galaxies, kernels))


@functools.partial(jax.jit, static_argnums=(3, 4))
def _source_stamps(
    key: Array,
    numbers: Array,
    cosmo: FlatLambdaCDM,
    survey: Survey,
    looks: SourceLooks,
) -> tuple[Array, Array, Array]:
    """Stamps, redshifts and magnitudes of sources (n,)."""

    def one(number):
        return source(jax.random.fold_in(key, number), cosmo, survey, looks)

    return jax.lax.map(one, numbers)


def catalogue(
    key: Array,
    n_lenses: int,
    n_sources: int,
    survey: Survey,
    cosmo: FlatLambdaCDM,
    room: int = 0,
    drawing: Drawing = SMOOTH,
) -> tuple[Catalogue, Listing]:
    """A catalogue of drawn galaxies, as if read from disk; fixed by its key.

    Cutouts have `room` pixels more on each side than the survey's.  `drawing` is
    `SMOOTH` or `varied.VARIED`.
    """
    k_lens, k_image, k_psf, k_source = jax.random.split(key, 4)
    galaxies = jax.jit(ellipticals, static_argnums=1)(k_lens, n_lenses, cosmo)
    kernels = jax.jit(jax.vmap(lambda k: psf.seeing(k, survey)))(
        jax.random.split(k_psf, psf.SEEINGS)
    )
    which = np.arange(n_lenses, dtype=np.int32) % psf.SEEINGS

    def stamps_of(rows):
        some = jax.tree.map(lambda a: a[rows], galaxies)
        psfs = kernels[which[rows]]
        return _lens_stamps(k_image, rows, some, psfs, survey, room, drawing)

    image, parts, measured = jax.tree.map(
        jnp.asarray, batching.in_blocks(stamps_of, n_lenses)
    )
    stamps, z, mag = jax.tree.map(
        jnp.asarray,
        batching.in_blocks(
            lambda rows: _source_stamps(k_source, rows, cosmo, survey, drawing.looks),
            n_sources,
        ),
    )
    lenses = Lenses(
        image=image,
        psf=jnp.asarray(which),
        z=galaxies.z,
        vdisp=galaxies.vdisp,
        weight=(galaxies.vdisp / 200) ** -4,
        # drawn at the centre of their cutouts: what is measured is noise and neighbours
        **measured | {"x": jnp.zeros(n_lenses), "y": jnp.zeros(n_lenses)},
        parts=parts,
    )
    sources = Sources(stamps, jnp.ones((n_sources, len(survey.bands))), z, mag)
    drawn = Catalogue(lenses, sources, kernels)
    lens_id = tuple(f"lens-{i:06d}" for i in range(n_lenses))
    source_id = tuple(f"source-{i:06d}" for i in range(n_sources))
    return drawn, Listing(
        lens_id,
        source_id,
        SOURCE_PIXEL_SCALE,
        origin=f"embedded {survey.name}-like population",
        fingerprint=_catalogue.fingerprint(drawn, lens_id + source_id),
    )
