"""How often good cutouts are refused, and broken ones found.

    python -m benchmarks.judge [--data DIR] [--mocks 500] [--out FILE]

Good ones are mocks of the embedded population and, in DIR (or $LENSJAX_DATA), real HSC
and DES galaxies (hsc/lenses, des/lenses).  Each is broken in every way below, and
judged as `lensjax predict` judges it.  How far theta_E moves is by the network that
comes with lensjax, for the mocks.  Prints two tables in Markdown; in the second the
share that is refused, and the share with a flag that the good image has not.
"""

import argparse
import json
import os
from pathlib import Path

import jax
import numpy as np

from lensjax import cosmology, survey
from lensjax.catalogue import cutouts, quality
from lensjax.learning import dataset, pretrained
from lensjax.mocks import population, sample
from lensjax.mocks.proposals import Criteria
from lensjax.mocks.system import Rendering
from lensjax.storage import atomic

MOVED = 0.1  # [arcsec] of theta_E


def mocks(n: int) -> np.ndarray:
    """Images (n, 64, 64, 4) of natural systems."""
    key = jax.random.key(17)
    galaxies, _ = population.catalogue(key, n, n, survey.HSC, cosmology.PAPER)
    rendering = Rendering(survey.HSC, population.SOURCE_PIXEL_SCALE)
    drawn = sample.draw(key, n, galaxies, rendering, Criteria())
    return np.asarray(dataset.render_all(drawn.systems, galaxies, rendering))


def real(folder: Path, bands: survey.Survey) -> list[np.ndarray]:
    """Images of a folder's cutouts, as large as a network sees."""
    paths = sorted(folder.glob("*.fits"))
    return [
        quality.prepare(cutouts.read(path, bands.bands), bands).pixels for path in paths
    ]


def star(image, bands, rng):
    """A star as bright as the galaxy, on the same sky."""
    n = image.shape[0]
    y, x = np.indices((n, n)) - (n - 1) / 2
    out = rng.normal(size=image.shape) * _noise(image)
    for k, fwhm in enumerate(bands.fwhm):
        alpha = fwhm / bands.pixel_scale / (2 * np.sqrt(2 ** (1 / 3) - 1))
        profile = (1 + (x**2 + y**2) / alpha**2) ** -3.0
        light = (image[..., k] - np.median(image[..., k])).sum()
        out[..., k] += max(light, 1e3 * _noise(image)[k]) * profile / profile.sum()
    return out


def scattered(value, number):
    """`number` pixels of each band are `value`."""

    def broken(image, bands, rng):
        out = image.copy()
        for k in range(image.shape[-1]):
            y, x = rng.integers(0, image.shape[0], (2, number))
            out[y, x, k] = value
        return out

    return broken


def at_centre(value, half):
    """A square about the centre is `value` in one band."""

    def broken(image, bands, rng):
        out, c = image.copy(), image.shape[0] // 2
        k = rng.integers(image.shape[-1])
        out[c - half : c + half + 1, c - half : c + half + 1, k] = value
        return out

    return broken


def one_band(factor):
    """One band in another unit."""

    def broken(image, bands, rng):
        out = image.copy()
        out[..., rng.integers(image.shape[-1])] *= factor
        return out

    return broken


def moved(low, high):
    """The lens that many pixels off the centre, what is behind it rolled in."""

    def broken(image, bands, rng):
        angle, r = rng.uniform(0, 2 * np.pi), rng.uniform(low, high)
        step = [round(r * np.cos(angle)), round(r * np.sin(angle))]
        return np.roll(image, step, (0, 1))

    return broken


def rolled(image, bands, rng):
    """One band rolled by 3 to 5 pixels."""
    out, k = image.copy(), rng.integers(image.shape[-1])
    step = rng.choice([-1, 1], 2) * rng.integers(3, 6, 2)
    out[..., k] = np.roll(out[..., k], step, (0, 1))
    return out


def empty(image, bands, rng):
    """Sky alone."""
    return rng.normal(size=image.shape) * _noise(image)


def ramp(image, bands, rng):
    """A slope of light and no galaxy."""
    n = image.shape[0]
    slope = np.linspace(0, 60, n)[None, :, None] * _noise(image)
    return empty(image, bands, rng) + slope


def _noise(image):
    return np.array(
        [quality.pixel_noise(image[..., k]) for k in range(image.shape[-1])]
    )


BROKEN = {
    "one band times 15.85": one_band(15.85),
    "one band in nJy (times 57.5)": one_band(57.5),
    "one band times 1e-30": one_band(1e-30),
    "one band times 0.1": one_band(0.1),
    "a pixel of 1e30": at_centre(1e30, 0),
    "a pixel of -1e30": at_centre(-1e30, 0),
    "a pixel of -999": at_centre(-999.0, 0),
    "3 x 3 of -999 at the centre": at_centre(-999.0, 1),
    "30 pixels of -999": scattered(-999.0, 30),
    "30 pixels of 0": scattered(0.0, 30),
    "rolled band, 3 to 5 pixels": rolled,
    "off centre by 3 to 5 pixels": moved(3, 5),
    "off centre by 8 to 20 pixels": moved(8, 20),
    "a star alone": star,
    "sky alone": empty,
    "a ramp": ramp,
    "negative image": lambda image, bands, rng: -image,
}


def flags(image: np.ndarray, bands: survey.Survey) -> set[str]:
    """What a row of the table says."""
    return set(quality.check(np.asarray(image, np.float32), bands))


def fatal(found: set[str]) -> set[str]:
    """Flags for which nothing is predicted."""
    return found & set(quality.FATAL)


def theta_E(images: np.ndarray) -> np.ndarray:
    """By the network that comes with lensjax; nan where it does not say a number."""
    with np.errstate(all="ignore"):
        return np.asarray(pretrained.predict(pretrained.load(), images))[:, 4]


def main() -> None:
    """Count, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("LENSJAX_DATA"))
    parser.add_argument("--mocks", type=int, default=500)
    parser.add_argument("--out")
    asked = parser.parse_args()
    good = {"mocks": (mocks(asked.mocks), survey.HSC)}
    if asked.data:
        for name, bands in (("hsc", survey.HSC), ("des", survey.DES)):
            good[name] = real(Path(asked.data) / name / "lenses", bands), bands
    alarms, usual = {}, {}
    for name, (images, bands) in good.items():
        usual[name] = [flags(one, bands) for one in images]
        alarms[name] = {
            "images": len(images),
            "refused": sum(bool(fatal(f)) for f in usual[name]),
            "flags": sorted(set().union(*usual[name])),
        }
    found = {}
    before = theta_E(good["mocks"][0])
    for kind, breaks in BROKEN.items():
        found[kind] = {}
        for name, (images, bands) in good.items():
            rng = np.random.default_rng(3)
            broken = [np.asarray(breaks(one, bands, rng), np.float32) for one in images]
            new = [
                flags(one, bands) - u
                for one, u in zip(broken, usual[name], strict=True)
            ]
            refused, seen = (
                np.array([bool(f) for f in some]) for some in (map(fatal, new), new)
            )
            found[kind][name] = float(refused.mean()), float(seen.mean())
            if name == "mocks":
                change = np.abs(theta_E(np.stack(broken)) - before)
                far = ~(change < MOVED)
                found[kind]["moved"] = float(far.mean())
                found[kind]["found of these"] = (
                    float(seen[far].mean()) if far.any() else None
                )
    print("| good | images | refused | flags |\n|---|---|---|---|")
    for name, a in alarms.items():
        print(f"| {name} | {a['images']} | {a['refused']} | {', '.join(a['flags'])} |")
    sets = list(good)
    print(f"\n| broken | {' | '.join(sets)} | theta_E moves | found of these |")
    print("|---" * (len(sets) + 3) + "|")
    for kind, f in found.items():
        those = f["found of these"]
        cells = [f"{f[name][0]:.1%} / {f[name][1]:.1%}" for name in sets]
        cells.append(f"{f['moved']:.0%}")
        cells.append("-" if those is None else f"{those:.1%}")
        print(f"| {kind} | {' | '.join(cells)} |")
    if asked.out:
        text = json.dumps({"good": alarms, "broken": found}, indent=1)
        atomic.write(asked.out, text + "\n")


if __name__ == "__main__":
    main()
