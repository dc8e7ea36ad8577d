"""held_out.parquet and test.parquet: truth and predictions, one row a system.

Columns of systems.parquet, and the predictions' with a name in front that says whose
they are (`PREFIXES`).
"""

from pathlib import Path

import numpy as np
from astropy.table import Table

from lensjax import parameters
from lensjax.catalogue import Catalogue, Listing
from lensjax.evaluation import metrics
from lensjax.learning.estimator import targets
from lensjax.mocks import sample
from lensjax.mocks.sample import Sample
from lensjax.parameters import Space
from lensjax.storage import parquet
from lensjax.survey import Survey

PREFIXES = {
    "network": "network_",
    "light only": "light_",
    "prior mean": "prior_",
    "network, arcs removed": "no_arcs_",  # in the final network's test only
}
"""Who predicts, and how their columns begin."""


def write(
    path: Path,
    rows: np.ndarray,
    predictions: dict[str, np.ndarray],
    drawn: Sample,
    catalogue: Catalogue,
    listing: Listing,
    survey: Survey,
    space: Space = parameters.WITHOUT_SHEAR,
) -> dict[str, dict]:
    """Write the table of some rows of a sample; the merits of each prediction.

    predictions: (len(rows), len(space)) by who made them, see `PREFIXES`.
    """
    some = drawn._replace(
        systems=metrics.take(drawn.systems, rows), weight=drawn.weight[rows]
    )
    table = sample.to_table(some, catalogue, listing, survey)
    truth, merits = np.asarray(targets(some.systems, space), float), {}
    for who, values in predictions.items():
        for k, parameter in enumerate(space):
            column = PREFIXES[who] + parameter.column
            table[column] = values[:, k].astype(np.float32)
            table[column].unit = parameter.unit or None
        by_name = metrics.merits(truth, values, space)
        merits[who] = {name: m._asdict() for name, m in by_name.items()}
    parquet.write(table, path, overwrite=True)
    return merits


def read(
    table: Table, space: Space = parameters.WITHOUT_SHEAR
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Truth (N, len(space)) and, by who made them, predictions of such a table."""

    def values(prefix):
        columns = [prefix + name for name in parameters.columns(space)]
        return np.stack([np.asarray(table[c], float) for c in columns], -1)

    found = {
        who: values(prefix)
        for who, prefix in PREFIXES.items()
        if prefix + space[0].column in table.colnames
    }
    return values(""), found
