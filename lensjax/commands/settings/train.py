"""Keys of `lensjax train` and `lensjax grid`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lensjax.commands.settings.checks import ConfigError, between, choice, widths
from lensjax.commands.settings.sample import SampleConfig

SCALINGS = (  # lensjax.scaling explains them; told without importing JAX
    "none",
    "asinh",
    "standardize",
    "r_band",
    "per_band",
    "maximum",
    "mean_peak",
)


@dataclass
class TrainConfig(SampleConfig):
    """`lensjax train`."""

    fold: Any = 0  # 0 to 4, or all: the five side by side
    estimator: str = "paper"  # preset: paper, or posterior: errors and maps, too
    epochs: int = 30
    batch_size: int = 32
    learning_rate: float = 0.001
    optimizer: str = "adam"  # or sgd, the paper's
    schedule: str = "constant"  # or cosine: warmed up, and down to nothing at the end
    clip: float = 0.0  # longest gradient, longer ones are shortened; 0: none
    momentum: float = 0.9  # of Adam: of its mean gradient
    weight_decay: float = 5e-4
    average: float = 0.999  # decay a step of the running mean of parameters; 0: none
    final: bool = False  # with fold=all: then train on all folds, apply to the test set
    weight_theta_E: float = 1.0  # weight of theta_E in the loss, the others having 1
    weight_center: float = 1.0  # weight of x and of y
    channels: Any = (6, 16)  # of the convolutions, one pool each
    dense: Any = (120, 84)  # widths of the hidden dense layers
    dropout: float = 0.0  # chance that a hidden dense unit is dropped
    width: int = 48  # channels of estimator=posterior
    blocks: int = 2  # of its residual blocks, on each of two scales
    init: str | None = None  # weights to begin with, .safetensors or a name
    scaling: str = "asinh"  # none, asinh, standardize, r_band, per_band, maximum...
    seed: int = 0  # of the networks and the order of the batches
    keep_images: str = "auto"  # in memory once rendered: auto (on a CPU), true or false
    online: bool = False  # draw fresh systems in each step; the sample only validates
    proposals: int = 0  # in a slot of an online batch; 0: by what the sample took
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
        choice("estimator", self.estimator, ("paper", "posterior"))
        choice("schedule", self.schedule, ("constant", "cosine"))
        between("clip", self.clip, 0, 1e6)
        between("width", self.width, 4, 1024)
        between("blocks", self.blocks, 0, 32)
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
        if self.online and self.stream == "true":
            raise ConfigError(
                "online=true needs all galaxies in memory: leave stream=true out"
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
        if self.stream == "true" or self.online:
            key = "online" if self.online else "stream"
            raise ConfigError(f"{key}=true is not for a grid: it keeps its images")
        if self.keep_images == "auto":  # hundreds of networks look at each image
            self.keep_images = "true"
        if self.tables is not None and not Path(self.tables).is_dir():
            raise ConfigError(f"tables: {self.tables} is no folder: give a run_dir")
