"""What is on the disk whole or not at all: tables, checkpoints, sealed chunks."""

from lensjax import _lazy

__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    (
        "atomic",
        "checkpoint",
        "chunks",
        "locks",
        "parquet",
        "processes",
        "sealed",
        "tables",
    ),
)
