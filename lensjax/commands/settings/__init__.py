"""The keys of the commands: typed, with their defaults, and checked."""

from lensjax.commands.settings.checks import ConfigError
from lensjax.commands.settings.fit import FitConfig
from lensjax.commands.settings.ingest import IngestConfig
from lensjax.commands.settings.runs import EvaluateConfig, ExportConfig, PredictConfig
from lensjax.commands.settings.sample import DrawConfig, SampleConfig
from lensjax.commands.settings.train import GridConfig, TrainConfig

__all__ = [
    "ConfigError",
    "DrawConfig",
    "EvaluateConfig",
    "ExportConfig",
    "FitConfig",
    "GridConfig",
    "IngestConfig",
    "PredictConfig",
    "SampleConfig",
    "TrainConfig",
]
