"""Benchmarks run, say where their figures come from, and fail where an answer is wrong.

Times are not judged: that is for a machine that does nothing else.
"""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import deflection, equation, record, report, textbook, turns
from benchmarks.__main__ import QUESTIONS, file_of
from benchmarks.turns import Contender, Missing

ROOT = Path(__file__).parent.parent


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_a_question_is_answered_quickly_and_rightly(tmp_path):
    """The quickest one; `make bench BENCH_ARGS=--quick` asks all of them."""
    question = "deflection"
    assert question in QUESTIONS
    done = run(question, "--quick", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.iterdir()
    assert file.name == "cpu.json"
    result = json.loads(file.read_text())[question]
    assert result["quick"] and result["facts"]["versions"]["jax"]
    for row in result.get("rows", []):
        # rivals need not be there, lensjax must
        # (a stage's own time is a difference)
        assert "missing" in row or row.get("whole", row["seconds"]) > 0
        assert "missing" not in row or row["who"] not in (*report.OURS, "copy")
    # what is made of it can be read
    assert report.TABLES[question](json.loads(file.read_text())).count("|") > 12


def test_an_unknown_question_is_told_with_those_that_there_are():
    done = run("speed")
    assert done.returncode == 2
    assert "speed" in done.stderr and "deflection" in done.stderr


def slow(seconds):
    return lambda: time.sleep(seconds) or np.array([seconds]), 2


def broken():
    raise FloatingPointError("no answer")


def absent():
    import a_code_that_nobody_has  # noqa: F401


def test_codes_take_turns_and_times_are_for_one_unit_of_work():
    found = turns.in_turns(
        [
            Contender("quick", slow, (0.02,)),
            Contender("absent", absent, rival=True),
            Contender("broken", broken, rival=True),
            Contender("slow", slow, (0.1,)),
        ],
        turns=3,
    )
    quick, missing, failed, other = found
    assert isinstance(missing, Missing) and "a_code_that_nobody_has" in missing.why
    assert failed == Missing("broken", "FloatingPointError: no answer")
    assert 0.01 <= quick.least <= quick.seconds < other.seconds
    assert 0.05 <= other.least and other.turns == 3 and other.units == 2
    np.testing.assert_array_equal(other.answer, [0.1])


@pytest.mark.parametrize("make", [broken, absent])
def test_where_our_own_code_fails_the_benchmark_ends_with_its_words(make):
    with pytest.raises(RuntimeError, match="ours failed(.|\n)*(no answer|nobody_has)"):
        turns.in_turns([Contender("ours", make)], 1)


@pytest.mark.parametrize("wrong", [0.0, np.nan])
def test_a_fast_wrong_answer_is_no_figure(monkeypatch, wrong):
    def hasty(contenders, **_):
        column, x, y = deflection.inputs(*contenders[0].arguments)
        right = textbook.deflection(**column, x=np.float64(x), y=np.float64(y))
        answer = right[0], wrong * right[1]
        return [turns.Timing("hasty", 1e-9, 1e-9, 1, 1, 1e-9, 1, answer)]

    monkeypatch.setattr(deflection, "in_turns", hasty)
    with pytest.raises(SystemExit, match="wrong answer: hasty"):
        deflection.measure(quick=True)


def test_lost_doubled_and_misplaced_images_are_seen():
    run, n = equation.ours(20, blocks=False)
    x, y, mu, days = (np.array(a) for a in run())
    good = equation.judged((x, y, mu, days), n)
    assert good["lost"] == good["more"] == 0 and good["miss"] < 1e-4
    assert good["magnification"] < 1e-3
    lost = x.copy()
    lost[3, 0] = np.nan
    assert equation.judged((lost, y, mu, days), n)["lost"] == 1
    doubled = [a.copy() for a in (x, y, mu)]
    for a in doubled:
        a[3, 6] = a[3, 0]
    assert equation.judged((*doubled, days), n)["more"] == 1
    assert equation.judged((x + 0.01, y, mu, days), n)["miss"] > equation.MISS
    assert equation.judged((x, y, -mu, days), n)["magnification"] > 1


def test_figures_of_a_device_have_a_file_named_after_it():
    assert file_of({"platform": "cpu", "device": "AMD EPYC"}) == "cpu.json"
    gpu = {"platform": "gpu", "device": "NVIDIA H100 80GB HBM3"}
    assert file_of(gpu) == "nvidia-h100-80gb-hbm3.json"


def test_the_page_is_what_its_figures_give(tmp_path):
    shutil.copytree(ROOT / "docs" / "benchmarks", tmp_path / "benchmarks")
    page = tmp_path / "benchmarks.md"
    kept = (ROOT / "docs" / "benchmarks.md").read_text()
    emptied = re.sub(
        r"(<!-- (?!end)[a-z]+ -->).*?(?=<!-- end)", r"\1", kept, flags=re.S
    )
    page.write_text(emptied)
    assert emptied != kept
    report.make(tmp_path)
    assert page.read_text() == kept
    for image in re.findall(r"\]\((benchmarks/\S+\.png)\)", kept):
        assert (ROOT / "docs" / image).exists()
    figures = [
        json.loads(p.read_text()) for p in (tmp_path / "benchmarks").glob("*.json")
    ]
    assert figures and not any(r["quick"] for of in figures for r in of.values())


def test_a_question_asked_anew_leaves_the_others_figures(tmp_path):
    record.write(tmp_path / "sub" / "cpu.json", {"mocks": {"rows": []}})
    kept = json.loads((tmp_path / "sub" / "cpu.json").read_text())
    assert kept == {"mocks": {"rows": []}}
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["cpu.json"]
