"""What a network is shown before anything is learnt: part of `benchmarks.networks`."""

import jax
import jax.numpy as jnp
import numpy as np

from lensjax import survey
from lensjax.learning import matched_filter, preprocessing


def templates(images: np.ndarray, theta_E: np.ndarray) -> str:
    """How often the best template alone knows theta_E, of colours and without."""
    scale, sizes = survey.HSC.pixel_scale, np.array(matched_filter.THETA_E)

    def gains(image, coloured):
        scaled = image / preprocessing.noise(image)[None, None]
        lens = preprocessing.smooth(scaled)
        rest = scaled - lens.light
        if coloured:
            strange = preprocessing.STRANGE
            rest = jnp.clip(preprocessing.bluer(rest, lens.colour), -strange, strange)
        return matched_filter.gains(rest, lens.x, lens.y, scale)

    shares = []
    for coloured in (True, False):
        each = jax.jit(lambda i, c=coloured: jax.lax.map(lambda a: gains(a, c), i))
        found = np.asarray(each(images)).reshape(len(images), len(sizes), -1)
        best = sizes[found.max(2).argmax(1)]
        shares.append(f"{np.mean(abs(np.log(best / theta_E)) < 0.2):.2f}")
    return (
        f"theta_E of the best template alone within 20 %: {shares[0]} of mocks; "
        f"without colours {shares[1]}"
    )


def subtraction(images: np.ndarray) -> str:
    """What taking off the lens leaves of arcs put on real galaxies, and of those.

    Forty arcs of ten sigma with a counter-image, at radii from 4 to 12 pixels.
    """
    n = images.shape[1]
    x, y = np.meshgrid(*[np.arange(n) - (n - 1) / 2] * 2)
    radius, rng = np.hypot(x, y), np.random.default_rng(0)

    def arc():
        r, angle, width = (
            rng.uniform(4, 12),
            rng.uniform(-np.pi, np.pi),
            rng.uniform(0.4, 1.4),
        )
        off = [np.angle(np.exp(1j * (np.arctan2(y, x) - a)))
               for a in (angle, angle + np.pi)]  # fmt: skip
        main = np.exp(-(((radius - r) / 2) ** 2) / 2 - (off[0] / width) ** 2 / 2)
        other = np.exp(-(((radius - 0.6 * r) / 2) ** 2) / 2 - (off[1] / 0.4) ** 2 / 2)
        return main + 0.5 * other

    @jax.jit
    def left(images):
        def one(image):
            scaled = image / preprocessing.noise(image)[None, None]
            return scaled - preprocessing.smooth(scaled).light

        return jax.lax.map(one, images)

    sky = np.array(survey.HSC.sky_sigma)
    arcs = [arc() for _ in range(40)]
    put = [10 * a[..., None] * sky * np.array([1.5, 1.2, 1.0, 0.8]) for a in arcs]
    which = np.arange(40) % len(images)
    bare = np.asarray(left(images))
    noise = np.asarray(jax.vmap(preprocessing.noise)(images))[which]
    seen = np.asarray(left((images[which] + np.array(put)).astype(np.float32)))
    shares = []
    for k, (a, light) in enumerate(zip(arcs, put, strict=True)):
        true = light / noise[k]
        kept = (a[..., None] * (seen[k] - bare[which[k]])).sum((0, 1))
        shares.append((kept / (a[..., None] * true).sum((0, 1)))[:3].mean())
    ring = (radius > 3) & (radius < 14)
    rms = np.sqrt((np.clip(bare, -10, 10)[:, ring] ** 2).mean())
    return (
        f"of arcs of ten sigma {np.mean(shares):.2f} stays (a tenth of them less than "
        f"{np.percentile(shares, 10):.2f}), of the galaxies {rms:.1f} sigma"
    )
