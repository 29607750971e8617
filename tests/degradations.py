"""Degradations for `degradation.function`, right ones and wrong ones."""

import jax
import jax.numpy as jnp


def averaged(key, hr, *, scale):
    """Averages squares; not random."""
    del key
    side = len(hr) // scale
    return hr.reshape(side, scale, side, scale, 3).mean((1, 3))


def blurred(key, hr, *, scale):
    """Averages squares and adds noise of a random strength."""
    strength, noise = jax.random.split(key)
    lr = averaged(key, hr, scale=scale)
    return lr + jax.random.uniform(strength, maxval=0.2) * jax.random.normal(noise, lr.shape)


def too_large(key, hr, *, scale):
    return blurred(key, hr, scale=scale)[:-1]


def of_integers(key, hr, *, scale):
    return (blurred(key, hr, scale=scale) * 255).astype(jnp.uint8)


def of_two(key, hr, *, scale):
    return blurred(key, hr, scale=scale), hr


def without_scale(key, hr):
    return blurred(key, hr, scale=4)


def of_numpy(key, hr, *, scale):
    if hr.mean() > 0.5:
        return hr
    return blurred(key, hr, scale=scale)


def of_one_size(key, hr, *, scale):
    return blurred(key, hr + jnp.zeros((200, 200, 3)), scale=scale)
