"""Networks: architectures, training on mocks, prediction, weights that ship."""

from lensjax import _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    (
        "batches",
        "loader",
        "loop",
        "network",
        "prediction",
        "pretrained",
        "scaling",
        "train",
    ),
)
