"""Pictures of lenses, mocks and results."""

from lensjax import _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    ("fits", "paper_figures", "pictures", "results"),
)
