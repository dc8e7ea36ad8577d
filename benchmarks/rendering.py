"""Training with mocks rendered in the step: how fast, how much memory, what share.

    python -m benchmarks.rendering [--ingested DIR] [--data DIR] [--out FILE.json]

Runs `experiments.train` as a user would, one process a way of feeding it, and reads
images a second from its metrics (the faster of the epochs after the first) and the
peak of its memory.  The share of a step that making images takes is one less the rate
over that of images kept in memory.

    kept       images rendered once and kept: the network alone
    embedded   the embedded population's stamps on the device, mocks made in the step
    online    the same, every mock of a system drawn in the step
    streamed   lens stamps read from the folder of --ingested when they are due
    real       the stamps of the plain folder of --data on the device
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax

COMMON = ["size=2000", "epochs=3", "batch_size=32", "fold=0"]
MADE = ["keep_images=false"]


def run(name, arguments):
    """Images a second and peak memory [MB] of one training run."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "experiments.train", *COMMON, *arguments]
        process = subprocess.Popen(
            [*command, f"run_dir={folder}/run"], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{name}: {' '.join(command)} failed")
        lines = Path(folder, "run", "metrics.jsonl").read_text().splitlines()
    rates = [json.loads(line)["images_per_second"] for line in lines]
    found = {"images_per_second": max(rates[1:]), "peak_MB": usage.ru_maxrss // 1024}
    print(name, found, flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--ingested", help="folder made by experiments.ingest")
    parser.add_argument("--data", help="folder of real stamps, in the plain layout")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    ways = {
        "kept": ["keep_images=true"],
        "embedded": MADE,
        "online": ["online=true"],
    }
    if args.ingested:
        ways["streamed"] = [*MADE, f"data={args.ingested}", "stream=true"]
        ways["ingested, in memory"] = [*MADE, f"data={args.ingested}", "stream=false"]
    if args.data:
        ways["real"] = [*MADE, f"data={args.data}"]
    found = {name: run(name, arguments) for name, arguments in ways.items()}
    alone = found["kept"]["images_per_second"]
    print("\n| images | a second | share of a step | peak memory |\n|---|---|---|---|")
    for name, one in found.items():
        one["share"] = round(1 - one["images_per_second"] / alone, 3)
        rate, share = one["images_per_second"], one["share"]
        print(f"| {name} | {rate:,.0f} | {share:.0%} | {one['peak_MB']:,} MB |")
    facts = {"device": str(jax.devices()[0].device_kind), "cores": os.cpu_count()}
    if args.out:
        args.out.write_text(json.dumps(facts | {"ways": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
