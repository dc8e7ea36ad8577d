"""Files that are whole or not there, whatever ends the process that writes them.

A file is written beside its place, under a name of its own, and moved there in one
rename: who reads sees the former file or the new one.
"""

import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

SUFFIX = ".part"  # of what a killed process leaves


def write(
    path: str | os.PathLike,
    content: str | bytes | Callable[[IO[bytes]], Any],
    sync: bool = False,
) -> None:
    """Write a file whole or not at all; OSError where the disk refuses.

    content: text (UTF-8), bytes, or a function that is given the file, open for bytes.
    What it raises goes on, and the former file stays.  sync: on the disk before it is
    in its place, so that a machine that fails leaves it whole, too.
    """
    path = Path(path)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}{SUFFIX}")
    try:
        with draft.open("wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def check_writable(out: str | os.PathLike, overwrite: bool = False) -> None:
    """Raise ValueError, with the remedy, if a file could not be written to `out`."""
    out = Path(out)
    if out.is_dir():
        raise ValueError(f"{out}: is a folder; name a file in it")
    if os.path.lexists(out) and not overwrite:
        raise ValueError(f"{out}: exists; give another name, or overwrite it")
    try:
        # the only test that knows of read-only disks, quotas and root
        with tempfile.NamedTemporaryFile(dir=out.parent, prefix=".lensjax-"):
            pass
    except FileNotFoundError:
        raise ValueError(f"{out}: no folder {out.parent}; make it first") from None
    except OSError as error:
        raise ValueError(
            f"{out}: cannot write to {out.parent} ({error.strerror}); choose a "
            "folder you may write to"
        ) from error


def clean(folder: str | os.PathLike) -> None:
    """Remove what killed processes have left in a folder, not in those within it."""
    for path in Path(folder).glob(f".*{SUFFIX}"):
        path.unlink(missing_ok=True)
