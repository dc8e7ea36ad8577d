"""tensorflow-datasets builder of ingested lens galaxies."""
