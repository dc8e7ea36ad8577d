"""`lensjax fit`: from files to a table, whatever is wrong with them or ends it."""

import json

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from test_inference import SCALE, SETTINGS, mock

from lensjax import inference
from lensjax import survey as surveys
from lensjax.commands import config, fit, fit_parts
from lensjax.commands.settings.fit import FitConfig
from lensjax.inference import candidate, coolest, table
from lensjax.storage import parquet

TOML = f"""
bands = ["A", "B"]
pixel_scale = {SCALE}
zero_point = 27.0
fwhm = [0.7, 0.6]
sky_sigma = 0.08
gain = 3000
"""


def write(path, observation, planes=("NOISE", "PSF"), change=None):
    """A cutout as users have it."""
    hdus = [fits.PrimaryHDU()]
    hdus[0].header["RA"], hdus[0].header["DEC"] = 150.1, 2.2
    image = np.array(observation.image)
    if change is not None:
        change(image)
    for k, band in enumerate("AB"):
        hdus.append(fits.ImageHDU(image[..., k], name=band))
        hdus[-1].header["PIXSCALE"], hdus[-1].header["MAGZERO"] = SCALE, 27.0
        noise = np.sqrt(observation.variance[..., k])
        for name, plane in (("NOISE", noise), ("PSF", observation.psf[..., k])):
            if name in planes:
                hdus.append(fits.ImageHDU(plane, name=f"{name}_{band}"))
                hdus[-1].header["PIXSCALE"] = SCALE
    fits.HDUList(hdus).writeto(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two lenses, a galaxy without arcs, and what else lies in folders."""
    here = tmp_path_factory.mktemp("cutouts")
    (here / "own.toml").write_text(TOML)
    write(here / "a.fits", mock())
    write(here / "b.fits", mock(seed=1), planes=("PSF",))
    write(here / "no_arcs.fits", mock(arcs=False, seed=2))
    (here / "empty.fits").write_bytes(b"")

    def blank(image):
        image[...] = np.nan

    write(here / "nan.fits", mock(), change=blank)

    def sky(image):
        image[...] = np.random.default_rng(0).normal(0, 0.08, image.shape)

    write(here / "sky.fits", mock(), change=sky)
    return here


def asked(folder, out, **changed):
    keys = {"radius": SETTINGS.radius, "starts": SETTINGS.starts}
    keys |= {"draws": SETTINGS.draws, "most_gain": SETTINGS.most_gain}
    keys |= {"survey": str(folder / "own.toml"), "pictures": "false"}
    settings = FitConfig(str(folder), str(out), **(keys | changed))
    settings.validate()
    return settings


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "fits.parquet"
    assert fit.run(asked(folder, out, pictures="true")) == 0
    return out


def test_one_row_a_file_with_the_contracts_columns(folder, done):
    found = parquet.read(done)
    assert list(found["id"]) == ["a", "b", "empty", "nan", "no_arcs", "sky"]
    for name in ("theta_E_arcsec", "ex", "ey", "center_x_arcsec", "center_y_arcsec",
                 "shear_g1", "shear_g2"):  # fmt: skip
        for ending in ("", "_p16", "_p84", "_sigma"):
            assert found[name + ending].dtype == np.float32
    assert found["theta_E_arcsec"].unit == "arcsec"
    for name in ("chi2", "arc_gain", "n_modes", "flags", "message", "file"):
        assert name in found.colnames
    good = found[:2]
    np.testing.assert_allclose(good["theta_E_arcsec"], 1.1, atol=0.03)
    assert (good["theta_E_arcsec_p16"] < good["theta_E_arcsec_p84"]).all()
    assert (good["n_images"] >= 2).all() and (good["ra_deg"] == 150.1).all()
    assert list(good["psf_from"]) == ["file", "file"]
    assert list(good["noise_from"]) == ["file", "survey"]
    assert "noise_assumed" in good["flags"][1]
    # images lie where the lens equation puts them, on both sides of the lens
    x, y = good["image1_x_arcsec"], good["image1_y_arcsec"]
    assert (np.abs(np.hypot(x, y) - 1.1) < 0.4).all()
    meta = found.meta
    assert meta["fit"]["settings"]["draws"] == SETTINGS.draws and meta["rows"] == 6


def test_what_is_no_lens_has_a_flag_and_no_plausible_number(done):
    rows = {row["id"]: row for row in parquet.read(done)}
    for name, flag in (
        ("empty", "empty_file"),
        ("nan", "masked"),
        ("sky", "no_galaxy"),
    ):
        assert flag in rows[name]["flags"].split(",")
        assert np.isnan(rows[name]["theta_E_arcsec"]) and rows[name]["message"]
    assert "no_arcs" in rows["no_arcs"]["flags"].split(",")
    low = np.log(rows["no_arcs"]["theta_E_arcsec_p16"])
    assert low == pytest.approx(np.log(1.1) - 0.5, abs=1e-3)


def test_draws_pictures_and_page_lie_beside_the_table(done):
    with np.load(done.with_suffix(".samples.npz")) as file:
        assert list(file["name"]) == list(inference.NAMES)
        weight, draws, ids = file["weight"], file["draws"], list(file["id"])
    assert ids == [row["id"] for row in parquet.read(done)]
    np.testing.assert_allclose(weight[0].sum(), 1, rtol=1e-3)
    at = inference.NAMES.index("theta_E")
    mean = (weight[0] * draws[0, :, at]).sum()
    row = parquet.read(done)[0]
    assert abs(mean - row["theta_E_arcsec"]) < 3 * row["theta_E_arcsec_sigma"]
    prior = np.log(draws[4, :, at])  # no arcs: all alike
    assert np.ptp(weight[4]) == 0 and abs(prior.std() - 0.5) < 0.1
    page = done.with_suffix(".html").read_text()
    pictures = done.with_name("fits_pictures")
    assert sorted(p.name for p in pictures.iterdir()) == [
        "a.png",
        "b.png",
        "no_arcs.png",
    ]
    assert page.count("<img") == 3 and "empty_file" in page
    assert not list(done.parent.glob(".*.parts"))


def test_a_run_that_was_ended_goes_on_and_comes_to_the_same(
    folder, done, tmp_path, monkeypatch
):
    monkeypatch.setattr(fit_parts, "SIZE", 1)
    calls, whole = [], inference.fit

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*arguments)

    out = tmp_path / "fits.csv"
    monkeypatch.setattr(inference, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit.run(asked(folder, out))
    parts = next(tmp_path.glob(".*.parts"))
    first = sorted(parts.iterdir())[0]
    calls.append(1)
    assert fit.run(asked(folder, out)) == 0
    assert len(calls) == 2 + 1 + 2  # one lens was kept, two were left
    ours, other = Table.read(out, format="ascii.csv"), parquet.read(done)
    for name in ("theta_E_arcsec", "ex_p84", "arc_gain", "source_flux_a"):
        a, b = (
            np.ma.filled(np.ma.asarray(t[name], float), np.nan) for t in (ours, other)
        )
        np.testing.assert_allclose(a, b, rtol=1e-5)
    # a damaged part is none
    parts.mkdir()
    first.write_bytes(b"PK\x03\x04 damaged")
    task = fit.task_of(asked(folder, out))
    kept = fit_parts.Parts(out, fit_parts.identity(task))
    assert kept.folder == parts and kept.read(0) is None


def test_other_settings_or_files_are_another_run(folder, tmp_path):
    def named(**changed):
        task = fit.task_of(asked(folder, tmp_path / "a.fits", **changed))
        return fit_parts.identity(task)

    assert named() == named() and len({named(), named(seed=1), named(theta_E=0.9)}) == 3


def test_a_table_gives_priors_and_fits_holds_it(folder, tmp_path):
    start = Table({"id": ["no_arcs", "a"], "theta_E_arcsec": [0.7, np.nan]})
    start["theta_E_arcsec_sigma"] = [0.07, 0.1]
    start.write(tmp_path / "start.csv", format="ascii.csv")
    out = tmp_path / "fits.fits"
    only = folder / "no_arcs.fits"
    settings = asked(folder, out)
    settings.coolest = True
    settings.cutouts, settings.start = str(only), str(tmp_path / "start.csv")
    assert fit.run(settings) == 0
    template = json.loads((tmp_path / "fits_coolest" / "no_arcs.json").read_text())
    assert template["standard"] == "COOLEST"
    row = Table.read(out)[0]
    assert row["theta_E_arcsec"] == pytest.approx(0.7, abs=1e-3)
    assert row["theta_E_arcsec_p84"] == pytest.approx(0.7 * np.exp(0.1), abs=2e-3)


def test_a_coolest_template_has_the_posterior_in_its_own_numbers():
    rng = np.random.default_rng(0)
    middle = np.array([0.1, -0.05, 0.2, 0.001, 1.2, 0.03, -0.02])
    draws = middle + 0.01 * rng.normal(size=(400, 7))
    weight = rng.uniform(size=400)
    found = coolest.template(draws, weight, z_lens=0.4)
    field, galaxy, _ = found["lensing_entities"]
    got = {
        k: v["posterior_stats"]
        for k, v in galaxy["mass_model"][0]["parameters"].items()
    }
    e = np.hypot(*draws[:, 2:4].T)
    q = np.sqrt((1 - e) / (1 + e))
    b = draws[:, 4] * 2 * np.sqrt(q) / (1 + q)
    for name, values in (("theta_E", b), ("q", q), ("center_x", draws[:, 0])):
        order = np.argsort(values)
        share = np.cumsum(weight[order]) / weight.sum()
        expected = values[order][np.searchsorted(share, [0.16, 0.5, 0.84])]
        keys = ("percentile_16th", "median", "percentile_84th")
        np.testing.assert_allclose([got[name][k] for k in keys], expected, atol=1e-3)
    # the major axis is along x, at the seam of COOLEST's angles: 90 and -90 degrees
    assert got["phi"]["percentile_84th"] - got["phi"]["percentile_16th"] < 5
    assert (
        galaxy["redshift"] == 0.4 and "phi_ext" in field["mass_model"][0]["parameters"]
    )


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("sampler", "nuts", "sampler must be laplace, auto or hmc"),
        ("workers", -1, "workers must be"),
        ("chains", 1, "chains must be from 2"),
        ("redshifts", "nowhere.csv", "redshifts: there is no file"),
        ("draws", 2, "draws must be from 8"),
        ("start", "nowhere.parquet", "start: there is no file"),
        ("pictures", "many", "pictures must be"),
        ("theta_E", 0.0, "theta_E must be"),
        ("survey", "Euclit", "did you mean Euclid"),
        ("survey", "missing.toml", "cannot be read"),
        ("out", "a.txt", "must end in"),
        ("out", "nowhere/a.csv", "no folder nowhere"),
    ],
)
def test_wrong_arguments_are_named(folder, tmp_path, monkeypatch, key, value, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(config.ConfigError, match=told):
        settings = asked(folder, "a.parquet")
        setattr(settings, key, value)
        settings.validate()
        fit.run(settings)


def test_a_file_says_which_survey_it_is_of(folder, tmp_path):
    own = surveys.read(folder / "own.toml")
    assert own.sky_sigma == (0.08, 0.08) and own.name == "own"
    assert candidate.survey_of(folder / "a.fits") == surveys.HSC  # none fits
    image = np.random.default_rng(0).normal(0, 0.01, (100, 100)).astype("f4")
    hdu = fits.ImageHDU(image, name="F814W")
    hdu.header["PIXSCALE"] = 0.05
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "hst.fits")
    assert candidate.survey_of(tmp_path / "hst.fits") == surveys.HST


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("seeing = 1", "there is no seeing"),
        ("pixel_scale = 0", "pixel_scale must be above 0"),
        ("fwhm = [0.7]", "fwhm: give one number, or 2"),
        ('zero_point = "AB"', "zero_point must be an AB magnitude"),
        ("bands", "cannot be read"),
    ],
)
def test_a_survey_file_that_cannot_be_is_refused_by_field(tmp_path, line, told):
    name = line.split()[0]
    rest = [x for x in TOML.splitlines() if not x.startswith(name + " ")]
    path = tmp_path / "own.toml"
    path.write_text("\n".join([*rest, line]))
    with pytest.raises(ValueError, match=told):
        surveys.read(path)


def test_flags_say_what_numbers_mean():
    good = {"theta_E_arcsec": 1.0, "arc_gain": 500.0, "arc_lone": 0.5, "pull": 10.0}
    good |= {"theta_E_second_arcsec": np.nan, "probability": 1.0, "chi2": 1.0}
    good |= {"effective_draws": 30.0, "n_images": 2.0, "r_hat": np.nan}
    settings = inference.Settings()
    assert table.judged(good, settings) == {}
    for column, value, flag in (
        ("theta_E_arcsec", np.nan, "no_fit"),
        ("arc_gain", 20.0, "no_arcs"),
        ("arc_lone", 0.99, "one_object"),
        ("pull", 100.0, "far_from_prior"),
        ("chi2", 3.0, "poor_fit"),
        ("effective_draws", 1.0, "few_draws"),
        ("n_images", 1.0, "not_lensed"),
        ("r_hat", 1.3, "chains_disagree"),
    ):
        assert flag in table.judged(good | {column: value}, settings)
    two = good | {"probability": 0.6, "theta_E_second_arcsec": 1.4}
    assert "1.40" in table.judged(two, settings)["several_modes"]
