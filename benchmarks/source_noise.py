"""How faint may a source galaxy be?  What noise leaves of its stamp, by magnitude.

    python -m benchmarks.source_noise --galaxies 64 [--data DIR] [--out FILE.json]

Sersic galaxies are put into noise of the depth of the HUDF (ten sigma at 28.7, 29.0,
29.0 and 28.4 in 0.2 square arcsec; white) and extracted as from the mosaics, with no
limit on signal to noise.  Half-light radii are 0.30 arcsec at i = 24, falling by 0.06
dex a magnitude, with 0.15 dex of scatter.  Columns, medians over the galaxies:

    found   share that is extracted; kept, with the limit of `hudf.LEAST_SNR`
    S/N     of the segment's flux in i
    flux    in the segment in i, over all that was put in
    error   root mean square of stamp - truth over that of the truth, in i, both blurred
            to 0.25 arcsec, as seeing of 0.6 arcsec does with a source magnified 6 times
    noise   that of the noise in the stamp's pixels, without blur
    sky     root mean square of the blurred noise in the segment, per HSC pixel, over
            HSC's sky noise in i: lensing keeps it

With --data, real one-band stamps of that folder: signal to noise by the table's noise.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from scipy import ndimage

import lensjax
from lensjax import light
from lensjax.catalogue import cutouts, extraction, hudf, mosaics
from lensjax.survey import HSC

SCALE, PSF, SEEN = 0.03, 0.1, 0.25  # arcsec: pixel, FWHM of the PSF, and with the blur
DEPTH = np.array([28.7, 29.0, 29.0, 28.4])  # ten sigma in 0.2 square arcsec
COLOUR = np.array([0.6, 0.25, 0.0, -0.1])  # relative to i
SPACE = 171  # pixels between two galaxies
FINE = 3  # points along the side of a pixel


def blur(plane, fwhm, scale=SCALE):
    return ndimage.gaussian_filter(plane, fwhm / 2.355 / scale)


def galaxy(rng, mag):
    """A galaxy of unit flux (SPACE, SPACE), near the middle."""
    axis = (np.arange(SPACE * FINE) - (SPACE * FINE - 1) / 2) * SCALE / FINE
    x, y = axis - rng.uniform(-1, 1) * SCALE, axis[:, None] - rng.uniform(-1, 1) * SCALE
    radius = 0.30 * 10 ** (-0.06 * (mag - 24) + 0.15 * rng.normal())
    shape = rng.uniform(0.7, 2), rng.uniform(0.4, 1), rng.uniform(0, np.pi)
    plane = np.array(light.sersic(x, y, radius, *shape), float) * (SCALE / FINE) ** 2
    plane = blur(plane, PSF, SCALE / FINE)
    return plane.reshape(SPACE, FINE, SPACE, FINE).sum((1, 3))


def field(folder, rng, mag, count):
    """Mosaics of `count` galaxies, the truth in i [counts at 27], and their places."""
    side = int(np.ceil(np.sqrt(count)))
    plane = np.zeros((side * SPACE, side * SPACE))
    places = [divmod(k, side) for k in range(count)]
    for row, column in places:
        part = np.s_[row * SPACE : (row + 1) * SPACE]
        plane[part, column * SPACE : (column + 1) * SPACE] = galaxy(rng, mag)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [53.16, -27.79]
    wcs.wcs.cdelt, wcs.wcs.crpix = [-SCALE / 3600, SCALE / 3600], [1, 1]
    for k, band in enumerate(mosaics.BANDS):
        zero_point = mosaics.ZERO_POINTS[band]
        sigma = 10 ** (-0.4 * (DEPTH[k] - zero_point)) / 10 / np.sqrt(0.2 / SCALE**2)
        seen = plane * 10 ** (-0.4 * (mag + COLOUR[k] - zero_point))
        seen += rng.normal(0, sigma, plane.shape)
        name = folder / f"h_udf_wfc_{band}_drz_img.fits"
        fits.writeto(name, seen.astype("f4"), wcs.to_header(), overwrite=True)
    middle = SPACE * (np.array(places) + 0.5) - 0.5
    ra, dec = wcs.pixel_to_world_values(middle[:, 1], middle[:, 0])
    names = np.arange(count).astype(str)
    entries = hudf.Redshifts(names, ra, dec, np.ones(count))
    return hudf.open_mosaics(folder), entries, plane * 10 ** (-0.4 * (mag - 27)), middle


def measure(found, truth, middle, opened):
    """What one stamp is worth: S/N, flux, error, noise, sky."""
    low = np.rint(middle - (SPACE - 1) / 2).astype(int)
    truth = truth[low[0] : low[0] + SPACE, low[1] : low[1] + SPACE]
    x, y = opened.wcs.world_to_pixel_values(found.ra, found.dec)
    reach = found.image.shape[0] // 2
    top = np.rint([y, x]).astype(int) - low - reach
    stamp = np.pad(found.image[..., 2].astype(float), SPACE)
    begin = SPACE - top
    stamp = stamp[begin[0] : begin[0] + SPACE, begin[1] : begin[1] + SPACE]
    noise = np.where(stamp != 0, stamp - truth, 0)
    wide = np.sqrt(SEEN**2 - PSF**2)
    error, seen = blur(stamp - truth, wide), blur(truth, wide)
    speckle = blur(noise, wide)[stamp != 0] * (HSC.pixel_scale / SCALE) ** 2
    return {
        "snr": found.snr,
        "flux": stamp.sum() / truth.sum(),
        "error": np.sqrt((error**2).sum() / (seen**2).sum()),
        "noise": np.sqrt((noise**2).sum() / (truth**2).sum()),
        "sky": speckle.std() / HSC.sky_sigma[2],
    }


def simulated(magnitudes, count):
    hudf.LEAST_SNR, limit = 0.0, hudf.LEAST_SNR
    rows = []
    for mag in magnitudes:
        rng = np.random.default_rng(round(10 * mag))
        with tempfile.TemporaryDirectory() as folder:
            opened, entries, truth, middle = field(Path(folder), rng, mag, count)
            values = []
            for k in range(count):
                try:
                    found = hudf.extract(opened, entries, k)
                except hudf.Refused:
                    continue
                values.append(measure(found, truth, middle[k], opened))
        row = {"i": mag, "found": len(values) / count}
        row["kept"] = sum(v["snr"] >= limit for v in values) / count
        row |= {key: float(np.median([v[key] for v in values])) for key in values[0]}
        rows.append(row)
        print("  ".join(f"{v:6.{digits(key)}f}" for key, v in row.items()), flush=True)
    hudf.LEAST_SNR = limit
    return rows


def digits(key):
    return 1 if key in ("i", "snr") else 2 if key in ("found", "kept", "flux") else 3


def real(folder):
    """Signal to noise of real stamps, by magnitude: a dict a bin."""
    table, found = Table.read(folder / "sources.csv"), []
    for record in table:
        cutout = cutouts.read(folder / record["file"], bands=("F814W",))
        sigma = np.sqrt(record["noise_var"])
        stamp = extraction.isolate(cutout.bands["F814W"], sigma)
        area = np.count_nonzero(stamp)
        snr = stamp.sum() / (sigma * np.sqrt(area))
        found.append((record["mag_f814w"], snr, area * sigma**2 / (stamp**2).sum()))
    mag, snr, share = np.array(found).T
    edges = [22, 23, 24, 24.5, 25, 25.5, 26]
    rows = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        inside = (mag >= low) & (mag < high)
        if inside.any():
            rows.append(
                {
                    "from": low,
                    "to": high,
                    "stamps": int(inside.sum()),
                    "snr": float(np.median(snr[inside])),
                    "snr_least": float(snr[inside].min()),
                    "noise_share": float(np.median(share[inside])),
                }
            )
            print("  ".join(f"{v:8.2f}" for v in rows[-1].values()))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--galaxies", type=int, default=64, help="of each magnitude")
    parser.add_argument("--data", type=Path, help="folder of real stamps")
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()

    magnitudes = [24.0, 25.0, 26.0, 26.5, 27.0, 27.5, 28.0, 28.5, 29.0, 29.5, 30.0]
    result = {
        "lensjax": lensjax.__version__,
        "galaxies": args.galaxies,
        "least_snr": hudf.LEAST_SNR,
    }
    print("     i   found    kept     S/N    flux   error   noise     sky")
    result["simulated"] = simulated(magnitudes, args.galaxies)
    if args.data:
        print("real stamps: F814W from, to, stamps, S/N median and least,")
        print("noise's share of the sum of squares")
        result["real"] = real(args.data)
    if args.out:
        args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
