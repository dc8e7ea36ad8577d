"""Prediction: every file has its row, and no broken one stops or fools the others."""

import json
import os
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy import units
from astropy.table import Table
from test_cutouts import extension, extensions, galaxy, real, save

from lensjax import parameters
from lensjax.commands import predict as command
from lensjax.commands.config import ConfigError, PredictConfig
from lensjax.learning import predicted, prediction
from lensjax.storage import atomic, parquet
from lensjax.survey import HSC

COLUMNS = parameters.columns()


def model(images):
    """A lens that is a plain function of the image: what a row says tells its file."""
    assert images.dtype == np.float32 and np.isfinite(images).all()
    mean = images.mean((1, 2, 3))
    one = np.ones_like(mean)
    return np.stack([0.1 * one, -0.2 * one, 0.3 * one, 0.0 * one, 1 + mean], -1)


def predicting(**numbers):
    """A model that always predicts the same."""
    row = {"center_x_arcsec": 0.0, "center_y_arcsec": 0.0, "ex": 0.0, "ey": 0.0}
    row = row | {"theta_E_arcsec": 1.0} | numbers
    return lambda x: np.tile([row[name] for name in COLUMNS], (len(x), 1))


def run(cutouts, out, model=model, **options):
    """The command, with a model that is a plain function."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "of_file", lambda name: command.Model(model, HSC, {}))
        settings = PredictConfig(cutouts=str(cutouts), out=str(out), **options)
        settings.validate()
        return command.run(settings)


def folder_of(path, n, start=0):
    path.mkdir(exist_ok=True)
    images = [galaxy(seed=start + k) for k in range(n)]
    for k, image in enumerate(images):
        save(path / f"good_{k}.fits", extensions(image))
    return images


@pytest.fixture
def mixed(tmp_path):
    """Good cutouts among broken ones; the folder, and the flags it should get."""
    folder = tmp_path / "mixed"
    folder_of(folder, 3)
    image = galaxy(seed=10)
    image[5, 6, 2] = np.nan
    save(folder / "a_nan_pixel.fits", extensions(image))
    image = galaxy(seed=11)
    image[..., 3] = np.nan
    save(folder / "b_nan_band.fits", extensions(image))
    save(folder / "h_missing.fits", extensions(galaxy(seed=12))[:3])
    save(folder / "i_small.fits", extensions(galaxy(60, 64, seed=13)))
    whole = save(folder / "j_truncated.fits", extensions(galaxy(seed=14)))
    whole.write_bytes(whole.read_bytes()[:40000])
    (folder / "k_login.fits").write_text("<html><title>Log in</title></html>")
    (folder / "notes.txt").write_text("not a cutout")
    flags = {f"good_{k}": "" for k in range(3)} | {
        "a_nan_pixel": "nan_pixel",
        "b_nan_band": "nan_band",
        "h_missing": "missing_band",
        "i_small": "too_small",
        "j_truncated": "truncated",
        "k_login": "html",
    }
    return folder, flags


def test_good_cutouts_get_lenses_and_broken_ones_flags(mixed, tmp_path, capsys):
    folder, flags = mixed
    out = tmp_path / "out.parquet"
    assert run(folder, out, batch_size=4) == 0
    said = capsys.readouterr().out
    table = prediction.read(out)
    assert list(table["id"]) == sorted(flags)
    assert dict(zip(table["id"], table["flags"], strict=True)) == flags
    for row in table:
        numbers = np.array([row[name] for name in COLUMNS])
        if row["flags"]:
            assert np.isnan(numbers).all() and np.isnan(row["q"]) and row["message"]
        else:
            seed = int(row["id"][-1])
            expected = 1 + galaxy(seed=seed).mean()
            assert row["theta_E_arcsec"] == pytest.approx(expected, rel=1e-6)
            assert (row["center_x_arcsec"], row["center_y_arcsec"]) == pytest.approx(
                (0.1, -0.2)
            )
            assert (
                row["q"] == pytest.approx(np.sqrt(0.7 / 1.3)) and row["message"] == ""
            )
    assert "9 cutouts: 3 predicted, 6 without" in said
    for flag in filter(None, flags.values()):
        assert flag in said


def test_strict_ends_with_three_and_still_writes(mixed, tmp_path):
    folder, flags = mixed
    out = tmp_path / "out.parquet"
    assert run(folder, out, strict=True) == 3
    assert len(prediction.read(out)) == len(flags)
    out = tmp_path / "good.parquet"
    glob = str(folder / "good_*.fits")
    assert run(glob, out, strict=True) == 0


def test_several_processes_read_what_one_reads(mixed):
    folder, _ = mixed
    paths = prediction.find(folder)
    one, two = (prediction.predict(model, paths, HSC, processes=n) for n in (0, 2))
    for name in one.colnames:
        np.testing.assert_array_equal(one[name], two[name])


def test_when_the_processes_die_the_rest_is_read_without_them(mixed, monkeypatch):
    class Dying:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def map(self, load, paths, chunksize):
            yield load(paths[0])
            raise BrokenProcessPool

    folder, flags = mixed
    monkeypatch.setattr(prediction, "_readers", lambda processes: Dying())
    table = prediction.predict(
        model, prediction.find(folder), HSC, batch_size=4, processes=2
    )
    assert dict(zip(table["id"], table["flags"], strict=True)) == flags


@pytest.mark.parametrize("batch_size", [1, 2, 5, 256])
def test_batches_are_invisible_and_of_one_shape(tmp_path, batch_size):
    images, shapes = folder_of(tmp_path / "c", 5), set()

    def watched(batch):
        shapes.add(batch.shape)
        return model(batch)

    done = []
    table = prediction.predict(
        watched,
        prediction.find(tmp_path / "c"),
        HSC,
        batch_size=batch_size,
        progress=lambda n, total: done.append((n, total)),
    )
    expected = [1 + image.mean() for image in images]
    np.testing.assert_allclose(table["theta_E_arcsec"], expected, rtol=1e-6)
    assert shapes == {(min(batch_size, 5), 64, 64, 4)}
    assert done[-1] == (5, 5) and len(done) == -(-5 // batch_size)


def test_a_batch_of_broken_files_never_reaches_the_model(tmp_path):
    paths = [tmp_path / f"{k}.fits" for k in range(3)]
    table = prediction.predict(None, paths, HSC)
    assert set(table["flags"]) == {"missing_file"}


def test_files_that_vanish_or_lock_themselves_half_way_are_rows(tmp_path):
    folder_of(tmp_path / "c", 6)
    paths = prediction.find(tmp_path / "c")

    def vandal(images):  # batches are read one ahead: the last file is not open yet
        if os.path.exists(paths[5]):
            os.unlink(paths[5])
        return model(images)

    table = prediction.predict(vandal, paths, HSC, batch_size=1)
    assert list(table["flags"]) == [""] * 5 + ["missing_file"]
    assert np.isfinite(table["theta_E_arcsec"][:5]).all()


def test_an_unforeseen_error_is_one_row(tmp_path, monkeypatch):
    folder_of(tmp_path / "c", 3)
    read = prediction.cutouts.read

    def fails(path, bands):
        if "good_1" in path:
            raise RuntimeError("cosmic ray")
        return read(path, bands)

    monkeypatch.setattr(prediction.cutouts, "read", fails)
    table = prediction.predict(model, prediction.find(tmp_path / "c"), HSC)
    assert list(table["flags"]) == ["", "unreadable", ""]
    assert "cosmic ray" in table["message"][1]


def test_an_odd_cutouts_centre_is_the_files_own(tmp_path):
    path = save(tmp_path / "a.fits", extensions(galaxy(91)))
    table = prediction.predict(predicting(), [path], HSC)
    # the file's centre is at +0.5 pixel in the crop, so the crop's at -0.5 in the file
    assert table["center_x_arcsec"][0] == pytest.approx(-0.084)
    assert table["center_y_arcsec"][0] == pytest.approx(-0.084)


def test_numbers_are_what_the_space_says(tmp_path):
    path = save(tmp_path / "a.fits", extensions(galaxy()))

    def predict(numbers, space):
        model = lambda x: np.tile(numbers, (len(x), 1))  # noqa: E731
        return prediction.predict(model, [path], HSC, space=space)

    space = (*parameters.WITHOUT_SHEAR[::-1], parameters.G1, parameters.G2)
    numbers = [1.5, 0.2, 0.1, -0.3, 0.4, 0.05, -0.02]
    table = predict(numbers, space)
    got = [table[n][0] for n in parameters.columns(space)]
    assert got == pytest.approx(numbers)
    assert table.colnames.index("shear_g1") == table.colnames.index("q") - 2
    with pytest.raises(ValueError, match="the space has no ex: add them"):
        predict(numbers[1:5], [p for p in parameters.WITHOUT_SHEAR if p.name != "ex"])
    with pytest.raises(ValueError, match=r"predicted \(1, 4\) .* needs \(1, 5\)"):
        predict(numbers[:4], parameters.WITHOUT_SHEAR)


@pytest.mark.parametrize("theta_E", [0.0, -0.3])
def test_no_einstein_radius_is_no_prediction(tmp_path, theta_E):
    path = save(tmp_path / "a.fits", extensions(galaxy()))
    table = prediction.predict(predicting(theta_E_arcsec=theta_E), [path], HSC)
    assert list(table["flags"]) == ["unphysical_theta_E"]
    assert np.isnan(table["theta_E_arcsec"][0]) and np.isnan(table["ex"][0])


def test_an_ellipticity_beyond_one_is_clipped_along_its_angle(tmp_path):
    path = save(tmp_path / "a.fits", extensions(galaxy()))
    row = prediction.predict(predicting(ex=-3.0, ey=4.0), [path], HSC)[0]
    assert row["flags"] == "unphysical_ellipticity" and row["theta_E_arcsec"] == 1
    assert np.hypot(row["ex"], row["ey"]) == pytest.approx(predicted.ELLIPTICITY_LIMIT)
    assert row["phi_rad"] == pytest.approx(np.arctan2(4, -3) / 2)
    assert 0 < row["q"] < 0.05
    assert not prediction.is_fatal(["unphysical_ellipticity"])


def test_a_network_that_predicts_nan_is_flagged(tmp_path):
    path = save(tmp_path / "a.fits", extensions(galaxy()))
    table = prediction.predict(predicting(ey=np.nan), [path], HSC)
    assert list(table["flags"]) == ["nan_prediction"]
    assert np.isnan([table[name][0] for name in COLUMNS]).all()


def test_equal_names_in_two_folders_are_flagged_and_predicted(tmp_path):
    folder_of(tmp_path / "a", 1)
    folder_of(tmp_path / "b", 2)
    paths = prediction.find(f"{tmp_path}/**/*.fits")
    table = prediction.predict(model, paths, HSC)
    assert list(table["id"]) == ["good_0", "good_0", "good_1"]
    assert list(table["flags"]) == ["duplicate_id", "duplicate_id", ""]
    assert list(table["file"]) == paths and np.isfinite(table["theta_E_arcsec"]).all()


def test_find_sorts_and_names_what_is_not_there(tmp_path):
    folder_of(tmp_path / "c[1]", 3)
    (tmp_path / "c[1]" / ".hidden.fits").touch()
    (tmp_path / "c[1]" / "X.FITS.GZ").touch()
    names = [os.path.basename(p) for p in prediction.find(tmp_path / "c[1]")]
    assert names == ["X.FITS.GZ", "good_0.fits", "good_1.fits", "good_2.fits"]
    one = str(tmp_path / "c[1]" / "good_0.fits")
    assert prediction.find(one) == [one]
    for nothing in ("nowhere", "*.fits"):
        with pytest.raises(ValueError, match="nothing there"):
            prediction.find(tmp_path / nothing)
    with pytest.raises(ValueError, match="no file ends in"):
        prediction.find(tmp_path)


def test_a_name_that_is_not_utf8_has_a_row(tmp_path):
    path = os.fsdecode(os.fsencode(str(tmp_path)) + b"/caf\xe9.fits")
    try:
        save(tmp_path / "a.fits", extensions(galaxy())).rename(path)
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    table = prediction.predict(model, [path], HSC)
    assert list(table["flags"]) == [""] and table["id"][0] == "caf\ufffd"
    prediction.write(table, tmp_path / "out.parquet")


# --- the table ------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path):
    folder_of(tmp_path / "c", 2)
    paths = [*prediction.find(tmp_path / "c"), tmp_path / "gone.fits"]
    return prediction.predict(model, paths, HSC, provenance={"run": "r1", "epoch": 7})


def test_units_and_provenance_survive_the_file(table, tmp_path):
    out = tmp_path / "out.parquet"
    prediction.write(table, out)
    back = prediction.read(out)
    assert back.colnames == table.colnames and back.meta == table.meta
    assert back["theta_E_arcsec"].unit == units.arcsec
    assert back["phi_rad"].unit == units.rad and back["ex"].unit is None
    assert back["id"].dtype == object and back["theta_E_arcsec"].dtype == np.float32
    for name in table.colnames:
        np.testing.assert_array_equal(back[name], table[name])
    meta = json.loads(pq.read_schema(out).metadata[b"lensjax"])
    assert meta["model"] == {"run": "r1", "epoch": 7}
    assert meta["survey"]["zero_point"] == 27.0 and meta["flags"] == {"missing_file": 1}
    assert {"lensjax", "jax", "numpy", "astropy"} <= set(meta["versions"])


def test_others_see_plain_columns(table, tmp_path):
    out = tmp_path / "out.parquet"
    prediction.write(table, out)
    schema = pq.read_schema(out)
    assert str(schema.field("id").type) == "string"
    assert str(schema.field("theta_E_arcsec").type) == "float"
    assert schema.field("theta_E_arcsec").metadata[b"unit"] == b"arcsec"
    # written as astropy writes: its own reader, which needs pandas, knows the rest
    assert b"unit: arcsec" in schema.metadata[b"table_meta_yaml"]


def test_astropys_own_reader_knows_units_and_meta(table, tmp_path):
    pytest.importorskip("pandas", reason="astropy reads Parquet with pandas only")
    prediction.write(table, tmp_path / "out.parquet")
    back = Table.read(tmp_path / "out.parquet")
    assert back["theta_E_arcsec"].unit == units.arcsec and back.meta == table.meta
    assert list(back["id"]) == list(table["id"])


def test_an_empty_catalogue_is_a_valid_file(tmp_path):
    out = tmp_path / "out.parquet"
    empty = prediction.predict(model, [], HSC)
    prediction.write(empty, out)
    back = prediction.read(out)
    assert len(back) == 0 and back.colnames == empty.colnames
    assert back["theta_E_arcsec"].unit == units.arcsec
    assert prediction.summary(back) == "0 cutouts: 0 predicted, 0 without"


def test_bad_arguments_are_refused_before_anything_is_read(table, tmp_path):
    out = tmp_path / "out.parquet"
    prediction.write(table, out)
    before, new = out.read_bytes(), tmp_path / "new.parquet"
    for wrong, cutouts, place in (
        ("out: .* exists: pass overwrite=true", "c", out),
        ("out: .* no folder .*no", "c", tmp_path / "no" / "out.parquet"),
        ("out: .* must end in .parquet", "c", tmp_path / "out.csv"),
        ("out: .* must end in .parquet", "c", tmp_path),
        ("cutouts: .*nowhere: nothing there", "nowhere", new),
    ):
        with pytest.raises(ConfigError, match=wrong):
            run(tmp_path / cutouts, place, model=None)
    with pytest.raises(ConfigError, match="batch_size must be from 1"):
        run(tmp_path / "c", new, batch_size=0)
    assert out.read_bytes() == before and not new.exists()
    assert run(tmp_path / "c", out, overwrite=True) == 0
    assert len(prediction.read(out)) == 2


def test_a_folder_that_cannot_be_written_is_a_bad_argument(tmp_path, monkeypatch):
    def denied(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(atomic.tempfile, "NamedTemporaryFile", denied)
    with pytest.raises(ValueError, match="Read-only file system.*choose a folder"):
        prediction.check_writable(tmp_path / "out.parquet")


def test_a_full_disk_leaves_the_old_table_and_no_rubbish(
    table, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out.parquet"
    prediction.write(table, out)
    before = out.read_bytes()

    def full(data, path):
        path.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet.pq, "write_table", full)
    assert run(tmp_path / "c", out, overwrite=True) == 1
    assert "No space left" in capsys.readouterr().err and out.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c", "out.parquet"]


def test_warnings_do_not_count_as_failures(tmp_path):
    image = galaxy()
    image[-1] = 0
    save(tmp_path / "a.fits", extensions(image))
    hdus = [extension(image[..., k], n, MAGZERO=None) for k, n in enumerate("GRIZ")]
    save(tmp_path / "b.fits", hdus)
    out = tmp_path / "out.parquet"
    assert run(tmp_path, out, strict=True) == 0
    table = prediction.read(out)
    assert list(table["flags"]) == ["thin_edge", "no_zero_point,thin_edge"]
    assert np.isfinite(table["theta_E_arcsec"]).all()


def test_real_cutouts_have_predictions():
    table = prediction.predict(model, real("hsc/lenses"), HSC, batch_size=4)
    assert len(table) == 10 and np.isfinite(table["theta_E_arcsec"]).all()


def test_what_was_predicted_is_kept_where_the_disk_is_full(
    table, tmp_path, monkeypatch, capsys
):
    """The place that was asked for is full, the temporary folder is not."""
    write, out = parquet.pq.write_table, tmp_path / "out.parquet"

    def full(data, file):
        if "out.parquet" in file.name and str(tmp_path / "tmp") not in file.name:
            raise OSError(28, "No space left on device")
        write(data, file)

    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(command.tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(parquet.pq, "write_table", full)
    assert run(tmp_path / "c", out) == 1
    said = capsys.readouterr().err
    kept = said.strip().rpartition("is kept in ")[2]
    assert said.count("\n") == 1 and "No space left" in said and not out.exists()
    assert len(parquet.read(kept)) == len(list((tmp_path / "c").iterdir()))


def test_a_radius_beyond_the_training_is_flagged():
    values = {name: np.zeros(4) for name in ("x", "y", "ex", "ey")}
    values["theta_E"] = np.array([0.4, 0.5, 5.0, 5.1])
    flags = [{} for _ in range(4)]
    predicted.check(values, flags, trained=(0.5, 5.0))
    assert [list(row) for row in flags] == [
        ["outside_training"], [], [], ["outside_training"]
    ]  # fmt: skip
    assert "0.40, trained on 0.5 to 5 arcsec" in flags[0]["outside_training"]
    assert not predicted.is_fatal(flags[0]) and values["theta_E"][0] == 0.4
