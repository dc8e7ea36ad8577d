"""Whether files and records are what was written: SHA-256 digests.

A sealed record is JSON that carries, under one of its keys, the digest of the rest: of
whatever else was put under the seal, too.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

SEAL = "seal"


def digest(path: str | os.PathLike, sync: bool = False) -> dict[str, Any]:
    """A file's size and SHA-256: {"bytes": ..., "sha256": ...}.

    sync: its content is on the disk first, and not in the system's memory alone.
    """
    with Path(path).open("rb") as file:
        if sync:
            os.fsync(file.fileno())
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": sha256}


def digest_of(value: Any, further: Iterable[bytes] = ()) -> str:
    """SHA-256 of plain JSON, whatever the order of its keys, and of bytes behind it."""
    found = hashlib.sha256(json.dumps(value, sort_keys=True).encode())
    for some in further:
        found.update(some)
    return found.hexdigest()


def seal(
    record: Mapping[str, Any], further: Iterable[bytes] = (), key: str = SEAL
) -> dict[str, Any]:
    """The record with its seal, which `key` holds; a seal that it has is made anew."""
    rest = {name: value for name, value in record.items() if name != key}
    return rest | {key: digest_of(rest, further)}


def holds(
    record: Mapping[str, Any], further: Iterable[bytes] = (), key: str = SEAL
) -> bool:
    """Whether a record is as it was sealed; KeyError for one without a seal."""
    return record[key] == seal(record, further, key)[key]


class Hashed:
    """A file open for writing that knows the SHA-256 of what was written so far."""

    def __init__(self, file: IO[bytes]):
        self.file, self._digest = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Write as a file does."""
        self._digest.update(data)
        return self.file.write(data)

    def sha256(self) -> str:
        """The digest of what was written."""
        return self._digest.hexdigest()
