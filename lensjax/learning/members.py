"""Networks side by side: a fold and hyperparameters each, rows of every array.

Rows never meet: one program trains them all and `shard_map` spreads them over devices,
so a member's curve does not depend on its company, not even where that diverges.  Every
random number comes from the member's seed by way of fold and epoch; a resumed run draws
what an uninterrupted one would have.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lensjax import parameters
from lensjax.learning import folds as _folds
from lensjax.learning.folds import Folds
from lensjax.parameters import Space

_AUTO = jax.sharding.AxisType.Auto


class Hyperparameters(NamedTuple):
    """What members of one program may differ in."""

    learning_rate: float = 0.001
    seed: int = 0  # of the network's first values and the order of its batches
    weight_theta_E: float = 1.0  # in the loss, before normalisation
    weight_center: float = 1.0  # of x and of y


class Member(NamedTuple):
    """Networks in training; each leaf has them in front, (R, ...)."""

    fold: Folds
    learning_rate: Array
    seed: Array
    weights: Array  # (R, n) of the numbers of a prediction in the loss


def members(
    folds: Folds,
    choices: Sequence[Hyperparameters],
    space: Space = parameters.WITHOUT_SHEAR,
) -> Member:
    """Every fold with each of these hyperparameters: fold by fold within a choice."""
    n, f = len(choices), len(folds.number)

    def each(values, dtype):
        return jnp.repeat(jnp.asarray(np.asarray(values), dtype), f, axis=0)

    weights = [
        target_weights(c.weight_theta_E, c.weight_center, space) for c in choices
    ]
    return Member(
        jax.tree.map(lambda a: jnp.tile(a, (n,) + (1,) * (a.ndim - 1)), folds),
        each([c.learning_rate for c in choices], jnp.float32),
        each([c.seed for c in choices], jnp.uint32),
        each(weights, jnp.float32),
    )


def target_weights(
    weight_theta_E: float,
    weight_center: float = 1.0,
    space: Space = parameters.WITHOUT_SHEAR,
) -> np.ndarray:
    """The paper's w_l (n,) in the order of the space; they sum to n."""
    given = {"x": weight_center, "y": weight_center, "theta_E": weight_theta_E}
    weights = np.array([given.get(p.name, 1) for p in space], np.float32)
    return weights * len(weights) / weights.sum()


def key_of(member: Member, epoch: Array | None = None) -> Array:
    """Of all that is random in one epoch of one member; None: of its first values."""
    key = jax.random.fold_in(jax.random.key(member.seed), member.fold.number)
    return jax.random.fold_in(key, 0 if epoch is None else 1 + epoch)


def order(member: Member, epoch: Array) -> Array:
    """Rows (T,) of one member's fold in the order in which an epoch trains on them."""
    key = jax.random.fold_in(key_of(member, epoch), 0)
    return _folds.shuffled(key, member.fold.train, member.fold.n_train)


def side_by_side(function: Callable, *rows: Any) -> Any:
    """`function` of each row: vectorised on an accelerator, one by one on a CPU.

    A CPU then works on one network at a time, which stays in its cache.
    """
    if jax.default_backend() == "cpu":
        return jax.lax.map(lambda row: function(*row), rows)
    return jax.vmap(function)(*rows)


def spread(number: int, devices: Sequence[jax.Device]) -> Mesh:
    """As many of the devices as divide so many members evenly."""
    used = max(d for d in range(1, len(devices) + 1) if number % d == 0)
    return jax.make_mesh(
        (used,), ("member",), devices=devices[:used], axis_types=(_AUTO,)
    )


def place(mesh: Mesh, tree: Any) -> Any:
    """A tree whose leaves have the members in front, on the devices of its members."""
    return jax.device_put(tree, NamedSharding(mesh, P("member")))


def each(
    function: Callable, mesh: Mesh, shared: int, options: dict | None = None
) -> Callable:
    """Compile `function` of one member for all: (state, members, *shared) -> states.

    Members are spread over devices and, on each, `side_by_side`; `shared` is how many
    arguments are the same for all.  The state is donated.  options: of the compiler.
    """

    def rows(state, members, *others):
        return side_by_side(lambda s, m: function(s, m, *others), state, members)

    mapped = jax.shard_map(
        rows,
        mesh=mesh,
        in_specs=(P("member"), P("member"), *[P()] * shared),
        out_specs=P("member"),
        check_vma=False,
    )
    return jax.jit(mapped, donate_argnums=0, compiler_options=options)
