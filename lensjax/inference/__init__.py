"""From an observation to a lens model with errors; `fit` is where to begin."""

from lensjax.inference.lens_model import Fit, Settings, fit
from lensjax.inference.scene import NAMES, Priors

__all__ = ["NAMES", "Fit", "Priors", "Settings", "fit"]
