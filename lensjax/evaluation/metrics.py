"""Truth against prediction: the figures of merit, and the baselines beside them."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from lensjax import parameters
from lensjax.catalogue import Lenses
from lensjax.learning.estimator import targets
from lensjax.mocks.system import System
from lensjax.next_images import FollowUp
from lensjax.parameters import Space


class Merit(NamedTuple):
    """How well one parameter is predicted; differences are prediction minus truth."""

    bias: float  # median difference
    half_width: float  # half of the 16 to 84 % range of the differences
    rms: float  # root mean square difference
    r2: float  # share of the truth's variance explained; nan where it has none
    outliers: float  # share farther than three half widths from the bias


class Predictions(NamedTuple):
    """What one network predicted of N systems; numbers in the order of a space."""

    truth: np.ndarray  # (N, 5)
    predicted: np.ndarray  # (N, 5)
    log_flux_ratio: np.ndarray  # (N,) lensed source over lens in i
    followup: FollowUp  # arrays (N, ...)


def merits(
    truth: np.ndarray,
    predicted: np.ndarray,
    space: Space = parameters.WITHOUT_SHEAR,
) -> dict[str, Merit]:
    """Figures of merit of each parameter by its name; arrays (N, len(space)).

    nan where a prediction is not finite.
    """
    truth, predicted = np.asarray(truth, float), np.asarray(predicted, float)
    with np.errstate(all="ignore"):
        difference = predicted - truth
        low, bias, high = np.percentile(difference, [16, 50, 84], axis=0)
        rms = np.sqrt((difference**2).mean(0))
        variance = truth.var(0)
        r2 = np.where(variance > 0, 1 - rms**2 / variance, np.nan)
        half = (high - low) / 2
        outliers = (np.abs(difference - bias) > 3 * half).mean(0)
    outliers = np.where(np.isfinite(half), outliers, np.nan)
    columns = zip(bias, half, rms, r2, outliers, strict=True)
    return {p.name: Merit(*map(float, c)) for p, c in zip(space, columns, strict=True)}


def prior_mean(train_truth: np.ndarray, n: int) -> np.ndarray:
    """The baseline that looks at nothing: the training sample's mean, (n, 5)."""
    return np.tile(np.asarray(train_truth, float).mean(0), (n, 1))


class LightOnly(NamedTuple):
    """The baseline that sees the lens galaxy's light and no arc.

    Centre and ellipticity are the light's; theta_E is a quadratic regression on the
    lens's i magnitude and colours.  It is measured on the cutouts before arcs are
    added, so it is a little better than what one could do on the mocks.
    """

    middle: np.ndarray  # of the features, on the training sample
    width: np.ndarray
    coefficients: np.ndarray

    @staticmethod
    def fit(systems: System, lenses: Lenses) -> "LightOnly":
        """Fit the regression to a training sample."""
        features = _features(systems, lenses)
        middle, width = features.mean(0), features.std(0) + 1e-6
        design = _quadratic((features - middle) / width)
        # a ridge of one galaxy's weight: a handful of them must not blow it up
        galaxies = len(np.unique(systems.lens_index))
        ridge = len(design) / galaxies * np.eye(design.shape[1])
        ridge[0, 0] = 0
        theta_E = np.asarray(systems.sie.theta_E, float)
        coefficients = np.linalg.solve(design.T @ design + ridge, design.T @ theta_E)
        return LightOnly(middle, width, coefficients)

    def predict(self, systems: System, lenses: Lenses) -> np.ndarray:
        """Predictions (N, 5) in the order of `parameters.WITHOUT_SHEAR`."""
        features = (_features(systems, lenses) - self.middle) / self.width
        theta_E = _quadratic(features) @ self.coefficients
        s = systems
        light = (s.light_x, s.light_y, s.light_ex, s.light_ey)
        return np.stack([*(np.asarray(v, float) for v in light), theta_E], -1)


def _features(systems: System, lenses: Lenses) -> np.ndarray:
    mag = np.asarray(lenses.mag, float)[np.asarray(systems.lens_index)]
    middle = min(2, mag.shape[1] - 1)  # i, of griz
    return np.concatenate([mag[:, middle : middle + 1], -np.diff(mag, axis=1)], 1)


def _quadratic(x: np.ndarray) -> np.ndarray:
    pairs = [x[:, i] * x[:, j] for i in range(x.shape[1]) for j in range(i, x.shape[1])]
    return np.stack([np.ones(len(x)), *x.T, *pairs], -1)


def baselines(
    systems: System,
    lenses: Lenses,
    trained: Sequence[np.ndarray],
    held_out: Sequence[np.ndarray],
) -> dict[str, np.ndarray]:
    """Predictions (N, 5) of both baselines for the held-out rows of all networks.

    trained, held_out: rows of the sample, network by network.  Each row is predicted by
    what was fitted without its lens galaxy.
    """
    truth = np.asarray(targets(systems), float)
    light, prior = [], []
    for rows, others in zip(held_out, trained, strict=True):
        fitted = LightOnly.fit(take(systems, others), lenses)
        light.append(fitted.predict(take(systems, rows), lenses))
        prior.append(prior_mean(truth[others], len(rows)))
    return {"light only": np.concatenate(light), "prior mean": np.concatenate(prior)}


def quantiles(values: np.ndarray) -> dict[str, float]:
    """Median, and how far the 84 and 16 % lie above and below it; nan without any."""
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    low, median, high = (
        np.percentile(values, [16, 50, 84]) if len(values) else [np.nan] * 3
    )
    return {
        "median": float(median),
        "plus": float(high - median),
        "minus": float(median - low),
    }


def running(
    x: np.ndarray, values: np.ndarray, edges: np.ndarray, percentiles: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Percentiles of `values` in bins of x, both (N,).

    Returns the bins' middles (B,), percentiles (P, B), nan where a bin is empty, and
    how many are in each (B,).  What is beyond the edges or not finite is left out.
    """
    x, values, edges = (np.asarray(a, float) for a in (x, values, edges))
    bins = len(edges) - 1
    found, n = np.full((len(percentiles), bins), np.nan), np.zeros(bins, int)
    place = np.where(np.isfinite(values), np.digitize(x, edges) - 1, -1)
    for k in range(bins):
        some = values[place == k]
        n[k] = len(some)
        if n[k]:
            found[:, k] = np.percentile(some, percentiles)
    return (edges[1:] + edges[:-1]) / 2, found, n


def mean_curve(records: Sequence[dict]) -> np.ndarray:
    """Validation loss averaged over folds, by epoch; nan where one fold has none."""
    folds = sorted({r["fold"] for r in records})
    epochs = max((r["epoch"] for r in records), default=0)
    losses = np.full((epochs, len(folds)), np.nan)
    for r in records:
        if r["val_loss"] is not None:
            losses[r["epoch"] - 1, folds.index(r["fold"])] = r["val_loss"]
    return losses.mean(1) if folds else np.zeros(0)


def take(systems: System, rows: np.ndarray) -> System:
    """Some rows of a sample, on the host."""
    return jax.tree.map(lambda a: np.asarray(a)[rows], systems)
