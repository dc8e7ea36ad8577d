"""What the commands can be told: typed keys, checked before anything runs.

Presets are in conf/; a key=value on the command line goes over them.
"""

import difflib
import inspect
import os
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

CONF = Path(__file__).parent / "conf"


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
                    f"data: {self.data} is no folder: give a folder with lenses.csv, "
                    "sources.csv and psfs/, or leave data out"
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
    """`python -m experiments.sample`."""

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
    """`python -m experiments.train`."""

    fold: Any = 0  # 0 to 4, or all: the five side by side
    epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    weight_theta_E: float = 1.0  # weight of theta_E in the loss, the others having 1
    dropout: float = 0.0
    scaling: str = "asinh"  # of the images: none, asinh or standardize
    seed: int = 0  # of the networks and the order of the batches
    keep_images: str = "auto"  # in memory once rendered: auto (on a CPU), true or false
    endless: bool = False  # fresh systems in each step; the sample only validates
    proposals: int = 96  # in each slot of an endless batch
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
        between("momentum", self.momentum, 0, 1)
        between("weight_decay", self.weight_decay, 0, 1)
        between("weight_theta_E", self.weight_theta_E, 0, 1000)
        between("dropout", self.dropout, 0, 0.99)
        choice("scaling", self.scaling, ("none", "asinh", "standardize"))
        self.keep_images = str(self.keep_images).lower()
        choice("keep_images", self.keep_images, ("auto", "true", "false"))
        between("proposals", self.proposals, 1, 100_000)
        between("candidates", self.candidates, 1, self.proposals)
        between("seed", self.seed, 0, 2**31 - 1)
        between("checkpoint_seconds", self.checkpoint_seconds, 0, 86_400)
        between("steps_per_dispatch", self.steps_per_dispatch, 1, 100_000)
        between("devices", self.devices, 0, 4096)

    @property
    def folds(self) -> list[int]:
        """The folds to train."""
        return list(range(5)) if str(self.fold) == "all" else [int(self.fold)]


@dataclass
class PredictConfig:
    """`python -m experiments.predict`."""

    run_dir: str = MISSING  # a finished (or running) training run
    cutouts: str = MISSING  # folder, file or glob of FITS cutouts
    out: str = MISSING  # catalogue to write, .parquet
    batch_size: int = 256
    strict: bool = False  # exit with status 3 where a cutout has no answer
    overwrite: bool = False

    def validate(self) -> None:
        """Raise ConfigError for what cannot work."""
        between("batch_size", self.batch_size, 1, 65_536)
        if not (Path(self.run_dir) / "config.yaml").is_file():
            raise ConfigError(
                f"run_dir: {self.run_dir} holds no training run (no config.yaml): "
                "train one with python -m experiments.train run_dir=DIR"
            )


@dataclass
class IngestConfig:
    """`python -m experiments.ingest`."""

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


SCHEMAS: dict[str, type] = {
    "sample": DrawConfig,
    "train": TrainConfig,
    "predict": PredictConfig,
    "ingest": IngestConfig,
}
for _name, _schema in SCHEMAS.items():
    ConfigStore.instance().store(name=f"{_name}_schema", node=_schema)


def main(name: str, task: Callable[[Any], int | None]) -> None:
    """Run `task` with the checked configuration of command `name`, and exit.

    Status 2 and one line on standard error for a setting that cannot work.  With
    hydra's own flags (-m for a sweep, --cfg job) hydra runs the show.
    """
    arguments = check(name)

    def checked(config: Any) -> int:
        try:
            return task(typed(config, SCHEMAS[name])) or 0
        except ConfigError as error:
            _refuse(error)
        except KeyboardInterrupt:
            raise SystemExit(130) from None

    def job(config):
        if "run_dir" in config and HydraConfig.get().mode == RunMode.MULTIRUN:
            config.run_dir = HydraConfig.get().runtime.output_dir
        status = checked(config)
        if status:
            raise SystemExit(status)

    if any(a.startswith("-") for a in arguments):
        sys.argv += _sweep_folders(arguments) if name == "train" else []
        # hydra.main takes the job's name from its function
        job.__name__ = name
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(job)()
    else:
        raise SystemExit(checked(compose(name, arguments)))


def _sweep_folders(arguments: list[str]) -> list[str]:
    """What tells hydra to name a sweep's folders, in run_dir, by what is swept."""
    given = dict(a.split("=", 1) for a in arguments if "=" in a)
    single = [k for k, value in given.items() if not {",", "("} & {*value}]
    named = f"hydra.job.config.override_dirname.exclude_keys=[{','.join(single)}]"
    folder = given.get("run_dir")
    return [named] + ([f"hydra.sweep.dir={folder}"] if folder else [])


def check(name: str) -> list[str]:
    """The command's arguments; exits at once where they cannot work, or are --help.

    Imports nothing heavy, so that a command can call it before it loads JAX.
    """
    arguments = sys.argv[1:]
    if {"-h", "--help"} & {*arguments}:
        try:
            print(usage(name), flush=True)
        except BrokenPipeError:  # into head, say; Python must not write there again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0)
    try:
        if any(a.startswith("-") for a in arguments):
            _check_keys(name, [a for a in arguments if "=" in a and a[0] != "-"])
        else:
            typed(compose(name, arguments), SCHEMAS[name])
    except ConfigError as error:
        _refuse(error)
    return arguments


def _refuse(error: ConfigError) -> None:
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(2) from None


def usage(name: str) -> str:
    """The keys of a command: default and meaning, from the dataclass's own lines."""
    lines = [f"usage: python -m experiments.{name} key=value ...", ""]
    field = re.compile(r"    (\w+): [^=]+ = (\S+)(?:\s+# (.*))?")
    found = {}
    for schema in reversed(SCHEMAS[name].__mro__[:-1]):
        for line in inspect.getsource(schema).splitlines():
            if match := field.fullmatch(line):
                found[match[1]] = match.groups()
    for key, default, meaning in found.values():
        value = "needed" if default == "MISSING" else default.strip('"')
        lines.append(f"  {key:20} {value:>10}  {meaning or ''}".rstrip())
    sweep = "" if name != "train" else " A sweep's runs are folders in run_dir."
    lines += ["", f"-m runs every choice of key=a,b; --cfg job shows all keys.{sweep}"]
    return "\n".join(lines)


def _check_keys(name: str, overrides: list[str]) -> None:
    """Raise ConfigError for a key or a preset that is not there."""
    known = [f.name for f in fields(SCHEMAS[name])]
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ConfigError(f"{override!r} is not of the form key=value")
        if key not in known and not key.lstrip("+~").startswith("hydra"):
            near = difflib.get_close_matches(key, known, 1)
            listed = ", ".join(known)
            hint = f"did you mean {near[0]}?" if near else f"there are {listed}"
            raise ConfigError(f"there is no key {key!r}: {hint}")
        if key == "sample":  # a preset is a file: hydra's words name its search path
            presets = sorted(path.stem for path in (CONF / "sample").glob("*.yaml"))
            for one in value.split(","):
                choice("sample", one, tuple(presets))


def compose(name: str, overrides: list[str]) -> Any:
    """Hydra's configuration of command `name`; ConfigError for a wrong override."""
    _check_keys(name, overrides)
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra.compose(name, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_in_one_line(error.__cause__ or error)) from error


def typed(config: Any, schema: type) -> Any:
    """The checked dataclass that a hydra configuration stands for."""
    try:
        values = OmegaConf.to_container(config, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"{error.full_key} is needed: give {error.full_key}=..."
        ) from (error)
    made = schema(**values)
    made.validate()
    return made


def to_yaml(config: Any) -> str:
    """The configuration as it is written into a run's folder."""
    return OmegaConf.to_yaml(OmegaConf.create(asdict(config)))


def from_yaml(path: Path, schema: type) -> Any:
    """A configuration as `to_yaml` wrote it; ConfigError where it is none."""
    try:
        values = OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.load(path))
        made = schema(**OmegaConf.to_container(values, throw_on_missing=True))
        replace(made, data=None).validate()  # the data may be elsewhere by now
    except (yaml.YAMLError, UnicodeError, OSError) as error:
        raise ConfigError(f"{path} cannot be read: {_first_line(error)}") from error
    except (ValueError, TypeError, OmegaConfBaseException) as error:
        raise ConfigError(
            f"{path} is no configuration of this version: {_in_one_line(error)}"
        ) from error
    return made


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [repr(error)])[0]


def _in_one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    key = next(
        (x.split(":", 1)[1].strip() for x in lines if x.startswith("full_key")), ""
    )
    lines = [
        x for x in lines if not x.startswith(("full_key", "object_type", "reference"))
    ]
    return f"{key}: {' '.join(lines)}" if key else " ".join(lines)
