"""A small run of tests/fuzz.py; `python -m tests.fuzz` is the large one."""

import fuzz
import numpy as np
from test_cutouts import galaxy


def test_broken_files_are_read_or_refused_and_give_no_other_answer():
    images = np.stack([galaxy(seed=seed) for seed in range(8)])
    results = fuzz.run(images, 300, 3, fuzz.packaged)
    assert [one for one in results if one.outcome == "failed"] == []
    outcomes = {one.outcome for one in results}
    assert outcomes == {"refused", "flagged", "read"}


def test_an_answer_that_moves_without_a_flag_and_a_traceback_are_failures():
    """The fuzzer itself sees what it is to see."""
    images = np.stack([galaxy(seed=seed) for seed in range(8)])
    moves = iter([np.zeros(8), np.full(300, 0.3)])

    def theta_e(some):
        return next(moves)[: len(some)]

    results = fuzz.run(images, 60, 3, theta_e)
    assert {one.outcome for one in results if one.image is not None} == {"failed"}

    def broken():
        raise KeyError("x")

    assert fuzz.judged("any", broken, (ValueError,), 0).outcome == "failed"

    for words in ("broken.fits: two\nlines", "no file is named"):

        def refusing(words=words):
            raise ValueError(words)

        assert fuzz.judged("any", refusing, (ValueError,), 0).outcome == "failed"
