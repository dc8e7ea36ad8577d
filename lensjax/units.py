"""Where astropy's quantities turn into plain numbers: at the door, outside jit.

    @units.convert(lens=RECORD, x="arcsec", y="arcsec")
    def deflect(lens, x, y): ...

takes each of these arguments as a plain number, which is in that unit already, or as an
astropy Quantity, Angle or column with a unit, which is converted.  A record, such as
`SIE`, has the units of its fields in `UNITS`.  What has a unit that cannot be converted
is refused: never is a number taken without its unit.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

RECORD = "record"
"""In place of a unit: a record whose fields have units of their own."""

_PLAIN = (jax.Array, float, int, complex, np.generic)


def value(quantity: Any, unit: str) -> Any:
    """The number in `unit` of an astropy Quantity; anything plain as it came.

    Lists of quantities, and columns of tables that have a unit, are converted, too.

    Raises
    ------
    astropy.units.UnitConversionError
        The quantity is of another physical type.
    ValueError
        Elements of it are masked: a number under a mask is none.
    TypeError
        It has a unit, but is no quantity of astropy's.
    """
    if isinstance(quantity, _PLAIN) or type(quantity) is np.ndarray:
        if getattr(quantity, "dtype", float) != np.dtype("O"):  # may hold quantities
            return quantity
    if isinstance(quantity, (list, tuple, np.ndarray)) and not hasattr(
        quantity, "unit"
    ):
        if not _has_units(quantity):
            return quantity
        from astropy.units import Quantity

        quantity = Quantity(list(quantity))
    if hasattr(quantity, "unit") and not hasattr(quantity, "to_value"):
        if quantity.unit is None or not hasattr(quantity, "quantity"):
            return quantity  # a column without a unit
        _refuse_masked(quantity)
        quantity = quantity.quantity
    if hasattr(quantity, "to_value"):
        _refuse_masked(quantity)
        quantity = getattr(quantity, "unmasked", quantity)
        return quantity.to_value(unit, _redshifts() if unit == "" else [])
    if hasattr(quantity, "units") and hasattr(quantity, "magnitude"):
        raise TypeError(
            f"{quantity!r} is no quantity of astropy's: give it as one, or as a plain "
            f"number in {unit or 'no unit'}"
        )
    return quantity


def arcsec(angle: Any) -> Array:
    """An angle as an array in arcsec; plain numbers are arcsec already."""
    return jnp.asarray(value(angle, "arcsec"))


def plain(record: Any) -> Any:
    """A record with plain numbers for fields, in the units of its `UNITS`."""
    converted = [
        plain(field) if unit == RECORD else value(field, unit)
        for field, unit in zip(record, record.UNITS, strict=True)
    ]
    if all(new is old for new, old in zip(converted, record, strict=True)):
        return record
    return type(record)(*converted)


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


def _has_units(values: Any) -> bool:
    if isinstance(values, np.ndarray) and values.dtype != object:
        return False
    return any(
        _has_units(v) if isinstance(v, (list, tuple)) else hasattr(v, "unit")
        for v in values
    )


def _refuse_masked(quantity: Any) -> None:
    if np.any(getattr(quantity, "mask", False)):
        raise ValueError(
            f"{quantity!r} has masked elements: leave them out, or fill them"
        )


@functools.cache
def _redshifts() -> list:
    """Lets a redshift with its unit be the number that it is."""
    from astropy.cosmology.units import dimensionless_redshift

    return dimensionless_redshift()
