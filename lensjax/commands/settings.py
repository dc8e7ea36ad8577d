"""The keys of the commands: typed, with their defaults, and checked."""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING

SCALINGS = (  # lensjax.scaling explains them; told without importing JAX
    "none",
    "asinh",
    "standardize",
    "r_band",
    "per_band",
    "maximum",
    "mean_peak",
)


class ConfigError(ValueError):
    """A setting that cannot work; the message names it and the remedy."""


def choice(name: str, value: Any, allowed: tuple) -> None:
    """Raise ConfigError unless `value` is one of `allowed`."""
    if value not in allowed:
        near = difflib.get_close_matches(str(value), [str(a) for a in allowed], 1)
        hint = f": did you mean {near[0]}?" if near else ""
        listed = ", ".join(map(str, allowed[:-1])) + f" or {allowed[-1]}"
        raise ConfigError(f"{name} must be {listed}, not {value!r}{hint}")


def between(name: str, value: float, low: float, high: float) -> None:
    """Raise ConfigError unless low <= value <= high."""
    if not low <= value <= high:
        raise ConfigError(f"{name} must be from {low:g} to {high:g}, not {value:g}")


def widths(name: str, value: Any, least: int) -> tuple[int, ...]:
    """Widths of a network's layers; ConfigError unless at least `least` positive."""
    values = (value,) if isinstance(value, int) else tuple(value or ())
    whole = all(isinstance(v, int) and 0 < v <= 65_536 for v in values)
    if not whole or len(values) < least:
        example = f"{name}=[6,16]" if least else f"{name}=[120,84] or {name}=[]"
        raise ConfigError(f"{name} must be a list of widths such as {example}")
    return values


def _check_run(key: str, folder: Any) -> None:
    if not (Path(str(folder)) / "config.yaml").is_file():
        raise ConfigError(
            f"{key}: {folder} holds no training run (no config.yaml): train one with "
            "lensjax train run_dir=DIR"
        )


@dataclass
class SampleConfig:
    """A sample of mock systems."""

    sample: str = "natural"  # preset: natural, natural_wide or uniform
    size: int = 10000  # accepted systems
    multiplicity: str = "both"  # both, doubles or quads
    theta_E_min: float = 0.5  # [arcsec]
    theta_E_max: float = 5.0  # [arcsec]
    arc_peak: float = 1.0  # least peak of the arcs in i [background RMS]
    rotate: bool = False  # turn lens images by multiples of 90 degrees
    cap: float = 0.0  # most systems in 0.1 arcsec of theta_E; below 1 a share of size
    once: bool = False  # no lens galaxy twice in one rotation
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


@dataclass
class TrainConfig(SampleConfig):
    """`lensjax train`."""

    fold: Any = 0  # 0 to 4, or all: the five side by side
    epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 0.001
    optimizer: str = "adam"  # or sgd, the paper's
    momentum: float = 0.9  # of Adam: of its mean gradient
    weight_decay: float = 5e-4
    average: float = 0.999  # decay a step of the running mean of parameters; 0: none
    final: bool = False  # with fold=all: then train on all folds, apply to the test set
    weight_theta_E: float = 1.0  # weight of theta_E in the loss, the others having 1
    weight_center: float = 1.0  # weight of x and of y
    channels: Any = (6, 16)  # of the convolutions, one pool each
    dense: Any = (120, 84)  # widths of the hidden dense layers
    dropout: float = 0.0  # chance that a hidden dense unit is dropped
    scaling: str = "asinh"  # none, asinh, standardize, r_band, per_band, maximum...
    seed: int = 0  # of the networks and the order of the batches
    keep_images: str = "auto"  # in memory once rendered: auto (on a CPU), true or false
    endless: bool = False  # fresh systems in each step; the sample only validates
    proposals: int = 0  # in a slot of an endless batch; 0: by what the sample took
    candidates: int = 4  # of them whose arcs are looked at
    run_dir: str | None = None  # default: a new folder in runs/
    checkpoint_seconds: float = 20.0  # at least so long between checkpoints
    steps_per_dispatch: int = 50
    devices: int = 0  # folds are spread over so many devices; 0: all there are

    def validate(self) -> None:
        """Raise ConfigError for what cannot work."""
        super().validate()
        if str(self.fold) not in ("0", "1", "2", "3", "4", "all"):
            raise ConfigError(f"fold must be 0 to 4 or all, not {self.fold}")
        between("epochs", self.epochs, 1, 100_000)
        between("batch_size", self.batch_size, 1, 65_536)
        if self.batch_size > self.size:
            raise ConfigError(
                f"batch_size ({self.batch_size}) is more than the sample's size "
                f"({self.size}): lower it or draw a larger sample"
            )
        between("learning_rate", self.learning_rate, 0, 10)
        choice("optimizer", self.optimizer, ("sgd", "adam"))
        between("momentum", self.momentum, 0, 1)
        between("weight_decay", self.weight_decay, 0, 1)
        between("average", self.average, 0, 0.99999)
        between("weight_theta_E", self.weight_theta_E, 0, 1000)
        between("weight_center", self.weight_center, 0, 1000)
        if self.final and str(self.fold) != "all":
            raise ConfigError(
                f"final=true needs fold=all, not {self.fold}: the final network's "
                "number of epochs comes from all five folds"
            )
        self.channels = widths("channels", self.channels, 1)
        self.dense = widths("dense", self.dense, 0)
        between("dropout", self.dropout, 0, 0.99)
        choice("scaling", self.scaling, SCALINGS)
        if self.scaling == "r_band" and self.survey == "Euclid":
            raise ConfigError("scaling=r_band needs a survey with an r band")
        self.keep_images = str(self.keep_images).lower()
        choice("keep_images", self.keep_images, ("auto", "true", "false"))
        if self.endless and self.stream == "true":
            raise ConfigError(
                "endless=true needs all galaxies in memory: leave stream=true out"
            )
        between("proposals", self.proposals, 0, 100_000)
        between("candidates", self.candidates, 1, 1000)
        between("seed", self.seed, 0, 2**31 - 1)
        between("checkpoint_seconds", self.checkpoint_seconds, 0, 86_400)
        between("steps_per_dispatch", self.steps_per_dispatch, 1, 100_000)
        between("devices", self.devices, 0, 4096)

    @property
    def folds(self) -> list[int]:
        """The folds to train."""
        return list(range(5)) if str(self.fold) == "all" else [int(self.fold)]


@dataclass
class GridConfig(TrainConfig):
    """`lensjax grid`; its lists stand for train's single values."""

    fold: Any = "all"
    optimizer: str = "sgd"  # or adam
    average: float = 0.0  # decay a step of the running mean of parameters; 0: none
    learning_rates: Any = (0.1, 0.05, 0.01, 0.008, 0.005, 0.001, 0.0005, 0.0001)
    batch_sizes: Any = (32, 64)
    seeds: Any = (1, 2, 3)
    weights_theta_E: Any = (1.0, 5.0)
    checkpoint_seconds: float = 60.0
    tables: str | None = None  # train nothing: gather what is below this folder

    def validate(self) -> None:
        """Raise ConfigError for what cannot work."""
        for name, single in (
            ("learning_rates", "learning_rate"),
            ("batch_sizes", "batch_size"),
            ("seeds", "seed"),
            ("weights_theta_E", "weight_theta_E"),
        ):
            values = getattr(self, name)
            one = isinstance(values, int | float | str)
            values = tuple([values] if one else values or ())
            kind = int if single in ("batch_size", "seed") else (int, float)
            if not values or not all(isinstance(v, kind) for v in values):
                raise ConfigError(f"{name} must be a list of numbers such as [1,2]")
            if len(set(values)) < len(values):
                raise ConfigError(f"{name} has a value twice: {list(values)}")
            setattr(self, name, values)
            for value in values:  # each as a single run would have it
                setattr(self, single, value)
                super().validate()
        if self.final:
            raise ConfigError("final=true trains one network: take `lensjax train`")
        if self.stream == "true" or self.endless:
            key = "endless" if self.endless else "stream"
            raise ConfigError(f"{key}=true is not for a grid: it keeps its images")
        if self.keep_images == "auto":  # hundreds of networks look at each image
            self.keep_images = "true"
        if self.tables is not None and not Path(self.tables).is_dir():
            raise ConfigError(f"tables: {self.tables} is no folder: give a run_dir")


@dataclass
class PredictConfig:
    """`lensjax predict`."""

    run_dir: str | None = None  # a run; None: the network that comes with lensjax
    cutouts: str = MISSING  # folder, file or glob of FITS cutouts
    out: str = MISSING  # catalogue to write, .parquet
    weights: str | None = None  # instead of a run: a name or a .safetensors file
    batch_size: int = 256
    processes: int | None = None  # that read files; None: one a core if they are many
    strict: bool = False  # exit with status 3 where a cutout has no answer
    overwrite: bool = False

    def validate(self) -> None:
        """Raise ConfigError for what cannot work."""
        between("batch_size", self.batch_size, 1, 65_536)
        if self.processes is not None:
            between("processes", self.processes, 0, 256)
        if self.run_dir is not None:
            if self.weights is not None:
                raise ConfigError("weights and run_dir are both given: leave one out")
            _check_run("run_dir", self.run_dir)


@dataclass
class ExportConfig:
    """`lensjax export`."""

    run_dir: str = MISSING  # a finished training run that has a final network
    out: str = MISSING  # file to write, .safetensors; its card goes beside it, .md
    name: str | None = None  # of the network; without it that of the file
    overwrite: bool = False

    def validate(self) -> None:
        """Raise ConfigError for what cannot work."""
        _check_run("run_dir", self.run_dir)
        out = Path(self.out)
        if out.suffix != ".safetensors":
            raise ConfigError(f"out: {out} must end in .safetensors")
        if not out.parent.is_dir():
            raise ConfigError(f"out: there is no folder {out.parent}: make it first")
        for path in (out, out.with_suffix(".md")):
            if path.exists() and not self.overwrite:
                raise ConfigError(
                    f"out: {path} exists: pass overwrite=true or another name"
                )


@dataclass
class EvaluateConfig:
    """`lensjax evaluate`."""

    run_dir: str = MISSING  # a finished training run; the report goes there
    beside: Any = ()  # other runs, for the figures that compare several

    def validate(self) -> None:
        """Raise ConfigError for what cannot work."""
        one = isinstance(self.beside, str)
        self.beside = tuple([self.beside] if one else self.beside or ())
        for key, folder in (
            ("run_dir", self.run_dir),
            *(("beside", other) for other in self.beside),
        ):
            _check_run(key, folder)


@dataclass
class IngestConfig:
    """`lensjax ingest`."""

    lenses: str | None = None  # folder of HSC cutouts and PSFs, or a table of files
    sdss: str | None = None  # table of their spectra; without it z and vdisp are drawn
    mosaics: str | None = None  # folder of the Hubble Ultra Deep Field's mosaics
    redshifts: str | None = None  # table of redshifts in it
    out: str | None = None  # folder to write, for data=... of the other commands
    margin: int = 4  # pixels kept around a cutout, to shift it in
    workers: int = 0  # processes that read; 0: as many as there are cores
    overwrite: bool = False  # make it anew
    strict: bool = False  # exit with status 3 where a galaxy was left out
    positions: str | None = None  # table of id, ra, dec, to order cutouts of
    upload_list: str | None = None  # folder for the lists that order them, alone
    rerun: str = "pdr3_wide"  # data release that they are ordered from

    def validate(self) -> None:
        """Raise ConfigError for what cannot work."""
        between("margin", self.margin, 0, 64)
        between("workers", self.workers, 0, 4096)
        for one, other, why in (
            ("sdss", "lenses", "spectra are matched to cutouts"),
            ("mosaics", "redshifts", "only galaxies of known redshift are cut out"),
            ("redshifts", "mosaics", "galaxies are cut out of them"),
            ("positions", "upload_list", "it says where the lists go"),
            ("upload_list", "positions", "it says what to order"),
        ):
            if getattr(self, one) is not None and getattr(self, other) is None:
                raise ConfigError(f"{one} needs {other}=..., too: {why}")
        archives = [k for k in ("lenses", "mosaics") if getattr(self, k) is not None]
        if self.upload_list is not None and (archives or self.out is not None):
            given = archives[0] if archives else "out"
            raise ConfigError(f"upload_list writes lists alone: leave out {given}")
        if self.upload_list is None and not archives:
            raise ConfigError(
                "nothing to read: give lenses=... (with sdss=...), or mosaics=... "
                "redshifts=..., or both"
            )
        if archives and self.out is None:
            raise ConfigError("out is needed: give out=...")
        for key, kind in (
            ("lenses", "a folder or a table"),
            ("sdss", "a table"),
            ("mosaics", "a folder"),
            ("redshifts", "a table"),
            ("positions", "a table"),
        ):
            path = getattr(self, key)
            if path is None:
                continue
            folder, file = Path(path).is_dir(), Path(path).is_file()
            if not (folder and "folder" in kind or file and "table" in kind):
                what = "a folder" if folder else "a file" if file else "not there"
                raise ConfigError(f"{key}: {path} is {what}: give {kind}")
        if self.out is not None and Path(self.out).is_file():
            raise ConfigError(f"out: {self.out} is a file: give a folder")
