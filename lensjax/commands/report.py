"""A run on one page: report.html, with all its pictures inside."""

import base64
from pathlib import Path

import jinja2

from lensjax.commands import config, run_folder
from lensjax.learning import predicted
from lensjax.storage import atomic

PICTURES = {
    "models.png": "Lens models on colour images. Solid: critical curve, dotted: "
    "caustic and cut; white is the truth, cyan the prediction. Yellow star: the image "
    "that is known, dot: its source; circles: the true next images; crosses: the "
    "predicted ones, with their delays in days after it.",
    "histograms.png": "Truth and prediction of each parameter (paper: figures 6, 9, "
    "10, 12). Grey: 68 and 95 % of the systems.",
    "errors.png": "Errors of all parameters (7): 68 and 95 % of the systems.",
    "flux_ratio.png": "Error of theta_E against the brightness of the arcs (8). Bars: "
    "16 to 84 %.",
    "losses.png": "Loss curves (11).",
    "next_images.png": "Next images and their delays (13), where their number is "
    "right; theta_E > 0.8 arcsec.",
    "delays.png": "Error of the delays against that of theta_E (14).",
    "mocks.png": "Mocks and, beneath, their arcs alone.",
}
"""Figures of a run's folder, with their captions; in brackets the paper's."""
CHOSEN = (
    "sample", "multiplicity", "size", "theta_E_min", "weight_theta_E", "lens_only",
    "survey", "data", "fold", "final", "epochs", "optimizer", "average",
    "learning_rate", "batch_size", "seed", "scaling", "channels", "dense", "dropout",
    "sample_seed", "n_lenses", "n_sources",
)  # fmt: skip


def title(run_dir: Path, settings: config.TrainConfig) -> str:
    """A run in a legend: its sample, and the name of its folder."""
    images = "" if settings.multiplicity == "both" else f" {settings.multiplicity}"
    arcs = ", no arcs" if settings.lens_only else ""
    return (
        f"{settings.sample}{images} >= {settings.theta_E_min:g} arcsec, "
        f"w = {settings.weight_theta_E:g}{arcs} ({Path(run_dir).resolve().name})"
    )


def make(run_dir: Path, evaluation: dict) -> Path:
    """Write report.html of a run's folder and return its path."""
    settings = config.from_yaml(run_dir / "config.yaml", config.TrainConfig)
    facts = run_folder.facts(run_dir, "provenance.json")
    finished = (run_dir / "summary.json").exists()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,  # ids are the users'
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": lambda v, form="": "-" if v is None else format(v, form),
        "quantiles": quantiles,
    }
    page = environment.get_template("report.html").render(
        title=title(run_dir, settings),
        evaluation=evaluation,
        summary=run_folder.facts(run_dir, "summary.json") if finished else None,
        settings={k: getattr(settings, k) for k in CHOSEN},
        facts=facts,
        pictures=[
            (name, text, _embedded(run_dir / name))
            for name, text in PICTURES.items()
            if (run_dir / name).exists()
        ],
        parameters=predicted.FIRST,
    )
    atomic.write(run_dir / "report.html", page)
    return run_dir / "report.html"


def _embedded(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def quantiles(values: dict, form: str = ".2f") -> str:
    """0.02 +0.21 -0.18, as one reads it."""
    if values["median"] is None:
        return "-"
    # z: no minus before zero
    numbers = (format(values[k], f"z{form}") for k in ("median", "plus", "minus"))
    return "{} +{} -{}".format(*numbers)


def markdown_table(head: list[str], lines: list[list[str]]) -> str:
    """A table in Markdown."""
    rule = "|" + "---|" * len(head)
    rows = [head, *lines]
    text = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([text[0], rule, *text[1:]]) + "\n"
