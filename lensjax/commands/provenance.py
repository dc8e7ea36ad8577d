"""Where a result comes from: versions, commit, device, data."""

import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from lensjax.catalogue import Listing

PACKAGES = ("lensjax", "jax", "jaxlib", "flax", "optax", "numpy", "astropy")


def collect(settings: Any, listing: Listing | None = None) -> dict:
    """Facts to keep beside a result, as plain JSON."""
    device = jax.devices()[0]
    facts = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "python": sys.version.split()[0],
        "commit": commit(),
        "device": f"{len(jax.devices())} x {device.device_kind} ({device.platform})",
        "settings": asdict(settings),
    }
    if listing is not None:
        facts["catalogue"] = {
            "origin": listing.origin,
            "fingerprint": listing.fingerprint,
            "lens_galaxies": len(listing.lens_id),
            "sources": len(listing.source_id),
            "notes": list(listing.notes),
        }
    return facts


def commit() -> str | None:
    """The commit of this checkout, "-dirty" where files differ; None outside one."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
