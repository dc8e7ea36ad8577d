"""A network in one file: `python -m experiments.export` is `lensjax export`."""

from lensjax.commands import cli

if __name__ == "__main__":
    cli.run("export")
