"""How fast lensjax is, beside the codes that people use today.

    python -m benchmarks [QUESTION ...] [--quick] [--out DIR]

Asks all questions, or those named, each in a process of its own; keeps the figures in
DIR/<device>.json, where what was not asked stays as it was; and makes the tables and
plots of docs/benchmarks.md from all such files.  --quick does little work, to see that
everything runs and is right, and leaves the page alone.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

QUESTIONS = (
    "deflection",
    "equation",
    "mocks",
    "step",
    "stages",
    "prediction",
    "beginning",
    "growth",
)
DOCS = Path(__file__).parent.parent / "docs"


def ask(question: str, quick: bool) -> dict | None:
    """One question's result, or None where it failed; what it prints is not shown."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "result.json")
        line = [sys.executable, "-m", f"benchmarks.{question}", "--out", str(out)]
        done = subprocess.run(
            [*line, "--quick"] if quick else line, stdout=subprocess.DEVNULL
        )
        if done.returncode:
            print(f"{question}: failed (exit status {done.returncode})", flush=True)
            return None
        return json.loads(out.read_text())


def file_of(facts: dict) -> str:
    """Name of the file that keeps a device's figures."""
    if facts["platform"] == "cpu":
        return "cpu.json"
    return re.sub(r"[^a-z0-9]+", "-", facts["device"].lower()).strip("-") + ".json"


def main() -> int:
    """Ask, keep, and make the page; the number of questions that failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument(
        "questions",
        nargs="*",
        metavar="QUESTION",
        help=f"of {', '.join(QUESTIONS)}; all of them if none is named",
    )
    parser.add_argument("--quick", action="store_true", help="little work, no page")
    parser.add_argument("--out", type=Path, help="folder of the figures")
    options = parser.parse_args()
    unknown = set(options.questions) - {*QUESTIONS}
    if unknown:
        parser.error(
            f"no question is named {', '.join(sorted(unknown))}: "
            f"there are {', '.join(QUESTIONS)}"
        )
    from benchmarks import record, report
    from lensjax.commands.provenance import commit

    begun_at = commit()  # before figures are written, which differ from it
    device = record.facts()["device"]
    kept_in = DOCS / "benchmarks"
    folder, failed = (options.out or kept_in).resolve(), 0
    if options.quick and folder == kept_in.resolve() and options.out:
        parser.error("--quick figures are not for the docs: give another --out")
    keep = options.out or not options.quick
    for question in options.questions or QUESTIONS:
        began = time.perf_counter()
        result = ask(question, options.quick)
        failed += result is None
        if result is not None:
            print(f"{question}: {time.perf_counter() - began:.0f} s", flush=True)
            result["facts"]["commit"] = begun_at
        if keep and result is not None:
            path = folder / file_of(result["facts"])
            record.write(path, record.read(path) | {question: result})
        elif keep:  # what an older state answered is not this one's
            for path in sorted(folder.glob("*.json")):
                kept = record.read(path)
                if kept.get(question, {}).get("facts", {}).get("device") == device:
                    kept.pop(question)
                    record.write(path, kept)
        if keep and folder == kept_in.resolve():  # at once: the rest may be cut short
            report.make(DOCS)
    return failed


if __name__ == "__main__":
    sys.exit(main())
