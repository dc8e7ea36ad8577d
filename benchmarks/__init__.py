"""How fast and how exact lensjax is, beside other codes: `python -m benchmarks`."""
