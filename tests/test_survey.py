"""Surveys: what their figures imply, and what is said of a wrong name."""

import numpy as np
import pytest
from lenstronomy.SimulationAPI.data_api import DataAPI
from lenstronomy.SimulationAPI.ObservationConfig import DES, LSST, Euclid

from lensjax import survey


@pytest.mark.parametrize("name", ["LSST", "Euclid"])
def test_sky_noise_is_that_of_lenstronomys_simulation(name):
    """Counts here are flux, its are electrons a second: compared at one zero point."""
    ours = survey.named(name)
    theirs = {"LSST": LSST.LSST, "Euclid": Euclid.Euclid}[name]
    for k, band in enumerate(ours.bands):
        label = band if name == "Euclid" else band.lower()
        options = {"coadd_years": 10} if name == "LSST" else {"coadd_years": 6}
        config = theirs(band=label, psf_type="GAUSSIAN", **options).kwargs_single_band()
        if name == "LSST":  # the sky's alone: read noise is not in our figures
            config["read_noise"] = 0.0
        config["pixel_scale"] = ours.pixel_scale
        noise = DataAPI(num_pix=10, **config).background_noise
        to_counts = 10 ** (0.4 * (ours.zero_point - config["magnitude_zero_point"]))
        assert ours.sky_sigma[k] == pytest.approx(noise * to_counts, rel=0.02)
        assert ours.fwhm[k] == pytest.approx(config["seeing"], abs=0.011)


def test_gains_are_exposure_times_at_the_zero_point():
    """One count is as bright as the zero point says: it makes so many electrons."""
    for k, band in enumerate("griz"):
        config = DES.DES(band=band).kwargs_single_band()
        electrons = 10 * 90 * 10 ** (-0.4 * (30.0 - config["magnitude_zero_point"]))
        assert survey.DES.gain[k] == pytest.approx(electrons, rel=1e-6)


def test_every_survey_is_whole():
    for one in survey.ALL.values():
        for values in (one.fwhm, one.sky_sigma, one.gain):
            assert len(values) == len(one.bands) and np.min(values) > 0
        assert one.bands[one.detection].lower() == one.detection_band
        assert hash(one) is not None and one.psf_oversampling % 2 == 1
        # two PSF pixels in the seeing: what the sampling of mocks asks for
        finest = one.pixel_scale / one.psf_oversampling
        assert min(one.fwhm) > 2 * finest
        assert survey.named(one.name.upper()) is one


def test_a_wrong_name_is_told_the_nearest():
    with pytest.raises(ValueError, match="'LSTS': did you mean LSST"):
        survey.named("LSTS")
