"""What the two tensorflow-datasets builders have in common; needs no TensorFlow."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from lensjax.catalogue.schema import Field

SHARD = 256 * 2**20  # bytes of stamps in a file, and in memory while it is written


class Stored(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Galaxies in the order of their ids, one record each, as array_records.

    shapes : of the stamps, by name.
    examples, count : records from one number to before another, and how many there
        are; only to prepare.

    Shard by shard: tensorflow-datasets' other builders, which sort, need TensorFlow for
    more than a gigabyte.
    """

    VERSION = tfds.core.Version("1.0.0")
    FIELDS: Sequence[Field] = ()
    STAMPS: Mapping[str, str] = {}  # name -> what it shows

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        examples: Callable[[int, int], Iterable[dict[str, Any]]] | None = None,
        count: int = 0,
        **options,
    ):
        self.shapes, self.examples, self.count = shapes, examples, count
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        bands = self.shapes["image"][-1:]
        features = {
            "id": tfds.features.Text(doc="unique, and the order of the records"),
            **{
                name: _numbers(self.shapes[name], np.float32, doc)
                for name, doc in self.STAMPS.items()
            },
            **{
                field.name: _numbers(
                    bands if field.banded else (), field.dtype, field.doc
                )
                for field in self.FIELDS
            },
            "flags": tfds.features.Text(doc="comma-joined, empty when all is well"),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _shard_iterators_per_split(self, dl_manager) -> dict[str, list[Callable]]:
        size = sum(4 * math.prod(shape) for shape in self.shapes.values())
        step = max(SHARD // size, 1)
        starts = range(0, self.count, step)
        return {
            "train": [partial(self._shard, start, start + step) for start in starts]
        }

    def _shard(self, start: int, stop: int) -> Iterator[tuple[str, dict[str, Any]]]:
        for example in self.examples(start, min(stop, self.count)):
            yield example["id"], example

    def _example_writer(self) -> tfds.core.ExampleWriter:
        return _Writer(file_format=self.info.file_format)

    def _log_download_bytes(self) -> None:
        """Nothing is downloaded."""

    _log_download_done = _log_download_bytes


class _Writer(tfds.core.ExampleWriter):
    """Writes the fields of a record in one order.

    Protocol buffers leave it to each process, and the bytes would never be the same.
    """

    def write(self, path: Any, examples: Iterable[tuple[Any, bytes]]) -> Any:
        """Write records to a file."""
        parse = tf_example_pb2.Example.FromString
        return super().write(
            path,
            (
                (key, parse(record).SerializeToString(deterministic=True))
                for key, record in examples
            ),
        )


def _numbers(shape: tuple[int, ...], dtype: type, doc: str) -> tfds.features.Tensor:
    # as bytes: exact in float64, and read ten times as fast
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding="bytes", doc=doc)
