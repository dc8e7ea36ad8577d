"""The table of faults of tests/faults.py names tests that are there."""

import re
from pathlib import Path

import faults


def test_every_fault_has_tests_and_they_exist():
    names = [
        f"tests/{path.name}::{name}"
        for path in sorted(Path(__file__).parent.glob("test_*.py"))
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    ]
    assert len(faults.FAULTS) == 74
    for fault, patterns in faults.FAULTS.items():
        without_cases = re.sub(r"\[[^ ]*", "", patterns)
        assert faults.tests_of(without_cases, names), fault
