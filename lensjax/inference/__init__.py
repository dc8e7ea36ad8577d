"""From an observation to a posterior: empty until the fit fills it."""
