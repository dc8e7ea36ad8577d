"""Keys of samples of mock systems, and of `lensjax sample`."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from lensjax.commands.settings.checks import ConfigError, between, choice


@dataclass
class SampleConfig:
    """A sample of mock systems."""

    sample: str = "natural"  # preset: natural, natural_wide, uniform or decoupled
    size: int = 10000  # accepted systems
    multiplicity: str = "both"  # both, doubles or quads
    theta_E_min: float = 0.5  # [arcsec]
    theta_E_max: float = 5.0  # [arcsec]
    arc_peak: float = 1.0  # least peak of the arcs in i [background RMS]
    rotate: bool = False  # turn lens images by multiples of 90 degrees
    cap: float = 0.0  # most systems in 0.1 arcsec of theta_E; below 1 a share of size
    once: bool = False  # no lens galaxy twice in one rotation
    free_theta_E: bool = False  # flat in its logarithm, whatever the lens's light
    arc_free: float = 0.0  # share of galaxies without arcs
    galaxies: str = "smooth"  # of the embedded population, or varied: discs, company...
    shear: float = 0.0  # scatter of each component of an external shear
    dither: int = 0  # shift lens images by up to so many pixels along x and y
    vary_psf: bool = False  # arcs through any PSF of the catalogue, not the lens's own
    arc_noise: bool = False  # the arcs' own photon noise
    source_boost: float = 0.0  # sources are brighter by so many magnitudes
    lens_only: bool = False  # images without arcs; the sample stays the same
    survey: str = "HSC"  # HSC, LSST, DES or Euclid
    data: str | None = None  # folder of real stamps; without it the embedded population
    sources: str | None = None  # another folder, for the sources
    stream: str = "auto"  # read lens stamps when due: auto (if too many), true, false
    n_lenses: int = 2500  # lens galaxies in the embedded population
    n_sources: int = 1000
    sample_seed: int = 0  # of the population and the sample

    def validate(self) -> None:
        """Raise ConfigError for what cannot work."""
        choice("multiplicity", self.multiplicity, ("both", "doubles", "quads"))
        between("size", self.size, 1, 10_000_000)
        between("theta_E_min", self.theta_E_min, 0, 5)
        between("theta_E_max", self.theta_E_max, 0, 5)
        if self.theta_E_min >= self.theta_E_max:
            raise ConfigError(
                f"theta_E_min ({self.theta_E_min:g}) must be below theta_E_max "
                f"({self.theta_E_max:g})"
            )
        between("arc_peak", self.arc_peak, 0, 1000)
        between("shear", self.shear, 0, 0.1)
        between("arc_free", self.arc_free, 0, 0.9)
        choice("galaxies", self.galaxies, ("smooth", "varied"))
        if self.free_theta_E and self.theta_E_min <= 0:
            raise ConfigError("free_theta_E needs theta_E_min above 0, not 0")
        between("dither", self.dither, 0, 32)
        between("source_boost", self.source_boost, -10, 10)
        self.stream = str(self.stream).lower()
        choice("stream", self.stream, ("auto", "true", "false"))
        if self.stream == "true" and self.data is None:
            raise ConfigError("stream=true needs data=DIR, made by `lensjax ingest`")
        if self.sources is not None and self.data is None:
            raise ConfigError("sources needs data=DIR, the folder of lens galaxies")
        choice("survey", self.survey, ("HSC", "LSST", "DES", "Euclid"))
        between("cap", self.cap, 0, 10_000_000)
        bins = int(self.theta_E_max / 0.1) - int(self.theta_E_min / 0.1) + 1
        most = self.most_in_bin * bins
        if 0 < most < self.size:
            raise ConfigError(
                f"cap={self.cap:g} lets no more than {most} systems in, size is "
                f"{self.size}: raise cap or lower size"
            )
        between("n_lenses", self.n_lenses, 10, 1_000_000)
        between("n_sources", self.n_sources, 1, 1_000_000)
        between("sample_seed", self.sample_seed, 0, 2**31 - 1)
        if self.data is not None:
            if not Path(self.data).is_dir():  # told without the imports below
                raise ConfigError(
                    f"data: {self.data} is no folder: give a folder with lenses.csv "
                    "and sources.csv, or one made by `lensjax ingest`, or leave "
                    "data out"
                )
            from lensjax.catalogue import ingested, plain

            try:
                kind = ingested if ingested.is_ingested(self.data) else plain
                kind.check(self.data, self.sources)
            except ValueError as error:
                text = str(error).removeprefix("data: ")
                raise ConfigError(f"data: {text}") from error

    @property
    def most_in_bin(self) -> int:
        """Most systems in 0.1 arcsec of theta_E, 0: no cap."""
        if 0 < self.cap < 1:
            return max(round(self.cap * self.size), 1)
        return round(self.cap)


@dataclass
class DrawConfig(SampleConfig):
    """`lensjax sample`."""

    size: int = 1000
    out: str = MISSING  # folder for systems.parquet (and images/)
    save_images: bool = False  # also FITS files: each mock, and its arcs alone
    pictures: bool = True  # also a sheet of mocks, and how they are made
    overwrite: bool = False

    def validate(self) -> None:
        """Raise ConfigError for what cannot work."""
        super().validate()
        table = Path(self.out) / "systems.parquet"
        if table.exists() and not self.overwrite:
            raise ConfigError(f"{table} exists: give another out, or overwrite=true")
