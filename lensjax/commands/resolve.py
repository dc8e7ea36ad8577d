"""From checked settings to what the library takes: records, galaxies, a sample.

Here alone a configuration's keys meet the library's names; what follows takes the
records and no configuration.
"""

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lensjax import cosmology, parameters, survey
from lensjax.catalogue import Catalogue, Listing, ingested, plain
from lensjax.commands import config, progress
from lensjax.learning import network, paper_cnn, posterior, pretrained, residual
from lensjax.learning.estimator import Estimator
from lensjax.learning.members import Hyperparameters
from lensjax.learning.network import Architecture
from lensjax.learning.step import Settings
from lensjax.mocks import population, sample, varied
from lensjax.mocks.online import Online
from lensjax.mocks.proposals import Criteria
from lensjax.mocks.sample import Sample
from lensjax.mocks.system import Rendering
from lensjax.survey import Survey

COSMOLOGY = cosmology.PAPER
LARGEST = 0.4  # of the memory: larger catalogues are read when due


class Plan(NamedTuple):
    """How a run trains."""

    estimator: Estimator
    settings: Settings
    hyperparameters: Hyperparameters
    rendering: Rendering
    criteria: Criteria
    key: Array  # of the sample
    folds: list[int]
    epochs: int
    keep_images: bool | None  # in memory, once rendered; None: where it is worth it
    online: Online | None  # without a number of proposals where the sample gives it
    checkpoint_seconds: float
    steps_per_dispatch: int
    devices: int
    about: dict[str, Any]  # see `decisive`


def plan_of(settings: config.TrainConfig, listing: Listing) -> Plan:
    """How a configuration trains; ConfigError for a network that cannot be."""
    criteria, online = criteria_of(settings), None
    if settings.online:
        online = Online(criteria, COSMOLOGY, settings.proposals, settings.candidates)
    return Plan(
        estimator=estimator_of(settings),
        settings=learning_of(settings),
        hyperparameters=Hyperparameters(
            settings.learning_rate,
            settings.seed,
            settings.weight_theta_E,
            settings.weight_center,
        ),
        rendering=rendering_of(settings, listing),
        criteria=criteria,
        key=sample_key(settings),
        folds=settings.folds,
        epochs=settings.epochs,
        keep_images={"auto": None, "true": True, "false": False}[settings.keep_images],
        online=online,
        checkpoint_seconds=settings.checkpoint_seconds,
        steps_per_dispatch=settings.steps_per_dispatch,
        devices=settings.devices,
        about=decisive(settings),
    )


def network_of(settings: config.TrainConfig) -> paper_cnn.Settings | posterior.Settings:
    """What the network is and sees."""
    bands = survey_of(settings)
    if settings.estimator == "posterior":
        return posterior.settings_of(
            bands, settings.width, settings.blocks, settings.shear > 0
        )
    return paper_cnn.Settings(
        Architecture(
            size=bands.image_size,
            bands=len(bands.bands),
            channels=tuple(settings.channels),
            dense=tuple(settings.dense),
            dropout=settings.dropout,
            convolution=network.convolution_here(),
        ),
        settings.scaling,
        bands.zero_point,
    )


def decisive(settings: config.TrainConfig) -> dict[str, Any]:
    """What decides a trained network's predictions, besides its parameters."""
    bands = survey_of(settings)
    return {
        "survey": bands.name,
        "bands": list(bands.bands),
        "pixel_scale": bands.pixel_scale,
        "zero_point": bands.zero_point,
        "scaling": settings.scaling,
        "predicts": list(parameters.names(estimator_of(settings).space)),
    }


def estimator_of(settings: config.TrainConfig) -> Estimator:
    """What is trained, and from where; ConfigError for a network that cannot be."""
    own = network_of(settings)
    if settings.init is not None:
        try:
            model = pretrained.load(settings.init)
        except ValueError as error:
            raise config.ConfigError(f"init: {error}") from error
        if pretrained.described(model.settings) != pretrained.described(own):
            raise config.ConfigError(
                f"init: {settings.init} is another network: give the estimator, survey "
                "and widths of these weights"
            )
        return _begun(_made(own), settings.init)
    try:
        return _made(own)
    except ValueError as error:
        raise config.ConfigError(str(error)) from error


def _made(own: paper_cnn.Settings | posterior.Settings) -> Estimator:
    if isinstance(own, posterior.Settings):
        residual.validate(own.architecture)
        return posterior.estimator(own)
    network.validate(own.architecture)
    return paper_cnn.estimator(own)


@functools.cache
def _begun(estimator: Estimator, name: str) -> Estimator:
    """The estimator that begins with the weights of a name or file."""
    params = jax.tree.map(jnp.asarray, pretrained.load(name).params)
    return estimator._replace(init=lambda key: params)


def learning_of(settings: config.TrainConfig) -> Settings:
    """How all networks of a program learn."""
    return Settings(
        settings.batch_size,
        settings.optimizer,
        settings.momentum,
        settings.weight_decay,
        settings.average,
        settings.schedule,
        settings.clip,
        settings.epochs,
    )


def survey_of(settings: config.SampleConfig) -> Survey:
    """The survey that a configuration names."""
    return survey.named(settings.survey)


def rendering_of(settings: config.SampleConfig, listing: Listing) -> Rendering:
    """How the systems of a configuration become images."""
    return Rendering(
        survey_of(settings),
        listing.source_pixel_scale,
        settings.arc_noise,
        settings.lens_only,
    )


def criteria_of(settings: config.SampleConfig) -> Criteria:
    """What a configuration accepts."""
    names = set(Criteria._fields) - {"cap"}
    return Criteria(
        cap=settings.most_in_bin, **{name: getattr(settings, name) for name in names}
    )


def sample_key(settings: config.SampleConfig) -> Array:
    """Of all that is random in a sample."""
    return jax.random.fold_in(jax.random.key(settings.sample_seed), 1)


def catalogue_of(settings: config.SampleConfig) -> tuple[Catalogue, Listing]:
    """The galaxies that a configuration names: real stamps, or the population's."""
    if settings.data is not None:
        try:
            catalogue, listing = _reader(settings)(
                settings.data, survey_of(settings), settings.dither, settings.sources
            )
        except ValueError as error:
            raise config.ConfigError(f"data: {error}") from error
    else:
        key = jax.random.fold_in(jax.random.key(settings.sample_seed), 0)
        catalogue, listing = population.catalogue(
            key,
            settings.n_lenses,
            settings.n_sources,
            survey_of(settings),
            COSMOLOGY,
            settings.dither,
            varied.VARIED if settings.galaxies == "varied" else population.SMOOTH,
        )
    progress.say(
        f"{len(listing.lens_id):,} lens galaxies and {len(listing.source_id):,} sources"
        f": {listing.origin}"
    )
    for note in listing.notes:
        progress.say(f"  note: {note}")
    return _boosted(catalogue, settings.source_boost), listing


def _reader(settings: config.SampleConfig) -> Callable:
    """What reads the folder: a plain one, or an ingested one, whole or when due."""
    if not ingested.is_ingested(settings.data):
        if settings.stream == "true":
            raise ValueError("stream=true needs a folder made by `lensjax ingest`")
        return plain.read
    # online training draws among all galaxies: they must be in memory
    if settings.stream == "auto" and not getattr(settings, "online", False):
        files = ingested.summary_of(settings.data)["files"].values()
        large = sum(file["bytes"] for file in files) > LARGEST * _memory()
        return ingested.stream if large else ingested.read
    return ingested.stream if settings.stream == "true" else ingested.read


def _memory() -> float:
    """Bytes of the memory that JAX's arrays are in."""
    stats = jax.local_devices()[0].memory_stats() or {}
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return stats.get("bytes_limit", host)


def _boosted(catalogue: Catalogue, magnitudes: float) -> Catalogue:
    """The catalogue with brighter sources (paper, sect. 5.1)."""
    if not magnitudes:
        return catalogue
    sources = catalogue.sources
    flux, mag = sources.flux * 10 ** (0.4 * magnitudes), sources.mag - magnitudes
    return catalogue._replace(sources=sources._replace(flux=flux, mag=mag))


def sample_of(
    settings: config.SampleConfig, catalogue: Catalogue, listing: Listing
) -> Sample:
    """The sample that a configuration asks for."""
    with progress.track("drawing systems", settings.size, "systems") as update:
        try:
            drawn = sample.draw(
                sample_key(settings),
                settings.size,
                catalogue,
                rendering_of(settings, listing),
                criteria_of(settings),
                COSMOLOGY,
                progress=update,
            )
        except ValueError as error:
            raise config.ConfigError(str(error)) from error
    counts = ", ".join(f"{n:,} {name}" for name, n in drawn.counts.items())
    progress.say(f"proposals: {counts}")
    return drawn
