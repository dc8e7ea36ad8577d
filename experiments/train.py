"""Train networks on mocks: `python -m experiments.train` is `lensjax train`."""

from lensjax.commands import cli

if __name__ == "__main__":
    cli.run("train")
