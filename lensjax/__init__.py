"""Strong gravitational lenses in JAX: physics, mocks, and networks that model them.

Physics and the scene stand at the top and read as they are written:
``lensjax.sie.deflect(lens, x, y)``.  The stages that build on them are folders:
``lensjax.catalogue``, ``mocks``, ``learning``, ``inference``, ``evaluation``,
``plotting``, ``storage``; docs/architecture.md draws who imports whom.
"""

from lensjax import _lazy

__version__ = "0.2.0.dev0"

_FORMER = {  # names of version 0.1, which stay until 0.3
    "checkpoint": "lensjax.storage.checkpoint",
    "evaluate": "lensjax.evaluation.metrics",
    "followup": "lensjax.next_images",
    "network": "lensjax.learning.network",
    "plots": "lensjax.plotting.pictures",
    "population": "lensjax.mocks.population",
    "predict": "lensjax.learning.prediction",
    "pretrained": "lensjax.learning.pretrained",
    "sample": "lensjax.mocks.sample",
    "system": "lensjax.mocks.system",
    "tables": "lensjax.storage.parquet",
    "train": "lensjax.learning.train",
}
__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    (
        "catalogue",
        "cosmology",
        "evaluation",
        "images",
        "inference",
        "interop",
        "learning",
        "lens",
        "light",
        "mock",
        "mocks",
        "next_images",
        "noise",
        "observation",
        "parameters",
        "photometry",
        "plotting",
        "psf",
        "render",
        "shear",
        "sie",
        "storage",
        "survey",
        "units",
    ),
    _FORMER,
)
