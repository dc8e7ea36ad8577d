"""tensorflow-datasets builder of ingested source galaxies."""
