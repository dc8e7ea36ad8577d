"""Mock systems: a population of galaxies, proposals, samples, fresh systems online."""

from lensjax import _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    (
        "acceptance",
        "batching",
        "online",
        "segmentation",
        "population",
        "proposals",
        "sample",
        "system",
        "varied",
    ),
)
