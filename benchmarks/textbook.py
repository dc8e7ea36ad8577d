"""The SIE by its textbook formulas in numpy: what all codes must agree with.

Rotation into the ellipse's frame, numpy's arctan and arctanh (Kormann et al. 1994),
float64, singular centre, q < 1.
"""

import numpy as np


def deflection(theta_E, q, phi, x, y):
    """Deflection at (x, y) from the centre; arguments broadcast.

    theta_E is the arithmetic mean of the critical ellipse's semi-axes, as in lensjax.
    """
    f, b = np.sqrt(1 - q**2), 2 * q * theta_E / (1 + q)
    c, s = np.cos(phi), np.sin(phi)
    u, v = c * x + s * y, c * y - s * x
    delta = np.sqrt(q**2 * u**2 + v**2)
    au, av = b / f * np.arctan(f * u / delta), b / f * np.arctanh(f * v / delta)
    return c * au - s * av, s * au + c * av


def geometric_radius(theta_E, q):
    """Einstein radius by the geometric mean, as lenstronomy and caustics have it."""
    return theta_E * 2 * np.sqrt(q) / (1 + q)
