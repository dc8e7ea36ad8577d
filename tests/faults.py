"""What users meet that is broken, and the tests that make each of it.

python -m tests.faults  makes every fault and prints what was seen of it, as a table
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest

HERE = Path(__file__).parent

FAULTS = {
    "one NaN or infinite pixel": "cutouts::broken_image[*_pixel-*]",
    "a band all NaN": "cutouts::broken_image[nan_band-*]",
    "a band all zero": "cutouts::broken_image[zero_band-*]",
    "a constant image": "cutouts::broken_image[constant-*]",
    "another unit: the likely one is named": "cutouts::likely_unit "
    "scene::broken_image_is_told cutouts::broken_image[nano*]",
    "sky far below zero": "cutouts::broken_image[low_sky-*]",
    "a saturated star beside the lens": "cutouts::broken_image[clipped-*] "
    "cutouts::broken_image[bright_star-*] cutouts::bright_core",
    "over 20 % masked, or placeholders for pixels": "cutouts::broken_image[masked-*] "
    "one_grid::more_than_a_fifth one_grid::mask_and_noise hsc::bad_pixels "
    "scene::place_on_the_light",
    "a stripe without data": "cutouts::broken_image[*stripe-*] "
    "cutouts::broken_image[diagonal-*] cutouts::dead_last_row",
    "fewer pixels than the survey's cutout": "cutouts::too_few_pixels",
    "more pixels: the middle, and by which half pixel": "cutouts::crop_is_central "
    "predict::odd_cutouts_centre",
    "another pixel scale": "cutouts::another_pixel_scale cutouts::contradicts_the_card",
    "a WCS that is rotated or mirrored": "cutouts::turned_or_mirrored wcs:: "
    "one_grid::turned_to_north_up",
    "bands in another order, twice, or by other names": "cutouts::bands_go_by_any "
    "cutouts::header_that_cannot",
    "a missing band": "cutouts::header_that_cannot[missing_band-*] hsc::missing_bands",
    "bands of different shape, or shifted": "cutouts::bands_shifted one_grid::shifted "
    "one_grid::different_shape scene::told_by_its_kind[rolled*]",
    "a mask without names of its bits, or with others": "hsc::names_its_own_mask_bits "
    "hsc::does_not_name_its_bits one_grid::own_cards",
    "no variance, or a negative one": "one_grid::variance_that_is_not_positive "
    "hsc::found_wherever hsc::few_bad_and_many",
    "IMAGE in another place in the file": "hsc::found_wherever",
    "FLUXMAG0 missing, 0, negative or NaN": "hsc::without_fluxmag0 "
    "hsc::fluxmag0_that_is_no_flux cutouts::fluxmag0_is_the_zero_point",
    "doubles, scaled integers, BLANK, big-endian": "cutouts::become_float32 "
    "cutouts::blank_is_nan hsc::stored_in_any_way",
    "tile-compressed": "cutouts::tile_compressed hsc::tiled_mask",
    "a cube": "cutouts::cube_is_refused",
    "no PSF for a band": "hsc::missing_bands observation::lacks plain::must_be_there",
    "a PSF of NaN, of negative sum, of sum .93": "hsc::what_is_no_psf "
    "hsc::whose_sum_is_not_one plain::broken_psf",
    "a PSF of even size or off centre": "psf::centring psf::without_a_middle_pixel "
    "plain::centred_normalised",
    "a PSF larger than the image, or of another scale": "psf::wider_than_the_image "
    "plain::psf_on_other_pixels one_grid::psf_of_another_scale",
    "a truncated file": "cutouts::cut_anywhere cutouts::damaged_file",
    "an empty file": "cutouts::damaged_file[*empty*]",
    "a login page called .fits": "cutouts::damaged_file[*html*]",
    "a header that lies about its size": "cutouts::claims_longer_rows "
    "cutouts::header_that_cannot",
    "a wrong checksum": "cutouts::fails_the_checksum hsc::fails_the_checksum",
    "a gzip bomb": "cutouts::gzip_is_read cutouts::bomb_of_tiles",
    "files that vanish or are locked in mid-batch": "predict::vanish "
    "ingest::vanish cutouts::without_permission",
    "a folder or a loop of links for a file": "cutouts::what_is_no_file "
    "hsc_files::loops_do_no_harm",
    "spaces, letters of all alphabets, a leading dash": "failures::any_spelling "
    "cutouts::odd_names predict::not_utf8",
    "../ in an archive": "failures::no_archive_is_unpacked",
    "a folder of very many files": "hsc_files::large_folder",
    "the disk full, or not to be written": "failures::machine predict::full "
    "ingest::full_disk checkpoint::full_disk predict::cannot_be_written",
    "the output exists": "tables::overwritten predict::bad_arguments "
    "ingest::another_ingestion_is_not",
    "ids that stand twice": "plain::broken_objects redshifts::torn "
    "ingest::counted_once",
    "a missing or misspelt column": "sdss::names_the_closest user_tables::overlooked "
    "redshifts::missing_column",
    "ra and dec swapped, or hours": "sdss::swapped redshifts::cannot_be "
    "ingest::no_spectrum_matches ingest::reason_why hsc_files::hours",
    "the source before the lens": "cosmology::edges sample::meets_the_criteria",
    "redshifts of -9.999, NaN, 0, 99 or infinity": "plain::unknown_redshifts "
    "redshifts::no_redshifts user_tables::unknown_in_every",
    "velocity dispersions of 0, 850, or without error": "plain::unknown_redshifts "
    "plain::failed_fit sdss::left_out_and_counted",
    "64-bit ids that went through floats": "sdss::floats sdss::every_digit "
    "user_tables::every_digit user_tables::were_no_integers",
    "blank and masked cells": "sdss::blank_cells plain::blank_id user_tables::blank "
    "redshifts::masked_cells",
    "exactly 50 rows": "sdss::exactly_50 redshifts::exactly_fifty",
    "a table without rows": "user_tables::without_rows sdss::empty_table "
    "redshifts::without_rows predict::empty_catalogue ingest::nothing_that_can_be_used",
    "a round lens": "sie::round_lens images::round_lens lens_derivatives::",
    "|e| beyond 1 predicted": "predict::beyond_one",
    "theta_E of 0 or less predicted": "predict::no_einstein_radius "
    "followup::no_lens_predicts",
    "a source at the centre, on an axis, on a caustic": "images::centred_source "
    "images::symmetry_axis images::crossing_the_caustic images::ring_is_no_set",
    "a source outside": "images::outside_its_cut",
    "the lens's centre": "sie::zero_at_the_centre sie::singular_points",
    "single and double precision": "sie::in_both_precisions sie::without_losing "
    "mock::single_precision",
    "SIGTERM and SIGINT to a run": "experiments::lose_and_repeat_nothing "
    "experiments::resumes_exactly ingest::signal",
    "SIGKILL while it saves": "checkpoint::sigkill experiments::killed_run "
    "ingest::killed_anywhere",
    "the disk full while it saves": "checkpoint::full_disk checkpoint::system_refuses",
    "a flipped byte in a checkpoint": "checkpoint::flipped experiments::flipped",
    "a checkpoint of other settings": "checkpoint::another_architecture "
    "failures::sealed_with experiments::another_run",
    "a run that diverges": "grid::diverges experiments::diverged_run train::diverges",
    "a wrong or misspelt setting": "config::in_one_line",
    "two jobs in one folder": "experiments::two_jobs checkpoint::two_jobs "
    "ingest::two_at_once",
    "one seed, one curve": "experiments::one_seed",
    "one lens galaxy in two folds": "train::both_sides catalogue::does_not_depend "
    "plain::between_folds",
    "galaxies that changed since the checkpoint": "experiments::changed_since",
    "out of memory": "failures::machine",
    "a pickle or objects for a model": "failures::objects pretrained::no_network",
    "a port that is open to others": "failures::nothing_is_served",
    "ids and paths with markup in a page": "report::asks_for_nothing",
    "credentials in logs and records": "failures::environment",
    "_target_ in a configuration": "failures::cannot_name_code",
}
"""What is broken, in the order of its numbers -> tests as file::part of their name."""


def tests_of(patterns: str, nodes: list[str]) -> list[str]:
    """Which of pytest's nodes a fault's patterns mean; * stands for anything."""
    found = []
    for pattern in patterns.split():
        file, part = pattern.split("::")
        part, _, case = part.partition("[")
        case = r"\[" + re.escape(case).replace(r"\*", ".*") + "$" if case else ""
        form = re.compile(rf"test_{file}\.py::test_\w*{part}\w*{case}")
        these = [node for node in nodes if form.search(node)]
        if not these:
            raise LookupError(f"no test is meant by {pattern}")
        found += these
    return list(dict.fromkeys(found))


class Seen:
    """A plugin of pytest: which tests passed, and the words that were met in them."""

    def __init__(self) -> None:
        self.nodes: list[str] = []
        self.outcome: dict[str, str] = {}
        self.words: defaultdict[str, list[str]] = defaultdict(list)
        self.now = ""

    def pytest_collection_modifyitems(self, items) -> None:
        """Keep the tests that some fault means."""
        self.nodes = [item.nodeid for item in items]
        meant = {n for p in FAULTS.values() for n in tests_of(p, self.nodes)}
        items[:] = [item for item in items if item.nodeid in meant]

    def pytest_runtest_logstart(self, nodeid) -> None:
        """Know which test runs."""
        self.now = nodeid

    def pytest_runtest_logreport(self, report) -> None:
        """Note how it ended."""
        if report.failed or (report.when == "call" and report.passed):
            self.outcome[report.nodeid] = report.outcome
        elif report.skipped:
            self.outcome.setdefault(report.nodeid, "skipped")

    def hear(self, words: str) -> None:
        """Keep what a user would have read."""
        said = self.words[self.now]
        words = " ".join(str(words).split())
        if words and words not in said:
            said.append(words)


def listening(seen: Seen, patch: pytest.MonkeyPatch) -> None:
    """Hear every expected error and every flag of an image."""
    from _pytest.raises import RaisesExc

    from lensjax.catalogue import _flags, hsc, quality

    end = RaisesExc.__exit__

    def ended(self, kind, error, trace):
        if error is not None:
            seen.hear(f"{kind.__name__}: {error}")
        return end(self, kind, error, trace)

    def heard(function):
        def call(*arguments, **more):
            out = function(*arguments, **more)
            flags = out if isinstance(out, dict) else getattr(out, "flags", {})
            for flag, text in flags.items():
                fatal = "refused" if _flags.is_fatal([flag]) else "warning"
                seen.hear(f"{flag} ({fatal}): {text}")
            return out

        return call

    patch.setattr(RaisesExc, "__exit__", ended)
    for module, name in ((quality, "prepare"), (hsc, "read"), (quality, "check")):
        patch.setattr(module, name, heard(getattr(module, name)))


def table(seen: Seen) -> tuple[str, int]:
    """The table, and how many faults are not as they should be."""
    lines = ["| # | fault | tests | seen, for one |", "|---|---|---|---|"]
    wrong = 0
    for number, (fault, patterns) in enumerate(FAULTS.items(), 1):
        nodes = tests_of(patterns, seen.nodes)
        failed = [n for n in nodes if seen.outcome.get(n) == "failed"]
        passed = [n for n in nodes if seen.outcome.get(n) == "passed"]
        wrong += bool(failed) or not passed
        count = f"{len(passed)} passed" + f", {len(failed)} FAILED" * bool(failed)
        words = [w for n in passed for w in seen.words[n]]
        names = [re.sub(r".*::test_|\[.*", "", n).replace("_", " ") for n in passed]
        told = (words or names or ["nothing"])[0].replace("|", r"\|")
        lines.append(f"| {number} | {fault} | {count} | {told[:160]} |")
    right = len(FAULTS) - wrong
    return "\n".join([*lines, "", f"{right} of {len(FAULTS)} as they should be"]), wrong


def main() -> int:
    """Make every fault and print the table; 1 where one is not as it should be."""
    seen = Seen()
    with pytest.MonkeyPatch.context() as patch:
        listening(seen, patch)
        code = pytest.main(["-q", "--no-header", str(HERE), *sys.argv[1:]], [seen])
    if code not in (0, 1):
        return int(code)
    text, wrong = table(seen)
    print("\n" + text)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
