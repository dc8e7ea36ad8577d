"""A residual network: numbers of an image as a whole, and maps of its parts.

Residual blocks of two 3 x 3 convolutions on the map of patches of 4 x 4 pixels and on
one half as fine (He et al. 2016, normalised over channels), then a dense layer for the
numbers; from both, and from blocks of 2 x 2 pixels, maps that say what a pixel shows.

    params = residual.init(key, config)
    numbers, parts = residual.apply(params, channels, config)
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

PATCH = 4  # pixels on a side


class Architecture(NamedTuple):
    """What fixes the shapes of the parameters; hashable."""

    size: int = 64  # pixels on a side
    channels: int = 8  # of what is seen of a pixel
    facts: int = 4  # numbers that come beside the image, about one in size
    width: int = 48  # of the map of patches; twice as many on the coarser one
    blocks: int = 2  # on each of the two maps
    dense: int = 128  # of the hidden layer before the numbers
    outputs: int = 145
    parts: int = 3  # maps
    convolution: str = "shifts"  # "shifts" for CPUs, "lax" leaves it to XLA (cuDNN)


def convolution_here() -> str:
    """The faster of "shifts" and "lax" on JAX's default device."""
    return "shifts" if jax.default_backend() == "cpu" else "lax"


def validate(config: Architecture) -> None:
    """Raise ValueError for what cannot be."""
    if config.size % (2 * PATCH):
        raise ValueError(
            f"images of {config.size} pixels a side: a residual network needs a "
            f"multiple of {2 * PATCH}"
        )


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def init(key: Array, config: Architecture, dtype: Any = jnp.float32) -> dict:
    """Draw parameters: {layer: {kernel, bias, ...}} of arrays."""
    module = _Residual(config, nnx.Rngs(params=key), dtype)
    return nnx.to_pure_dict(nnx.state(module))


def apply(
    params: dict, seen: Array, facts: Array, config: Architecture
) -> tuple[Array, Array]:
    """Run what is seen (B, n, n, channels) and facts (B, facts) through the network.

    Returns numbers (B, outputs) and maps (B, n, n, parts), both without a range: the
    head says what they mean.
    """
    expected = (config.size, config.size, config.channels)
    if seen.ndim != 4 or seen.shape[1:] != expected:
        raise ValueError(f"needs (batch, {expected}), got {seen.shape}")
    graph, state = _graph(config)
    state = nnx.clone(state)
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graph, state)(seen, facts)


@functools.cache
def _graph(config: Architecture):
    # The module without its arrays: made once per architecture, at trace time.
    key = jax.eval_shape(lambda: jax.random.key(0))
    return nnx.split(
        nnx.eval_shape(lambda k: _Residual(config, nnx.Rngs(params=k)), key)
    )


class _Layer(nnx.Module):
    """A kernel (..., in, out) and a bias; He's initial scale, or none at all."""

    def __init__(self, shape, rngs: nnx.Rngs, dtype: Any, scale: float = 1.0):
        sigma = scale * math.sqrt(2 / math.prod(shape[:-1]))
        values = sigma * jax.random.normal(rngs.params(), shape, dtype)
        self.kernel = nnx.Param(values)
        self.bias = nnx.Param(jnp.zeros(shape[-1:], dtype))

    def dense(self, x: Array) -> Array:
        bias = self.bias[...].reshape((1,) * (x.ndim - 1) + (-1,))
        return x @ self.kernel[...] + bias

    def convolve(self, x: Array, convolution: str) -> Array:
        made = _shifts if convolution == "shifts" else _lax
        return made(x, self.kernel[...]) + self.bias[...][None, None, None]


def _lax(x: Array, kernel: Array) -> Array:
    names = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=names)


def _shifts(x: Array, kernel: Array) -> Array:
    """The same as a sum of nine products of matrices.

    Within a loop XLA's own convolution takes a CPU some twenty times as long.
    """
    b, n, m, depth = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    total = sum(
        padded[:, i : i + n, j : j + m].reshape(-1, depth) @ kernel[i, j]
        for i in range(3)
        for j in range(3)
    )
    return total.reshape(b, n, m, -1)


class _Block(nnx.Module):
    """A map plus what two convolutions make of it; nothing at first."""

    def __init__(self, width: int, convolution: str, rngs: nnx.Rngs, dtype: Any):
        shape = (3, 3, width, width)
        self.convolution = convolution
        self.conv1 = _Layer(shape, rngs, dtype)
        self.conv2 = _Layer(shape, rngs, dtype, scale=0.0)
        self.scale = nnx.Param(jnp.ones(width, dtype))

    def __call__(self, x: Array) -> Array:
        y = _normalised(x) * self.scale[...][None, None, None]
        y = jax.nn.gelu(self.conv1.convolve(y, self.convolution))
        return x + self.conv2.convolve(y, self.convolution)


class _Residual(nnx.Module):
    def __init__(self, config: Architecture, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        validate(config)
        wide, thin = 2 * config.width, config.width // 2
        self.config = config
        self.stem1 = _Layer((4 * config.channels, thin), rngs, dtype)
        self.stem2 = _Layer((3, 3, thin, thin), rngs, dtype)
        self.stem3 = _Layer((4 * thin, config.width), rngs, dtype)
        self.down = _Layer((4 * config.width, wide), rngs, dtype)
        for k in range(config.blocks):
            how = config.convolution
            setattr(self, f"fine{k + 1}", _Block(config.width, how, rngs, dtype))
            setattr(self, f"coarse{k + 1}", _Block(wide, how, rngs, dtype))
        side = config.size // PATCH
        self.narrow = _Layer((wide, 16), rngs, dtype)
        self.facts = _Layer((config.facts, config.dense), rngs, dtype)
        features = 16 * (side // 2) ** 2 + wide + config.dense
        self.dense1 = _Layer((features, config.dense), rngs, dtype)
        self.dense2 = _Layer((config.dense, config.outputs), rngs, dtype, scale=0.1)
        self.map1 = _Layer((config.width + wide // 4, config.width), rngs, dtype)
        self.map2 = _Layer((thin + config.width // 4, thin), rngs, dtype)
        self.map3 = _Layer((thin, 4 * config.parts), rngs, dtype, scale=0.1)

    def __call__(self, x: Array, facts: Array) -> tuple[Array, Array]:
        # blocks of 2 x 2 pixels, patches of 4 x 4, of 8 x 8
        small = jax.nn.gelu(self.stem1.dense(_folded(x, 2)))
        small = jax.nn.gelu(self.stem2.convolve(small, self.config.convolution))
        x = self.stem3.dense(_folded(small, 2))
        for k in range(self.config.blocks):
            x = getattr(self, f"fine{k + 1}")(x)
        y = self.down.dense(_folded(_normalised(x), 2))
        for k in range(self.config.blocks):
            y = getattr(self, f"coarse{k + 1}")(y)
        y = jax.nn.gelu(_normalised(y))
        where = jax.nn.gelu(self.narrow.dense(y)).reshape(len(y), -1)
        known = jax.nn.gelu(self.facts.dense(facts))
        features = jnp.concatenate([where, y.mean((1, 2)), known], -1)
        numbers = self.dense2.dense(jax.nn.gelu(self.dense1.dense(features)))
        both = jnp.concatenate([_normalised(x), _unfolded(y, 2)], -1)
        maps = jax.nn.gelu(self.map1.dense(both))
        both = jnp.concatenate([small, _unfolded(maps, 2)], -1)
        maps = self.map3.dense(jax.nn.gelu(self.map2.dense(both)))
        return numbers, _unfolded(maps, 2)


def _folded(x: Array, k: int) -> Array:
    """(B, n, n, c) -> (B, n / k, n / k, k k c): blocks of pixels side by side."""
    b, n, _, c = x.shape
    x = x.reshape(b, n // k, k, n // k, k, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, n // k, n // k, k * k * c)


def _unfolded(x: Array, k: int) -> Array:
    """The inverse of `_folded`."""
    b, n, _, c = x.shape
    x = x.reshape(b, n, n, k, k, c // (k * k)).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, n * k, n * k, c // (k * k))


def _normalised(x: Array) -> Array:
    """Channels of mean zero and variance one at each place."""
    x = x - x.mean(-1, keepdims=True)
    return x * lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-6)
