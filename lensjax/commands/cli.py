"""The console command: `lensjax train fold=3`, `lensjax --help`."""

import difflib
import importlib
import os
import sys

from lensjax import __version__
from lensjax.commands import config
from lensjax.storage import processes

COMMANDS = {
    "predict": "model your cutouts: a catalogue of lenses, one row a file",
    "fit": "fit your cutouts: lens models with errors, one row a file",
    "train": "train networks on mocks made in the training step",
    "sample": "draw mock systems: a table, FITS images, pictures",
    "evaluate": "a report on a trained run: tables, figures, lens models",
    "export": "a trained network in one file, with its card",
    "ingest": "make a catalogue of a survey's archives",
    "grid": "train a grid of hyperparameters at once",
}


def run(name: str) -> None:
    """Run a command with the arguments of the process, and exit.

    Its keys are checked before its module, and JAX with it, is imported.
    """
    # before numpy is there: beside another busy process more of them take ten times as
    # long, see there
    for variable in processes.ONE_THREAD:
        os.environ.setdefault(variable, "1")

    def task(settings):
        return importlib.import_module(f"lensjax.commands.{name}").run(settings)

    config.main(name, task)


def main() -> None:
    """`lensjax COMMAND key=value ...`; exits with the command's status."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "help"):
        _say(usage())
        raise SystemExit(0)
    if name in ("-V", "--version"):
        _say(f"lensjax {__version__}")
        raise SystemExit(0)
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = (
            f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
        )
        print(f"error: there is no command {name!r}: {hint}", file=sys.stderr)
        raise SystemExit(2)
    sys.argv = [f"lensjax {name}", *rest]
    run(name)


def usage() -> str:
    """The commands, a line each."""
    lines = [f"  {name:10} {meaning}" for name, meaning in COMMANDS.items()]
    return "\n".join(
        [
            "usage: lensjax COMMAND key=value ...",
            "",
            *lines,
            "",
            "lensjax COMMAND --help shows a command's keys.",
        ]
    )


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError:  # into head, say; Python must not write there again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
