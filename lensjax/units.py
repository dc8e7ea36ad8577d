"""Where astropy's quantities turn into plain numbers: at the door, outside jit.

    @units.convert(x="arcsec", y="arcsec")
    def deflect(lens, x, y): ...

takes each of these arguments as a plain number, which is in that unit already, or as an
astropy Quantity, Angle or column with a unit, which is converted.

    @units.record
    class SIE(NamedTuple):
        theta_E: ArrayLike
        ...
        UNITS = ("arcsec", "", "", "arcsec", "arcsec")

does the same with fields, where the record is made.  What has a unit and cannot be
converted is refused: never is a number taken without its unit.

JAX itself drops the unit of what is given to its transformations: `jax.jit(f)(x)` and
`jax.grad(f)(x)` show f a bare number.  Records are plain by then; for other arguments
take `value` first.  Under `jax.vmap` and `jax.jvp` they are refused.
"""

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

_Class = TypeVar("_Class")

RECORD = "record"
"""In place of a unit: a record whose fields have units of their own, in its `UNITS`."""


def value(quantity: Any, unit: str) -> Any:
    """The number in `unit` of an astropy Quantity; anything plain as it came.

    Lists of quantities, and columns of tables that have a unit, are converted, too.  A
    Longitude comes as the angle between -180 and 180 degrees that it is.

    Raises
    ------
    astropy.units.UnitConversionError
        The quantity is of another physical type.
    ValueError
        Elements of it are masked: a number under a mask is none.
    TypeError
        It has a unit, but is no quantity of astropy's; or it is a distribution.
    """
    if _is_plain(type(quantity)):
        return quantity
    if isinstance(quantity, jax.core.Tracer):
        return _seen(quantity, unit)
    if type(quantity) is np.ndarray and quantity.dtype != object:
        return quantity
    if isinstance(quantity, (list, tuple)) or type(quantity) is np.ndarray:
        items = [value(item, unit) for item in quantity]
        same = all(new is old for new, old in zip(items, quantity, strict=True))
        return quantity if same else np.asarray(items)
    if isinstance(quantity, np.ndarray):  # a subclass of it: a table's, or a Quantity
        quantity = _unmasked(quantity)
        if getattr(quantity, "unit", None) is None:
            return _native(np.asarray(quantity))
        quantity = getattr(quantity, "quantity", quantity)  # of a column
    # who has quantities has imported them
    astropy = sys.modules.get("astropy.units")
    if astropy is not None and isinstance(quantity, astropy.Quantity):
        return _number(quantity, unit)
    for name in ("unit", "units"):
        if getattr(quantity, name, None) is not None:
            raise TypeError(
                f"{quantity!r} has a unit, but is no quantity of astropy's: give it as "
                f"one, or as a plain number{_in(unit)}"
            )
    return quantity


def arcsec(angle: Any) -> Array:
    """An angle as an array in arcsec; plain numbers are arcsec already."""
    return jnp.asarray(value(angle, "arcsec"))


def plain(record: Any) -> Any:
    """A record with plain numbers for fields, in the units of its `UNITS`."""
    if all(map(_is_plain, map(type, record))):
        return record
    fields = [value(*pair) for pair in zip(record, record.UNITS, strict=True)]
    if all(new is old for new, old in zip(fields, record, strict=True)):
        return record
    return tuple.__new__(type(record), fields)


def record(cls: type[_Class]) -> type[_Class]:
    """A decorator: a NamedTuple's fields may have a unit, and are plain from then on.

    However it is made: called, replaced, copied, or put together by `jax.tree`.
    """
    bare = cls.__new__

    @functools.wraps(bare)
    def new(cls, *fields, **named):
        return plain(bare(cls, *fields, **named))

    cls.__new__ = staticmethod(new)
    cls._make = classmethod(lambda cls, fields: cls(*fields))  # `_replace` calls it
    return cls


def convert(**arguments: str) -> Callable[[Callable], Callable]:
    """A decorator: these arguments may have a unit, and come as plain numbers."""

    def decorate(function: Callable) -> Callable:
        names = list(inspect.signature(function).parameters)
        if unknown := set(arguments) - {*names}:
            raise ValueError(f"{function.__name__} has no argument {unknown}")
        units = [arguments.get(name) for name in names]

        def one(argument: Any, unit: str | None) -> Any:
            if unit is None:
                return argument
            if unit == RECORD:
                return plain(argument) if hasattr(argument, "UNITS") else argument
            return value(argument, unit)

        @functools.wraps(function)
        def converted(*given, **named):
            given = (
                *map(one, given, units),
                *given[len(units) :],  # too many: for Python to say so
            )
            named = {k: one(v, arguments.get(k)) for k, v in named.items()}
            return function(*given, **named)

        return converted

    return decorate


@functools.cache
def _is_plain(kind: type) -> bool:
    """Whether all of a type are plain: numbers, and JAX's arrays that are no tracers.

    By the type, once: `isinstance` of `jax.Array` asks each object.
    """
    return issubclass(kind, (jax.Array, float, int, complex, np.generic))


def _seen(tracer: Any, unit: str) -> Any:
    """The tracer, unless what it stands for is seen to have a unit."""
    inside = tracer
    while isinstance(inside, jax.core.Tracer):  # of vmap, of jvp; jit's show nothing
        inside = getattr(inside, "val", getattr(inside, "primal", None))
    if getattr(inside, "unit", None) is not None:
        raise TypeError(
            f"jax.vmap and jax.jvp drop the unit of {inside!r}: give them a plain "
            f"number{_in(unit)}, lensjax.units.value(..., {unit!r})"
        )
    return tracer


def _in(unit: str) -> str:
    return unit and f" in {unit}"


def _unmasked(values: np.ndarray) -> np.ndarray:
    if np.any(getattr(values, "mask", False)):
        raise ValueError(
            f"{values!r} has masked elements: leave them out, or fill them"
        )
    return getattr(values, "unmasked", values)


def _number(quantity: Any, unit: str) -> Any:
    if hasattr(quantity, "wrap_angle"):  # a Longitude: -1 arcsec is 359.9997 degrees
        quantity = quantity.wrap_at("180d")
    number = quantity.to_value(unit)  # "" takes astropy's unit of redshifts, too
    if type(number) is not np.ndarray and not isinstance(number, np.number):
        raise TypeError(
            f"{quantity!r} is no array of numbers: take its mean, or its samples"
        )
    return _native(number)


def _native(number: np.ndarray) -> np.ndarray:
    """In this machine's byte order: FITS files have another one, and JAX takes none."""
    return number.astype(number.dtype.newbyteorder("="), copy=False)
