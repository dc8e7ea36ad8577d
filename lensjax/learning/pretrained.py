"""Trained networks: one small file each, and those that come with lensjax.

    model = pretrained.load("decoupled-1")  # or the path of a file that `save` wrote
    predicted = pretrained.predict(model, images)  # (n, 64, 64, 4) counts -> (n, 5)

A file is safetensors.  Its tensors are the parameters by name ("conv1.kernel"); its
header's "lensjax" is a JSON text of all else: what the network sees, what its numbers
mean, what it was trained on and how well it does (`Model.about`).
"""

import json
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors
from jax import Array
from safetensors.numpy import save as serialize

from lensjax import parameters, survey
from lensjax.learning import network, paper_cnn, posterior, residual
from lensjax.learning.estimator import Estimator
from lensjax.learning.network import Architecture
from lensjax.storage import atomic, sealed
from lensjax.survey import Survey

DEFAULT = "decoupled-1"
FOLDER = Path(__file__).parent.parent / "weights"
SUFFIX = ".safetensors"

_FORMAT = 1
_NOT_IN_FILE = ("dropout", "convolution")  # of an architecture


class Model(NamedTuple):
    """A trained network and all that is known of it."""

    name: str
    params: dict
    settings: paper_cnn.Settings | posterior.Settings
    estimator: Estimator
    survey: Survey  # whose images it sees
    about: dict  # plain JSON: "trained on", "ranges", "test", "provenance", ...


def names() -> list[str]:
    """Names of the networks that come with lensjax."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def load(name: str | os.PathLike = DEFAULT) -> Model:
    """A network by its name (see `names`), or from a file.

    Raises ValueError, with what is wrong, for a name that is not there and for a file
    that is damaged, no file of `save`, or of a later version of lensjax.
    """
    path = _find(name)
    try:
        with safetensors.safe_open(path, "numpy") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    try:
        return _model(header, tensors)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: no network of lensjax ({error!r})") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _model(header: Mapping[str, str], tensors: dict[str, np.ndarray]) -> Model:
    about = json.loads(header["lensjax"])
    if about["format"] != _FORMAT:
        raise ValueError(f"format {about['format']}, not {_FORMAT}")
    if not sealed.holds(about, _bytes(tensors), key="sha256"):
        raise ValueError("damaged: its SHA-256 has changed")
    shape = {k: _tuple(v) for k, v in about["architecture"].items()}
    if about.get("estimator", "paper") == "posterior":
        architecture = residual.Architecture(
            **shape, convolution=residual.convolution_here()
        )
        sky, scale = tuple(about["sky_sigma"]), about["pixel_scale"]
        settings = posterior.Settings(architecture, sky, scale, about["shear"])
        estimator = posterior.estimator(settings)
    else:
        architecture = Architecture(**shape, convolution=network.convolution_here())
        settings = paper_cnn.Settings(
            architecture, about["scaling"], about["zero_point"]
        )
        estimator = paper_cnn.estimator(settings)
    params = _nested(tensors)
    _check(params, estimator)
    instrument = survey.named(about["survey"])
    return Model(about["name"], params, settings, estimator, instrument, about)


@partial(jax.jit, static_argnums=0)
def _predict(estimator: Estimator, params: dict, images: Array) -> Array:
    return estimator.predict(params, estimator.see(images))


@partial(jax.jit, static_argnums=0)
def _posteriors(estimator: Estimator, params: dict, images: Array) -> Any:
    return estimator.posterior(params, estimator.see(images))


def predict(model: Model, images: Array) -> Array:
    """Predictions (n, 5), in the order of `parameters.WITHOUT_SHEAR`.

    A network that predicts posteriors gives their means, without averaging over the
    symmetries of an image: `predict_posterior` does.

    images (n, side, side, band): counts of the model's survey, bands in its order.
    """
    return _predict(model.estimator, model.params, images)


def predict_posterior(model: Model, images: Array) -> posterior.Prediction:
    """Posteriors of images (n, side, side, band), averaged over their symmetries.

    `posterior.draws` and `posterior.described` make numbers of them.  ValueError for a
    network that predicts points.
    """
    if model.estimator.posterior is None:
        raise ValueError(f"{model.name} predicts points: take `predict`")
    return _posteriors(model.estimator, model.params, images)


def posteriors(estimator: Estimator, params: Any, images: Array) -> dict[str, Array]:
    """What a table has of posteriors of images (n, side, side, band), see `posterior`.

    params: of one network or, in front, of several, whose posteriors are pooled.
    """
    seen = estimator.see(images)
    each = jax.vmap(lambda p: estimator.posterior(p, seen))(params)
    together = posterior.pooled(each)
    return posterior.described(together, (*estimator.space, *parameters.SOURCE))


answer = predict  # its name in version 0.1


def save(path: str | os.PathLike, params: dict, about: Mapping[str, Any]) -> None:
    """Write a network: whole, or not at all.

    about: plain JSON with name, survey, `described` settings, and whatever shall be
    known of it.
    """
    tensors = {
        ".".join(str(k.key) for k in keys): np.ascontiguousarray(leaf, np.float32)
        for keys, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    whole = sealed.seal({"format": _FORMAT, **about}, _bytes(tensors), key="sha256")
    header = {"lensjax": json.dumps(whole, allow_nan=False)}
    atomic.write(path, serialize(tensors, header))


def described(settings: paper_cnn.Settings | posterior.Settings) -> dict:
    """What `save` wants of a network's settings: all that its file must say."""
    known = settings._asdict()
    shape = known.pop("architecture")._asdict()
    known["architecture"] = {k: v for k, v in shape.items() if k not in _NOT_IN_FILE}
    kind = "posterior" if isinstance(settings, posterior.Settings) else "paper"
    return {"estimator": kind, **known}


def summary(model: Model) -> str:
    """One sentence: what the network was trained on."""
    on, (low, high) = model.about["trained on"], model.about["ranges"]["theta_E"]
    return (
        f"{model.name}: trained on {on['systems']:,} mocks of the {on['catalogue']}, "
        f"theta_E {low:g} to {high:g} arcsec"
    )


def _find(name: str | os.PathLike) -> Path:
    if str(name) in names():
        return FOLDER / f"{name}{SUFFIX}"
    path = Path(name)
    if path.suffix != SUFFIX:
        raise ValueError(
            f"no network is named {str(name)!r}: there are {', '.join(names())}, or "
            f"give the path of a file ending in {SUFFIX}"
        )
    return path


def _bytes(tensors: Mapping[str, np.ndarray]) -> Iterator[bytes]:
    """What of the tensors is under the seal: their names and numbers."""
    for key in sorted(tensors):
        yield key.encode()
        yield np.ascontiguousarray(tensors[key]).tobytes()


def _nested(tensors: Mapping[str, np.ndarray]) -> dict:
    params: dict = {}
    for key, tensor in tensors.items():
        *layers, part = key.split(".")
        inside = params
        for layer in layers:
            inside = inside.setdefault(layer, {})
        inside[part] = tensor
    return params


def _check(params: dict, estimator: Estimator) -> None:
    """Raise ValueError unless the parameters are this network's, and finite."""
    wanted = jax.eval_shape(estimator.init, jax.random.key(0))
    shapes = [jax.tree.map(lambda a: a.shape, tree) for tree in (params, wanted)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"shapes {shapes[0]}, its architecture {shapes[1]}")
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
        raise ValueError("a parameter is not finite")


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
