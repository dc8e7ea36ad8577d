"""Which files of an HSC archive are one object, and the lists that order them."""

import time
from pathlib import Path

import hsc_archive as archive
import numpy as np
import pytest
from astropy.table import Table

from lensjax.catalogue import hsc, hsc_files
from lensjax.survey import HSC

FILTERS = ("HSC-G", "HSC-R", "HSC-I", "HSC-Z")


def touch(folder, *names):
    for name in names:
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def cutouts(*numbers, filters=FILTERS, tract=9813):
    pairs = zip(numbers, filters, strict=True)
    return [f"{n}-cutout-{f}-{tract}-pdr2_wide.fits" for n, f in pairs]


def psfs(*numbers, filters=FILTERS, tract=9813, place="150.0-2.2"):
    pairs = zip(numbers, filters, strict=True)
    return [f"{n}-psf-calexp-pdr2_wide-{f}-{tract}-4,5-{place}.fits" for n, f in pairs]


def found(folder):
    """Names of the files below the folder: {object: (cutouts, PSFs)}, in order."""
    return {
        files.name: tuple(
            {band: str(path.relative_to(folder)) for band, path in paths.items()}
            for paths in (files.bands, files.psf)
        )
        for files in hsc.find(folder)
    }


def whole(names, *, prefix=""):
    return {band: prefix + name for band, name in zip("GRIZ", names, strict=True)}


# --- folders --------------------------------------------------------------------------


@pytest.mark.parametrize("separate", [True, False])
@pytest.mark.parametrize("one_line", [True, False])
def test_an_archive_is_found_in_the_order_of_its_list(tmp_path, separate, one_line):
    layout = {"separate": separate, "one_line": one_line}
    targets = archive.build(tmp_path, 3, seed=5, side=120, **layout)
    all_files = hsc.find(tmp_path)
    assert [int(f.name.split("/")[-1]) for f in all_files] == [t.line for t in targets]
    for files, target in zip(all_files, targets, strict=True):
        assert list(files.bands) == list(files.psf) == list("GRIZ")
        galaxy = hsc.read(files, HSC)
        assert galaxy.flags == {} and galaxy.name == files.name
        assert (galaxy.ra, galaxy.dec) == pytest.approx((target.ra, target.dec))


def test_lines_of_one_object_are_told_by_their_turn_even_if_some_are_missing(tmp_path):
    names = cutouts(2, 3, 4, 5) + cutouts(6, 8, 9, filters=FILTERS[:1] + FILTERS[2:])
    names += cutouts(10, 11, 12, 13)
    touch(tmp_path, *names, *psfs(2, 3, 4, 5), *psfs(10, 11, 12, 13))
    out = found(tmp_path)
    assert list(out) == ["2", "6", "10"]
    assert out["2"] == (whole(names[:4]), whole(psfs(2, 3, 4, 5)))
    assert list(out["6"][0]) == ["G", "I", "Z"] and out["6"][1] == {}
    assert out["10"] == (whole(names[-4:]), whole(psfs(10, 11, 12, 13)))


def test_a_line_that_two_tracts_answer_does_not_confuse_the_turn(tmp_path):
    touch(tmp_path, *cutouts(2, 3, 4, 5), *cutouts(6, 7, 8, 9))
    touch(tmp_path, *cutouts(6, 7, tract=9700, filters=FILTERS[:2]))
    out = found(tmp_path)
    assert [bands for bands, _ in out.values()] == [
        whole(cutouts(2, 3, 4, 5)),
        whole(cutouts(6, 7, 8, 9)),
    ]


def test_a_list_may_have_more_bands_than_are_used(tmp_path):
    five = (*FILTERS, "HSC-Y")
    touch(tmp_path, *cutouts(2, 3, 4, 5, 6, filters=five), *psfs(2, 3, 4, 5))
    touch(tmp_path, *cutouts(7, 8, 9, 10, filters=FILTERS), *psfs(6, 7, 8, 9))
    out = found(tmp_path)
    assert [list(bands) for bands, _ in out.values()] == [list("GRIZ")] * 2
    assert out["7"][0] == whole(cutouts(7, 8, 9, 10))
    (tmp_path / "6-cutout-HSC-Y-9813-pdr2_wide.fits").unlink()
    assert found(tmp_path) == out


def test_lines_of_bands_do_not_pair_with_lines_of_objects(tmp_path):
    for number in range(2, 7):
        touch(tmp_path, *cutouts(*[number] * 4))
        touch(tmp_path, *psfs(*range(4 * number - 6, 4 * number - 2)))
    with pytest.raises(ValueError, match="none of its 20 PSFs"):
        hsc.find(tmp_path)


def test_numbers_in_no_regular_order_are_refused(tmp_path):
    touch(tmp_path, *cutouts(2, 3, 4, 5), *cutouts(7, 9, 10, 40))
    with pytest.raises(ValueError, match="no regular order") as caught:
        hsc.find(tmp_path)
    assert "upload_list" in str(caught.value) and "id, g, r, i, z" in str(caught.value)


def test_lists_of_one_band_each_join_by_number(tmp_path):
    for band, letter in zip(FILTERS, "GRIZ", strict=True):
        names = cutouts(2, 3, filters=[band] * 2), psfs(2, 3, filters=[band] * 2)
        touch(tmp_path / f"cutouts-{band}/arch-1-{ord(letter)}", *names[0])
        touch(tmp_path / f"psfs-{band}", *names[1])
    out = list(found(tmp_path).values())
    assert len(out) == 2
    for number, (bands, psf) in zip((2, 3), out, strict=True):
        assert {Path(p).name.split("-")[0] for p in bands.values()} == {str(number)}
        assert list(bands) == list(psf) == list("GRIZ")


def test_lists_in_folders_of_their_own_stay_apart(tmp_path):
    for folder in ("0001", "0002"):
        touch(tmp_path / folder / "arch-230401-120000", *cutouts(2, 3, 4, 5))
        touch(tmp_path / folder, *psfs(2, 3, 4, 5))
    out = found(tmp_path)
    assert list(out) == [f"000{k}/arch-230401-120000/2" for k in (1, 2)]
    for folder, (bands, psf) in zip(("0001/", "0002/"), out.values(), strict=True):
        assert all(p.startswith(folder) for p in [*bands.values(), *psf.values()])
        assert len(psf) == 4


def test_psfs_that_could_belong_to_two_lists_are_refused(tmp_path):
    for folder in ("arch-1-1", "arch-1-2"):
        touch(tmp_path / folder, *cutouts(2, 3, 4, 5))
    out = found(tmp_path)
    assert list(out) == ["arch-1-1/2", "arch-1-2/2"]
    touch(tmp_path / "psf", *psfs(2, 3, 4, 5))
    with pytest.raises(ValueError, match="not clear which cutouts these PSFs"):
        hsc.find(tmp_path)


def test_psfs_of_two_lists_in_one_folder_are_refused(tmp_path):
    touch(tmp_path, *cutouts(2, 3, 4, 5), *psfs(2, 3, 4, 5))
    touch(tmp_path, *psfs(2, 3, 4, 5, place="151.0-2.2"))
    with pytest.raises(ValueError, match="look like one image of one object"):
        hsc.find(tmp_path)


def test_psfs_of_which_none_goes_with_a_cutout_are_refused(tmp_path):
    touch(tmp_path / "a", *cutouts(2, 3, 4, 5))
    touch(tmp_path / "b", *psfs(2, 3, 4, 5))
    with pytest.raises(ValueError, match="none of its 4 PSFs"):
        hsc.find(tmp_path)


def test_files_named_by_the_archives_scripts_join_by_position(tmp_path):
    for k, place in enumerate(("150.00000_+2.20000", "150.00000_-2.20000")):
        for j, band in enumerate(FILTERS):
            line = 2 + 4 * k + j
            touch(tmp_path / "images", f"{line}_coadd_{place}_9813_{band}.fits")
            name = f"{k + 2}_psf_coadd_{place}_9813_4,5_{band}.fits"
            touch(tmp_path / "elsewhere/psfs", name)
    with pytest.raises(ValueError, match="none of its 8 PSFs"):
        hsc.find(tmp_path)
    (tmp_path / "elsewhere/psfs").rename(tmp_path / "psfs")
    out = found(tmp_path)
    assert list(out) == ["images/150.00000_+2.20000", "images/150.00000_-2.20000"]
    for bands, psf in out.values():
        assert list(bands) == list(psf) == list("GRIZ")
        assert {Path(p).name.split("_")[3] for p in bands.values()} == {
            Path(p).name.split("_")[4] for p in psf.values()
        }


@pytest.mark.parametrize(
    ("cutout", "psf"),
    [
        ("{id}_HSC-{band}.fits", "psf_{id}_HSC-{band}.fits"),
        ("{id}-{lower}.fits.gz", "{id}-psf-{lower}.fit"),
        ("cutout/{id}_{band}.fits.fz", "psf/{id}_{band}.fits"),
        ("{id}/{lower}.fits", "{id}/psf-{lower}.fits"),
        ("HSC-{band}/{id}_hsc_{lower}.fits", "psfs/HSC-{band}/{id}.{lower}.fits"),
    ],
)
def test_names_of_ones_own_join_without_their_band(tmp_path, cutout, psf):
    for name in ("lens 1", "-zürich_g"):
        for band in "GRIZ":
            values = {"id": name, "band": band, "lower": band.lower()}
            touch(tmp_path, cutout.format(**values), psf.format(**values))
        touch(tmp_path, f"{name}_HSC-Y.fits")
    out = list(found(tmp_path).values())
    assert len(out) == 2
    for bands, psf_of in out:
        assert list(bands) == list(psf_of) == list("GRIZ")
        assert len({"zürich" in path for path in bands.values()}) == 1


def test_a_folder_an_object_needs_no_numbers(tmp_path):
    for name in ("a", "b"):
        stamps = [f"cutout-{f}-9813-pdr3_wide.fits" for f in FILTERS]
        touch(tmp_path / name, *stamps, *(p[2:] for p in psfs(2, 3, 4, 5)))
    out = found(tmp_path)
    assert list(out) == ["a/a", "b/b"]
    assert all(list(b) == list(p) == list("GRIZ") for b, p in out.values())


def test_of_two_tracts_the_more_complete_then_the_lower_one_counts(tmp_path):
    some = {"filters": FILTERS[:2]}
    touch(tmp_path, *cutouts(2, 2, 2, 2), *cutouts(2, 2, tract=9000, **some))
    touch(tmp_path, *cutouts(3, 3, 3, 3), *cutouts(3, 3, 3, 3, tract=9812))
    for tract in (9812, 9813):
        touch(tmp_path, *psfs(2, 2, 2, 2, tract=tract), *psfs(3, 3, 3, 3, tract=tract))
    out = found(tmp_path)
    assert out["2"] == (whole(cutouts(2, 2, 2, 2)), whole(psfs(2, 2, 2, 2)))
    lower = {"tract": 9812}
    assert out["3"] == (
        whole(cutouts(3, 3, 3, 3, **lower)),
        whole(psfs(3, 3, 3, 3, **lower)),
    )


def test_the_second_r_and_i_filters_are_taken_with_their_psfs(tmp_path):
    new = ("HSC-R2", "HSC-I2")
    touch(tmp_path, *cutouts(2, 2, 2, 2), *cutouts(2, 2, filters=new))
    touch(tmp_path, *psfs(2, 2, 2, 2), *psfs(2, 2, filters=new))
    touch(tmp_path, *cutouts(3, 3, 3, 3, filters=("HSC-G", *new, "HSC-Z")))
    out = found(tmp_path)
    for kind in out["2"]:
        assert ["2-" in path for path in kind.values()]
        assert ["HSC-R2" in kind["R"], "HSC-I2" in kind["I"]] == [True, True]
    assert list(out["3"][0]) == list("GRIZ")


def test_r2_and_i2_are_read_as_r_and_i(tmp_path):
    filters = ("HSC-G", "HSC-R2", "HSC-I2", "HSC-Z")
    archive.build(tmp_path, 1, seed=5, side=120, filters=filters)
    (files,) = hsc.find(tmp_path)
    assert hsc.read(files, HSC).flags == {}


def test_links_are_followed_and_loops_do_no_harm(tmp_path):
    real = tmp_path / "real"
    touch(real, *cutouts(2, 3, 4, 5), *psfs(2, 3, 4, 5))
    touch(real, *("._" + name for name in cutouts(2, 3, 4, 5)))
    source = tmp_path / "source"
    source.mkdir()
    (source / "link").symlink_to(real)
    (source / "again").symlink_to(real)  # one folder is read once
    (real / "up").symlink_to(source)
    (source / "itself").symlink_to(source / "itself")
    (files,) = hsc.find(source)
    assert len(files.bands) == len(files.psf) == 4


@pytest.mark.parametrize("name", ["notes.txt", "catalogue.fits", "a_HSC-Y.fits", ""])
def test_a_folder_without_cutouts_is_refused_with_the_remedy(tmp_path, name):
    if name:
        touch(tmp_path, name)
    with pytest.raises(ValueError, match="holds no cutouts named as") as caught:
        hsc.find(tmp_path)
    assert "2-cutout-HSC-I-9813" in str(caught.value)
    with pytest.raises(ValueError, match="no folder or table"):
        hsc.find(tmp_path / "nowhere")


def test_a_large_folder_is_searched_in_the_time_of_its_names(tmp_path, monkeypatch):
    class Entry:
        def __init__(self, name):
            self.name, self.path = name, f"{tmp_path}/{name}"

    class Scan(list):
        __enter__, __exit__ = (lambda self: self), (lambda self, *_: None)

    lines = range(2, 40_002)
    entries = Scan(
        Entry(make(n, filters=(FILTERS[(n - 2) % 4],))[0])
        for n in lines
        for make in (cutouts, psfs)
    )
    monkeypatch.setattr(hsc_files.os, "scandir", lambda folder: entries)
    start = time.perf_counter()
    assert len(hsc.find(tmp_path)) == 10_000
    assert time.perf_counter() - start < 10


# --- tables ---------------------------------------------------------------------------


def paths(n=2):
    rows = {"id": [f"{k:03d}" for k in range(n)]}
    for band in "griz":
        rows[band] = [f"c/{k}_{band}.fits" for k in range(n)]
        rows[f"psf_{band}"] = [f"p/{k}_{band}.fits" for k in range(n)]
    return Table(rows)


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "parquet", "fits"])
def test_a_table_may_name_the_files(tmp_path, suffix):
    path = tmp_path / f"objects.{suffix}"
    table = paths()
    if suffix == "parquet":
        import pyarrow
        import pyarrow.parquet as pq

        data = {name: list(map(str, table[name])) for name in table.colnames}
        pq.write_table(pyarrow.table(data), path)
    else:
        table.write(path)
    first, second = hsc.find(path)
    assert (first.name, second.name) == ("000", "001")
    assert first.bands == {b: tmp_path / f"c/0_{b.lower()}.fits" for b in "GRIZ"}
    assert second.psf == {b: tmp_path / f"p/1_{b.lower()}.fits" for b in "GRIZ"}


def test_a_blank_cell_is_a_missing_file(tmp_path):
    table = paths()
    table["psf_g"][1] = table["i"][0] = ""
    table.write(tmp_path / "a.csv")
    first, second = hsc.find(tmp_path / "a.csv")
    assert list(first.bands) == list("GRZ") and list(second.psf) == list("RIZ")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t["id"].__setitem__(1, "000"), "lists the id 000 more than once"),
        (lambda t: t["id"].__setitem__(1, ""), "no id in row 2"),
        (lambda t: t["id"].__setitem__(slice(2), ""), "no id in row 1"),
        (lambda t: t.rename_column("psf_g", "psfg"), "no column 'psf_g'; it has psfg"),
        (lambda t: t.rename_column("id", "object"), "no column 'id'; it has"),
    ],
)
def test_a_broken_table_of_files_is_refused(tmp_path, change, words):
    table = paths()
    change(table)
    table.write(tmp_path / "a.csv")
    with pytest.raises(ValueError, match=words):
        hsc.find(tmp_path / "a.csv")


# --- lists ----------------------------------------------------------------------------


def sky(n):
    return Table(
        {
            "id": [f"g{k}" for k in range(n)],
            "ra": 150 + 0.001 * np.arange(n),
            "dec": -2 + 0.001 * np.arange(n),
        }
    )


def test_lists_order_40_arcsec_of_every_plane_and_band_in_turn(tmp_path):
    image, psf = hsc.upload_list(tmp_path / "lists", sky(2), rerun="pdr2_wide")
    head, *lines = [line.split() for line in image.read_text().splitlines()]
    assert head[0] == "#?" and len(lines) == 8
    rows = [dict(zip(head[1:], line, strict=True)) for line in lines]
    assert [row["filter"] for row in rows] == 2 * list(FILTERS)
    for k, row in enumerate(rows):
        assert row["rerun"] == "pdr2_wide" and row["type"] == "coadd"
        assert row["sw"] == row["sh"] == "20asec"  # half sizes
        assert row["image"] == row["mask"] == row["variance"] == "true"
        assert float(row["ra"]) == pytest.approx(150 + 0.001 * (k // 4), abs=1e-7)
        assert float(row["dec"]) == pytest.approx(-2 + 0.001 * (k // 4), abs=1e-7)
    head, *lines = [line.split() for line in psf.read_text().splitlines()]
    for row, line in zip(rows, lines, strict=True):
        order = dict(zip(head[1:], line, strict=True))
        assert order.pop("centered") == "true"
        assert order == {key: row[key] for key in order} and len(order) == 5


def test_no_list_is_longer_than_the_service_takes_and_none_splits_an_object(tmp_path):
    written = hsc.upload_list(tmp_path, sky(600))
    assert [path.name for path in written] == [
        f"000{k}-{kind}.txt" for k in (1, 2, 3) for kind in ("cutouts", "psfs")
    ]
    seen = []
    for path in written[::2]:
        lines = path.read_text().splitlines()
        assert len(lines) <= 1000 and len(lines) % 4 == 1
        seen += [line.split()[3] for line in lines[1:]]
    assert len(seen) == 2400 and len(set(seen)) == 600


def test_what_comes_back_for_a_list_is_found_again(tmp_path):
    targets = archive.build(tmp_path, 3, seed=6, side=120)
    table = Table({"id": ["a", "b", "c"]})
    table["ra"], table["dec"] = [t.ra for t in targets], [t.dec for t in targets]
    (image, _) = hsc.upload_list(tmp_path / "lists", table)
    lines = image.read_text().splitlines()
    for files in hsc.find(tmp_path):
        galaxy = hsc.read(files, HSC)
        for band, path in files.bands.items():
            ordered = lines[int(path.name.split("-")[0]) - 1].split()
            assert ordered[2] == f"HSC-{band}"
            assert float(ordered[3]) == pytest.approx(galaxy.ra, abs=1e-6)


def test_an_empty_table_orders_nothing(tmp_path):
    assert hsc.upload_list(tmp_path / "lists", sky(0)) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t["dec"].__setitem__(1, 150.0), "swap ra and dec"),
        (lambda t: t["ra"].__setitem__(1, -2.0), "not swapped"),
        (lambda t: t["ra"].__setitem__(1, np.nan), "ra or dec is blank in row 2"),
        (lambda t: t["id"].__setitem__(1, ""), "id is blank in row 2"),
        (lambda t: t["id"].__setitem__(1, "g0"), "stood before in row 2"),
        (lambda t: t.remove_column("dec"), "no column 'dec'"),
        (lambda t: t.replace_column("ra", ["150", "10:00:00"]), "'10:00:00' in row 2"),
    ],
)
def test_positions_that_cannot_be_ordered_are_refused(tmp_path, change, words):
    table = sky(2)
    change(table)
    table.write(tmp_path / "a.csv")
    with pytest.raises(ValueError, match=words):
        hsc.upload_list(tmp_path / "lists", tmp_path / "a.csv")
    assert not (tmp_path / "lists").exists()


def test_hours_are_pointed_out(tmp_path):
    table = sky(3)
    table["ra"] = [9.1, 10.0, 14.5]
    with pytest.warns(UserWarning, match="hours, multiply them by 15"):
        assert len(hsc.upload_list(tmp_path, table)) == 2


def test_lists_that_exist_are_not_overwritten(tmp_path):
    hsc.upload_list(tmp_path, sky(2))
    with pytest.raises(ValueError, match="0001-cutouts.txt exists"):
        hsc.upload_list(tmp_path, sky(3))
    assert len((tmp_path / "0001-cutouts.txt").read_text().splitlines()) == 9
