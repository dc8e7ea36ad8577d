"""Where astropy's quantities turn into plain numbers: at the door, outside jit."""

from typing import Any

import jax.numpy as jnp
from jax import Array


def value(quantity: Any, unit: str) -> Any:
    """The number in `unit` of an astropy Quantity; anything else as it came.

    A Quantity of another physical type raises astropy's UnitConversionError.
    """
    to_value = getattr(quantity, "to_value", None)
    return quantity if to_value is None else to_value(unit)


def arcsec(angle: Any) -> Array:
    """An angle as an array in arcsec; plain numbers are arcsec already."""
    return jnp.asarray(value(angle, "arcsec"))
