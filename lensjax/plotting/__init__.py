"""Pictures of lenses, mocks and results."""

from lensjax import _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    ("paper_figures", "pictures", "results"),
)
