"""Truth against prediction."""

from lensjax import _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    ("metrics",),
)
