"""The network that reads a lens: image in, five parameters of an SIE out.

Two 5 x 5 convolutions (6 and 16 channels), each with ReLU and a 2 x 2 max pool, then
dense layers of 120 and 84 and five outputs: section 3 and figure 5 of the paper.  It is
a Flax module behind two plain functions, so that everything else sees arrays only:

    params = network.init(key, config)
    outputs = network.apply(params, images, config)

Weights and biases start as PyTorch 1.5, which the paper used, draws them by default:
``kaiming_uniform_(a=sqrt(5))`` is U(-b, b) with b = 1 / sqrt(fan in), and so are the
biases (``reset_parameters`` of ``torch.nn.Conv2d`` and ``torch.nn.Linear``).
"""

import functools
import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jax.custom_batching import sequential_vmap

CONVOLUTIONS = ("tiles", "lax")
_CHUNK = 8  # images at a time in `_tiles`: their windows (4 MB) then stay in the cache


class Architecture(NamedTuple):
    """What fixes the shapes of the parameters; hashable, the default is the paper's."""

    size: int = 64  # pixels on a side
    bands: int = 4  # the last axis of an image
    channels: tuple[int, ...] = (6, 16)  # one convolution and one pool each
    kernel: int = 5  # pixels on a side of each convolution, odd
    dense: tuple[int, ...] = (120, 84)  # hidden layers
    outputs: int = 5
    dropout: float = 0.0  # chance that a hidden dense unit is dropped, in training only
    convolution: str = "tiles"  # "tiles" for CPUs, "lax" leaves it to XLA (cuDNN)


def convolution_here() -> str:
    """The faster of `CONVOLUTIONS` on JAX's default device."""
    return "tiles" if jax.default_backend() == "cpu" else "lax"


def validate(config: Architecture) -> list[int]:
    """Return the side of the map after each pool [pixels]; ValueError if impossible."""
    if config.convolution not in CONVOLUTIONS:
        raise ValueError(
            f"convolution must be one of {', '.join(CONVOLUTIONS)}, "
            f"got {config.convolution!r}"
        )
    if not 0.0 <= config.dropout < 1.0:
        raise ValueError(f"dropout must be in [0, 1), got {config.dropout}")
    if config.kernel < 1 or config.kernel % 2 == 0:
        raise ValueError(f"kernel must be odd, got {config.kernel}")
    sides = [config.size]
    for _ in config.channels:
        side = sides[-1] - config.kernel + 1
        if side < 2:
            raise ValueError(
                f"channels {config.channels}: a map of {sides[-1]} x {sides[-1]} "
                f"pixels is too small for another convolution of {config.kernel} x "
                f"{config.kernel} and its pool: give fewer channels"
            )
        sides.append(side // 2)  # an odd map's last row and column are left out
    return sides[1:]


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def init(key: Array, config: Architecture, dtype: Any = jnp.float32) -> dict:
    """Draw parameters: {conv1, conv2, ..., dense1, ...: {kernel, bias}} of arrays.

    Kernels are (row, column, in, out) and (in, out).
    """
    module = _CNN(config, nnx.Rngs(params=key), dtype)
    return nnx.to_pure_dict(nnx.state(module))


def apply(
    params: dict, images: Array, config: Architecture, key: Array | None = None
) -> Array:
    """Run images (batch, size, size, bands) to outputs (batch, outputs), same dtype.

    Without a `key` nothing is dropped.  Differentiable in reverse mode with respect to
    parameters and images; where the largest pixels of a pool tie, the first in reading
    order takes the gradient, as in PyTorch, and ReLU has gradient 0 at 0.  Forward mode
    needs ``convolution="lax"``.

    Check images with ``isfinite``, never outputs: a NaN or an infinity reaches the
    output with "tiles", but XLA's own max pool on a CPU drops it.
    """
    expected = (config.size, config.size, config.bands)
    if images.ndim != 4 or images.shape[1:] != expected:
        raise ValueError(
            f"images must be (batch, {config.size}, {config.size}, {config.bands}), "
            f"bands last, got {images.shape}"
        )
    module = nnx.merge(*_with(params, config))
    return module(images, key)


def count_parameters(params: dict) -> int:
    """Count weights and biases; of all folds where they are stacked."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


@functools.cache
def _graph(config: Architecture):
    # The module without its arrays: made once per architecture, at trace time.
    key = jax.eval_shape(lambda: jax.random.key(0))
    return nnx.split(nnx.eval_shape(lambda k: _CNN(config, nnx.Rngs(params=k)), key))


def _with(params: dict, config: Architecture):
    graph, state = _graph(config)
    state = nnx.clone(state)
    nnx.replace_by_pure_dict(state, params)
    return graph, state


class _Layer(nnx.Module):
    """A kernel and a bias; what is done with them is `_CNN.__call__`."""

    def __init__(self, shape: tuple[int, ...], rngs: nnx.Rngs, dtype: Any):
        bound = 1 / math.sqrt(math.prod(shape[:-1]))  # fan in
        for name, of in (("kernel", shape), ("bias", shape[-1:])):
            values = jax.random.uniform(rngs.params(), of, dtype, -bound, bound)
            setattr(self, name, nnx.Param(values))

    def dense(self, x: Array) -> Array:
        return x @ self.kernel[...] + self.bias[...][None]


class _CNN(nnx.Module):
    def __init__(self, config: Architecture, rngs: nnx.Rngs, dtype: Any = jnp.float32):
        side = validate(config)[-1] if config.channels else config.size
        depths = (config.bands, *config.channels)
        widths = (side * side * depths[-1], *config.dense, config.outputs)
        window = (config.kernel, config.kernel)
        self.config = config
        for i, pair in enumerate(itertools.pairwise(depths), 1):
            setattr(self, f"conv{i}", _Layer((*window, *pair), rngs, dtype))
        for i, pair in enumerate(itertools.pairwise(widths), 1):
            setattr(self, f"dense{i}", _Layer(pair, rngs, dtype))

    def __call__(self, x: Array, key: Array | None) -> Array:
        pooled = _tiles if self.config.convolution == "tiles" else _lax
        for i in range(len(self.config.channels)):
            layer = getattr(self, f"conv{i + 1}")
            # Bias and ReLU commute with the maximum; after it there is a quarter left.
            y = pooled(x, layer.kernel[...])
            x = jax.nn.relu(y + layer.bias[...][None, None, None])
        x = x.reshape(x.shape[0], -1)
        hidden = len(self.config.dense)
        for i in range(hidden):
            x = jax.nn.relu(getattr(self, f"dense{i + 1}").dense(x))
            if key is not None and self.config.dropout > 0:
                keep = 1 - self.config.dropout
                kept = jax.random.bernoulli(jax.random.fold_in(key, i), keep, x.shape)
                x = jnp.where(kept, x / keep, jnp.zeros((), x.dtype))
        return getattr(self, f"dense{hidden + 1}").dense(x)


# A convolution and its 2 x 2 max pool: (batch, n, n, in), (k, k, in, out) ->
# (batch, m, m, out) with m = (n - k + 1) // 2, twice.


def _lax(x: Array, kernel: Array) -> Array:
    names = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=names)
    two = (1, 2, 2, 1)
    return lax.reduce_window(y, -jnp.inf, lax.max, two, two, "VALID")


def _tiles(x: Array, kernel: Array) -> Array:
    """Compute the four pixels of a pool side by side, as one matrix product.

    Cut into 2 x 2 blocks, a pool of a 5 x 5 convolution sees 3 x 3 blocks: a product of
    windows (36 in) by (4 out) whose columns are the four shifts of the kernel, and the
    pool is a maximum over columns.  XLA's own CPU convolution takes some 25 times as
    long for a training step.
    """
    k, _, depth, out = kernel.shape
    blocks, m = (k + 1) // 2, (x.shape[1] - k + 1) // 2
    seen = 2 * m + k - 1
    x = x[:, :seen, :seen]
    shifts = [(a, b) for a in (0, 1) for b in (0, 1)]
    padded = [
        jnp.pad(kernel, ((a, 1 - a), (b, 1 - b), (0, 0), (0, 0))) for a, b in shifts
    ]
    weights = jnp.stack(padded, 3).reshape(blocks, 2, blocks, 2, depth, 4 * out)
    weights = weights.transpose(0, 2, 1, 3, 4, 5).reshape(-1, 4 * out)
    return _product(x, weights).reshape(x.shape[0], m, m, out)


def _windows(x: Array, rows: int) -> Array:
    # (images, n, n, in) -> (images m m, rows), rows = blocks^2 2 2 in.
    images, n, _, depth = x.shape
    blocks = math.isqrt(rows // (4 * depth))
    m = n // 2 - blocks + 1
    x = x.reshape(images, n // 2, 2, n // 2, 2, depth).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(images, n // 2, n // 2, 4 * depth)
    shifts = [(i, j) for i in range(blocks) for j in range(blocks)]
    windows = [x[:, i : i + m, j : j + m] for i, j in shifts]
    return jnp.concatenate(windows, -1).reshape(-1, rows)


def _chunks(x: Array) -> Array:
    # Windows are nine times their image: made for a few images at a time they never
    # leave the cache, and remade in the backward pass they need not be stored.
    few = math.gcd(x.shape[0], _CHUNK)
    return x.reshape(-1, few, *x.shape[1:])


# vmap over folds would make one batched product that no longer fits into the cache; one
# fold after the other is faster, and the same as a fold alone.
@sequential_vmap
def _forward(x: Array, weights: Array) -> tuple[Array, Array]:
    def some(x: Array) -> tuple[Array, Array]:
        y = _windows(x, weights.shape[0]) @ weights
        a, b, c, d = jnp.split(y, 4, -1)
        most = jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))
        which = jnp.where(c == most, jnp.int8(2), jnp.int8(3))
        which = jnp.where(b == most, jnp.int8(1), which)
        return most, jnp.where(a == most, jnp.int8(0), which)

    return lax.map(some, _chunks(x))


@sequential_vmap
def _backward(x: Array, weights: Array, which: Array, g: Array) -> tuple[Array, Array]:
    def some(chunk: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        x, which, g = chunk
        parts = [jnp.where(which == i, g, jnp.zeros((), g.dtype)) for i in range(4)]
        dy = jnp.concatenate(parts, -1)
        windows, back = jax.vjp(lambda x: _windows(x, weights.shape[0]), x)
        return back(dy @ weights.T)[0], (dy.T @ windows).T

    dx, dweights = lax.map(some, (_chunks(x), which, g))
    return dx.reshape(x.shape), dweights.sum(0)


@jax.custom_vjp
def _product(x: Array, weights: Array) -> Array:
    return _forward(x, weights)[0]


def _product_fwd(x: Array, weights: Array):
    most, which = _forward(x, weights)
    return most, (x, weights, which)


def _product_bwd(saved, g: Array) -> tuple[Array, Array]:
    return _backward(*saved, g)


_product.defvjp(_product_fwd, _product_bwd)
