"""What may be wrong with a key, told with its name and the remedy."""

import difflib
from pathlib import Path
from typing import Any


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


def run(key: str, folder: Any) -> None:
    """Raise ConfigError unless the folder is that of a training run."""
    if not (Path(str(folder)) / "config.yaml").is_file():
        raise ConfigError(
            f"{key}: {folder} holds no training run (no config.yaml): train one with "
            "lensjax train run_dir=DIR"
        )
