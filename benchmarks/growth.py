"""How cost grows: with points, systems, mocks, rays, pixels, bands and batches.

    python -m benchmarks.growth [--quick] [--out FILE.json]

`whole` is the time of all the work, compiled before; each size has a process of its own
and the sizes of one kind take turns.  The programs are those of the other questions,
which hold their answers against the truth.
"""

from benchmarks import command, deflection, equation, mocks, step
from benchmarks.record import rounded, row
from benchmarks.turns import Contender, in_turns

STEP = "images of a training step's batch"
SIZES = {
    "points of a deflection": (10**3, 10**4, 10**5, 10**6, 10**7),
    "systems of the lens equation": (10**2, 10**3, 10**4, 10**5),
    "mocks": (1, 8, 64, 256),
    "rays along a pixel's side": (1, 2, 3, 4, 6, 8),
    "pixels along a mock's side": (32, 64, 96, 128),
    "bands of a mock": (1, 2, 4, 8),
    STEP: (16, 32, 64, 128, 256),
}
QUICK = ("points of a deflection", "bands of a mock")
MOCKS = 16  # where it is not their number that grows


def contender(kind: str, size: int) -> Contender:
    """Work of one size."""
    make, arguments = {
        "points of a deflection": (deflection.ours, (1, size)),
        "systems of the lens equation": (equation.ours, (size, command.on_cpu())),
        "mocks": (mocks.ours, (size, 4)),
        "rays along a pixel's side": (mocks.ours, (MOCKS, size)),
        "pixels along a mock's side": (mocks.ours, (MOCKS, 4, size)),
        "bands of a mock": (mocks.ours, (MOCKS, 4, mocks.SIDE, size)),
        STEP: (
            step.ours,
            (step.kept, 20 * size, size, 1, True),
        ),
    }[kind]
    return Contender(f"{size}", make, arguments)


def measure(quick: bool) -> dict:
    """Rows of every kind and size."""
    rows = []
    for kind, sizes in SIZES.items():
        if quick and kind not in QUICK:
            continue
        sizes = sizes[:2] if quick else sizes
        for found in in_turns([contender(kind, s) for s in sizes], 1 if quick else 7):
            # a training step is the whole, though a run has many
            units = 1 if kind == STEP else found.units
            whole = rounded(found.seconds * units)
            rows.append(row(kind, found, size=int(found.name), whole=whole))
    return {"rows": rows}


if __name__ == "__main__":
    command.main(__doc__, measure)
