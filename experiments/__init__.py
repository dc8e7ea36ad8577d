"""Commands: `python -m experiments.sample`, `.train`, `.predict`; key=value arguments."""
