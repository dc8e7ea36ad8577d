"""Small mosaics as those of the Hubble Ultra Deep Field, and a table of redshifts."""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from scipy import ndimage, special

BANDS = ("b", "v", "i", "z")
FILTERS = ("F435W", "F606W", "F775W", "F850LP")
ZERO_POINTS = np.array([25.673, 26.486, 25.654, 24.862])
# ten sigma in 0.2 square arcsec (Beckwith et al. 2006)
DEPTH = np.array([28.7, 29.0, 29.0, 28.4])
SCALE = 0.03  # [arcsec]
PSF = 0.1  # FWHM [arcsec]
NOISE = 10 ** (-0.4 * (DEPTH - ZERO_POINTS)) / 10 / np.sqrt(0.2 / SCALE**2)  # per pixel
FULL = 40.0  # counts per second at which the star is clipped
COLUMNS = ("MUSE_ID", "RA", "DEC", "Z_MUSE", "CONFID")


class Entry(NamedTuple):
    """What was put in, and where."""

    name: str
    kind: str  # what is special about it: see `build`
    x: float  # [pixel]
    y: float
    ra: float  # [deg]
    dec: float
    z: float
    mag: np.ndarray  # (4,) of all its light


def build(
    folder,
    n_galaxies=6,
    size=700,
    seed=0,
    table="csv",
    border=0,
    cards=None,
    edit=None,
    scale=SCALE,
    dtype="f4",
):
    """Write four mosaics and a table; (folder, table's path, entries by name).

    Beside `n_galaxies` plain ones (101, 102, ...; i = 22 to 25.5) there are, by kind: a
    `pair` 0.7 arcsec apart (201, 202), the second `entry` of a galaxy (203, beside
    204), a `star` (301), one too `faint` (302, i = 29.7), nothing (`empty`, 303), one
    `outside` of the mosaics (304); and in the table alone 101 once more, 401 without a
    redshift and 402 without confidence.  `table` is csv, tsv, fits or ecsv; `border`
    pixels hold no data; `cards` are added to headers, by band; `edit` may change the
    pixels of each band, a dict; `scale` [arcsec] goes into the headers alone.
    """
    folder = Path(folder)
    rng = np.random.default_rng(seed)
    sky = field(size, SCALE)
    entries, planes = {}, {b: np.zeros((size, size)) for b in BANDS}

    def put(name, kind, x, y, i, radius, n=1.0, q=0.8, dx=0.0):
        mag = i + rng.uniform([-0.2, -0.2, 0, -0.4], [1.4, 0.7, 0, 0.1])
        phi = rng.uniform(0, np.pi)
        if i < 40:
            flux = 10 ** (-0.4 * (mag - ZERO_POINTS))
            for band, f in zip(BANDS, flux, strict=True):
                add(planes[band], x, y, f, radius, n, q, phi)
        ra, dec = (float(v) for v in sky.pixel_to_world_values(x + dx, y))
        z = round(float(rng.uniform(0.5, 4)), 4)
        entries[name] = Entry(name, kind, x + dx, y, ra, dec, z, mag)

    places = grid(n_galaxies + 5, size, rng)
    for k in range(n_galaxies):
        i, radius = rng.uniform(22, 25.5), rng.uniform(0.12, 0.3)
        n, q = rng.uniform(0.6, 2), rng.uniform(0.5, 1)
        put(str(101 + k), "galaxy", *places[k], i, radius, n, q)
    pair, twice, star, faint, empty = places[n_galaxies:]
    put("201", "pair", *pair, 23.0, 0.12)
    put("202", "pair", pair[0] + 0.7 / SCALE, pair[1], 23.7, 0.1)
    put("203", "entry", *twice, 99.0, 0.1, dx=6.0)
    put("204", "galaxy", *twice, 23.5, 0.2, dx=1.0)
    put("301", "star", *star, 17.0, 0.0)
    put("302", "faint", *faint, 29.7, 0.2)
    put("303", "empty", *empty, 99.0, 0.1)
    put("304", "outside", size + 400.0, size / 2, 99.0, 0.1)

    inner = np.zeros((size, size), bool)
    inner[border : size - border, border : size - border] = True
    for band, noise in zip(BANDS, NOISE, strict=True):
        plane = np.minimum(planes[band], FULL) + rng.normal(0, noise, (size, size))
        planes[band] = np.where(inner, plane, 0).astype(dtype)
    # a clipped star has no noise at its top
    for band in BANDS:
        planes[band][planes[band] > FULL - 0.01] = FULL
    if edit:
        edit(planes)
    write_mosaics(folder, planes, scale, cards)

    rows = [[e.name, e.ra, e.dec, e.z, 3] for e in entries.values()]
    first = rows[0]
    rows += [list(first), ["401", *first[1:3], -9.999, 3], ["402", *first[1:4], 1]]
    return folder, write_table(folder / f"redshifts.{table}", rows), entries


def write_mosaics(folder, planes, scale=SCALE, cards=None):
    """Write the planes, by band, as archives name them."""
    folder.mkdir(parents=True, exist_ok=True)
    for band, name in zip(BANDS, FILTERS, strict=True):
        header = field(len(planes[band]), scale).to_header()
        header["FILTER1"], header["FILTER2"] = name, "CLEAR2L"
        header["BUNIT"] = "ELECTRONS/S"
        header.update((cards or {}).get(band, {}))
        fits.writeto(folder / f"h_udf_wfc_{band}_drz_img.fits", planes[band], header)


def field(size, scale):
    """A tangential WCS about the HUDF's centre, north up."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [53.1625, -27.7914]
    wcs.wcs.crpix = [(size + 1) / 2] * 2
    wcs.wcs.cdelt = [-scale / 3600, scale / 3600]
    return wcs


def grid(count, size, rng):
    """`count` places far from each other and from the edges, in a drawn order."""
    side = int(np.ceil(np.sqrt(count)))
    step = (size - 120) / side
    cells = rng.permutation(side**2)[:count]
    middle = 60 + step * (np.stack([cells % side, cells // side], -1) + 0.5)
    return middle + rng.uniform(-0.1, 0.1, (count, 2)) * step


def add(plane, x, y, flux, radius, n, q, phi, fine=3):
    """Add a Sersic galaxy, or for radius 0 a star, of that flux, with the PSF."""
    half = 80
    left, low = round(x) - half, round(y) - half
    axis = (np.arange(fine * (2 * half + 1)) - (fine - 1) / 2) / fine
    u, v = (axis + left - x) * SCALE, (axis[:, None] + low - y) * SCALE
    b = 2 * n - 1 / 3 + 4 / (405 * n)
    if radius:
        along, across = (
            np.cos(phi) * u + np.sin(phi) * v,
            np.cos(phi) * v - np.sin(phi) * u,
        )
        r = np.sqrt(q * along**2 + across**2 / q + 0.01**2) / radius
        light = np.exp(-b * r ** (1 / n))
        whole = 2 * np.pi * n * radius**2 * b ** (-2 * n) * special.gamma(2 * n)
        light = light / whole * (SCALE / fine) ** 2
        light = ndimage.gaussian_filter(light, PSF / 2.355 / SCALE * fine)
    else:
        sigma = PSF / 2.355
        light = np.exp(-(u**2 + v**2) / (2 * sigma**2))
        light = light / light.sum()
    k = 2 * half + 1
    stamp = flux * light.reshape(k, fine, k, fine).sum((1, 3))
    ny, nx = plane.shape
    rows, columns = np.arange(low, low + k), np.arange(left, left + k)
    r, c = (rows >= 0) & (rows < ny), (columns >= 0) & (columns < nx)
    plane[np.ix_(rows[r], columns[c])] += stamp[np.ix_(r, c)]


def write_table(path, rows, names=COLUMNS):
    """Write rows as csv, tsv (of VizieR), fits or ecsv, by the suffix."""
    if path.suffix in (".csv", ".tsv"):
        with open(path, "w", newline="") as file:
            tabs = path.suffix == ".tsv"
            if tabs:
                file.write("#\n#   VizieR Astronomical Server\n#Column\tMUSE_ID\n")
            writer = csv.writer(file, delimiter="\t" if tabs else ",")
            writer.writerow(names)
            if tabs:
                writer.writerow(["", "deg", "deg", "", ""])
                writer.writerow(["-" * 8] * len(names))
            writer.writerows(rows)
    else:
        data = Table(rows=[[int(r[0]), *r[1:]] for r in rows], names=names)
        data.write(path, format="fits" if path.suffix == ".fits" else "ascii.ecsv")
    return path
