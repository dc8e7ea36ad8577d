"""How exact is `lensjax.images.solve`?  Counts, residuals, lost images.

    python -m benchmarks.accuracy_images --systems 100000 [--out accuracy.json]

Plain ellipsoids are compared with the closed form of their caustic and cut; systems
with shear with a dense search along the polar angle, in numpy and with the textbook's
rotation, arctan and arctanh, none of which lensjax uses.  A third of the sources lie
within 0.01 arcsec of a caustic or cut.
"""

import argparse
import json
import time

import jax
import jax.numpy as jnp
import numpy as np

import lensjax
from benchmarks import textbook
from lensjax import images, sie
from lensjax import lens as lens_module
from lensjax.lens import Lens
from lensjax.shear import Shear

CLOSE = 1e-3  # arcsec: nearer to a caustic the count is not held against the solver
LARGEST_MISS = {"float64": 1e-8, "float32": 1e-5}  # arcsec, allowed in the source plane


def curves(theta_E, q, n):
    """Diamond and cut in the frame of the lens, each (..., n, 2)."""
    angle = np.linspace(0, 2 * np.pi, n)
    theta_E, q = np.asarray(theta_E)[..., None], np.asarray(q)[..., None]
    c, s = np.cos(angle), np.sin(angle)
    b, delta = 2 * q * theta_E / (1 + q), np.sqrt(q**2 * c**2 + s**2)
    ax, ay = textbook.deflection(theta_E, q, 0.0, c, s)
    diamond = np.stack([b * c / delta - ax, b * s / delta - ay], -1)
    return diamond, np.stack([-ax, -ay], -1)


def inside_and_distance(curve, point):
    """Whether `point` (..., 2) lies inside the closed `curve` (..., n, 2); distance."""
    d = curve - point[..., None, :]
    a, b = d[..., :-1, :], d[..., 1:, :]
    cross = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    turn = np.arctan2(cross, (a * b).sum(-1)).sum(-1)
    ab = b - a
    along = -(a * ab).sum(-1) / np.maximum((ab**2).sum(-1), 1e-300)
    nearest = a + np.clip(along, 0, 1)[..., None] * ab
    return np.abs(turn) > np.pi, np.hypot(nearest[..., 0], nearest[..., 1]).min(-1)


def draw(rng, n, shear):
    """Draw n systems with their sources: dict of arrays (n,)."""
    s = {
        "theta_E": rng.uniform(0.5, 3, n),
        "q": rng.uniform(0.2, 0.999, n),
        "phi": rng.uniform(0, np.pi, n),
        "x": rng.normal(0, 0.05, n),
        "y": rng.normal(0, 0.05, n),
        "g1": np.zeros(n),
        "g2": np.zeros(n),
    }
    if shear:
        g, angle = rng.uniform(0, 0.3, n), rng.uniform(0, 2 * np.pi, n)
        s["g1"], s["g2"] = g * np.cos(angle), g * np.sin(angle)
    size = 1.3 * s["theta_E"] * np.sqrt(rng.uniform(size=n))
    angle = rng.uniform(0, 2 * np.pi, n)
    u, v = size * np.cos(angle), size * np.sin(angle)
    # a third close to a curve: a vertex of it, and up to 0.01 arcsec beside it
    which, vertex = rng.integers(0, 6, n), rng.integers(0, 720, n)
    both = curves(s["theta_E"], s["q"], 721)
    for k in (0, 1):
        at = both[k][np.arange(n), vertex] + rng.uniform(-0.01, 0.01, (n, 2))
        u, v = np.where(which == k, at[:, 0], u), np.where(which == k, at[:, 1], v)
    c, d = np.cos(s["phi"]), np.sin(s["phi"])
    s["beta_x"], s["beta_y"] = c * u - d * v + s["x"], d * u + c * v + s["y"]
    s["in_frame"] = np.stack([u, v], -1)
    return s


@jax.jit
@jax.vmap
def _solve(theta_E, q, phi, x, y, g1, g2, beta_x, beta_y):
    lens = Lens(sie.from_axis_ratio(theta_E, q, phi, x, y), Shear(g1, g2))
    found = images.solve(lens, beta_x, beta_y)
    miss = []
    for core in (sie.CORE, 0.0):
        seen_x, seen_y = lens_module.ray_shoot(lens, found.x, found.y, core)
        miss.append(jnp.hypot(seen_x - beta_x, seen_y - beta_y))
    distance = jnp.hypot(found.x - x, found.y - y)
    return found, *miss, distance


def solve(s, dtype):
    keys = ("theta_E", "q", "phi", "x", "y", "g1", "g2", "beta_x", "beta_y")
    result = _solve(*(jnp.asarray(s[k], dtype) for k in keys))
    return jax.tree.map(np.asarray, result)


def closed_form_count(s, n=1441, chunk=500):
    """Count the images of each plain ellipsoid; distance to the next curve."""
    count, distance = [], []
    for i in range(0, len(s["q"]), chunk):
        part = slice(i, i + chunk)
        diamond, cut = curves(s["theta_E"][part], s["q"][part], n)
        in_diamond, d1 = inside_and_distance(diamond, s["in_frame"][part])
        in_cut, d2 = inside_and_distance(cut, s["in_frame"][part])
        count.append(1 + in_cut + 2 * in_diamond)
        distance.append(np.minimum(d1, d2))
    return np.concatenate(count), np.concatenate(distance)


def dense_search(s, i, n):
    """Images of system i by n steps in polar angle, none closer than a step apart."""
    angle = np.linspace(0, 2 * np.pi, n + 1) + 0.001
    ux, uy = np.cos(angle), np.sin(angle)
    g1, g2 = s["g1"][i], s["g2"][i]
    ax, ay = textbook.deflection(s["theta_E"][i], s["q"][i], s["phi"][i], ux, uy)
    # the shear's origin is the sky's
    zx = s["beta_x"][i] - (1 - g1) * s["x"][i] + g2 * s["y"][i] + ax
    zy = s["beta_y"][i] - (1 + g1) * s["y"][i] + g2 * s["x"][i] + ay
    det = 1 - g1**2 - g2**2
    zx, zy = ((1 + g1) * zx + g2 * zy) / det, ((1 - g1) * zy + g2 * zx) / det
    cross = ux * zy - uy * zx
    at = np.flatnonzero((cross[1:] >= 0) != (cross[:-1] >= 0))
    part = cross[at] / (cross[at] - cross[at + 1])
    x = zx[at] + part * (zx[at + 1] - zx[at])
    y = zy[at] + part * (zy[at + 1] - zy[at])
    ahead = x * ux[at] + y * uy[at] > 0
    return x[ahead] + s["x"][i], y[ahead] + s["y"][i]


def lost_images(s, found, n=16384, tolerance=1e-4):
    """Images of the dense search without a partner, and images it has not.

    The solver's positions include the core, the search's do not, and it interpolates:
    hence the tolerance.  The solver may have more: pairs closer than a step.
    """
    lost = extra = 0
    for i in range(len(s["q"])):
        x, y = dense_search(s, i, n)
        ours = found.valid[i]
        gap = np.hypot(x[:, None] - found.x[i][ours], y[:, None] - found.y[i][ours])
        # beside a critical curve both interpolation and core move images far
        near = tolerance * (1 + np.abs(found.magnification[i][ours])) + 2e-3
        pairs = (gap < near).sum(1) if ours.any() else np.zeros(len(x))
        lost += int((pairs == 0).sum()) + max(0, len(x) - int(ours.sum()))
        extra += max(0, int(ours.sum()) - len(x))
    return lost, extra


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", type=int, default=100_000)
    parser.add_argument("--sheared", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="write the figures to this JSON file")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(args.seed)
    rows = {"lensjax": lensjax.__version__, "jax": jax.__version__}

    plain = draw(rng, args.systems, shear=False)
    truth, distance = closed_form_count(plain)
    far = distance > CLOSE
    sheared = draw(rng, args.sheared, shear=True)
    for dtype in (jnp.float64, jnp.float32):
        name = dtype.__name__
        found, *_ = solve(plain, dtype)
        start = time.perf_counter()
        jax.block_until_ready(solve(plain, dtype))
        seconds = time.perf_counter() - start
        wrong = found.valid.sum(-1) != truth
        rows |= {
            f"{name}: SIE, farther than {CLOSE} from a caustic": int(far.sum()),
            f"{name}: wrong count there": int(wrong[far].sum()),
            f"{name}: wrong count anywhere": int(wrong.sum()),
            f"{name}: farthest wrong count [arcsec]": float(
                distance[wrong].max(initial=0)
            ),
            f"{name}: systems per second, {jax.devices()[0].device_kind}": round(
                args.systems / seconds
            ),
        }
        found, miss, miss_singular, from_centre = solve(sheared, dtype)
        # where the softened lens has no such image it is the singular lens's
        bare = found.valid & (miss_singular < miss) & (miss > LARGEST_MISS[name])
        best = np.where(bare, miss_singular, miss)
        lost, extra = lost_images(sheared, found)
        rows |= {
            f"{name}: SIE + shear, images": int(found.valid.sum()),
            f"{name}: largest residual [arcsec]": float(best[found.valid].max()),
            f"{name}: images too near the centre for the core": int(bare.sum()),
            f"{name}: farthest of them [arcsec]": float(
                from_centre[bare].max(initial=0)
            ),
            f"{name}: lost against the dense search": lost,
            f"{name}: closer than a step of it": extra,
        }
    width = max(map(len, rows))
    for key, value in rows.items():
        print(f"{key:<{width}}  {value}")
    if args.out:
        with open(args.out, "w") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
