"""Lenses to and from lenstronomy and COOLEST; docs/conventions.md has the table.

An edge of the library: plain numbers outside, one lens at a time, never inside jit.
Both measure the Einstein radius as the geometric mean of the critical ellipse's
semi-axes, theta_E' = theta_E 2 sqrt(q) / (1 + q).
"""

import json
import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lensjax import units
from lensjax.lens import Lens
from lensjax.shear import Shear
from lensjax.sie import SIE

ROUNDING = 1e-6
"""By how much q may be above 1, gamma off 2 and the shear's origin off 0 [arcsec]."""


def _number(quantity: Any, unit: str = "") -> float:
    return float(units.value(quantity, unit))


def _numbers(lens: Lens) -> Lens:
    """The lens with Python floats for fields."""
    shapes = {np.shape(a) for a in jax.tree.leaves(lens)}
    if shapes != {()}:
        raise ValueError(
            f"one lens at a time, got fields of shape {sorted(shapes)}: take lens i of "
            "many by jax.tree.map(lambda a: a[i], lens)"
        )
    return jax.tree.map(float, lens)


def _to_geometric(sie: SIE) -> tuple[float, float, float]:
    """theta_E' (geometric mean), q and phi [rad]."""
    e = math.hypot(sie.ex, sie.ey)
    if e >= 1:
        raise ValueError(f"|e| = {e:g}: there is no such ellipse, |e| must be below 1")
    q = math.sqrt((1 - e) / (1 + e))
    theta_E = sie.theta_E * 2 * math.sqrt(q) / (1 + q)
    return theta_E, q, math.atan2(sie.ey, sie.ex) / 2


def _from_geometric(theta_E: float, q: float, phi: float, x: float, y: float) -> SIE:
    if not 0 < q <= 1 + ROUNDING:
        raise ValueError(f"axis ratio q = {q:g} must lie in (0, 1]")
    q = min(q, 1.0)
    e = (1 - q**2) / (1 + q**2)
    theta_E = theta_E * (1 + q) / (2 * math.sqrt(q))
    return SIE(theta_E, e * math.cos(2 * phi), e * math.sin(2 * phi), x, y)


def to_lenstronomy(lens: Lens) -> tuple[list[str], list[dict[str, float]]]:
    """Give lenstronomy's `lens_model_list` and `kwargs_lens`: models SIE and SHEAR.

    The shear acts about the origin of the sky in both.  lenstronomy softens its SIE by
    its own amount: deflections agree with those of core = 0 to 1e-8 arcsec.
    """
    sie, shear = _numbers(lens)
    theta_E, q, phi = _to_geometric(sie)
    e = (1 - q) / (1 + q)
    return ["SIE", "SHEAR"], [
        {
            "theta_E": theta_E,
            "e1": e * math.cos(2 * phi),
            "e2": e * math.sin(2 * phi),
            "center_x": sie.x,
            "center_y": sie.y,
        },
        {"gamma1": shear.g1, "gamma2": shear.g2, "ra_0": 0.0, "dec_0": 0.0},
    ]


def from_lenstronomy(
    model_list: Sequence[str], kwargs_list: Sequence[Mapping[str, float]]
) -> Lens:
    """A Lens, with Python floats, from lenstronomy's model list and arguments.

    Takes one SIE and at most one SHEAR or SHEAR_GAMMA_PSI about the origin of the sky.
    """
    if len(model_list) != len(kwargs_list):
        raise ValueError(
            f"{len(model_list)} models but {len(kwargs_list)} sets of arguments"
        )
    sies, shears = [], []
    for model, kwargs in zip(model_list, kwargs_list, strict=True):
        if model == "SIE":
            missing = {"theta_E", "e1", "e2"} - {*kwargs}
            if missing:
                raise ValueError(f"the SIE has no {', '.join(sorted(missing))}")
            e1, e2 = _number(kwargs["e1"]), _number(kwargs["e2"])
            e = math.hypot(e1, e2)
            if e >= 1:
                raise ValueError(f"e1 {e1}, e2 {e2} is no ellipse: |e| must be below 1")
            q, phi = (1 - e) / (1 + e), math.atan2(e2, e1) / 2
            keys = "theta_E", "center_x", "center_y"
            theta_E, *centre = (_number(kwargs.get(k, 0), "arcsec") for k in keys)
            sies.append(_from_geometric(theta_E, q, phi, *centre))
        elif model in ("SHEAR", "SHEAR_GAMMA_PSI"):
            origin = [_number(kwargs.get(k, 0), "arcsec") for k in ("ra_0", "dec_0")]
            if not all(abs(a) <= ROUNDING for a in origin):
                raise ValueError(
                    f"{model} about {origin}: lensjax's shear acts about (0, 0).  "
                    "Shift all positions, or drop ra_0 and dec_0, which moves the "
                    "source alone"
                )
            if model == "SHEAR":
                shears.append(
                    Shear(_number(kwargs["gamma1"]), _number(kwargs["gamma2"]))
                )
            else:
                angle = _number(kwargs["psi_ext"], "rad")
                shears.append(_polar_shear(_number(kwargs["gamma_ext"]), angle))
        else:
            raise ValueError(
                f"lens model {model!r} has no counterpart in lensjax, which knows SIE, "
                "SHEAR and SHEAR_GAMMA_PSI: remove it, or fit an SIE to it first"
            )
    return _one_lens(sies, shears, f"models {list(model_list)}")


def _polar_shear(size: float, angle: float) -> Shear:
    return Shear(size * math.cos(2 * angle), size * math.sin(2 * angle))


def _one_lens(sies: list[SIE], shears: list[Shear], what: str) -> Lens:
    if len(sies) != 1 or len(shears) > 1:
        raise ValueError(f"{what}: need exactly one SIE and at most one external shear")
    return Lens(sies[0], *(shears or [Shear(0.0, 0.0)]))


def _east_of_north(phi: float) -> float:
    """Degrees from +y in (-90, 90] of an axis at phi [rad from +x]."""
    degrees = -((90 - (math.degrees(phi) - 90)) % 180) + 90
    return degrees + 0.0  # no minus zero


def _from_x(degrees: float) -> float:
    return math.radians(degrees + 90)


def to_coolest(
    lens: Lens,
    path: str | PathLike | None = None,
    profile: str = "PEMD",
    z_lens: float | None = None,
    z_source: float | None = None,
) -> dict[str, Any]:
    """The lens as a COOLEST template: a dictionary, also written to `path` if given.

    Parameters
    ----------
    lens : Lens
        One lens.
    path : path, optional
        A JSON file to write; its name should end in .json.
    profile : {"PEMD", "SIE"}
        COOLEST's own tools know PEMD, the power law: here gamma = 2, the same
        mass.
    z_lens, z_source : float, optional
        Redshifts of the lens and of the source, an entry without light.
    """
    if profile not in ("PEMD", "SIE"):
        raise ValueError(f"profile {profile!r} must be 'PEMD' or 'SIE'")
    sie, shear = _numbers(lens)
    # numpy's and JAX's scalars are no JSON
    z_lens, z_source = (None if z is None else _number(z) for z in (z_lens, z_source))
    theta_E, q, phi = _to_geometric(sie)
    values = {
        "theta_E": theta_E,
        "q": q,
        "phi": _east_of_north(phi),
        "center_x": sie.x,
        "center_y": sie.y,
    }
    if profile == "PEMD":
        values["gamma"] = 2.0
    shear_values = {
        "gamma_ext": math.hypot(shear.g1, shear.g2),
        "phi_ext": _east_of_north(math.atan2(shear.g2, shear.g1) / 2),
    }
    template = {
        "standard": "COOLEST",
        "mode": "MAP",
        "coordinates_origin": {"ra": "00h00m00s", "dec": "+00d00m00s"},
        "cosmology": None,
        "lensing_entities": [
            _entity("MassField", "shear", z_lens, "ExternalShear", shear_values),
            _entity("Galaxy", "lens", z_lens, profile, values),
            _entity("Galaxy", "source", z_source),
        ],
        "observation": {
            "pixels": {
                "field_of_view_x": [0, 0],
                "field_of_view_y": [0, 0],
                "num_pix_x": 0,
                "num_pix_y": 0,
                "fits_file": {"path": None},
            },
            "noise": {"type": None},
            "mag_zero_point": None,
            "mag_sky_brightness": None,
            "exposure_time": None,
        },
        "instrument": {
            "name": "",
            "band": "",
            "pixel_size": 1.0,  # COOLEST divides by it, image or none
            "readout_noise": 0.0,
            "psf": {"type": None, "description": None},
        },
        "likelihoods": None,
        "meta": {},
    }
    if path is not None:
        Path(path).write_text(json.dumps(template, indent=2) + "\n")
    return template


def _entity(
    kind: str, name: str, redshift: float | None, profile: str = "", values: Any = None
) -> dict[str, Any]:
    none = {"mean": None, "median": None, "percentile_16th": None}
    model = {
        "type": profile,
        "parameters": {
            key: {
                "point_estimate": {"value": value},
                "posterior_stats": none | {"percentile_84th": None},
                "prior": {"type": None},
                "fixed": False,
            }
            for key, value in (values or {}).items()
        },
    }
    entity = {"type": kind, "name": name, "redshift": redshift}
    entity["mass_model"] = [model] if profile else []
    return entity | ({"light_model": []} if kind == "Galaxy" else {})


class _Estimates(dict):
    """COOLEST's parameters of a profile by name: point estimates as plain numbers."""

    UNITS = dict(theta_E="arcsec", center_x="arcsec", center_y="arcsec")
    UNITS |= dict(phi="deg", phi_ext="deg")

    def __getitem__(self, name: str) -> float:
        estimate = super().__getitem__(name)["point_estimate"]["value"]
        return _number(estimate, self.UNITS.get(name, ""))


def from_coolest(template: Mapping[str, Any] | str | PathLike) -> Lens:
    """A Lens, with Python floats, from a COOLEST template or the path of its JSON file.

    Takes the point estimates of one SIE, or PEMD with gamma = 2, and at most one
    ExternalShear; light is ignored.
    """
    if not isinstance(template, Mapping):
        template = json.loads(Path(template).read_text())
    sies, shears = [], []
    for entity in template["lensing_entities"]:
        for model in entity.get("mass_model", ()):
            kind = model["type"]
            value = _Estimates(model["parameters"])
            if kind == "PEMD" and not abs(value["gamma"] - 2) <= ROUNDING:
                raise ValueError(
                    f"PEMD with gamma = {value['gamma']}: lensjax has gamma = 2 alone"
                )
            if kind in ("SIE", "PEMD"):
                sies.append(
                    _from_geometric(
                        value["theta_E"],
                        value["q"],
                        _from_x(value["phi"]),
                        value["center_x"],
                        value["center_y"],
                    )
                )
            elif kind == "ExternalShear":
                shears.append(
                    _polar_shear(value["gamma_ext"], _from_x(value["phi_ext"]))
                )
            else:
                raise ValueError(
                    f"mass profile {kind!r} of {entity.get('name')!r} has no "
                    "counterpart in lensjax, which knows SIE, PEMD with gamma 2 and "
                    "ExternalShear"
                )
    return _one_lens(sies, shears, "the template")
