"""What a predicted lens model is for: where and when the next images appear.

A supernova is seen once, behind a lens that a network has modelled: the model traces
that image back to the source, and the source's other images are those still to come
(Schuldt et al. 2021, sect. 6).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from lensjax import images, units
from lensjax import lens as _lens
from lensjax.images import SLOTS
from lensjax.lens import Lens


class FollowUp(NamedTuple):
    """Next images of one source, as they are and as a model has them.

    The model begins with the first image, where it is.  The others are in the order of
    arrival; what has no image is nan.
    """

    first_x: Array  # the image that is known [arcsec]
    first_y: Array
    n_true: Array  # images of the source, the first included
    n_predicted: Array
    x: Array  # (SLOTS - 1,) position [arcsec]
    y: Array
    delay: Array  # [days] after the first image
    predicted_x: Array  # (SLOTS - 1,)
    predicted_y: Array
    predicted_delay: Array  # negative for an image that the model has come before it


@units.convert(x="arcsec", y="arcsec", D_dt="Mpc")
def predict(
    model: Lens, x: ArrayLike, y: ArrayLike, D_dt: ArrayLike
) -> tuple[Array, Array, Array, Array]:
    """Other images of a source whose image at (x, y) [arcsec] is known.

    D_dt: time-delay distance [Mpc], or a Quantity.  Returns their positions [arcsec]
    and delays [days] after the known image, (SLOTS - 1,) each, in the order of arrival,
    nan where there is none, and the number of all images, the known one included.  An
    image that the model has before the known one has a negative delay.
    """
    beta_x, beta_y = _lens.ray_shoot(model, x, y)
    found = images.solve(model, beta_x, beta_y)
    times = images.arrival_times(model, found, beta_x, beta_y, D_dt)
    distance = jnp.where(found.valid, jnp.hypot(found.x - x, found.y - y), jnp.inf)
    known = jnp.argmin(distance)

    def others(a):
        return jnp.where(jnp.arange(SLOTS - 1) < known, a[:-1], a[1:])

    since = others(times - times[known])
    return others(found.x), others(found.y), since, found.valid.sum()


@units.convert(beta_x="arcsec", beta_y="arcsec", D_dt="Mpc")
def compare(
    truth: Lens, model: Lens, beta_x: ArrayLike, beta_y: ArrayLike, D_dt: ArrayLike
) -> FollowUp:
    """Next images of a source at (beta_x, beta_y) [arcsec], true and by a model.

    The first image to arrive behind the true lens is known, the model says the rest.
    A model that is no lens (|e| >= 1, theta_E <= 0, nan) predicts no image.  Where the
    two disagree on the number of images, those that have the same place in the order
    of arrival stand side by side, for what that is worth.
    """
    found = images.solve(truth, beta_x, beta_y)
    times = images.arrival_times(truth, found, beta_x, beta_y, D_dt)
    sie = model.sie
    usable = (sie.ex**2 + sie.ey**2 < 1) & (sie.theta_E > 0)
    safe = sie._replace(
        theta_E=jnp.where(usable, sie.theta_E, 1),
        ex=jnp.where(usable, sie.ex, 0),
        ey=jnp.where(usable, sie.ey, 0),
    )
    *next_, n = predict(Lens(safe, model.shear), found.x[0], found.y[0], D_dt)
    x, y, delay = (jnp.where(usable, a, jnp.nan) for a in next_)
    return FollowUp(
        first_x=found.x[0],
        first_y=found.y[0],
        n_true=found.valid.sum(),
        n_predicted=jnp.where(usable, n, 0),
        x=found.x[1:],
        y=found.y[1:],
        delay=times[1:],
        predicted_x=x,
        predicted_y=y,
        predicted_delay=delay,
    )
