"""Make a catalogue of archives: `python -m experiments.ingest` is `lensjax ingest`."""

from lensjax.commands import cli

if __name__ == "__main__":
    cli.run("ingest")
