"""What a fit is told of its objects by tables: theta_E's priors, redshifts."""

import math

import numpy as np

from lensjax import parameters
from lensjax.catalogue import user_tables
from lensjax.commands import config
from lensjax.inference.scene import Priors
from lensjax.inference.source_images import Known

LEAST_SIGMA = 0.03  # of ln theta_E: no start is trusted more


def started(path: str | None, ids: set[str], usual: Priors) -> dict[str, Priors]:
    """Priors of theta_E, by id, from a table of predictions or fits."""
    if path is None:
        return {}
    column = parameters.THETA_E.column
    try:
        table = user_tables.read(path)
        names = user_tables.words(table, "id")
        theta = user_tables.numbers(table, column, unit="arcsec")
        sigma = np.full(len(theta), np.nan)
        if user_tables.has(table, f"{column}_sigma"):
            sigma = user_tables.numbers(table, f"{column}_sigma", unit="arcsec")
    except (ValueError, OSError) as error:
        raise _refused("start", path, error) from error
    priors = {}
    for name, mean, error in zip(names, theta, sigma, strict=True):
        if not (np.isfinite(mean) and mean > 0):
            continue
        width = usual.ln_theta_E[1]
        if np.isfinite(error):
            width = max(float(error / mean), LEAST_SIGMA)
        prior = usual._replace(ln_theta_E=(math.log(mean), width))
        priors[str(name)] = prior
    if not ids & set(priors):
        raise config.ConfigError(f"start: {path} has none of the cutouts' ids")
    return priors


def known(path: str | None, ids: set[str]) -> dict[str, Known]:
    """Redshifts, and images that were seen, by id, from a table.

    Columns id, z_lens, z_source, and where a supernova was seen: seen_x_arcsec,
    seen_y_arcsec, from the middle of the image along its pixel axes, and seen_mjd.
    """
    if path is None:
        return {}
    try:
        table = user_tables.read(path)
        names = user_tables.words(table, "id")
        nan = np.full(len(names), np.nan)
        seen = user_tables.has(table, "seen_x_arcsec", "seen_y_arcsec", "seen_mjd")
        columns = []
        for name, unit in zip(Known._fields, ("", "", "arcsec", "arcsec", "d"),
                              strict=True):  # fmt: skip
            column = f"{name}_{unit}" if unit == "arcsec" else name
            needed = name.startswith("z_") or (seen and unit == "arcsec")
            there = needed or user_tables.has(table, column)
            values = user_tables.numbers(table, column, unit=unit) if there else nan
            columns.append(values)
        z_lens, z_source = (
            np.where(user_tables.REDSHIFT.holds(z), z, np.nan) for z in columns[:2]
        )
    except (ValueError, OSError) as error:
        raise _refused("redshifts", path, error) from error
    if (behind := z_source <= z_lens).any():
        first = names[int(behind.argmax())]
        raise config.ConfigError(
            f"redshifts: {path}: the source of {first} is not behind its lens"
        )
    rows = zip(z_lens, z_source, *columns[2:], strict=True)
    found = {
        str(name): Known(*map(float, row))
        for name, row in zip(names, rows, strict=True)
    }
    if not ids & set(found):
        raise config.ConfigError(f"redshifts: {path} has none of the cutouts' ids")
    return found


def _refused(key: str, path: str, error: Exception) -> config.ConfigError:
    text = str(error)
    return config.ConfigError(f"{key}: {text if path in text else f'{path}: {text}'}")
