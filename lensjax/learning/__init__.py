"""Networks: architectures, training on mocks, prediction, weights that ship."""

from lensjax import _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    (
        "dataset",
        "estimator",
        "folds",
        "loader",
        "loop",
        "members",
        "network",
        "paper_cnn",
        "predicted",
        "prediction",
        "pretrained",
        "program",
        "records",
        "scaling",
        "step",
        "train",
    ),
)
