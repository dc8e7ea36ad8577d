"""How well a network reads arcs: mocks of drawn and of real galaxies, side by side.

    python -m benchmarks.networks --weights NAME_OR_FILE --data DIR [--systems 600]

Half of what a network gets wrong on real lenses comes from lens galaxies that are
unlike those it was trained on, half from sources.  Here each comes drawn or real, in
all four combinations, with the same flat theta_E apart from the light; DIR is a folder
of real stamps as `lensjax sample data=DIR` reads it.  `--cutouts DIR --truth CSV` takes
mocks that others made (columns id, x, y, ex, ey, theta_E, lens, peak_over_sky_i) and
also says what their best templates know, `--fits TABLE` what `lensjax fit` made of
them; `--bare DIR` takes real galaxies without arcs, and says what taking off the lens's
light leaves of them, and of arcs that are put on them.
"""

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import network_inputs
from lensjax import cosmology, survey
from lensjax.catalogue import Catalogue, cutouts, plain, quality
from lensjax.commands import compiled, config, runs
from lensjax.commands.resolve import decisive, estimator_of, learning_of
from lensjax.learning import dataset, pretrained
from lensjax.learning.estimator import Estimator, targets
from lensjax.mocks import population, sample, varied
from lensjax.mocks.proposals import Criteria
from lensjax.mocks.system import Rendering
from lensjax.storage import atomic, parquet

NAMES = "x", "y", "ex", "ey", "theta_E"
CRITERIA = Criteria(
    theta_E_min=0.5, theta_E_max=2.5, arc_peak=3.0, rotate=True, free_theta_E=True
)
EDGES = {
    'theta_E ["]': (0.5, 0.8, 1.2, 1.6, 2.2, 3.0),
    "peak [sky sigma]": (3, 6, 12, 25, 1e9),
}
HEAD = ("mocks", 'bias ["]', 'half of 16-84 % ["]', 'RMS ["]', "R2", '> .3"',
        "in 68 %", "in 95 %")  # fmt: skip


def network_of(name: str) -> tuple[Estimator, dict]:
    """Estimator, and parameters with networks in front, of a file or a run so far."""
    if not (Path(name) / "config.yaml").exists():
        model = pretrained.load(name)
        params = jax.tree.map(lambda a: jnp.asarray(a)[None], model.params)
        return model.estimator, params
    own = config.from_yaml(Path(name) / "config.yaml", config.TrainConfig)
    estimator = estimator_of(own)
    params = runs.best_of_folds(
        Path(name), estimator, learning_of(own), own.folds, decisive(own)
    )
    return estimator, jax.tree.map(jnp.asarray, params)


def posteriors(name: str) -> Callable[[np.ndarray], dict]:
    """What a network says of images (n, side, side, band): arrays by name."""
    estimator, params = network_of(name)

    @jax.jit
    def some(params, images):
        if estimator.posterior is not None:
            return pretrained.posteriors(estimator, params, images)
        each = jax.vmap(lambda p: estimator.predict(p, estimator.see(images)))(params)
        found = dict(zip(NAMES, each.mean(0).T, strict=True))
        nothing = jnp.full(len(images), jnp.nan)
        errors = [f"{n}_{e}" for n in NAMES for e in ("p16", "p84", "sigma")]
        return found | dict.fromkeys([*errors, "p_arc"], nothing)

    def of(images: np.ndarray) -> dict[str, np.ndarray]:
        found = []
        for first in range(0, len(images), 50):
            rows = np.resize(np.arange(first, min(first + 50, len(images))), 50)
            found.append(jax.tree.map(np.asarray, some(params, images[rows])))
        return {
            k: np.concatenate([f[k] for f in found])[: len(images)] for k in found[0]
        }

    return of


def merits(found: dict, truth: np.ndarray, name: str = "theta_E") -> list:
    """Cells of a row of `HEAD`; truth (n, 5) in the order of `NAMES`."""
    true = truth[:, NAMES.index(name)]
    off = found[name] - true
    low, high = np.percentile(off, [16, 84])
    within = (true >= found[f"{name}_p16"]) & (true <= found[f"{name}_p84"])
    both = within, abs(off) < 2 * found[f"{name}_sigma"]
    points = np.isnan(found[f"{name}_sigma"]).all()
    cells = ["-" if points else f"{np.mean(one):.2f}" for one in both]
    rms = np.sqrt(np.mean(off**2))
    r2 = 1 - rms**2 / true.var() if len(true) > 1 else np.nan
    return [len(off), f"{np.median(off):+.3f}", f"{(high - low) / 2:.3f}",
            f"{rms:.3f}", f"{r2:.2f}", f"{np.mean(abs(off) > 0.3):.0%}",
            *cells]  # fmt: skip


def table(head: tuple, rows: list) -> str:
    """A table in Markdown."""
    lines = [list(head), ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in lines)


def by_bins(found: dict, truth: np.ndarray, peak: np.ndarray) -> list:
    """Rows by theta_E and by the peak of the arcs."""
    rows = []
    for (name, edges), values in zip(EDGES.items(), (truth[:, 4], peak), strict=True):
        for low, high in zip(edges[:-1], edges[1:], strict=True):
            k = (values >= low) & (values < high)
            if k.sum() > 5:
                some = {n: v[k] for n, v in found.items()}
                label = f"{name} from {low:g}" + (f" to {high:g}" if high < 1e9 else "")
                rows.append([label, *merits(some, truth[k])])
    return rows


def two_by_two(ask: Callable, data: str, systems: int, seed: int) -> str:
    """Table of drawn and real lens galaxies and sources; and by real lens galaxy."""
    real, listing = plain.read(data, survey.HSC, 0, None)
    drawn, _ = population.catalogue(
        jax.random.key(seed), 600, 600, survey.HSC, cosmology.PAPER, 0, varied.VARIED
    )
    rows, by_galaxy = [], []
    for lenses, lens_kind in ((drawn, "drawn"), (real, "real")):
        for sources, source_kind in ((drawn, "drawn"), (real, "real")):
            galaxies = Catalogue(lenses.lenses, sources.sources, lenses.psfs)
            rendering = Rendering(
                survey.HSC, population.SOURCE_PIXEL_SCALE, arc_noise=True
            )
            key = jax.random.key(seed + 1)
            one = sample.draw(key, systems, galaxies, rendering, CRITERIA)
            images = np.asarray(dataset.render_all(one.systems, galaxies, rendering))
            truth = np.asarray(targets(one.systems))
            found = ask(images)
            rows.append([f"{lens_kind}, {source_kind}", *merits(found, truth)])
            if lens_kind == source_kind == "real":
                for k in np.unique(one.systems.lens_index):
                    own = one.systems.lens_index == k
                    some = {n: v[own] for n, v in found.items()}
                    by_galaxy.append([listing.lens_id[k], *merits(some, truth[own])])
    return "\n\n".join([
        table(("lens, source", *HEAD), rows),
        table(("real lens galaxy, real sources", *HEAD), by_galaxy),
    ])  # fmt: skip


def of_files(ask: Callable, folder: str, truth_file: str) -> str:
    """Tables of mocks that others made."""
    with Path(truth_file).open() as file:
        rows = list(csv.DictReader(file))
    truth = np.array([[float(row[name]) for name in NAMES] for row in rows])
    peak = np.array([float(row["peak_over_sky_i"]) for row in rows])
    images = np.stack([image_of(f"{folder}/{row['id']}.fits") for row in rows])
    found = ask(images)
    numbers = [[name, *merits(found, truth, name)] for name in NAMES]
    lens, p = np.array([row["lens"] for row in rows]), found["p_arc"]
    own = [
        [name, *merits({n: v[lens == name] for n, v in found.items()},
                       truth[lens == name])]
        for name in np.unique(lens)
    ]  # fmt: skip
    sure = [f"{np.mean(p[peak > least] > 0.9):.0%}" for least in (3, 10)]
    return "\n\n".join([
        table(("number", *HEAD), numbers),
        table(("theta_E", *HEAD), by_bins(found, truth, peak)),
        table(("lens galaxy", *HEAD), own),
        f"P(arc) > .9 of {sure[0]}; of those with a peak above 10 sky sigma {sure[1]}",
        network_inputs.templates(images, truth[:, NAMES.index("theta_E")]),
    ])  # fmt: skip


def of_fits(file: str, truth_file: str) -> str:
    """Table of what fits made of mocks that others made."""
    with Path(truth_file).open() as opened:
        rows = {row["id"]: row for row in csv.DictReader(opened)}
    fits = parquet.read(file)
    rows = [rows[name] for name in fits["id"]]
    truth = np.array([[float(row[name]) for name in NAMES] for row in rows])
    peak = np.array([float(row["peak_over_sky_i"]) for row in rows])
    columns = {f"theta_E{e}": f"theta_E_arcsec{e}" for e in ("", "_p16", "_p84")}
    found = {n: np.asarray(fits[c], float) for n, c in columns.items()}
    found["theta_E_sigma"] = np.asarray(fits["theta_E_arcsec_sigma"], float)
    sound = np.isfinite(found["theta_E"])
    chosen = {"all": sound}
    chosen |= {f"peak > {least}": sound & (peak > least) for least in (6, 12)}
    chosen["gain > 500"] = sound & (np.asarray(fits["arc_gain"], float) > 500)
    lines = [
        [name, *merits({n: v[k] for n, v in found.items()}, truth[k])]
        for name, k in chosen.items()
        if k.sum() > 5
    ]
    return table((f"fits of {Path(file).stem}", *HEAD), lines)


def image_of(path: str) -> np.ndarray:
    """A cutout as a network of HSC's sees it."""
    return quality.prepare(cutouts.read(path, survey.HSC.bands), survey.HSC).pixels


def of_bare(ask: Callable, folder: str) -> str:
    """Real galaxies without arcs."""
    paths = sorted(Path(folder).glob("*.fits"))
    images = np.stack([image_of(str(path)) for path in paths])
    found = ask(images)
    rows = [
        [path.stem, f"{found['p_arc'][k]:.2f}", f"{found['theta_E'][k]:.2f}",
         f"{found['theta_E_sigma'][k]:.2f}"]
        for k, path in enumerate(paths)
    ]  # fmt: skip
    low = np.mean(found["p_arc"] < 0.1)
    text = f"P(arc) < .1 of {low:.0%} of {len(paths)} galaxies without arcs"
    middle = f"median {np.median(found['p_arc']):.2f}"
    seen = table(("galaxy", "P(arc)", "theta_E", "sigma"), rows)
    return "\n\n".join([seen, f"{text}, {middle}", network_inputs.subtraction(images)])


def main() -> None:
    """Ask, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True, help="a name, a file, or a run")
    parser.add_argument("--data", help="folder of real stamps")
    parser.add_argument("--cutouts", help="folder of mocks that others made")
    parser.add_argument("--truth", help="their table, .csv")
    parser.add_argument("--fits", nargs="*", default=(), help="tables of fits of them")
    parser.add_argument("--bare", help="folder of galaxies without arcs")
    parser.add_argument("--systems", type=int, default=600)
    parser.add_argument("--seed", type=int, default=97)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    compiled.keep()
    ask, texts = posteriors(asked.weights), []
    if asked.cutouts:
        texts.append(of_files(ask, asked.cutouts, asked.truth))
    texts += [of_fits(file, asked.truth) for file in asked.fits]
    if asked.bare:
        texts.append(of_bare(ask, asked.bare))
    if asked.data:
        texts.append(two_by_two(ask, asked.data, asked.systems, asked.seed))
    text = "\n\n".join(texts)
    print(text)
    if asked.out:
        atomic.write(asked.out, text + "\n")


if __name__ == "__main__":
    main()
