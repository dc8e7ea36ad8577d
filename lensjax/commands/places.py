"""Places that commands write to: ConfigError, with the key, for one that cannot be."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from lensjax.commands.config import ConfigError
from lensjax.storage import parquet


def folder(key: str, path: Path, inside: str = "") -> None:
    """Make a folder, or take the one that is there, and one inside it; write there."""
    try:
        (path / inside).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path / inside):
            pass
    except OSError as error:
        raise ConfigError(
            f"{key}: {path}: {error.strerror}: give a folder you may write to"
        ) from error


def table(
    key: str,
    path: Path,
    overwrite: bool,
    check: Callable[[Path, bool], None] = parquet.check_writable,
) -> None:
    """Check that a table can be written there; by `check` its ending, too."""
    if os.path.lexists(path) and not path.is_dir() and not overwrite:
        raise ConfigError(
            f"{key}: {path} exists: pass overwrite=true or give another name"
        )
    try:
        check(path, overwrite)
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from error
