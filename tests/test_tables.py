"""Tables on disk: what comes back, and what is refused."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.table import Table

from lensjax.storage import parquet


@pytest.fixture
def table():
    made = Table(
        {
            "id": ["0000000007", "0000000123"],
            "lens_id": ["hsc_01", "a longer name: \u00e4"],
            "theta_E_arcsec": np.array([1.25, 0.75], np.float32),
            "vdisp_kms": np.array([np.nan, 280.0]),
            "n_images": np.array([2, 4], np.int32),
            "z_lens_drawn": np.array([True, False]),
        },
        meta={"counts": {"proposed": 1051, "accepted": 2}, "catalogue": "a folder"},
    )
    made["theta_E_arcsec"].unit = "arcsec"
    made["vdisp_kms"].unit = "km/s"
    made["vdisp_kms"].description = "velocity dispersion"
    return made


def test_a_table_comes_back_with_its_types_units_and_meta(tmp_path, table):
    out = tmp_path / "systems.parquet"
    parquet.write(table, out)
    found = parquet.read(out)
    assert found.colnames == table.colnames and found.meta == table.meta
    for name in table.colnames:
        np.testing.assert_array_equal(found[name], table[name])
        if table[name].dtype.kind != "U":
            assert found[name].dtype == table[name].dtype
        assert found[name].unit == table[name].unit
        assert found[name].description == table[name].description
    assert found["vdisp_kms"].unit == u.km / u.s
    assert list(tmp_path.iterdir()) == [out]  # nothing temporary is left


def test_other_programs_read_plain_columns_with_units(tmp_path, table):
    out = tmp_path / "systems.parquet"
    parquet.write(table, out)
    plain = pq.read_table(out)
    assert plain.column("id").to_pylist() == ["0000000007", "0000000123"]
    assert plain.schema.field("vdisp_kms").metadata[b"unit"] == b"km / s"
    assert json.loads(plain.schema.metadata[b"lensjax"])["catalogue"] == "a folder"


def test_an_empty_table_comes_back_empty(tmp_path, table):
    out = tmp_path / "none.parquet"
    parquet.write(table[:0], out)
    found = parquet.read(out)
    assert len(found) == 0 and found.colnames == table.colnames


def test_nothing_is_overwritten_unasked(tmp_path, table):
    out = tmp_path / "systems.parquet"
    parquet.write(table, out)
    before = out.read_bytes()
    with pytest.raises(ValueError, match="exists; pass overwrite=true"):
        parquet.write(table[:1], out)
    assert out.read_bytes() == before
    parquet.write(table[:1], out, overwrite=True)
    assert len(parquet.read(out)) == 1


def test_a_write_that_fails_leaves_the_old_table_and_no_rubbish(
    tmp_path, table, monkeypatch
):
    out = tmp_path / "systems.parquet"
    parquet.write(table, out)
    before = out.read_bytes()

    def broken(data, path):
        path.write_bytes(b"half a table")
        raise OSError("disk full")

    monkeypatch.setattr(parquet.pq, "write_table", broken)
    with pytest.raises(OSError, match="disk full"):
        parquet.write(table, out, overwrite=True)
    assert out.read_bytes() == before and list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("systems.csv", "must end in .parquet"),
        ("nowhere/systems.parquet", "make it first"),
        ("folder.parquet", "is a folder"),
    ],
)
def test_a_place_that_cannot_hold_a_table_is_refused(tmp_path, table, name, words):
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(ValueError, match=words):
        parquet.write(table, tmp_path / name)
