"""Strong gravitational lenses in JAX: physics, mocks, and networks that model them.

Modules are the nouns of the pipeline and read as they are written:
``lensjax.sie.deflect(lens, x, y)``.  Those that need more than jax and numpy (readers,
training, plots) are imported when they are first named.
"""

import importlib

__version__ = "0.1.0"

_MODULES = (
    "catalogue",
    "checkpoint",
    "cosmology",
    "evaluate",
    "images",
    "interop",
    "lens",
    "light",
    "mock",
    "network",
    "plots",
    "population",
    "predict",
    "pretrained",
    "psf",
    "sample",
    "shear",
    "sie",
    "survey",
    "system",
    "tables",
    "train",
    "units",
)
__all__ = list(_MODULES)


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f"lensjax.{name}")
    raise AttributeError(f"module 'lensjax' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_MODULES])
