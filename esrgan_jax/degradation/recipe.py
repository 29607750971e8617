"""A random degradation of a batch: every image by a key of its own, on its device."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from esrgan_jax.degradation.sharpen import sharpen
from esrgan_jax.sharding import split_over


class Recipe(NamedTuple):
    """How LR is made of HR at random.

    Attributes:
        degrade: `degrade(key, hr, *, scale) -> lr`, a JAX function of one image: (S, S, 3) float32
            in [0, 1] -> (S/scale, S/scale, 3) float32, which is clipped and rounded to 8 bits.
        margin: HR pixels that an image has on every side of a patch, a multiple of the scale.
        seed: Of the keys.
    """

    degrade: Callable[..., jax.Array]
    margin: int
    seed: int


def image_keys(seed: int, step: int | jax.Array, count: int) -> jax.Array:
    """Returns the key of each image of a global batch, which depends on nothing else."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(count))


def degraded(
    recipe: Recipe,
    keys: jax.Array,
    hr: jax.Array,
    scale: int,
    sharpened: bool = False,
    mesh: Mesh | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Degrades images and crops a patch of each.

    An image is degraded as a whole. Then LR and HR are cropped at one random place of the LR grid,
    so that the blocks of JPEG begin anywhere. No pool of earlier pairs is needed, as BasicSR has it
    ("training pair pool"): here the images of a batch do not share blur, sizes or quality.

    Args:
        recipe: The degradation.
        keys: (N,) random keys.
        hr: (N, P + 2m, P + 2m, 3) uint8 with the margin m of the recipe.
        scale: HR size divided by LR size.
        sharpened: Whether LR is made of HR after the unsharp mask.
        mesh: Devices over which the images are split.

    Returns:
        LR (N, P/scale, P/scale, 3); HR (N, P, P, 3); and HR after the unsharp mask, or HR again if
        not `sharpened`. All float32 in [0, 1].
    """
    size = hr.shape[1] - 2 * recipe.margin

    def one(key: jax.Array, image: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        degrade_key, place_key = jax.random.split(key)
        image = image.astype(jnp.float32) / 255
        sharp = sharpen(image) if sharpened else image
        lr = recipe.degrade(degrade_key, sharp, scale=scale)
        lr = jnp.round(jnp.clip(lr, 0, 1) * 255) / 255
        place = jax.random.randint(place_key, (2,), 0, 2 * recipe.margin // scale + 1)

        def crop(whole: jax.Array, unit: int) -> jax.Array:
            side = size * unit // scale
            return lax.dynamic_slice(whole, (*(unit * place), 0), (side, side, 3))

        return crop(lr, 1), crop(image, scale), crop(sharp, scale)

    def every(keys: jax.Array, hr: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        # One after the other, only the kind of noise that was drawn is computed, and all stays in
        # the cache: half the processor time, a ninth of the memory. GPUs would wait for launches.
        return lax.platform_dependent(
            keys, hr, cpu=lambda *batch: lax.map(lambda x: one(*x), batch), default=jax.vmap(one)
        )

    if mesh is None:
        return every(keys, hr)
    return split_over(mesh, lambda _, batch: every(*batch))({}, (keys, hr))
