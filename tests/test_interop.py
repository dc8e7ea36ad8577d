"""lenstronomy itself as the judge; COOLEST by its documented conventions."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lenstronomy.LensModel.lens_model import LensModel

from lensjax import images, interop, sie
from lensjax import lens as lens_module
from lensjax.lens import Lens
from lensjax.shear import Shear

solve = jax.jit(lambda *args: images.solve(*args, core=0.0))
CASES = [
    (1.5, 0.7, np.pi / 6, 0.05, -0.03, 0.04, -0.06),
    (1.0, 0.3, 2.5, 0.0, 0.0, 0.0, 0.0),
    (2.0, 0.95, -1.2, -0.1, 0.2, -0.1, 0.1),
]


def lens_of(theta_E, q, phi, x, y, g1, g2):
    lens = Lens(sie.from_axis_ratio(theta_E, q, phi, x, y), Shear(g1, g2))
    return jax.tree.map(jnp.asarray, lens)


def close(a, b, atol=1e-12):
    np.testing.assert_allclose(jax.tree.leaves(a), jax.tree.leaves(b), atol=atol)


@pytest.mark.parametrize("case", CASES)
def test_lenstronomy_deflects_alike(x64, case):
    lens = lens_of(*case)
    models, kwargs = interop.to_lenstronomy(lens)
    theirs = LensModel(models)
    x, y = (
        a.ravel() for a in np.meshgrid(np.linspace(-3, 3, 20), np.linspace(-3, 3, 21))
    )
    np.testing.assert_allclose(
        lens_module.deflect(lens, x, y, 0.0), theirs.alpha(x, y, kwargs), atol=1e-7
    )
    ours = lens_module.potential(lens, x, y, 0.0)
    np.testing.assert_allclose(
        ours - ours[0], (p := theirs.potential(x, y, kwargs)) - p[0], atol=1e-7
    )


@pytest.mark.parametrize("case", CASES)
def test_lenstronomy_sees_our_images_at_the_source(x64, case):
    lens = lens_of(*case)
    found = solve(lens, 0.05, 0.08)
    models, kwargs = interop.to_lenstronomy(lens)
    x, y = (np.asarray(a)[np.asarray(found.valid)] for a in (found.x, found.y))
    assert len(x) >= 2
    beta = LensModel(models).ray_shooting(x, y, kwargs)
    np.testing.assert_allclose(beta[0], 0.05, atol=1e-7)
    np.testing.assert_allclose(beta[1], 0.08, atol=1e-7)


def test_lenstronomys_solver_finds_the_same_quad(x64):
    from lenstronomy.LensModel.Solver.lens_equation_solver import LensEquationSolver

    lens = lens_of(*CASES[0])
    models, kwargs = interop.to_lenstronomy(lens)
    solver = LensEquationSolver(LensModel(models))
    theirs = solver.image_position_from_source(
        0.05, 0.08, kwargs, precision_limit=1e-12
    )
    found = solve(lens, 0.05, 0.08)
    ours = np.stack([found.x, found.y], -1)[np.asarray(found.valid)]
    gap = np.hypot(*(np.stack(theirs, -1)[:, None] - ours).T)
    assert len(ours) == len(theirs[0]) == 4
    assert gap.min(0).max() < 1e-6


@pytest.mark.parametrize("case", CASES)
def test_lenses_come_back_from_both(x64, case, tmp_path):
    lens = lens_of(*case)
    close(interop.from_lenstronomy(*interop.to_lenstronomy(lens)), lens)
    for profile in ("PEMD", "SIE"):
        path = tmp_path / f"{profile}.json"
        close(interop.from_coolest(interop.to_coolest(lens, path, profile)), lens)
        back = interop.from_coolest(path)
        close(back, lens)
        assert all(type(a) is float for a in jax.tree.leaves(back))


def test_a_round_lens_and_no_shear_come_back(x64):
    lens = Lens(sie.SIE(1.2, 0.0, 0.0, 0.1, 0.0))
    close(interop.from_lenstronomy(*interop.to_lenstronomy(lens)), lens)
    close(interop.from_coolest(interop.to_coolest(lens)), lens)


def test_theta_e_is_geometric_on_the_other_side(x64):
    for q, ratio in ((0.74, 0.9888), (0.5, 0.9428)):
        lens = lens_of(1.0, q, 0, 0, 0, 0, 0)
        assert np.isclose(
            interop.to_lenstronomy(lens)[1][0]["theta_E"], ratio, atol=5e-5
        )


@pytest.mark.parametrize(
    "phi, coolest", [(90, 0), (0, 90), (30, -60), (120, 30), (179, 89), (-60, 30)]
)
def test_coolest_measures_angles_east_of_north_in_its_interval(x64, phi, coolest):
    lens = lens_of(1.0, 0.5, np.radians(phi), 0, 0, *_shear_at(np.radians(phi)))
    field, galaxy, _ = interop.to_coolest(lens)["lensing_entities"]
    for entity, name in ((galaxy, "phi"), (field, "phi_ext")):
        value = entity["mass_model"][0]["parameters"][name]["point_estimate"]["value"]
        assert -90 < value <= 90 and np.isclose(value, coolest)


def _shear_at(angle):
    return 0.1 * np.cos(2 * angle), 0.1 * np.sin(2 * angle)


def test_the_file_is_plain_json_with_redshifts_and_gamma(tmp_path):
    path = tmp_path / "lens.json"
    interop.to_coolest(lens_of(*CASES[0]), path, z_lens=0.5, z_source=2.0)
    template = json.loads(path.read_text())
    assert template["standard"] == "COOLEST"
    field, galaxy, source = template["lensing_entities"]
    assert (galaxy["redshift"], source["redshift"]) == (0.5, 2.0)
    mass = galaxy["mass_model"][0]
    assert mass["type"] == "PEMD"
    assert mass["parameters"]["gamma"]["point_estimate"]["value"] == 2


def test_polar_shear_and_no_shear_are_taken(x64):
    _, (kwargs, _) = interop.to_lenstronomy(lens_of(*CASES[0]))
    assert interop.from_lenstronomy(["SIE"], [kwargs]).shear == Shear(0.0, 0.0)
    polar = {"gamma_ext": 0.1, "psi_ext": 0.3}
    lens = interop.from_lenstronomy(["SHEAR_GAMMA_PSI", "SIE"], [polar, kwargs])
    theirs = LensModel(["SHEAR_GAMMA_PSI"]).alpha(1.0, 0.5, [polar])
    ours = lens_module.deflect(
        lens._replace(sie=lens.sie._replace(theta_E=0.0)), 1.0, 0.5
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_what_has_no_counterpart_is_refused_by_name():
    models, kwargs = interop.to_lenstronomy(lens_of(*CASES[0]))
    for refused, words in (
        ((["EPL"], kwargs[:1]), "EPL.*remove it"),
        ((models, kwargs[:1]), "2 models but 1"),
        ((["SHEAR"], kwargs[1:]), "exactly one SIE"),
        ((["SIE", "SIE"], [kwargs[0]] * 2), "exactly one SIE"),
        ((models, [kwargs[0], kwargs[1] | {"ra_0": 0.1}]), "acts about"),
    ):
        with pytest.raises(ValueError, match=words):
            interop.from_lenstronomy(*refused)
    template = interop.to_coolest(lens_of(*CASES[0]))
    galaxy = template["lensing_entities"][1]["mass_model"][0]
    galaxy["parameters"]["gamma"]["point_estimate"]["value"] = 2.1
    with pytest.raises(ValueError, match="gamma = 2.1"):
        interop.from_coolest(template)
    galaxy["type"] = "NFW"
    with pytest.raises(ValueError, match="NFW"):
        interop.from_coolest(template)
    with pytest.raises(ValueError, match="profile 'EPL'"):
        interop.to_coolest(lens_of(*CASES[0]), profile="EPL")


def test_many_lenses_at_once_and_impossible_ones_are_refused():
    many = jax.tree.map(lambda a: jnp.stack([a, a]), lens_of(*CASES[0]))
    for convert in (interop.to_lenstronomy, interop.to_coolest):
        with pytest.raises(ValueError, match="one lens at a time"):
            convert(many)
        with pytest.raises(ValueError, match="no such ellipse"):
            convert(Lens(sie.SIE(1.0, 1.2, 0.0, 0.0, 0.0)))
