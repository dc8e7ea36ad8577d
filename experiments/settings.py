"""The keys of `python -m experiments.paper`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lensjax.commands import config
from lensjax.commands.settings.checks import ConfigError, between, choice

PAPER_ROWS = (
    "natural",
    "natural-5",
    "natural_wide",
    "natural_wide-5",
    "natural-doubles",
    "natural-doubles-5",
    "natural_wide-doubles",
    "natural_wide-doubles-5",
    "natural-quads",
    "natural-quads-5",
    "natural_wide-quads",
    "natural_wide-quads-5",
    "uniform",
    "uniform-5",
    "uniform-quads",
    "uniform-quads-5",
    "uniform-quads-5-brighter",
    "natural-5-no-arcs",
)


@dataclass
class PaperConfig:
    """`python -m experiments.paper`."""

    rows: Any = ("natural-5",)  # networks of the paper, or all
    scale: float = 0.05  # share of the paper's sample sizes
    epochs: int = 10
    optimizer: str = "adam"  # or sgd, the paper's
    average: float = 0.999  # decay a step of the running mean of parameters; 0: none
    learning_rate: float = 0.001
    batch_size: int = 32
    seed: int = 0
    n_lenses: int = 0  # lens galaxies of the embedded population; 0: the preset's
    n_sources: int = 0
    once: Any = None  # false: a uniform sample may take a galaxy again as it is turned
    online: bool = False  # train on fresh systems in each step, as many as without it
    out: str = "runs/paper"  # folder of the runs, one for each row
    add: Any = ()  # train nothing: record these finished runs in docs/paper.md
    first: str | None = None  # likewise, as what the page's first command gives

    def validate(self) -> None:
        """Raise ConfigError for what cannot work."""
        if self.rows == "all":
            self.rows = PAPER_ROWS
        one = isinstance(self.rows, str)
        self.rows = tuple([self.rows] if one else self.rows or ())
        for row in self.rows:
            choice("rows", row, PAPER_ROWS)
        between("scale", self.scale, 0.001, 10)
        if self.once not in (None, True, False):
            raise ConfigError(f"once must be true or false, not {self.once!r}")
        one = isinstance(self.add, str)
        self.add = tuple([self.add] if one else self.add or ())
        for folder in (*self.add, *([self.first] if self.first else [])):
            if not (Path(folder) / "config.yaml").is_file():
                raise ConfigError(f"{folder} holds no training run (no config.yaml)")


config.add("paper", PaperConfig, Path(__file__).parent / "conf")
