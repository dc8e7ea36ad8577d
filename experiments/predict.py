"""Model your own cutouts: `python -m experiments.predict` is `lensjax predict`."""

from lensjax.commands import cli

if __name__ == "__main__":
    cli.run("predict")
