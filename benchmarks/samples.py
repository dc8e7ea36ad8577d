"""The paper's nine samples on the embedded population: a figure and a table.

    python -m benchmarks.samples --size 4000 --out docs

Draws natural >= 0.5, natural >= 2.0 and uniform >= 0.5, each of doubles and quads
together, of doubles and of quads, by the presets of `experiments.sample`.  Writes
samples.png, histograms as in the paper's figures 1, 2, 6 and 8, and samples.json, and
prints the tables of docs/mocks.md: percentiles, what the paper states beside ours, and
how often a look at arcs with two rays a pixel and one with all of a mock's disagree on
who is bright enough (with --data also for the real stamps of that folder).
"""

import argparse
import json
import time
from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

from lensjax import cosmology, mock
from lensjax.catalogue import plain
from lensjax.commands import config
from lensjax.commands.resolve import catalogue_of, criteria_of, rendering_of
from lensjax.mocks import acceptance, proposals, sample
from lensjax.mocks.proposals import Criteria
from lensjax.mocks.system import Rendering
from lensjax.survey import HSC

PRESETS = ("natural", "natural_wide", "uniform")
MULTIPLICITIES = ("both", "doubles", "quads")
COLOURS = {"natural": "C0", "natural_wide": "C1", "uniform": "C2"}
LABELS = {
    "natural": r"natural, $\theta_E \geq 0.5''$",
    "natural_wide": r"natural, $\theta_E \geq 2''$",
    "uniform": r"uniform, $\theta_E \geq 0.5''$",
}
PANELS = (
    ("z_lens", r"$z_d$", np.linspace(0, 1, 26)),
    ("vdisp", r"$v_\mathrm{disp}$ [km/s]", np.linspace(100, 500, 41)),
    ("z_source", r"$z_s$", np.linspace(0, 5, 26)),
    ("theta_E", r"$\theta_E$ [arcsec]", np.arange(0.5, 5.05, 0.1)),
    ("log_flux_ratio", r"$\log_{10}(I_s / I_l)$ in i", np.linspace(-4, 0, 33)),
)


def drawn(preset, multiplicity, size, catalogues):
    """One sample, the seconds it took, and its settings."""
    asked = [f"sample={preset}", f"multiplicity={multiplicity}", f"size={size}"]
    composed = config.compose("sample", [*asked, "out=nowhere"])
    settings = config.typed(composed, config.DrawConfig)
    number = settings.n_lenses
    if number not in catalogues:
        catalogues[number] = catalogue_of(settings)
    catalogue, listing = catalogues[number]
    key = jax.random.fold_in(jax.random.key(settings.sample_seed), 1)
    start = time.monotonic()
    made = sample.draw(
        key, size, catalogue, rendering_of(settings, listing), criteria_of(settings)
    )
    return made, time.monotonic() - start, catalogue


def columns(systems):
    """What is plotted, by name."""
    return {name: getattr(systems, name, None) for name, _, _ in PANELS} | {
        "theta_E": systems.sie.theta_E
    }


def figure(samples, inputs, path):
    """Rows by multiplicity, columns as in the paper's figures 1, 2, 6 and 8."""
    picture = Figure(figsize=(17, 8.5), layout="constrained")
    axes = picture.subplots(len(MULTIPLICITIES), len(PANELS) + 1)
    for row, multiplicity in zip(axes, MULTIPLICITIES, strict=True):
        for axis, (name, label, edges) in zip(row, PANELS, strict=False):
            if name in inputs:
                values, weight = inputs[name]
                shown = {"bins": edges, "weights": weight, "density": True}
                axis.hist(values, **shown, color="0.8", label="input catalogue")
            for preset in PRESETS:
                made = samples[preset, multiplicity][0]
                values = columns(made.systems)[name]
                style = {"histtype": "step", "lw": 1.5, "color": COLOURS[preset]}
                density = name != "theta_E"
                axis.hist(values, edges, density=density, label=LABELS[preset], **style)
            if name == "theta_E":
                axis.set(yscale="log", ylabel="systems in 0.1 arcsec")
            if name == "log_flux_ratio":
                axis.axvline(-2, color="0.5", ls=":", label="the paper's peak")
            axis.set_xlabel(label)
        axis = row[-1]
        for k, preset in enumerate(PRESETS):
            n = samples[preset, multiplicity][0].systems.n_images
            share = np.bincount(n, minlength=5)[2:5] / len(n)
            place = np.arange(2, 5) + 0.25 * (k - 1)
            axis.bar(place, share, 0.25, color=COLOURS[preset])
            for x, y in zip(place, share, strict=True):
                if y:
                    axis.text(
                        x, 0.8 * y, f"{y:.2g}", ha="center", rotation=90, va="top"
                    )
        axis.set(yscale="log", ylim=(1e-4, 3), xticks=[2, 3, 4], xlabel="images")
        row[0].set_ylabel(f"{multiplicity}: density")
    handles, names = axes[0, 0].get_legend_handles_labels()
    others = zip(*axes[0, 4].get_legend_handles_labels(), strict=True)
    (dotted,) = (handle for handle, name in others if "paper" in name)
    picture.legend(
        [*handles, dotted],
        [*names, "the paper's peak"],
        loc="outside upper center",
        ncols=5,
    )
    picture.savefig(path, dpi=90)


def percentiles(values):
    """16, 50 and 84 %, as text."""
    return " ".join(f"{v:.3g}" for v in np.percentile(values, [16, 50, 84]))


def rate(made, low, high):
    """Cross-section [arcsec^2] of the sample's systems with theta_E between two."""
    theta_E = made.systems.sie.theta_E
    return float(made.weight[(theta_E >= low) & (theta_E < high)].sum())


def peak(values, edges):
    """Middle of the fullest bin."""
    counts = np.histogram(values, edges)[0]
    k = counts.argmax()
    return float(edges[k : k + 2].mean())


def statements(samples):
    """What the paper says of its samples, and ours: (statement, paper's, ours)."""
    both = samples["natural", "both"][0].systems
    wide = samples["natural_wide", "both"][0]
    n = np.bincount(both.n_images, minlength=5)
    apart = [samples["natural", m][0].weight.sum() for m in ("doubles", "quads")]
    near = rate(samples["natural", "both"][0], 0.5, 0.6)
    far = rate(wide, 2.0, 2.1)
    # the area behind a lens goes with theta_E^2
    alike = near / far * (2.05 / 0.55) ** 2
    uniform = samples["uniform", "both"][0].systems
    filled = np.bincount(acceptance.bins(uniform.sie.theta_E))
    flat = np.flatnonzero(filled == filled.max())
    vdisp, z, flux = (PANELS[k][2][::2] for k in (1, 0, 4))
    return [
        ("doubles over quads", "20 to 30", f"{n[2] / n[4]:.0f}"),
        ("the same, by their cross-sections", "", f"{apart[0] / apart[1]:.0f}"),
        ("N(0.5) over N(2.0), natural", "above 100", f"{near / far:.0f}"),
        ("the same, were each lens taken once whatever its area", "", f"{alike:.0f}"),
        ("log flux ratio peaks near", "-2", f"{peak(both.log_flux_ratio, flux):.2f}"),
        ("z_d peaks near", "0.5", f"{peak(both.z_lens, z):.2f}"),
        ("dispersion peaks near", "280 km/s", f"{peak(both.vdisp, vdisp):.0f} km/s"),
        (
            "uniform: flat to",
            'about 2"',
            f'{(flat.max() + 1) * acceptance.CAP_BIN:.1f}"',
        ),
        ("uniform: largest theta_E", 'about 4.5"', f'{uniform.sie.theta_E.max():.1f}"'),
    ]


def disagreement(name, catalogue, scale, n=2048):
    """How the peaks of arcs seen with few rays and with all of them differ."""
    rendering = Rendering(HSC, scale)
    criteria = Criteria(arc_peak=0.0, rotate=True)
    key = jax.random.key(7)
    made = sample.draw(key, n, catalogue, rendering, criteria).systems
    pool = proposals.pool(key, catalogue, HSC, criteria, cosmology.PAPER)
    psfs = catalogue.psfs[made.psf_index]
    few, full = (
        np.asarray(
            sample._judge(made, pool.lenses, catalogue.sources, psfs, rendering, rays)[
                0
            ]
        )
        for rays in (sample.COARSE, mock.SUPERSAMPLING)
    )
    off = np.abs(few / full - 1)
    print(
        f"{name}: peaks with {sample.COARSE} rays differ by {np.median(off):.2%} "
        f"(median), {np.percentile(off, 99):.1%} (99 %), {off.max():.1%} (most)"
    )
    for least in (1.0, 5.0):
        wrong = (few >= least) != (full >= least)
        looked = np.abs(few - least) < sample.DOUBT * least
        print(
            f"  arc_peak={least:g}, of {n}: {wrong.sum()} decided otherwise, "
            f"{looked.sum()} looked at closer, {(wrong & ~looked).sum()} then wrong"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--size", type=int, default=4000, help="systems in a sample")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--data", help="folder of real stamps, in the plain layout")
    args = parser.parse_args()
    catalogues, samples, rows = {}, {}, []
    for preset in PRESETS:
        for multiplicity in MULTIPLICITIES:
            made, seconds, catalogue = drawn(
                preset, multiplicity, args.size, catalogues
            )
            samples[preset, multiplicity] = made, seconds
            s, n = made.systems, np.bincount(made.systems.n_images, minlength=5)
            rows.append(
                {
                    "sample": preset,
                    "multiplicity": multiplicity,
                    "theta_E": percentiles(s.sie.theta_E),
                    "z_lens": percentiles(s.z_lens),
                    "z_source": percentiles(s.z_source),
                    "vdisp": percentiles(s.vdisp),
                    "log_flux_ratio": percentiles(s.log_flux_ratio),
                    "two, three, four images": n[2:5].tolist(),
                    "cross_section_arcsec2": float(made.weight.sum()),
                    "counts": made.counts,
                    "seconds": round(seconds, 1),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    lenses, sources = catalogue.lenses, catalogue.sources
    inputs = {
        "z_lens": (lenses.z, lenses.weight),
        "vdisp": (lenses.vdisp, lenses.weight),
        "z_source": (sources.z, np.ones(len(sources.z))),
    }
    figure(samples, inputs, args.out / "samples.png")
    first, listing = next(iter(catalogues.values()))
    disagreement("embedded population", first, listing.source_pixel_scale)
    if args.data:
        real, listing = plain.read(args.data, HSC)
        disagreement("real stamps", real, listing.source_pixel_scale)
    said = statements(samples)
    text = json.dumps(
        {"size": args.size, "samples": rows, "statements": said}, indent=1
    )
    (args.out / "samples.json").write_text(text + "\n")
    print("\n| | paper | embedded population |\n|---|---|---|")
    for line in said:
        print(f"| {' | '.join(line)} |")
    print("\n| sample | images | theta_E | z_d | z_s | dispersion | log flux ratio |")
    print("|---|---|---|---|---|---|---|")
    for r in rows:
        parts = [r[k] for k in ("theta_E", "z_lens", "z_source", "vdisp")]
        name = f"{r['sample']} | {r['multiplicity']}"
        print(f"| {name} | {' | '.join(parts)} | {r['log_flux_ratio']} |")


if __name__ == "__main__":
    main()
