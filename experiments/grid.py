"""A grid of hyperparameters: `python -m experiments.grid` is `lensjax grid`."""

from lensjax.commands import cli

if __name__ == "__main__":
    cli.run("grid")
