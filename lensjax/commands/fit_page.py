"""Pictures of fits, one a lens, and the page that shows them all."""

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.table import Table

from lensjax.commands.fit_parts import Row, file_name
from lensjax.inference.candidate import Candidate
from lensjax.inference.lens_model import Fit
from lensjax.inference.pixel_source import PixelSource
from lensjax.inference.problem import Settings
from lensjax.inference.residuals import explain
from lensjax.plotting import fits
from lensjax.storage import atomic

STYLE = """
body { font: 15px/1.4 sans-serif; margin: 2em auto; max-width: 1250px; color: #222 }
figure { margin: 0 0 2.5em } figure img { width: 100%; border: 1px solid #ccc }
figcaption { margin-bottom: .3em } .flag { color: #a30 } td, th { padding: 0 1em 0 0 }
"""


def folder(out: Path) -> Path:
    """Where the pictures of a table lie."""
    return out.with_name(f"{out.stem}_pictures")


def place(pictures: Path, name: str) -> Path:
    """The picture of an object."""
    return pictures / f"{file_name(name)}.png"


def draw(
    pictures: Path,
    name: str,
    found: Candidate,
    fit: Fit,
    row: Row,
    settings: Settings,
    sources: Sequence[PixelSource] | None = None,
) -> None:
    """Draw one fit, with its source on pixels where there is one."""
    pictures.mkdir(exist_ok=True)
    observation = found.observation
    parts = explain(observation, fit, settings)
    flags = [f for f in row.flags if f not in ("decentred", "thin_edge")]
    path = place(pictures, name)
    survey = found.survey
    source = sources and sources[survey.detection if len(sources) > 1 else 0]
    scale = observation.pixel_scale
    fits.draw(fit, parts, survey, scale, path, name, flags, source)


def write(out: Path, table: Table) -> None:
    """The page: a table of flags, then every picture with its row's numbers."""
    pictures = folder(out)
    head = f"<!doctype html><meta charset=utf-8><title>{html.escape(out.name)}</title>"
    lines = [head, f"<style>{STYLE}</style>", f"<h1>{html.escape(out.name)}</h1>"]
    counts = table.meta["flags"]
    made = f"lensjax {table.meta['versions']['lensjax']}, {table.meta['created']}"
    lines.append(f"<p>{len(table)} cutouts; made by {made}.</p>")
    if counts:
        cells = "".join(f"<tr><td>{n}<td>{html.escape(f)}" for f, n in counts.items())
        lines.append(f"<table><tr><th>cutouts<th>flag{cells}</table>")
    for row in table:
        name = html.escape(str(row["id"]))
        theta = row["theta_E_arcsec"]
        text = f"<b>{name}</b>"
        if np.isfinite(theta):
            low, high = row["theta_E_arcsec_p16"], row["theta_E_arcsec_p84"]
            text += f" theta_E {theta:.3f} ({low:.3f} to {high:.3f}) arcsec"
            text += f", {row['n_images']:.0f} images, chi2 {row['chi2']:.2f}"
        if row["message"]:
            text += f"<br><span class=flag>{html.escape(str(row['message']))}</span>"
        image = place(pictures, str(row["id"]))
        shown = f"<img loading=lazy src='{pictures.name}/{image.name}' alt='{name}'>"
        shown = shown if image.exists() else ""
        lines.append(f"<figure><figcaption>{text}</figcaption>{shown}</figure>")
    atomic.write(out.with_suffix(".html"), "\n".join(lines) + "\n")
