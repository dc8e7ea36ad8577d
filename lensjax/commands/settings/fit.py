"""Keys of `lensjax fit`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from lensjax.commands.settings.checks import ConfigError, between, choice

PICTURES = ("auto", "true", "false")
SAMPLERS = ("laplace", "auto", "hmc")


@dataclass
class FitConfig:
    """`lensjax fit`."""

    cutouts: str = MISSING  # folder, file or glob of FITS cutouts
    out: str = MISSING  # table to write: .parquet, .csv or .fits
    survey: str = "auto"  # HSC, LSST, DES, Euclid, HST or a .toml; auto: by the bands
    start: str | None = None  # table of lensjax predict or fit: theta_E's priors
    weights: str | None = None  # of a network: theta_E's priors, masks of neighbours
    redshifts: str | None = None  # table: id, z_lens, z_source, for the delays
    sampler: str = "laplace"  # weighted draws; hmc: chains; auto: where draws are few
    theta_E: float = 1.1  # median of theta_E's prior [arcsec]
    theta_E_scatter: float = 0.5  # its width in ln theta_E
    temperature: float = 1.0  # chi2 is divided by it: models are not exact
    most_gain: float = 1000.0  # of chi2 by arcs: brighter ones do not tell more
    spread: float = 2.0  # posteriors are wider by this than the noise alone would say
    rounds: int = 2  # from the second on the lens light is fitted without the arcs
    starts: int = 4  # places where a descent begins
    draws: int = 64  # of each mode; of each chain of hmc
    chains: int = 4  # of each mode, of hmc
    warmup: int = 60  # steps of each chain before its draws
    radius: float = 4.0  # pixels farther from the middle do not count [arcsec]
    seed: int = 0
    workers: int = 0  # processes that fit; 0: one a core
    samples: bool = True  # draws of all lenses, beside the table, .samples.npz
    coolest: bool = False  # a COOLEST template a lens, with the posterior
    reconstruct: bool = False  # sources on pixels, with errors, as FITS and in pictures
    pictures: Any = "auto"  # a page of pictures; auto: for 50 cutouts or fewer
    strict: bool = False  # exit with status 3 where a cutout has no model
    overwrite: bool = False

    def validate(self) -> None:
        """Raise ConfigError for what cannot work."""
        choice("sampler", self.sampler, SAMPLERS)
        between("theta_E", self.theta_E, 0.05, 30)
        between("theta_E_scatter", self.theta_E_scatter, 0.001, 5)
        between("temperature", self.temperature, 0.1, 1000)
        between("most_gain", self.most_gain, 1, 1e9)
        between("spread", self.spread, 0.5, 100)
        between("rounds", self.rounds, 1, 10)
        between("starts", self.starts, 1, 64)
        between("draws", self.draws, 8, 10_000)
        between("workers", self.workers, 0, 4096)
        between("chains", self.chains, 2, 1000)
        between("warmup", self.warmup, 10, 100_000)
        between("radius", self.radius, 1, 60)
        self.pictures = str(self.pictures).lower()
        choice("pictures", self.pictures, PICTURES)
        for name in ("start", "redshifts"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise ConfigError(f"{name}: there is no file {path}")
