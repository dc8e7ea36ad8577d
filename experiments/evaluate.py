"""Judge a trained run: `python -m experiments.evaluate` is `lensjax evaluate`."""

from lensjax.commands import cli

if __name__ == "__main__":
    cli.run("evaluate")
