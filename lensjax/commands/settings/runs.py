"""Keys of the commands that use what is trained: predict, export, evaluate."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from lensjax.commands.settings import checks
from lensjax.commands.settings.checks import ConfigError, between


@dataclass
class PredictConfig:
    """`lensjax predict`."""

    run_dir: str | None = None  # a run; None: the network that comes with lensjax
    cutouts: str = MISSING  # folder, file or glob of FITS cutouts
    out: str = MISSING  # catalogue to write, .parquet
    weights: str | None = None  # instead of a run: a name or a .safetensors file
    batch_size: int = 256
    processes: int | None = None  # that read files; None: one a core if they are many
    strict: bool = False  # exit with status 3 where a cutout has no prediction
    overwrite: bool = False

    def validate(self) -> None:
        """Raise ConfigError for what cannot work."""
        between("batch_size", self.batch_size, 1, 65_536)
        if self.processes is not None:
            between("processes", self.processes, 0, 256)
        if self.run_dir is not None:
            if self.weights is not None:
                raise ConfigError("weights and run_dir are both given: leave one out")
            checks.run("run_dir", self.run_dir)


@dataclass
class ExportConfig:
    """`lensjax export`."""

    run_dir: str = MISSING  # a finished training run that has a final network
    out: str = MISSING  # file to write, .safetensors; its card goes beside it, .md
    name: str | None = None  # of the network; without it that of the file
    overwrite: bool = False

    def validate(self) -> None:
        """Raise ConfigError for what cannot work."""
        checks.run("run_dir", self.run_dir)
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
            checks.run(key, folder)
