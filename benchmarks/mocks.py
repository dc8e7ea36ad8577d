"""Mock lenses: a pixelated source in four bands, lensed, blurred, on 64 x 64 pixels.

    python -m benchmarks.mocks [--quick] [--out FILE.json]

Every code traces rays to a source stamp of 0.03 arcsec pixels, reads it bilinearly and
blurs it by the same PSF, in four bands; each mock has its own lens, place and source.
lenstronomy and caustics convolve on the grid of their rays and then average over
pixels; lensjax samples what is blurred by the PSF with the pixel in it.  Truth is the
former by numpy, with twelve rays along a pixel's side.
"""

import numpy as np

from benchmarks import command, textbook
from benchmarks.record import require, row
from benchmarks.turns import Contender, Missing, in_turns

SIDE, PIXEL, STAMP, STAMP_PIXEL = 64, 0.168, 96, 0.03
RAYS = 3  # along a pixel's side, of codes that convolve on the grid of rays
BLUR = 23  # survey pixels that a PSF is wide
FWHM = np.array([0.79, 0.75, 0.61, 0.68])  # HSC's g, r, i, z [arcsec]
SKY = np.array([0.038, 0.056, 0.080, 0.135])  # noise of a pixel
FLUX = 10 ** (0.4 * (27 - np.array([24.8, 24.55, 24.5, 24.38])))
FINEST = 12
LIMIT = 0.003  # RMS error in units of the sky noise; the truth itself is good to 0.001


def scene(k: int) -> dict:
    """Lens, place and stamp (STAMP, STAMP, 4) of the k-th mock, by numpy."""
    rng = np.random.default_rng([7, k])
    of = {
        "theta_E": rng.uniform(0.8, 2.0),
        "q": rng.uniform(0.5, 0.95),
        "phi": rng.uniform(0, np.pi),
    }
    beta = 0.35 * of["theta_E"] * np.sqrt(rng.uniform())
    turn = rng.uniform(0, 2 * np.pi)
    axis = (np.arange(STAMP) - (STAMP - 1) / 2) * STAMP_PIXEL
    stamp = np.zeros((STAMP, STAMP, 4))
    # a disc with clumps, of different colours
    sizes = np.append(0.2, rng.uniform(0.06, 0.12, 4))
    for size, (x, y) in zip(sizes, rng.normal(0, 0.15, (5, 2)), strict=True):
        r2 = (axis - x * (size < 0.2)) ** 2 + (axis[:, None] - y * (size < 0.2)) ** 2
        light = np.exp(-r2 / (2 * size**2)) / size**2 * (1 if size == 0.2 else 0.1)
        stamp += light[..., None] * rng.uniform(0.6, 1.4, 4)
    stamp *= FLUX / stamp.sum((0, 1))
    return of | {
        "beta_x": beta * np.cos(turn),
        "beta_y": beta * np.sin(turn),
        "stamp": stamp,
    }


def kernels() -> tuple[np.ndarray, np.ndarray]:
    """Moffat PSFs (.., 4): without the pixel on the rays' grid, with it on pixels."""
    half = BLUR * RAYS // 2
    axis = np.arange(-half, half + 1) / RAYS * PIXEL
    r2 = (axis[:, None] ** 2 + axis**2)[..., None]
    fine = (1 + r2 / (FWHM**2 / 4 / (2 ** (1 / 3) - 1))) ** -3.0
    fine /= fine.sum((0, 1))
    return fine, fine.reshape(BLUR, RAYS, BLUR, RAYS, 4).sum((1, 3))


def truth(k: int) -> np.ndarray:
    """The k-th mock's arcs (SIDE, SIDE, 4) by numpy and scipy, many rays a pixel."""
    from scipy.ndimage import map_coordinates
    from scipy.signal import fftconvolve

    s, n = scene(k), (SIDE + 2 * BLUR) * FINEST
    axis = (np.arange(n) - (n - 1) / 2) * PIXEL / FINEST
    x, y = np.meshgrid(axis, axis)
    ax, ay = textbook.deflection(s["theta_E"], s["q"], s["phi"], x, y)
    at = np.stack([y - ay - s["beta_y"], x - ax - s["beta_x"]])
    at = at / STAMP_PIXEL + (STAMP - 1) / 2
    per_ray = (PIXEL / FINEST / STAMP_PIXEL) ** 2
    bands, (fine, _) = [], kernels()
    for b in range(4):
        light = map_coordinates(s["stamp"][..., b], at, order=1, cval=0) * per_ray
        light = _summed(light, FINEST // RAYS)
        bands.append(_summed(fftconvolve(light, fine[..., b], "same"), RAYS))
    return np.stack(bands, -1)[BLUR:-BLUR, BLUR:-BLUR]


def _summed(a: np.ndarray, k: int) -> np.ndarray:
    n = a.shape[0] // k
    return a.reshape(n, k, n, k).sum((1, 3))


def ours(n, rays, side=SIDE, bands=4):
    """By lensjax in float32, as in its training step: on a CPU one by one."""
    import jax
    import jax.numpy as jnp

    from lensjax import lens, mock, sie
    from lensjax.survey import HSC

    scenes = [scene(k % 16) for k in range(n)]  # so many differ
    survey = HSC._replace(image_size=side)
    channels = np.arange(bands) % 4

    def column(name):
        return jnp.asarray(np.stack([s[name] for s in scenes]), jnp.float32)

    mass = sie.from_axis_ratio(column("theta_E"), column("q"), column("phi"))
    psf = jnp.asarray(kernels()[1][..., channels], jnp.float32)
    stamps, ones = column("stamp")[..., channels], jnp.ones(bands, jnp.float32)

    def one(lens, beta_x, beta_y, stamp):
        source = mock.Source(stamp, ones, STAMP_PIXEL)
        return mock.arcs(lens, beta_x, beta_y, source, psf, survey, rays)

    rows = lens.without_shear(mass), column("beta_x"), column("beta_y"), stamps
    if jax.default_backend() == "cpu":
        many = jax.jit(lambda *rows: jax.lax.map(lambda r: one(*r), rows))
    else:
        many = jax.jit(jax.vmap(one))
    return lambda: jax.block_until_ready(many(*rows)), n


def lenstronomy(n):
    """Lenstronomy's ImageModel, a band after the other."""
    from lenstronomy.Data.pixel_grid import PixelGrid
    from lenstronomy.Data.psf import PSF
    from lenstronomy.ImSim.image_model import ImageModel
    from lenstronomy.LensModel.lens_model import LensModel
    from lenstronomy.LightModel.light_model import LightModel

    corner = -(SIDE - 1) / 2 * PIXEL
    grid = PixelGrid(
        nx=SIDE,
        ny=SIDE,
        ra_at_xy_0=corner,
        dec_at_xy_0=corner,
        transform_pix2angle=np.eye(2) * PIXEL,
    )
    fine, _ = kernels()
    models = [
        ImageModel(
            grid,
            PSF(
                "PIXEL",
                kernel_point_source=fine[..., b],
                point_source_supersampling_factor=RAYS,
            ),
            lens_model_class=LensModel(["SIE"]),
            source_model_class=LightModel(["INTERPOL"]),
            kwargs_numerics={
                "supersampling_factor": RAYS,
                "supersampling_convolution": True,
                "supersampling_kernel_size": None,  # all of it
            },
        )
        for b in range(4)
    ]
    given = []
    for s in (scene(k) for k in range(n)):
        e = (1 - s["q"]) / (1 + s["q"])
        lens = {
            "theta_E": textbook.geometric_radius(s["theta_E"], s["q"]),
            "e1": e * np.cos(2 * s["phi"]),
            "e2": e * np.sin(2 * s["phi"]),
            "center_x": 0.0,
            "center_y": 0.0,
        }
        source = {
            "amp": 1.0,
            "center_x": s["beta_x"],
            "center_y": s["beta_y"],
            "phi_G": 0.0,
            "scale": STAMP_PIXEL,
        }
        brightness = s["stamp"] / STAMP_PIXEL**2
        given.append((lens, [source | {"image": brightness[..., b]} for b in range(4)]))

    def seen(model, lens, source):
        # it keeps the first image that it interpolates until it is told to forget it
        model.SourceModel.delete_interpol_caches()
        return model.image([lens], [source])

    def run():
        pairs = [(lens, zip(models, bands, strict=True)) for lens, bands in given]
        return np.stack(
            [np.stack([seen(m, lens, s) for m, s in both], -1) for lens, both in pairs]
        )

    return run, n


def caustics(n, compiled):
    """Caustics' functions on a batch of mocks: rays traced once for all bands."""
    import torch
    from caustics.lenses.func import reduced_deflection_angle_sie as deflect
    from caustics.utils import interp2d

    device = command.torch_device()
    scenes = [scene(k % 16) for k in range(n)]  # so many differ

    def column(name):
        values = np.stack([s[name] for s in scenes])
        return torch.tensor(values, dtype=torch.float32, device=device)

    q, phi, beta_x, beta_y = (
        column(k)[:, None, None] for k in ("q", "phi", "beta_x", "beta_y")
    )
    radius = textbook.geometric_radius(column("theta_E")[:, None, None].cpu(), q.cpu())
    radius, nothing = radius.to(device), torch.zeros_like(q)
    stamps = column("stamp").permute(0, 3, 1, 2).contiguous()
    fine = torch.tensor(kernels()[0], dtype=torch.float32, device=device)
    margin = fine.shape[0] // 2
    side = SIDE * RAYS + 2 * margin
    axis = (torch.arange(side, device=device) - (side - 1) / 2) * PIXEL / RAYS
    y, x = (a[None] for a in torch.meshgrid(axis, axis, indexing="ij"))
    padded = torch.zeros((4, side, side), device=device)
    padded[:, : fine.shape[0], : fine.shape[0]] = fine.permute(2, 0, 1)
    transfer = torch.fft.rfft2(padded.roll((-margin, -margin), (1, 2)))
    half = STAMP * STAMP_PIXEL / 2
    read = torch.vmap(torch.vmap(interp2d, (0, None, None)), (0, 0, 0))

    def traced(q, phi, radius, beta_x, beta_y, stamps):
        ax, ay = deflect(nothing, nothing, q, phi, radius, x, y)
        u, v = (x - ax - beta_x) / half, (y - ay - beta_y) / half
        light = read(stamps, u.flatten(1), v.flatten(1))
        return light.reshape(*stamps.shape[:2], side, side)

    if compiled:
        traced = torch.compile(traced)

    @torch.inference_mode()
    def run():
        light = traced(q, phi, radius, beta_x, beta_y, stamps)
        blurred = torch.fft.irfft2(torch.fft.rfft2(light) * transfer, (side, side))
        inner = blurred[..., margin:-margin, margin:-margin]
        seen = torch.nn.functional.avg_pool2d(inner, RAYS)
        seen = seen * (PIXEL / STAMP_PIXEL) ** 2
        if device == "cuda":
            torch.cuda.synchronize()
        return seen.permute(0, 2, 3, 1)

    return run, n


def measure(quick: bool) -> dict:
    """Rows of mocks, each with its error in sky noise."""
    many, few = (4, 2) if quick else (128, 8)
    checked = 2 if quick else 8
    expected = np.stack([truth(k) for k in range(checked)])
    rows = []
    for found in in_turns(
        [
            Contender("lensjax", ours, (many, 4)),
            Contender("lensjax, 3 rays", ours, (many, 3)),
            Contender("caustics, compiled", caustics, (many, True), rival=True),
            Contender("caustics", caustics, (many, False), rival=True),
            Contender("lenstronomy", lenstronomy, (few,), rival=True),
        ],
        turns=1 if quick else 9,
    ):
        if isinstance(found, Missing):
            rows.append(row("mock in four bands", found))
            continue
        n = min(checked, found.units)
        difference = (found.answer[:n] - expected[:n]) / SKY
        rms = float(np.sqrt((difference**2).mean((1, 2))).max())
        require(rms < LIMIT, f"{found.name} differs by {rms} of the sky noise")
        rows.append(row("mock in four bands", found, rms=float(f"{rms:.2g}")))
    return {"rows": rows}


if __name__ == "__main__":
    command.main(__doc__, measure)
