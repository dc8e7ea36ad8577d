"""Tables that users bring: one table says the same in whatever form it comes."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table
from astropy.time import Time

from lensjax.catalogue import hsc_lists, user_tables
from lensjax.catalogue.user_tables import DISPERSION, MAGNITUDE, NOISE_VAR, REDSHIFT
from lensjax.storage import parquet

IDS = ["007", "b", "c,d"]
Z = [0.4, np.nan, 0.625]
CSV = 'id,file,z,ok\n007,a.fits,0.4,true\nb,b.fits,,false\n"c,d",,0.625,\n'
SEMI = CSV.replace(",", ";").replace('"c;d"', "c,d").replace("0.", "0,")
VIZIER = (
    "#\n#   VizieR\n#Column\tid\t(A3)\tname\n\n"
    "id\tfile\tz\tok\n \t \tm\t \n---\t---\t-\t-\n"
    + CSV.split("\n", 1)[1].replace(",", "\t").replace('"c\td"', "c,d")
)
ECSV = (
    "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: id, datatype: string}\n"
    "# - {name: file, datatype: string}\n# - {name: z, datatype: float64}\n"
    "# - {name: ok, datatype: bool}\n# delimiter: ','\n# schema: astropy-2.0\n"
) + CSV.replace("true", "True").replace("false", "False")
TEXTS = {
    "a.csv": CSV,
    "mark.csv": b"\xef\xbb\xbf" + CSV.encode(),
    "utf16.csv": CSV.encode("utf-16"),
    "little.csv": CSV.encode("utf-16-le"),
    "big.csv": CSV.encode("utf-16-be"),
    "windows.csv": CSV.replace("\n", "\r\n"),
    "mac.csv": CSV.replace("\n", "\r"),
    "capitals.csv": CSV.replace("id,file,z", "ID, File ,Z"),
    "quotes.csv": CSV.replace("b.fits", '"b.fits"').replace("z", '"z"'),
    "spaces.csv": CSV.replace(",", ", ").replace('"c, d"', '"c,d"'),
    "commas.csv": CSV.replace("\n", ",,\n") + ",,,\n\n",
    "only_rows.csv": CSV.replace("true", "true,,,"),
    "index.csv": "".join(f"{k}," * (k > 0) + "," * (k == 0) + line
                         for k, line in enumerate(CSV.splitlines(keepends=True))),
    "comments.csv": "# mine\n" + CSV.replace("\nb,", '\n# "b, of old\nb,') + "# end\n",
    "heading.csv": "# mine\n#" + CSV,
    "casjobs.csv": "#Table1\n" + CSV,
    "excel.csv": "sep=;\n" + SEMI,
    "semicolons.csv": SEMI,
    "tabs.csv": CSV.replace(",", "\t").replace('"c\td"', "c,d"),
    "bars.txt": CSV.replace(",", "|").replace('"c|d"', "c,d"),
    "vizier.tsv": VIZIER,
    "vizier.csv": VIZIER.replace("\t", ";"),
    "a.ecsv": ECSV,
    "mark.ecsv": "\ufeff" + ECSV.replace("\n", "\r\n"),
}  # fmt: skip


def in_memory(order="=", kind=Table):
    """The table as astropy has it."""
    return kind(
        {
            "id": IDS,
            "file": MaskedColumn(["a.fits", "b.fits", "below"], mask=[0, 0, 1]),
            "z": MaskedColumn(np.array([0.4, -7, 0.625], f"{order}f8"), mask=[0, 1, 0]),
            "ok": MaskedColumn([True, False, True], mask=[0, 0, 1]),
        }
    )


def as_fits(path):
    table = in_memory()
    table.write(path)


def as_objects():
    z = np.array([0.4, None, 0.625], object)
    file = np.array([b"a.fits", "b.fits", None], object)
    return Table({"id": np.array(IDS, object), "file": file, "z": z, "ok": [1, 0, 1]})


def as_parquet(path, dictionaries=False):
    data = {
        "id": pa.array(IDS),
        "file": pa.array(["a.fits", "b.fits", None]),
        "z": pa.array([0.4, None, 0.625]),
        "ok": pa.array([True, False, None]),
    }
    if dictionaries:
        data = {name: array.dictionary_encode() for name, array in data.items()}
    pq.write_table(pa.table(data), path)


def as_bytes(path):
    columns = [
        fits.Column("ID", "3A", array=np.array(IDS)),
        fits.Column("FILE", "6A", array=np.array(["a.fits", "b.fits", ""])),
        fits.Column("Z", "D", array=np.array(Z)),
        fits.Column("OK", "J", null=-99, array=np.array([1, 0, -99])),
        fits.Column("STAMP", "2E", array=np.zeros((3, 2))),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(path)


FILES = {
    "a.fits": as_fits,
    "b.fits": as_bytes,
    "no_suffix": as_bytes,
    "a.parquet": as_parquet,
    "dictionary.parquet": lambda path: as_parquet(path, True),
}
TABLES = {
    "table": in_memory,
    "big_endian": lambda: in_memory(">"),
    "quantities": lambda: in_memory(kind=QTable),
    "objects": as_objects,
}


def given(tmp_path, form):
    """The table in this form, to be read."""
    if form in TABLES:
        return TABLES[form]()
    path = tmp_path / form
    if form in FILES:
        FILES[form](path)
    else:
        raw = TEXTS[form]
        path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    return path


@pytest.mark.parametrize("form", [*TEXTS, *FILES, *TABLES])
def test_every_form_says_the_same(tmp_path, form):
    table = user_tables.read(given(tmp_path, form))
    assert table.rows == 3
    assert user_tables.texts(table, "id").tolist() == IDS  # zeros and commas kept
    assert user_tables.words(table, "file").tolist() == ["a.fits", "b.fits", ""]
    z = user_tables.numbers(table, "z")
    np.testing.assert_array_equal(z, Z)
    assert z.dtype == np.float64 and z.dtype.isnative
    assert user_tables.flags(table, "ok")[:2].tolist() == [1, 0]
    with pytest.raises(ValueError, match="no column 'zz'; it has [zZ]"):
        user_tables.numbers(table, "zz")


@pytest.mark.parametrize("form", [f for f in TEXTS if "ecsv" not in f])
def test_a_heading_alone_is_a_table_without_rows(tmp_path, form):
    raw = TEXTS[form]
    text = raw if isinstance(raw, str) else raw.decode(
        {"u": "utf-16", "l": "utf-16-le", "b": "utf-16-be"}.get(form[0], "utf-8")
    )  # fmt: skip
    end = "\r" if "mac" in form else "\n"
    kept = text[: text.index("007" if "index" not in form else "1,007")].rstrip(end)
    (tmp_path / form).write_text(kept + "\n")
    table = user_tables.read(tmp_path / form)
    assert table.rows == 0 and len(user_tables.texts(table, "id")) == 0
    assert len(user_tables.numbers(table, "z")) == len(user_tables.flags(table, "ok"))


def test_tables_without_rows_in_the_other_forms(tmp_path):
    in_memory()[:0].write(tmp_path / "a.fits")
    pq.write_table(pa.table({"id": [], "z": []}), tmp_path / "a.parquet")
    for table in (tmp_path / "a.fits", tmp_path / "a.parquet", in_memory()[:0]):
        read = user_tables.read(table)
        assert read.rows == 0 and len(user_tables.texts(read, "id")) == 0
        assert len(user_tables.numbers(read, "z")) == 0
    assert user_tables.read(Table()) == ("the table", {}, 0, ".", {})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_letters_beyond_ascii_are_kept(tmp_path, encoding):
    (tmp_path / "a.csv").write_bytes("id,z\nMüller é,1\n".encode(encoding))
    table = user_tables.read(tmp_path / "a.csv")
    assert user_tables.texts(table, "id").tolist() == ["Müller é"]


@pytest.mark.parametrize(
    "word",
    ["", " ", "--", "-", "null", "NULL", "N/A", "NaN", "none", "NA", "#N/A", "\\N"],
)
@pytest.mark.parametrize("form", ["csv", "table", "parquet"])
def test_a_word_for_nothing_is_blank(tmp_path, word, form):
    if form == "csv":
        path = tmp_path / "a.csv"
        path.write_text(f"id,z\n{word},1.5\na,{word}\n")
    else:
        cells = {"id": [word, "a"], "z": ["1.5", word]}
        path = Table(cells)
        if form == "parquet":
            pq.write_table(pa.table(cells), path := tmp_path / "a.parquet")
    table = user_tables.read(path)
    assert user_tables.texts(table, "id").tolist() == ["", "a"]
    np.testing.assert_array_equal(user_tables.numbers(table, "z"), [1.5, np.nan])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("id,z\na,1\nb\n", "row 2 has 1 cells, the heading has 2"),
        ("id,z\na,1\nb,2,3\n", "row 2 has 3 cells"),
        ("id;z\na;1\n\nb;2;3\n", "row 2 has 3 cells"),
        ("id\tz\na\t1\nb\n", "row 2 has 1 cells"),
        ("id,z,z\na,1,2\n", "a column stands twice: z"),
        ('id,z\n"a,1\nb,2\n', "unexpected end of data"),
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("\ufeff", "is empty"),
        ("# a\n# b\n", "nothing but comments"),
        (gzip.compress(b"id,z\na,1\n", mtime=0), "is compressed: unpack it"),
        (b"PK\x03\x04 a workbook", "is a spreadsheet"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is no text"),
    ],
)
def test_what_is_no_table_is_refused_with_its_name(tmp_path, content, words):
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "a.csv").write_bytes(raw)
    with pytest.raises(ValueError, match=f"a.csv cannot be read.*{words}.*save it as"):
        user_tables.read(tmp_path / "a.csv")


def test_broken_files_of_other_formats_are_refused(tmp_path):
    as_bytes(tmp_path / "whole.fits")
    raw = (tmp_path / "whole.fits").read_bytes()
    (tmp_path / "half.fits").write_bytes(raw[:-2880])
    fits.writeto(tmp_path / "image.fits", np.zeros((2, 2)))
    (tmp_path / "ragged.ecsv").write_text(ECSV + "e,f\n")
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    for path in (*tmp_path.glob("[hirt]*"), tmp_path):
        with pytest.raises(ValueError, match=path.name):
            user_tables.read(path)


def test_columns_that_differ_in_case_alone_are_refused_when_asked_for():
    table = user_tables.read(Table({"id": ["a"], "z": [1.0], "Z": [2.0]}))
    assert user_tables.texts(table, "ID").tolist() == ["a"]
    with pytest.raises(ValueError, match="z and Z: keep one column"):
        user_tables.numbers(table, "z")


def test_columns_of_other_things_are_passed_over():
    columns = {"id": ["a"], "vdisp": [200.0] * u.km / u.s, "at": Time(["2020-01-01"])}
    table = user_tables.read(QTable(columns | {"stamp": np.zeros((1, 4))}))
    assert [*table.cells] == ["id", "vdisp"]
    assert user_tables.numbers(table, "vdisp").tolist() == [200.0]


def with_units(tmp_path, kind):
    made = QTable({"id": ["a"], "z": [0.5], "vdisp": [2e5] * u.m / u.s})
    hours = u.rad if kind == "fits" else u.hourangle  # which FITS does not have
    made["ra"], made["dec"] = [150.0] * u.deg, [np.pi / 6] * u.rad
    made["ra"] = made["ra"].to(hours)
    if kind == "memory":
        return made
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        parquet.write(made, path)
    else:
        made.write(path)
    return path


@pytest.mark.parametrize("kind", ["memory", "fits", "ecsv", "parquet"])
def test_units_of_columns_count(tmp_path, kind):
    table = user_tables.read(with_units(tmp_path, kind))
    np.testing.assert_allclose(user_tables.positions(table)[:2], [[150.0], [30.0]])
    np.testing.assert_allclose(user_tables.numbers(table, "vdisp", unit="km/s"), [200])
    assert user_tables.numbers(table, "z", unit="") == [0.5]
    with pytest.raises(ValueError, match="column vdisp is in m / s, not a plain num"):
        user_tables.numbers(table, "vdisp", unit="")


@pytest.mark.parametrize("unit", [None, "mag", u.ABmag, "no unit at all", "---"])
def test_magnitudes_may_have_any_kind_of_magnitude_for_unit(unit):
    table = Table({"hsc_g": [24.0]})
    table["hsc_g"].unit = unit
    assert user_tables.numbers(user_tables.read(table), "hsc_g", unit="mag") == [24]
    table["hsc_g"].unit = "nJy"
    with pytest.raises(ValueError, match="column hsc_g is in nJy, not mag"):
        user_tables.numbers(user_tables.read(table), "hsc_g", unit="mag")


BIG = 2**63 + 5


@pytest.mark.parametrize(
    "ids",
    [
        np.array([BIG, BIG + 1], np.uint64),
        np.array([BIG, BIG + 1], ">u8"),
        np.array([BIG, BIG + 1], object),
        [str(BIG), str(BIG + 1)],
        [f"{BIG}".encode(), f"{BIG + 1}".encode()],
    ],
)
def test_large_ids_keep_every_digit(ids):
    found = user_tables.texts(user_tables.read(Table({"id": ids})), "id")
    assert found.tolist() == [str(BIG), str(BIG + 1)]


@pytest.mark.parametrize(
    "ids",
    [
        [1.2e18, 1.3e18],
        np.array([1.2e18, 7], ">f8"),
        np.array([1.2e18, None], object),
        [1.0, np.nan],
        ["1.2e18", "a"],
        ["1.126E+18", "7"],
        ["1126348562018216345.0", "a"],
        ["1.0", ""],
        ["1126348562018210000", "1126348562018230000"],  # Excel's 15 digits
        [True, False],
    ],
)
def test_ids_that_were_no_integers_or_text_are_refused(ids):
    with pytest.raises(ValueError, match="column id holds"):
        user_tables.texts(user_tables.read(Table({"id": ids})), "id")


def test_names_that_look_like_numbers_stay_names():
    names = ["1.1", "1.2", "007", "12e4", "-3", "J1000+0200", "1126348562018210001"]
    table = user_tables.read(Table({"id": names}))
    assert user_tables.texts(table, "id").tolist() == names


@pytest.mark.parametrize("word", ["abc", "1_000", "1,5", "250 km/s", "0.3.1", "10:00"])
def test_text_for_a_number_is_named_with_its_row(word):
    table = user_tables.read(Table({"z": ["", "1.5", word]}))
    with pytest.raises(
        ValueError, match=f"column z has '{word}' in row 3, which is no"
    ):
        user_tables.numbers(table, "z")


def test_truth_is_no_number():
    table = user_tables.read(Table({"z": [True, False]}))
    with pytest.raises(ValueError, match="column z holds true and false"):
        user_tables.numbers(table, "z")


# --- what there can be ----------------------------------------------------------------

NEVER = [-99, 99, 999, -999, -9999, -9.999, 99.99, 1e20, -1e30, 0, np.inf, -1, 9.999]


@pytest.mark.parametrize(
    ("range_", "good"),
    [
        (REDSHIFT, [0.01, 0.4, 6.0, 11.9]),
        (MAGNITUDE, [9.0, 14.0, 24.5, 30.1]),
        (DISPERSION, [98.0, 100.0, 250.0, 600.0]),
        (NOISE_VAR, [1e-12, 4.6e-6, 98.0, 1e4]),
    ],
)
def test_placeholders_are_unknown_in_every_column(range_, good):
    if range_ is NOISE_VAR:  # its unit is the stamp's
        never = [value for value in NEVER if value != 9.999]
    else:
        never = NEVER
    for kind in (np.float64, np.float32):
        values = np.array([*good, np.nan, *never], kind)
        names = np.array([f"g{k}" for k in range(len(values))])
        found, notes = range_.known(values, names)
        np.testing.assert_array_equal(found[:4], np.array(good, kind))
        assert np.isnan(found[4:]).all()
        (note,) = notes
        assert note.startswith(f"{len(never)} {range_.what} outside")
        assert "g5 has -99" in note
    assert range_.known(np.array([good[0], np.nan]), names) == (pytest.approx(
        [good[0], np.nan], nan_ok=True), [])  # fmt: skip


def place(*rows):
    table = Table(
        {"ra": [float(x) for x, _ in rows], "dec": [float(y) for _, y in rows]}
    )
    return user_tables.positions(user_tables.read(table))[:2]


GOOD = [(150.1, 2.2), (0.0, 2.0), (359.9, -89.0), (99.0, 9.9)]


@pytest.mark.parametrize(
    "bad",
    [
        *((value, value) for value in NEVER),
        *((value, 2.0) for value in (-99, -999, -9999, -9.999, 999, 1e20, -1e30)),
        *((150.0, value) for value in (-99, 99, 999, -9999, -9.999, 99.99, 1e20)),
        (np.nan, 2.0),
        (150.0, np.nan),
        (400.0, 2.0),
        (150.0, -95.0),
    ],
)
def test_a_position_that_cannot_be_is_unknown_and_the_others_stay(bad):
    x, y = place(*GOOD, bad)
    np.testing.assert_array_equal(x, [x for x, _ in GOOD] + [np.nan])
    np.testing.assert_array_equal(y, [y for _, y in GOOD] + [np.nan])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([*GOOD, (2.2, 150.1)], "dec is 150.1 in row 5: swap ra and dec"),
        ([*GOOD, (-20.0, 2.0)], "ra is -20 in row 5: give 0 to 360"),
        ([(400.0, 2.0), (401.0, 2.0), (5.0, 2.0)], "ra is 400 in row 1"),
        ([(150.0, 100.0)], "dec is 100 in row 1"),
    ],
)
def test_a_table_in_other_units_is_refused(rows, words):
    with pytest.raises(ValueError, match=words):
        place(*rows)


def test_a_table_of_placeholders_alone_is_no_table_in_other_units():
    assert np.isnan(place((-99, -99), (99, 99), (0, 0))).all()
    assert place((360.0, 1.0))[0].tolist() == [0.0]


@pytest.mark.parametrize("bad", [(-99.0, -99.0), (150.0, 99.0), (-9999.0, 2.0)])
def test_no_cutout_is_ordered_of_a_placeholder(tmp_path, bad):
    rows = [(150.0, 2.0), (151.0, 2.0), bad]
    table = Table({"id": ["a", "b", "c"], "ra": [r[0] for r in rows]})
    table["dec"] = [r[1] for r in rows]
    with pytest.raises(ValueError, match="no place on the sky in row 3 .id 'c'"):
        hsc_lists.upload_list(tmp_path / "lists", table)
    assert not (tmp_path / "lists").exists()
    cutouts, _ = hsc_lists.upload_list(tmp_path / "lists", table[:2])
    assert len(cutouts.read_text().splitlines()) == 9


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        ("vdisp", "vdisp_kms"),
        ("VDISP_KM", "vdisp_kms"),
        ("redshift", "z"),
        ("Z_spec", "z"),
        ("psfs", "psf"),
        ("ra", None),
        ("mag_i", None),
    ],
)
def test_a_column_by_another_name_is_not_overlooked_in_silence(tmp_path, column, meant):
    path = tmp_path / "lenses.csv"
    path.write_text(f"id,file,{column}\na,a.fits,1\n")
    used = ("id", "file", "z", "vdisp_kms", "psf")
    notes = user_tables.overlooked(user_tables.read(path), used)
    if meant is None:
        assert notes == []
    else:
        (note,) = notes
        assert f"column {column} of" in note and f"call it {meant} if" in note
    # where the column itself is there the other is none's business
    path.write_text(f"id,file,z,vdisp_kms,psf,{column}\na,a.fits,1,2,p,1\n")
    assert user_tables.overlooked(user_tables.read(path), used) == []
