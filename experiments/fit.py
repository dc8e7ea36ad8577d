"""Fit lens models to cutouts: `python -m experiments.fit` is `lensjax fit`."""

from lensjax.commands import cli

if __name__ == "__main__":
    cli.run("fit")
