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
        "matched_filter",
        "members",
        "mixture",
        "network",
        "paper_cnn",
        "posterior",
        "predicted",
        "prediction",
        "pretrained",
        "program",
        "reading",
        "records",
        "residual",
        "scaling",
        "preprocessing",
        "step",
        "symmetries",
        "train",
    ),
)
