"""The source on pixels, given the mass: linear inversion with a regularisation.

An image is linear in the brightness of the source's pixels, between which it is
interpolated; how smooth the source is, is what makes the data most probable (Warren &
Dye 2003; Suyu et al. 2006).  The lens galaxy's light is integrated out, as in the fit.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.sparse

from lensjax import render
from lensjax.inference import basis as bases
from lensjax.inference import scene
from lensjax.inference.lens_model import Fit
from lensjax.inference.problem import (
    DEFAULT,
    Settings,
    chi2_without_arcs,
    framed,
    pixels_of,
)
from lensjax.lens import ray_shoot
from lensjax.light import Stamp
from lensjax.observation import Observation
from lensjax.render import Pixels

SIDE = 31  # pixels along the source's side
REACH = 4.0  # half-light radii from the middle to the edge
LEAST, MOST = 0.5, 1.0  # of theta_E: half the side is between
AT_ONCE = 31  # source pixels whose images are made together
STRENGTHS = -6.0, 8.0  # decades of the regularisation that are looked through


class PixelSource(NamedTuple):
    """A source in one band, brightness in counts a pixel of its own."""

    image: np.ndarray  # (m, m) the most probable
    error: np.ndarray  # (m, m) standard deviation of each
    pixel_scale: float  # [arcsec]
    x: float  # of its middle [arcsec]
    y: float
    strength: float  # of the regularisation
    log_evidence: float  # of the mass, up to a constant of the data
    arcs: np.ndarray  # (n, n) its image [counts]
    residual: np.ndarray  # (n, n) what is left, over the noise; nan where masked

    @property
    def stamp(self) -> Stamp:
        """The source as light to render; its middle is where x, y are nought."""
        image = jnp.asarray(self.image)[..., None]
        return Stamp(image, jnp.ones(1), self.pixel_scale)


def reconstruct(
    observation: Observation,
    fit: Fit,
    settings: Settings = DEFAULT,
    band: int = 0,
    side: int = SIDE,
    half: float | None = None,
) -> PixelSource:
    """Find the source of an observation by the best mode of its fit.

    Parameters
    ----------
    observation, fit, settings
        As given to and returned by `lensjax.inference.fit`.
    band : int
        Which of the bands.
    side : int
        Pixels along the source's side; the time grows as its sixth power.
    half : float
        Half of the side [arcsec] about the fitted centre; without it 4 half-light
        radii, but .5 to 1 theta_E.

    Returns
    -------
    PixelSource
        Brightness may be negative where the data say so: noise is not cut.

    Notes
    -----
    The prior is a normal one on the differences of neighbours, zero beyond the edge,
    whose strength maximises the evidence.  Errors are at that strength and that mass.
    """
    if side < 3:
        raise ValueError(f"side must be 3 or more, not {side}")
    if not 0 <= band < observation.image.shape[-1]:
        raise ValueError(f"band {band} of {observation.image.shape[-1]}")
    best = dict(zip(scene.NAMES, np.asarray(fit.modes[0], float), strict=True))
    if not np.isfinite(list(best.values())).all():
        raise ValueError("the fit has no mode")
    if half is None:
        theta = best["theta_E"]
        half = float(np.clip(REACH * best["radius"], LEAST * theta, MOST * theta))
    seen = _seen(observation, fit, settings, band, side, 2 * half / side)
    own = seen.rows @ seen.rows.T - seen.inside @ seen.inside.T
    data, n = seen.rows @ seen.rest, seen.size
    found, covariance, strength, evidence = most_probable(own, data, differences(side))
    arcs = found @ seen.rows
    left = seen.rest - arcs + seen.q @ (found @ seen.inside)
    counts = seen.root > 0
    arcs = np.where(counts, arcs / np.where(counts, seen.root, 1), np.nan)
    return PixelSource(
        image=found.reshape(side, side),
        error=np.sqrt(np.diag(covariance)).reshape(side, side),
        pixel_scale=2 * half / side,
        x=best["source_x"],
        y=best["source_y"],
        strength=strength,
        log_evidence=evidence - seen.chi2 / 2,
        arcs=arcs.reshape(n, n),
        residual=np.where(counts, left, np.nan).reshape(n, n),
    )


class _Seen(NamedTuple):
    """Source pixels as the likelihood of one band sees them, in float64."""

    rows: np.ndarray  # (side^2, pixel) images of one count, over the noise
    inside: np.ndarray  # (side^2, column) what the lens's light can take of them
    q: np.ndarray  # (pixel, column) see `basis`
    rest: np.ndarray  # (pixel,) the data less the lens's light, over the noise
    root: np.ndarray  # (pixel,) one over the noise
    chi2: float  # of the lens's light alone
    size: int  # of the image


def _seen(observation, fit, settings, band, side, scale) -> _Seen:
    observation = framed(observation, settings)
    pixels, pick = pixels_of(observation, settings), slice(band, band + 1)
    planes = [jnp.asarray(np.asarray(a)[..., pick]) for a in observation[:4]]
    light = jax.tree.map(jnp.asarray, fit.light)
    light = light._replace(
        flux=light.flux[..., pick],
        sky=light.sky[..., pick],
        image=light.image[..., pick],
    )
    mode = jnp.asarray(fit.modes[0])
    found = _rows(planes, light, mode, scale, side, pixels, settings.mode)
    chi2 = found[-1]
    each = [np.asarray(a, float) for a in found[:-1]]
    return _Seen(*each, float(chi2), pixels.size)


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def _rows(planes, light, mode, scale, side: int, pixels: Pixels, width: float):
    observation = Observation(*planes, pixels.scale)
    basis = bases.of(observation, light, width)
    lens, source = scene.parts(mode, 1)
    x, y = ray_shoot(lens, *render.rays(pixels, mode.dtype))
    number = side**2
    blocks = jnp.arange(-(-number // AT_ONCE) * AT_ONCE).reshape(-1, AT_ONCE)
    psf = jnp.broadcast_to(observation.psf, (*observation.psf.shape[:2], AT_ONCE))
    ones = jnp.ones(AT_ONCE, mode.dtype)

    def block(at):
        # one source pixel a channel: rays are traced once for all of them
        unit = jax.nn.one_hot(at, number, dtype=mode.dtype, axis=0)
        stamp = Stamp(unit.reshape(side, side, AT_ONCE), ones, scale)
        images = render.record(
            render.shine(stamp, x - source.x, y - source.y, pixels), psf, pixels
        )
        return images.reshape(-1, AT_ONCE).T * basis.root

    rows = jax.lax.map(block, blocks).reshape(-1, basis.root.shape[-1])[:number]
    inside = bases.project_onto(basis.q, rows[:, None])[:, 0]
    chi2 = chi2_without_arcs(observation, basis)
    return rows, inside, basis.q[0], basis.rest[0], basis.root[0], chi2


def differences(side: int) -> np.ndarray:
    """The prior's inverse covariance (side^2, side^2): squares of differences.

    Of neighbours along rows and columns, and of the pixels at the edge from zero.
    """
    one = scipy.sparse.diags([1.0, -1.0], [0, -1], (side + 1, side))
    line = one.T @ one
    identity = scipy.sparse.identity(side)
    both = scipy.sparse.kron(line, identity) + scipy.sparse.kron(identity, line)
    return both.toarray()


def most_probable(
    own: np.ndarray, data: np.ndarray, prior: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Solve for numbers s whose log likelihood is data . s - s . own . s / 2.

    `prior` is the inverse covariance of s but for a factor, which is that of the
    largest evidence.  Returns s, its covariance, the factor, and the log evidence less
    the log likelihood at s = 0.
    """
    root = np.linalg.cholesky(prior)
    inverse = scipy.linalg.solve_triangular(root, np.eye(len(prior)), lower=True)
    values, vectors = np.linalg.eigh(inverse @ own @ inverse.T)
    values = np.maximum(values, 0)  # rounding
    along = vectors.T @ (inverse @ data)

    def lack(decade):
        strength = 10.0**decade
        gain = (along**2 / (values + strength)).sum()
        return -(gain + np.log(strength / (values + strength)).sum()) / 2

    decades = np.arange(*STRENGTHS, 0.5)
    start = decades[np.argmin([lack(d) for d in decades])]
    best = scipy.optimize.minimize_scalar(
        lack, bounds=(start - 0.5, start + 0.5), method="bounded"
    )
    strength = 10.0**best.x
    back = inverse.T @ vectors
    covariance = (back / (values + strength)) @ back.T
    return covariance @ data, covariance, strength, -float(best.fun)
