"""One galaxy out of an image: neighbours and noise stay behind."""

import numpy as np
import pytest

from lensjax.catalogue import extraction


def gaussian(n, sigma, x=0.0, y=0.0):
    axis = np.arange(n) - n // 2
    return np.exp(-((axis - x) ** 2 + (axis[:, None] - y) ** 2) / (2 * sigma**2))


def noisy(image, rng, noise=1.0):
    """Image, its blurred copy, the noise of that, and its segments."""
    image = image + noise * rng.normal(size=image.shape)
    blurred = extraction.smooth(image)
    sky = extraction.sky(blurred)
    blurred = blurred - sky.level
    return image, blurred, sky.noise, extraction.segments(blurred, sky.noise, 2)


def test_a_galaxy_beside_the_middle_of_a_small_stamp_is_not_taken_for_its_own():
    for x, y in ((-8, -8), (9, 0), (8, 9)):
        with pytest.raises(ValueError, match="no galaxy stands at its middle"):
            extraction.isolate(gaussian(25, 2.0, x, y), 0.01)


def test_noise_is_no_galaxy(rng):
    for n in (13, 17, 25, 41):
        for _ in range(50):
            with pytest.raises(ValueError, match="no galaxy stands out"):
                extraction.isolate(rng.normal(size=(n, n)), 1.0)


def test_a_faint_galaxy_in_the_middle_is_still_found(rng):
    image = 1.5 * gaussian(41, 3.0, 2, -1) + rng.normal(size=(41, 41))
    alone = extraction.isolate(image, np.nan)  # the stamp tells its own noise
    assert alone.shape[0] % 2 == 1
    np.testing.assert_allclose(alone.sum(), 1.5 * 2 * np.pi * 9, rtol=0.2)


def test_white_noise_and_sky_are_measured_beside_galaxies(rng):
    image, blurred, noise, _ = noisy(40 * gaussian(201, 8.0) + 3, rng)
    level, sigma = extraction.sky(image)
    assert abs(level - 3) < 0.05 and abs(sigma - 1) < 0.05
    assert abs(noise * extraction.AVERAGING - 1) < 0.1


def test_two_galaxies_that_touch_are_cut_apart(rng):
    one, two = 60 * gaussian(101, 4.0, -8), 25 * gaussian(101, 3.0, 8)
    _, blurred, noise, labels = noisy(one + two, rng)
    label = labels[50, 42]
    assert label == labels[50, 58] > 0  # one segment at first
    parted = extraction.deblend(labels, blurred, label, noise)
    assert parted[50, 42] == label != parted[50, 58]
    assert ((parted > 0) == (labels > 0)).all()
    light = [one[parted == parted[50, c]].sum() for c in (42, 58)]
    assert light[1] < 0.03 * light[0]
    light = [two[parted == parted[50, c]].sum() for c in (42, 58)]
    assert light[0] < 0.1 * light[1]
    others = (labels != label) & (labels > 0)
    assert (parted[others] == labels[others]).all()


def test_three_in_a_row_become_three(rng):
    image = sum(h * gaussian(101, 3.0, x) for h, x in ((30, -14), (50, 0), (40, 13)))
    _, blurred, noise, labels = noisy(image, rng)
    parted = extraction.deblend(labels, blurred, labels[50, 50], noise)
    assert len({parted[50, c] for c in (36, 50, 63)}) == 3


def test_a_noisy_galaxy_stays_whole(rng, monkeypatch):
    cases = [noisy(2.5 * gaussian(101, 9.0), rng) for _ in range(8)]

    def pieces():
        return [
            len(np.unique(extraction.deblend(labels, blurred, labels[50, 50], noise)))
            - len(np.unique(labels))
            for _, blurred, noise, labels in cases
        ]

    assert not any(pieces())
    monkeypatch.setattr(extraction, "PROMINENCE", 0)
    monkeypatch.setattr(extraction, "CONTRAST", 0)
    assert min(pieces()) > 2  # every bump of the noise


def test_a_saddle_must_be_deeper_than_the_noise():
    image = 9 * (gaussian(81, 3.0, -5) + gaussian(81, 3.0, 5))  # a dip of 4.5
    labels = (image > 1).astype(int)
    assert (extraction.deblend(labels, image, 1, noise=1.2) == labels).all()
    parted = extraction.deblend(labels, image, 1, noise=0.5)
    assert 0 < parted[40, 35] != parted[40, 45] > 0


def test_a_companion_must_hold_a_share_of_the_light():
    image = 100 * gaussian(121, 5.0, -15)
    for height, cut in ((9, False), (40, True)):  # 1 and 4 % of the light
        both = image + height * gaussian(121, 2.0, 5)
        labels = (both > 0.3).astype(int)
        assert labels[60, 45:66].all()
        parted = extraction.deblend(labels, both, 1, noise=0.1)
        assert (parted[60, 45] != parted[60, 65]) == cut


def test_light_of_basins_that_became_one_counts_together():
    # two bumps of one companion, each with 1.7 % of the light, the noise above the dip
    image, bump = 100 * gaussian(121, 5.0, -15), 7.5 * gaussian(121, 2.5, 12)
    both = image + bump + np.roll(bump, 9, axis=1)
    parted = extraction.deblend((both > 0.05).astype(int), both, 1, noise=1.3)
    assert parted[60, 72] == parted[60, 81] != parted[60, 45]
    alone = image + bump
    parted = extraction.deblend((alone > 0.05).astype(int), alone, 1, noise=1.3)
    assert parted[60, 72] == parted[60, 45] > 0


def test_a_place_beside_all_segments_has_the_nearest_peak_within_reach():
    blurred = gaussian(61, 2.0, -10) + gaussian(61, 2.0, 10)
    labels = extraction.segments(blurred, 0.01, 50)
    left, right = labels[30, 20], labels[30, 40]
    assert 0 != left != right != 0
    assert extraction.own(labels, blurred, (30, 20), 3) == left
    assert extraction.own(labels, blurred, (30.0, 31.0), 10) == right
    assert extraction.own(labels, blurred, (30.0, 29.0), 10) == left
    assert extraction.own(labels, blurred, (30.0, 30.5), 5) == 0
    assert extraction.own(labels, blurred, (30.0, 65.0), 30) == right  # outside
    assert extraction.own(labels, blurred, (-50.0, 30.0), 9) == 0


def test_nothing_but_noise_is_no_segment(rng):
    assert not extraction.segments(np.zeros((20, 20)), 1.0, 1).any()
    speck = np.zeros((20, 20))
    speck[3:5, 3:7] = 100  # of eight pixels
    assert not extraction.segments(speck, 1.0, 1).any()
    for _ in range(10):
        *_, labels = noisy(np.zeros((201, 201)), rng)
        assert not labels.any()
    *_, labels = noisy(1.5 * gaussian(201, 3.0), rng)  # ten sigma of itself
    assert labels[100, 100] and len(np.unique(labels)) == 2


def test_a_square_is_odd_small_and_zero_outside_the_segment():
    image = np.arange(1.0, 31.0).reshape(5, 6)
    segment = np.zeros((5, 6), bool)
    segment[1, 2:5] = True
    square = extraction.centred(image, segment, (1, 3))
    np.testing.assert_array_equal(square, [[0, 0, 0], [9, 10, 11], [0, 0, 0]])
    square = extraction.centred(np.stack([image, 2 * image], -1), segment, (1, 2))
    assert square.shape == (5, 5, 2) and square[2, 2, 1] == 18 and square[2, 4, 0] == 11
