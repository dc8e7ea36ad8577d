"""A fit as a COOLEST template: the lens with the statistics of its posterior."""

from typing import Any

import numpy as np

from lensjax import interop, parameters
from lensjax.lens import Lens
from lensjax.shear import Shear
from lensjax.sie import SIE

ANGLES = {"phi", "phi_ext"}  # [deg], which come round after 180


def template(
    draws: np.ndarray,
    weight: np.ndarray,
    z_lens: float | None = None,
    z_source: float | None = None,
) -> dict[str, Any]:
    """The COOLEST template of a posterior of lenses.

    Parameters
    ----------
    draws : array (n, 7)
        x, y, ex, ey, theta_E, g1, g2, as `parameters.WITH_SHEAR` has them.
    weight : array (n,)
        Of each draw.
    z_lens, z_source : float, optional
        Redshifts.

    Returns
    -------
    dict
        As of `interop.to_coolest`, for `json.dump`: the point estimates are of the
        medians, mean, median and percentiles those of each COOLEST parameter over the
        draws, angles being unrolled about the point estimate.
    """
    weight = np.asarray(weight, float) / np.sum(weight)
    counted = weight > 1e-6 * weight.max()
    draws, weight = np.asarray(draws, float)[counted], weight[counted]
    middle = [quantile(column, weight, 0.5) for column in draws.T]
    found = interop.to_coolest(_lens(middle), z_lens=z_lens, z_source=z_source)
    each = [_values(interop.to_coolest(_lens(draw))) for draw in draws]
    for entity in found["lensing_entities"]:
        for model in entity["mass_model"]:
            for name, parameter in model["parameters"].items():
                values = np.array([one[entity["name"], name] for one in each])
                if name in ANGLES:
                    best = parameter["point_estimate"]["value"]
                    values = best + (values - best + 90) % 180 - 90
                parameter["posterior_stats"] = {
                    "mean": float(weight @ values),
                    "median": quantile(values, weight, 0.5),
                    "percentile_16th": quantile(values, weight, 0.16),
                    "percentile_84th": quantile(values, weight, 0.84),
                }
    return found


def quantile(values: np.ndarray, weight: np.ndarray, at: float) -> float:
    """A weighted quantile."""
    order = np.argsort(values)
    below = np.cumsum(weight[order]) - weight[order] / 2
    return float(np.interp(at, below, values[order]))


def _lens(vector) -> Lens:
    numbers = dict(zip(parameters.names(parameters.WITH_SHEAR), vector, strict=True))
    mass = {name: float(numbers[name]) for name in SIE._fields}
    shear = Shear(float(numbers["g1"]), float(numbers["g2"]))
    return Lens(SIE(**mass), shear)


def _values(template: dict[str, Any]) -> dict[tuple[str, str], float]:
    return {
        (entity["name"], name): parameter["point_estimate"]["value"]
        for entity in template["lensing_entities"]
        for model in entity["mass_model"]
        for name, parameter in model["parameters"].items()
    }
