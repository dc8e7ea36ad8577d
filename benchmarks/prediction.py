"""From cutouts to a catalogue of lenses, the network alone, and the images to come.

    python -m benchmarks.prediction [--quick] [--out FILE.json]

Seconds are for one lens.  PyTorch is given what a careful user would write: astropy's
reader in a DataLoader with a worker for each core, the same network with the same
values in batches of 256, a table written at the end; it does not look at what is wrong
with a file, as lensjax does.
"""

import os
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import command, textbook
from benchmarks.record import require, row
from benchmarks.step import paper, torch_network
from benchmarks.turns import Contender, Missing, in_turns

SIDE, BANDS, BATCH = 64, "GRIZ", 256


def write_cutouts(folder: Path, n: int) -> None:
    """Four-band cutouts of bright blobs in noise, as FITS files."""
    from astropy.io import fits

    rng = np.random.default_rng(2)
    axis = np.arange(SIDE) - (SIDE - 1) / 2
    blob = 20 * np.exp(-(axis[:, None] ** 2 + axis**2) / 30)
    for k in range(n):
        hdus = [fits.PrimaryHDU()]
        for band in BANDS:
            plane = blob * rng.uniform(0.5, 2) + rng.normal(0, 0.1, (SIDE, SIDE))
            cards = fits.Header([("PIXSCALE", 0.168), ("MAGZERO", 27.0)])
            hdus.append(fits.ImageHDU(plane.astype(np.float32), cards, name=band))
        fits.HDUList(hdus).writeto(folder / f"{k:06d}.fits")


def first_values():
    """The untrained network's parameters."""
    import jax

    return paper().init(jax.random.key(0))


def stamps(n: int) -> np.ndarray:
    """Images in memory (n, 64, 64, 4)."""
    rng = np.random.default_rng(4)
    return rng.normal(size=(n, SIDE, SIDE, 4)).astype(np.float32)


def catalogue_by_lensjax(folder, n, processes):
    """Files to table as `experiments.predict` does it, from its model on."""
    import jax
    import pyarrow.parquet as pq

    from lensjax import parameters
    from lensjax.learning import prediction
    from lensjax.survey import HSC

    params, estimator = first_values(), paper()
    predict = jax.jit(lambda images: estimator.predict(params, images))
    out = Path(folder).with_name("lensjax.parquet")

    def run():
        table = prediction.predict(
            lambda images: np.asarray(predict(images)),
            prediction.find(folder),
            HSC,
            batch_size=BATCH,
            processes=processes,
        )
        prediction.write(table, out, overwrite=True)
        table = pq.read_table(out)
        return np.stack([table[k].to_numpy() for k in parameters.columns()], -1)

    return run, n


def catalogue_by_pytorch(folder, n):
    """Files to table by astropy, a DataLoader and PyTorch."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch

    from lensjax import parameters

    device = command.torch_device()
    net = torch_network(first_values()).to(device)
    out = Path(folder).with_name("torch.parquet")
    loader = torch.utils.data.DataLoader(
        _Cutouts(sorted(map(str, Path(folder).glob("*.fits")))),
        batch_size=BATCH,
        num_workers=os.cpu_count() or 1,
        persistent_workers=True,
        multiprocessing_context="spawn",
    )

    def run():
        with torch.inference_mode():
            found = [net(images.to(device)).cpu().numpy() for images in loader]
        answers = np.concatenate(found)
        columns = dict(zip(parameters.columns(), answers.T, strict=True))
        pq.write_table(pa.table(columns), out)
        return answers

    return run, n


class _Cutouts:
    """A Dataset: the images of files, bands first."""

    def __init__(self, paths: list[str]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, k: int) -> np.ndarray:
        from astropy.io import fits

        with fits.open(self.paths[k]) as file:
            return np.stack([np.asarray(file[b].data, np.float32) for b in BANDS])


def reading(folder, n):
    """What of that is reading: `lensjax.catalogue.cutouts` alone, by one core."""
    from lensjax.catalogue import cutouts

    paths = sorted(map(str, Path(folder).glob("*.fits")))

    def run():
        for path in paths:
            cutouts.read(path)

    return run, n


def network_by_lensjax(n):
    """The network alone, a block of images after the other."""
    import jax

    params, estimator = first_values(), paper()
    images = jax.device_put(stamps(n).reshape(-1, BATCH, SIDE, SIDE, 4))

    @jax.jit
    def all_of(params, images):
        return jax.lax.map(lambda block: estimator.predict(params, block), images)

    return lambda: jax.block_until_ready(all_of(params, images)), n


def network_by_pytorch(n, compiled):
    """The network alone, a batch of images after the other."""
    import torch

    device = command.torch_device()
    net = torch_network(first_values()).to(device)
    images = torch.tensor(stamps(n), device=device).permute(0, 3, 1, 2).contiguous()
    answer = torch.compile(net) if compiled else net

    @torch.inference_mode()
    def run():
        found = torch.stack([answer(block) for block in images.split(BATCH)])
        if device == "cuda":
            torch.cuda.synchronize()
        return found

    return run, n


def next_images(n):
    """Next images and delays by known lenses and first images (`lensjax.followup`)."""
    import jax
    import jax.numpy as jnp

    from lensjax import cosmology, images, lens, next_images, sie

    rng = np.random.default_rng(0)

    def real(low, high):
        return jnp.asarray(rng.uniform(low, high, n), jnp.float32)

    mass = jax.vmap(sie.from_axis_ratio)(
        real(0.5, 2), real(0.4, 1), real(0, np.pi), real(-0.1, 0.1), real(-0.1, 0.1)
    )
    model, beta = lens.without_shear(mass), (real(-0.2, 0.2), real(-0.2, 0.2))
    z_lens, z_source = real(0.2, 0.8), real(1, 3)
    distance = cosmology.time_delay_distance(cosmology.PAPER, z_lens, z_source)
    first = jax.jit(jax.vmap(images.solve))(model, *beta)
    known = first.x[:, 0], first.y[:, 0]
    follow = jax.jit(jax.vmap(next_images.predict))
    e = np.hypot(mass.ex, mass.ey)
    lens_of = (mass.theta_E, np.sqrt((1 - e) / (1 + e)))
    lens_of = np.float64([*lens_of, np.arctan2(mass.ey, mass.ex) / 2, mass.x, mass.y])

    def run():
        x, y, _, _ = jax.block_until_ready(follow(model, *known, distance))
        return x, y, *known, lens_of

    return run, n


def farthest_miss(x, y, known_x, known_y, lens) -> float:
    """How far images of one source are traced from each other by the textbook."""
    theta_E, q, phi, centre_x, centre_y = lens[:, :, None]
    x, y = (
        np.float64(np.concatenate([b[:, None], a], 1))
        for a, b in ((x, known_x), (y, known_y))
    )
    ax, ay = textbook.deflection(theta_E, q, phi, x - centre_x, y - centre_y)
    seen_x, seen_y = x - ax, y - ay
    return float(np.nanmax(np.hypot(seen_x - seen_x[:, :1], seen_y - seen_y[:, :1])))


def measure(quick: bool) -> dict:
    """Rows of lenses a second, by files, by images in memory and by models."""
    files, images, turns = (64, 256, 1) if quick else (4096, 4096, 5)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "cutouts")
        folder.mkdir()
        write_cutouts(folder, files)
        files_in, cores = (str(folder), files), os.cpu_count() or 1
        alone = [
            Contender("lensjax", network_by_lensjax, (images,)),
            Contender("PyTorch", network_by_pytorch, (images, False), rival=True),
        ]
        if not quick:
            alone.append(
                Contender(
                    "PyTorch, compiled", network_by_pytorch, (images, True), rival=True
                )
            )
        works = {
            f"{files:,} FITS files to a table": [
                Contender("lensjax", catalogue_by_lensjax, (*files_in, cores)),
                Contender("lensjax, one core", catalogue_by_lensjax, (*files_in, 0)),
                Contender("lensjax, reading alone, one core", reading, files_in),
                Contender("PyTorch", catalogue_by_pytorch, files_in, rival=True),
            ],
            f"network alone, {images:,} images": alone,
            f"next images and delays, {images:,} lenses": [
                Contender("lensjax", next_images, (images,))
            ],
        }
        if quick:
            works = {
                w: [c for c in of if c is of[0] or c.rival] for w, of in works.items()
            }
        for work, contenders in works.items():
            first = None
            for found in in_turns(contenders, turns):
                if isinstance(found, Missing) or found.answer is None:
                    rows.append(row(work, found))
                    continue
                if "delays" in work:
                    miss = farthest_miss(*found.answer)
                    require(miss < 1e-3, f"images are of sources {miss} arcsec apart")
                    rows.append(row(work, found))
                    continue
                answer = np.asarray(found.answer, float).reshape(-1, 5)
                first = answer if first is None else first
                wrong = np.abs(answer - first).max()
                limit = 1e-4 if command.on_cpu() else 1e-2  # TF32
                require(wrong < limit, f"{found.name} answers otherwise, by {wrong}")
                rows.append(row(work, found))
    return {"rows": rows}


if __name__ == "__main__":
    command.main(__doc__, measure)
