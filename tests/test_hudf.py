"""Source galaxies out of mosaics: against what was put in."""

import pickle

import hudf_mosaic
import numpy as np
import pytest
from hudf_mosaic import BANDS, NOISE, SCALE, ZERO_POINTS
from scipy import ndimage

from lensjax.catalogue import hudf
from lensjax.catalogue.hudf import Redshifts, Refused, extract, open_mosaics

SIZE = 500  # of the small mosaics below
HERE = (250.0, 250.0)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Mosaics, redshifts, and what was put in by name."""
    folder = tmp_path_factory.mktemp("hudf") / "mosaics"
    folder, table, entries = hudf_mosaic.build(folder, n_galaxies=6, size=700, seed=0)
    return open_mosaics(folder), hudf.read_redshifts(table)[0], entries


@pytest.fixture(scope="module")
def stamps(built):
    """What comes of each entry: Galaxy, or Refused."""
    mosaics, redshifts, _ = built
    found = {}
    for k, name in enumerate(redshifts.id):
        try:
            found[str(name)] = extract(mosaics, redshifts, k)
        except Refused as refused:
            found[str(name)] = refused
    return found


@pytest.fixture
def scene(tmp_path):
    """A function that makes mosaics with the given galaxies alone."""

    def make(*galaxies, places=(HERE,), edit=None):
        """Galaxies are (x, y, i, radius); entries lie at `places` (x, y)."""
        rng, planes = np.random.default_rng(4), {}
        for k, band in enumerate(BANDS):
            plane = rng.normal(0, NOISE[k], (SIZE, SIZE))
            for x, y, i, radius in galaxies:
                flux = 10 ** (-0.4 * (i - ZERO_POINTS[k]))
                hudf_mosaic.add(plane, x, y, flux, radius, 1.0, 0.8, 0.5)
            planes[band] = plane.astype("f4")
        if edit:
            edit(planes)
        folder = tmp_path / f"scene{len(list(tmp_path.iterdir()))}"
        hudf_mosaic.write_mosaics(folder, planes)
        mosaics = open_mosaics(folder)
        ra, dec = mosaics.wcs.pixel_to_world_values(*np.transpose(places))
        names = np.array([f"e{k}" for k in range(len(places))])
        return mosaics, Redshifts(names, ra, dec, np.full(len(places), 1.5))

    return make


def good(stamps, entries):
    """Pairs of (Galaxy, entry), the star excepted."""
    kinds = ("galaxy", "pair")
    return [(stamps[n], e) for n, e in entries.items() if e.kind in kinds]


def flag_of(mosaics, redshifts, index=0):
    with pytest.raises(Refused) as caught:
        extract(mosaics, redshifts, index)
    assert caught.value.flag in hudf.REFUSALS
    assert str(caught.value).startswith(f"{redshifts.id[index]}: ")
    return caught.value.flag


def test_galaxies_have_the_magnitudes_that_were_put_in(built, stamps):
    pairs = good(stamps, built[2])
    assert len(pairs) == 9
    off = np.array([galaxy.mag - entry.mag for galaxy, entry in pairs])
    assert abs(np.median(off)) < 0.05  # what lies below two sigma is not counted
    assert off.min() > -0.03 and off.max() < 0.1
    np.testing.assert_allclose(off, np.tile(off[:, [2]], 4), atol=0.05)  # colours


def test_stamps_hold_their_magnitudes_in_counts_of_the_survey(built, stamps):
    mosaics, redshifts, entries = built
    for galaxy, _ in good(stamps, entries):
        flux = galaxy.image.sum((0, 1), dtype=float)
        np.testing.assert_allclose(27 - 2.5 * np.log10(flux), galaxy.mag, atol=1e-4)
    other = extract(mosaics, redshifts, 0, zero_point=30.0)
    np.testing.assert_allclose(other.image, stamps["101"].image * 10**1.2, rtol=1e-5)
    np.testing.assert_allclose(other.mag, stamps["101"].mag, atol=1e-6)


def test_a_stamp_is_the_mosaic_s_pixels_in_a_square_about_the_brightest(built, stamps):
    mosaics, _, entries = built
    for galaxy, entry in good(stamps, entries):
        m = galaxy.image.shape[0]
        assert galaxy.image.shape == (m, m, 4) and m % 2 == 1
        assert galaxy.image.dtype == np.float32
        x, y = mosaics.wcs.world_to_pixel_values(galaxy.ra, galaxy.dec)
        assert np.hypot(x - entry.x, y - entry.y) < 1.6
        column, row = round(float(x)), round(float(y))
        assert abs(x - column) < 1e-5 and abs(y - row) < 1e-5
        here = np.s_[
            row - m // 2 : row + m // 2 + 1, column - m // 2 : column + m // 2 + 1
        ]
        used = galaxy.image[..., 2] != 0
        for k, plane in enumerate(mosaics.planes):
            pixels = plane.mapped()[here] * 10 ** (0.4 * (27 - ZERO_POINTS[k]))
            sky = (pixels - galaxy.image[..., k])[used]
            assert np.ptp(sky) < 1e-4 * pixels.max()  # but for a sky
            assert abs(sky[0]) < 0.3 * NOISE[k] * 10 ** (0.4 * (27 - ZERO_POINTS[k]))
        frame = np.concatenate([used[0], used[-1], used[:, 0], used[:, -1]])
        assert frame.any() and not used.all()  # the smallest square, zero outside


def test_signal_to_noise_is_that_of_white_noise_put_in(stamps, built):
    for galaxy, _ in good(stamps, built[2]):
        area = np.count_nonzero(galaxy.image[..., 2])
        noise = NOISE[2] * np.sqrt(area) * 10 ** (0.4 * (27 - ZERO_POINTS[2]))
        expected = 10 ** (-0.4 * (galaxy.mag[2] - 27)) / noise
        np.testing.assert_allclose(galaxy.snr, expected, rtol=0.15)


def test_a_neighbour_s_light_is_not_in_the_stamp(built, stamps):
    entries = built[2]
    first, second = stamps["201"], stamps["202"]
    apart = round(entries["202"].x - entries["201"].x)
    for galaxy, offset in ((first, apart), (second, -apart)):
        reach = galaxy.image.shape[0] // 2
        at = reach + offset
        if 0 <= at < galaxy.image.shape[1]:
            assert not galaxy.image[reach - 2 : reach + 3, at - 2 : at + 3].any()
    together = sum(10 ** (-0.4 * entries[n].mag[2]) for n in ("201", "202"))
    assert first.mag[2] > -2.5 * np.log10(together) + 0.2


def test_names_redshifts_and_positions_are_the_table_s(built, stamps):
    for galaxy, entry in good(stamps, built[2]):
        assert galaxy.name == entry.name and galaxy.z == entry.z
        assert abs(galaxy.dec - entry.dec) * 3600 < 2 * SCALE
        assert not {"saturated", "point_like", "upper_limit"} & set(galaxy.flags)


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("203", "blended"),
        ("302", "faint"),
        ("303", "undetected"),
        ("304", "outside"),
    ],
)
def test_an_entry_without_a_galaxy_of_its_own_is_refused(stamps, name, flag):
    assert isinstance(stamps[name], Refused) and stamps[name].flag == flag
    again = pickle.loads(pickle.dumps(stamps[name]))  # from another process
    assert (again.name, again.flag, str(again)) == (name, flag, str(stamps[name]))


def test_a_star_is_flagged(stamps):
    assert {"saturated", "point_like"} <= set(stamps["301"].flags)
    assert set(stamps["301"].flags) <= set(hudf.WARNINGS)


def test_one_object_at_a_time_gives_the_same(built, stamps):
    mosaics, redshifts, _ = built
    for k in (9, 2):  # in another order
        again = extract(mosaics, redshifts, k)
        first = stamps[again.name]
        np.testing.assert_array_equal(again.image, first.image)
        assert again.mag.tolist() == first.mag.tolist() and again.flags == first.flags


def test_a_header_s_zero_point_moves_its_band_alone(tmp_path):
    flam = 10 ** (-0.4 * (ZERO_POINTS[0] + 0.3 + 2.408)) / 4300.0**2
    one, two = (
        hudf_mosaic.build(tmp_path / name, 1, 500, cards=cards)[:2]
        for name, cards in (
            ("one", {}),
            ("two", {"b": {"PHOTFLAM": flam, "PHOTPLAM": 4300.0}}),
        )
    )
    mags = [
        extract(open_mosaics(f), hudf.read_redshifts(table)[0], 0).mag
        for f, table in (one, two)
    ]
    np.testing.assert_allclose(mags[1] - mags[0], [0.3, 0, 0, 0], atol=1e-3)


def test_of_two_entries_in_one_galaxy_the_closer_has_it(scene):
    places = [(258.0, 250.0), (253.0, 250.0), (253.0, 250.0)]
    mosaics, entries = scene((*HERE, 23.0, 0.25), places=places)
    assert flag_of(mosaics, entries, 0) == "blended"
    assert extract(mosaics, entries, 1).name == "e1"
    with pytest.raises(Refused, match="e2: entry e1 is closer"):
        extract(mosaics, entries, 2)  # the first of equals has it
    alone = Redshifts(*(field[:1] for field in entries))
    assert extract(mosaics, alone, 0).name == "e0"


def test_an_entry_of_the_galaxy_next_door_does_not_count(scene):
    # 0.4 arcsec apart: the second entry is closer to the first galaxy than the first
    galaxies = [(250.0, 250.0, 23.0, 0.03), (263.0, 250.0, 23.2, 0.03)]
    mosaics, entries = scene(*galaxies, places=[(236.0, 250.0), (263.0, 250.0)])
    for k, (_, _, i, _) in enumerate(galaxies):
        assert abs(extract(mosaics, entries, k).mag[2] - i) < 0.15


def test_an_entry_beside_its_galaxy_finds_it_within_half_an_arcsec(scene):
    # 0.4 and 0.7 arcsec away, on the sky
    places = [(250.0 + 0.4 / SCALE, 250.0), (250.0, 250.0 + 0.7 / SCALE)]
    mosaics, entries = scene((*HERE, 26.0, 0.08), places=places[:1])
    galaxy = extract(mosaics, entries, 0)
    assert abs(galaxy.mag[2] - 26) < 0.2 and "off_peak" not in galaxy.flags
    mosaics, entries = scene((*HERE, 26.0, 0.08), places=places[1:])
    assert flag_of(mosaics, entries) == "undetected"


def test_the_outskirts_of_another_galaxy_are_no_galaxy(scene):
    places = [(250.0, 310.0), (250.0, 390.0)]
    mosaics, entries = scene((*HERE, 20.5, 0.45), places=places)
    with pytest.raises(Refused, match="outskirts of another galaxy") as caught:
        extract(mosaics, entries, 0)
    assert caught.value.flag == "undetected"
    with pytest.raises(Refused, match="nothing stands out") as caught:
        extract(mosaics, entries, 1)
    assert caught.value.flag == "undetected"


def test_a_galaxy_below_the_limit_is_faint(scene):
    kept = []
    for i in (28.0, 29.0, 29.4, 30.5):
        mosaics, entries = scene((*HERE, i, 0.12))
        try:
            kept.append(extract(mosaics, entries, 0).snr)
        except Refused as refused:
            kept.append(refused.flag)
    assert kept[0] > 12 and kept[2:] == ["faint", "undetected"]


def test_an_entry_far_from_the_brightest_pixel_of_a_large_galaxy_is_flagged(scene):
    mosaics, entries = scene((*HERE, 20.5, 0.45), places=[(268.0, 250.0)])
    galaxy = extract(mosaics, entries, 0)
    assert "0.5" in galaxy.flags["off_peak"]


def test_pixels_without_data_beside_the_galaxy_refuse_it(scene):
    def nan(planes):
        planes["z"][252, 247] = np.nan

    def zero(planes):
        planes["b"][:, 262:] = 0

    def far(planes):
        planes["b"][:, 300:] = np.nan

    galaxy = (*HERE, 23.0, 0.25)
    assert flag_of(*scene(galaxy, edit=nan)) == "no_data"
    assert flag_of(*scene(galaxy, edit=zero)) == "no_data"
    mosaics, entries = scene(galaxy, edit=far)
    assert abs(extract(mosaics, entries, 0).mag[2] - 23) < 0.06


def test_the_mosaic_s_edge_cuts_no_galaxy(scene):
    # the window reaches over the edge in both, the light in the first
    mosaics, entries = scene(
        (10.0, 250.0, 23.0, 0.25),
        (250.0, 450.0, 23.0, 0.25),
        places=[(10.0, 250.0), (250.0, 450.0)],
    )
    assert flag_of(mosaics, entries, 0) == "no_data"
    galaxy = extract(mosaics, entries, 1)
    assert abs(galaxy.mag[2] - 23) < 0.06
    x, y = mosaics.wcs.world_to_pixel_values(galaxy.ra, galaxy.dec)
    assert np.hypot(x - 250, y - 450) < 1.6


def test_the_empty_border_and_all_beyond_it_are_outside(scene):
    def border(planes):
        for plane in planes.values():
            plane[:, :100] = 0

    places = [(50.0, 250.0), (-3.0, 250.0), (250.0, 502.0), (1e6, 0.0)]
    mosaics, entries = scene(edit=border, places=places)
    entries.ra[3] += 180  # on the other side of the sky
    assert [flag_of(mosaics, entries, k) for k in range(4)] == ["outside"] * 4


def test_little_data_or_none_that_varies_is_no_data(scene):
    def patch(planes):
        for plane in planes.values():
            kept = plane[230:270, 230:270].copy()
            plane[:] = np.nan
            plane[230:270, 230:270] = kept

    def constant(planes):
        planes["v"][:] = 0.1

    galaxy = (*HERE, 25.0, 0.1)
    assert flag_of(*scene(galaxy, edit=patch)) == "no_data"
    assert flag_of(*scene(galaxy, edit=constant)) == "no_data"


def test_a_galaxy_larger_than_the_window_is_refused(scene):
    def ramp(planes):
        for plane in planes.values():
            plane[240:260] += 0.05  # light from border to border

    assert flag_of(*scene((*HERE, 23.0, 0.2), edit=ramp)) == "too_large"


def test_a_local_sky_is_subtracted_and_said(scene):
    def glow(planes):
        planes["z"] += 0.2 * NOISE[3]

    plain = extract(*scene((*HERE, 24.0, 0.25)), 0)
    lit = extract(*scene((*HERE, 24.0, 0.25), edit=glow), 0)
    assert " z " in lit.flags["sky"] and "sky" not in plain.flags
    np.testing.assert_allclose(lit.mag, plain.mag, atol=0.004)


def test_a_dropout_s_magnitude_is_its_noise_and_flagged(scene):
    def drop(level):
        def edit(planes):
            rng = np.random.default_rng(3)
            planes["b"][:] = rng.normal(0, NOISE[0], (SIZE, SIZE))
            planes["b"][245:256, 245:256] += level * NOISE[0]

        return extract(*scene((*HERE, 24.5, 0.2), edit=edit), 0)

    first = drop(0.0)
    area = np.count_nonzero(first.image[..., 2])
    noise = NOISE[0] * np.sqrt(area)
    flux = first.image[..., 0].sum() * 10 ** (0.4 * (ZERO_POINTS[0] - 27))
    for sigmas in (-0.5, 0.5):
        galaxy = drop((sigmas * noise - flux) / 121 / NOISE[0])
        assert galaxy.flags["upper_limit"].endswith(" in b")
        limit = ZERO_POINTS[0] - 2.5 * np.log10(noise)
        assert abs(galaxy.mag[0] - limit) < 0.15
        assert abs(galaxy.mag[2] - 24.5) < 0.1
    bright = drop((5 * noise - flux) / 121 / NOISE[0])
    assert "upper_limit" not in bright.flags and bright.mag[0] < limit - 1


def test_a_bright_star_is_saturated_though_nothing_is_clipped(scene):
    assert "saturated" in extract(*scene((*HERE, 17.5, 0.0)), 0).flags
    assert "saturated" not in extract(*scene((*HERE, 20.5, 0.0)), 0).flags


def test_one_hot_pixel_does_not_become_the_middle(scene):
    def hot(planes):
        planes["i"][257, 250] = 1.3 * planes["i"][245:256, 245:256].max()

    mosaics, entries = scene((*HERE, 23.0, 0.25), edit=hot)
    galaxy = extract(mosaics, entries, 0)
    x, y = mosaics.wcs.world_to_pixel_values(galaxy.ra, galaxy.dec)
    assert np.hypot(x - 250, y - 250) < 3


def test_correlated_noise_is_not_taken_for_signal(scene):
    rng = np.random.default_rng(5)
    raw = {b: rng.normal(size=(SIZE, SIZE)) for b in BANDS}
    smooth = {b: ndimage.uniform_filter(r, 3) for b, r in raw.items()}

    def correlate(planes):  # the same noise over many pixels, less in each
        for k, band in enumerate(BANDS):
            planes[band] += smooth[band] * NOISE[k] * 2

    white = extract(*scene((*HERE, 24.0, 0.2)), 0)
    drizzled = extract(*scene((*HERE, 24.0, 0.2), edit=correlate), 0)
    # variances of sums add up: 1 + 2^2
    area = [np.count_nonzero(g.image[..., 2]) for g in (white, drizzled)]
    ratio = drizzled.snr / white.snr * np.sqrt(area[1] / area[0])
    assert 0.38 < ratio < 0.62
