"""What Schuldt et al. (2021) print: the networks of Table 1, and errors in the text."""

from typing import NamedTuple

from experiments.settings import PAPER_ROWS


class Row(NamedTuple):
    """A network of the paper's Table 1, or of its section 5."""

    sample: str
    multiplicity: str
    weight: float  # of theta_E
    systems: int | None  # None: not said
    loss: float | None  # of the test set
    epoch: int | None
    learning_rate: float | None
    batch_size: int | None
    seed: int | None
    section: str
    extra: tuple[str, ...] = ()  # further settings


def _row(name: str, *values, extra: tuple[str, ...] = ()) -> tuple[str, Row]:
    images = next((k for k in ("doubles", "quads") if k in name), "both")
    sample = name.split("-")[0]
    return name, Row(sample, images, 5.0 if "-5" in name else 1.0, *values, extra)


ROWS = dict(
    [
        _row("natural", 65_472, 0.0201, 115, 0.005, 64, 3, "4.1"),
        _row("natural-5", 65_472, 0.0496, 123, 0.001, 64, 3, "4.1"),
        _row("natural_wide", 25_623, 0.0120, 85, 0.01, 32, 3, "4.2"),
        _row("natural_wide-5", 25_623, 0.0209, 85, 0.008, 32, 2, "4.2"),
        _row("natural-doubles", None, 0.0193, 242, 0.008, 64, 1, "5.1"),
        _row("natural-doubles-5", None, 0.0474, 117, 0.001, 64, 3, "5.1"),
        # the paper lists two networks of this loss; the other: 96, 0.01, 32, 2
        _row("natural_wide-doubles", None, 0.0118, 163, 0.05, 64, 3, "5.1"),
        _row("natural_wide-doubles-5", None, 0.0217, 62, 0.008, 32, 3, "5.1"),
        _row("natural-quads", 42_063, 0.0193, 151, 0.008, 32, 2, "5.1"),
        _row("natural-quads-5", 42_063, 0.0441, 69, 0.001, 32, 2, "5.1"),
        _row("natural_wide-quads", 19_176, 0.0129, 267, 0.01, 64, 2, "5.1"),
        _row("natural_wide-quads-5", 19_176, 0.0268, 285, 0.005, 32, 1, "5.1"),
        _row("uniform", 140_812, 0.0223, 147, 0.001, 32, 1, "4.3"),
        _row("uniform-5", 140_812, 0.0528, 112, 0.0005, 64, 2, "4.3"),
        _row("uniform-quads", 28_398, 0.0288, 73, 0.008, 64, 2, "5.1"),
        _row("uniform-quads-5", 28_398, 0.0688, 56, 0.001, 32, 2, "5.1"),
        _row(
            "uniform-quads-5-brighter", None, 0.0673, None, None, None, None, "5.1",
            extra=("source_boost=1",),
        ),
        _row(
            "natural-5-no-arcs", None, None, None, None, None, None, "5.2",
            extra=("lens_only=true",),
        ),
    ]
)  # fmt: skip
assert tuple(ROWS) == PAPER_ROWS  # the command line knows them without JAX

THEIRS = {  # the paper's text: median, plus, minus
    ("natural-5", "theta_E"): "0.02 +0.21 -0.18",
    ("natural-5", "theta_E > 0.8"): "0.00 +0.17 -0.14",
    ("natural-5", "ex"): "0.00 +0.08 -0.09",
    ("natural-5", "ey"): "0.01 +0.09 -0.08",
    ("natural-5", "x"): "0.00 +0.05 -0.05",
    ("natural-5", "y"): "0.00 +0.05 -0.05",
    ("natural-5", "delay"): "1 +18 -11",
    ("natural-5", "fraction"): "0.01 +0.19 -0.12",
    ("natural-5", "delay, all"): "2 +18 -6",
    ("natural-5", "fraction, all"): "0.05 +0.47 -0.09",
    ("uniform-5", "theta_E"): "0.07 +0.29 -0.12",
    ("uniform-5", "theta_E > 0.8"): "0.07 +0.25 -0.08",
    ("uniform-5", "ex"): "-0.01 +0.08 -0.09",
    ("uniform-5", "ey"): "0.00 +0.08 -0.09",
    ("uniform-5", "x"): "0.00 +0.05 -0.05",
    ("uniform-5", "y"): "0.00 +0.05 -0.05",
    ("uniform-5", "next x"): "0.00 +0.29 -0.29",
    ("uniform-5", "next y"): "0.00 +0.32 -0.31",
    ("uniform-5", "delay"): "6 +36 -8",
    ("uniform-5", "fraction"): "0.04 +0.27 -0.05",
    ("uniform-5", "delay, all"): "7 +38 -6",
    ("uniform-5", "fraction, all"): "0.06 +0.45 -0.05",
    ("uniform-5", "other"): "7.8 %",
    ("natural-5-no-arcs", "theta_E"): "half width 0.41",
}
"""Centres in arcsec: the paper prints pixels of 0.168 arcsec as arcsec."""
