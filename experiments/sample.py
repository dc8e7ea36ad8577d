"""Draw a sample of mock systems: `python -m experiments.sample` is `lensjax sample`."""

from lensjax.commands import cli

if __name__ == "__main__":
    cli.run("sample")
