"""What every question's command takes: --quick and --out."""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import record


def main(about: str, measure: Callable[[bool], dict]) -> None:
    """Measure, print the result as JSON, and write it."""
    parser = argparse.ArgumentParser(description=about.split("\n\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="little work: does it run, is it right"
    )
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    options = parser.parse_args()
    began, facts = time.perf_counter(), record.facts()
    result = {
        "quick": options.quick,
        "facts": facts,
        **measure(options.quick),
        "seconds": round(time.perf_counter() - began),
    }
    print(json.dumps(result, indent=1))
    if options.out:
        record.write(options.out, result)
