"""A network beside a fit: its theta_E as a prior, its neighbours as a mask."""

from typing import NamedTuple

import numpy as np

from lensjax.commands import config
from lensjax.inference.candidate import Candidate
from lensjax.inference.scene import Priors
from lensjax.learning import reading

DOUBT = 1.0  # priors are so many times as wide as the network's posterior
LEAST_SIGMA = 0.1  # of ln theta_E: no network is trusted more


class Said(NamedTuple):
    """What a network adds to a row."""

    numbers: dict[str, float]
    flags: dict[str, str]


NOTHING = Said({}, {})


def checked(name: str | None) -> str | None:
    """The name of a network that predicts posteriors, or none; else ConfigError."""
    if name is None:
        return None
    try:
        model = reading.named(name)
    except ValueError as error:
        raise config.ConfigError(f"weights: {error}") from error
    if model.estimator.posterior is None:
        raise config.ConfigError(
            f"weights: {name} predicts points without errors: take a network that was "
            "trained with estimator=posterior"
        )
    return name


def about(name: str) -> dict:
    """All that is known of a network, its seal included."""
    return reading.named(name).about


def read(
    name: str | None, found: Candidate, priors: Priors
) -> tuple[Candidate, Priors, Said]:
    """The candidate with its neighbours masked, and theta_E's prior, by a network."""
    if name is None or found.observation is None:
        return found, priors, NOTHING
    model, own = reading.named(name), found.observation
    why = reading.unreadable(own, found.survey, model)
    if why:
        return found, priors, Said({}, {"no_network": why})
    said = reading.read(own, model)
    mean, sigma = said.ln_theta_E
    prior = priors._replace(ln_theta_E=(mean, max(DOUBT * sigma, LEAST_SIGMA)))
    mask = np.asarray(own.mask) | said.neighbours[..., None]
    numbers = {
        "p_arc": said.numbers["p_arc"],
        "network_theta_E_arcsec": said.numbers["theta_E"],
        "network_theta_E_arcsec_sigma": said.numbers["theta_E_sigma"],
        "neighbours": float(said.neighbours.mean()),
    }
    masked = found._replace(observation=own._replace(mask=mask))
    return masked, prior, Said(numbers, {})
