"""The paper's networks: what runs for each, and the page that compares."""

import json
import re
from pathlib import Path

import pytest

from experiments import page, paper
from experiments.settings import PAPER_ROWS, PaperConfig
from lensjax.commands import config
from lensjax.commands.config import ConfigError, TrainConfig

QUANTILES = {"median": -0.001, "plus": 0.2, "minus": 0.1}
MERIT = {"bias": 0.0, "half_width": 0.15, "rms": 0.25, "r2": 0.6, "outliers": 0.0}


def predictions():
    images = {
        "systems": 9,
        "other number of images": 0.08,
        "all": {"images": 9}
        | dict.fromkeys(("x", "y", "delay", "fraction"), QUANTILES),
    }
    names = ("theta_E", "ex", "ey", "x", "y")
    bins = [(0.0, 0.8, 9), (0.8, 2.5, 0), (2.5, 5.0, 1)]
    by_theta_E = [
        {"from": low, "to": high, "systems": n, "merits": {"theta_E": MERIT}}
        for low, high, n in bins
    ]
    by_theta_E[-1]["merits"] = None
    return {
        "by theta_E": by_theta_E,
        "by log flux ratio": by_theta_E,
        "merits": dict.fromkeys(names, MERIT),
        "error": dict.fromkeys(names, QUANTILES),
        "theta_E > 0.8": {"theta_E error": QUANTILES},
        "next images": images,
        "next images, theta_E > 0.8": images,
    }


def made(name):
    who = ("network", "light only", "prior mean")
    return {
        "row": name, "command": "python -m x", "systems": 1000, "trained on": 700,
        "tested on": 300, "epochs": 7, "optimizer": "adam", "learning_rate": 0.001,
        "batch_size": 32, "seed": 0, "seconds": [60, 12], "device": "cpu",
        "commit": "abc", "test loss": dict.fromkeys(who, 0.04321),
        "predictions": {w: predictions() for w in who},
    }  # fmt: skip


@pytest.mark.parametrize("name", PAPER_ROWS)
def test_every_row_is_a_run_that_is_known_again_by_its_settings(name):
    settings = paper.settings_of(name, PaperConfig())
    assert paper.name_of(settings) == name
    assert settings.fold == "all" and settings.final
    assert settings.theta_E_min == (2.0 if "wide" in name else 0.5)
    words = config.command_line(settings).split()
    assert words[:2] == ["lensjax", "train"]
    again = config.typed(config.compose("train", words[2:]), TrainConfig)
    again.run_dir = settings.run_dir
    assert again == settings  # the printed command is the run


def test_a_row_trained_on_fresh_systems_stands_beside_its_finite_sample(tmp_path):
    asked = PaperConfig(online=True)
    settings = paper.settings_of("natural-5", asked)
    assert settings.online and settings.run_dir == "runs/paper/natural-5-online"
    assert paper.name_of(settings) == "natural-5"
    assert "online=true" in config.command_line(settings)
    fresh = made("natural-5-online")
    fresh["predictions"]["network"]["merits"]["theta_E"] = MERIT | {"rms": 0.2}
    for record in (made("natural-5"), fresh, made("uniform")):
        (tmp_path / f"{record['row']}.json").write_text(json.dumps(record))
    records = page.records_in(tmp_path)
    assert [*records] == ["natural-5", "natural-5-online", "uniform"]
    _, _, finite, online = page.online(records).splitlines()
    seen = 7 * (700 // 32) * 32  # epochs of whole batches
    assert "700 systems, again" in finite and f"| {seen:,} |" in finite
    assert "fresh systems" in online and f"| {seen:,} |" in online
    assert "0.250" in finite and "0.200" in online
    assert page.runs(records).count("python -m x") == 3


def test_uniform_rows_alone_are_told_whether_galaxies_serve_once():
    lifted = PaperConfig(once=False)
    lifted.validate()
    assert paper.settings_of("uniform", PaperConfig()).once
    assert not paper.settings_of("uniform", lifted).once
    assert paper.name_of(paper.settings_of("uniform", lifted)) == "uniform"
    assert paper.settings_of("natural", PaperConfig(once=True)).once is False
    with pytest.raises(ConfigError, match="once must be true or false, not 'maybe'"):
        PaperConfig(once="maybe").validate()


def test_rows_of_other_settings_are_no_rows_of_the_paper():
    assert paper.name_of(TrainConfig(weight_theta_E=3.0)) is None
    assert paper.name_of(TrainConfig(source_boost=2.0)) is None
    assert paper.name_of(TrainConfig(shear=0.05)) is None
    assert paper.name_of(TrainConfig(weight_theta_E=5.0)) == "natural-5"
    assert paper.name_of(TrainConfig(weight_theta_E=5.0, dropout=0.3)) is None
    assert paper.name_of(TrainConfig(weight_theta_E=5.0, dense=(60, 42))) is None
    with pytest.raises(ConfigError, match="rows must be .* did you mean natural-5"):
        PaperConfig(rows=("natural-55",)).validate()
    everything = PaperConfig(rows="all")
    everything.validate()
    assert everything.rows == PAPER_ROWS


def test_a_page_is_filled_where_it_is_marked_and_nowhere_else(tmp_path):
    path = tmp_path / "page.md"
    text = "before\n\n<!-- table 1 -->\nold\n<!-- end -->\n\nbetween\n\n"
    text += "<!-- errors -->\n<!-- end -->\n\n<!-- bins -->\n<!-- end -->\nafter\n"
    path.write_text(text)
    records = {"natural-5": made("natural-5")}
    page.fill(path, records)
    once = path.read_text()
    assert once.startswith("before\n") and once.endswith("after\n")
    assert "between" in once and "old" not in once
    row = next(x for x in once.splitlines() if x.startswith("| `natural-5` | 65,472"))
    assert "| 0.0496 | 0.0432 | - | 0.0432 | 0.0432 | 123 | 7 |" in row
    assert "not run yet" in once  # the others are not hidden
    assert "| `natural-5` | paper | 0.02 +0.21 -0.18 |" in once
    assert "| `natural-5` | network | 0.00 +0.20 -0.10 | 0.15 | 0.25 | 0.60 |" in once
    # of bins, those that have systems; no merits where there is one alone
    line = "| `natural-5` | theta_E below 0.8 | 9 | 0.00 | 0.15 | 0.25 | 0.00 | 0.15 |"
    assert line in once and "| `natural-5` | above 2.5 | 1 | - | - |" in once
    assert "0.8 to 2.5" not in once
    page.fill(path, records)
    assert path.read_text() == once
    for table in re.findall(r"<!-- [\w ]+ -->\n\n(.*?)\n<!-- end -->", once, re.S):
        assert len({line.count("|") for line in table.strip().splitlines()}) == 1


def test_the_page_holds_what_its_records_say(tmp_path):
    """docs/paper.md is made, not written."""
    docs = Path(paper.__file__).parent.parent / "docs"
    copy = tmp_path / "paper.md"
    copy.write_text((docs / "paper.md").read_text())
    page.fill(
        copy,
        page.records_in(docs / "paper"),
        page.first_in(docs),
        page.varied_in(docs),
    )
    assert copy.read_text() == (docs / "paper.md").read_text()


def test_a_run_that_is_not_finished_cannot_be_recorded(tmp_path):
    text = config.to_yaml(TrainConfig(weight_theta_E=5.0))
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match="not finished and judged, .* final=true"):
        paper.record(tmp_path)
