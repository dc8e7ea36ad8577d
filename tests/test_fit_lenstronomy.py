"""Arcs of the fit's model against lenstronomy, for the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lenstronomy.LightModel.light_model import LightModel
from scipy.special import gammaincinv
from test_mock import by_lenstronomy, optics

from lensjax import light, render
from lensjax.inference import scene

N, SCALE, RAYS = 48, 0.168, 9
PEAK = 20  # [sky noise] of the arcs


def theirs(vector, fine):
    """lenstronomy's arcs of a source of unit flux."""
    lens, source = scene.parts(jnp.asarray(vector), 1)
    e, phi = np.hypot(source.ex, source.ey), np.arctan2(source.ey, source.ex) / 2
    q = np.sqrt((1 - e) / (1 + e))
    n = float(source.n)
    profile = {
        # its b_n is 1.9992 n - 0.3271, and the half-light radius off by that
        "R_sersic": float(source.radius)
        * ((1.9992 * n - 0.3271) / gammaincinv(2 * n, 0.5)) ** n,
        "n_sersic": n,
        "e1": (1 - q) / (1 + q) * np.cos(2 * phi),
        "e2": (1 - q) / (1 + q) * np.sin(2 * phi),
        "center_x": float(source.x),
        "center_y": float(source.y),
    }
    shape = LightModel(["SERSIC_ELLIPSE"])
    profile["amp"] = 1 / shape.total_flux([profile | {"amp": 1.0}])[0]
    return by_lenstronomy(lens, shape, profile, fine, RAYS, N, SCALE)


@pytest.mark.filterwarnings("ignore:`axes` should not be:DeprecationWarning")
@pytest.mark.parametrize("n", [1.0, 2.5, 4.0])
def test_arcs_are_lenstronomys_to_a_thousandth_of_the_noise(n, x64, monkeypatch):
    monkeypatch.setattr(light, "SOFTENING", 1e-5)  # as small as theirs
    fine, effective = optics(RAYS, 31)
    vector = [0.03, -0.02, 0.15, -0.1, 1.1, 0.02, -0.03, 0.1, 0.05, 0.2, n, 0.2, 0.1]
    expected = theirs(vector, fine)
    lens, source = scene.parts(jnp.asarray(vector), 1)
    pixels = render.Pixels(N, SCALE, 15, RAYS)
    found = jax.jit(lambda: render.lensed(source, lens, effective[..., None], pixels))()
    off = (np.asarray(found)[..., 0] - expected) * PEAK / expected.max()
    inside = slice(8, -8)  # light from beyond the frame is theirs alone to leave out
    assert np.sqrt((off[inside, inside] ** 2).mean()) < 1e-3
