"""Commands: python -m experiments.sample, .train and .predict, with key=value."""
