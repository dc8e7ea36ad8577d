"""From an observation to a lens model with errors; `fit` is where to begin."""

from lensjax import _lazy
from lensjax.inference.hmc import sample
from lensjax.inference.lens_model import Fit, fit
from lensjax.inference.likelihood import log_likelihood, log_posterior, prepare
from lensjax.inference.problem import Settings
from lensjax.inference.scene import NAMES, SPACE, Priors

__getattr__, __dir__, _ = _lazy.attach(
    __name__,
    ("candidate", "coolest", "source_images", "pixel_source", "residuals", "table"),
)
__all__ = [
    "NAMES",
    "SPACE",
    "Fit",
    "Priors",
    "Settings",
    "fit",
    "log_likelihood",
    "log_posterior",
    "prepare",
    "sample",
]
