"""The random degradation that a config names: Real-ESRGAN's or a function of the user."""

import importlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from esrgan_jax.degradation.degrade import degrade as realesrgan
from esrgan_jax.degradation.recipe import Recipe
from esrgan_jax.degradation.settings import RealESRGAN, check
from esrgan_jax.errors import InputError, did_you_mean
from esrgan_jax.training.run_config import Config


def is_random(config: Config) -> bool:
    """Returns whether LR is made by a random degradation, and not by MATLAB's bicubic."""
    return bool(config.degradation.function) or config.degradation.name != "bicubic"


def create_recipe(config: Config) -> Recipe | None:
    """Returns the config's random degradation; None for MATLAB's bicubic and for pairs.

    Raises:
        InputError: The config's function cannot be imported, or settings do not fit together.
    """
    if not is_random(config):
        return None
    if config.degradation.function:
        degrade = load_function(config.degradation.function)
    else:
        degrade = partial(realesrgan, settings=published(config))
    return Recipe(degrade, config.degradation.margin, config.seed)


def published(config: Config) -> RealESRGAN:
    """Returns the settings of Real-ESRGAN's degradations; the published ones of those not given.

    Raises:
        InputError: They do not fit together.
    """
    given: dict[str, Any] = config.degradation.to_dict()
    settings = RealESRGAN()._replace(**{k: given[k] for k in RealESRGAN._fields if k in given})
    check(settings)
    return settings


def load_function(name: str) -> Callable[..., jax.Array]:
    """Imports a degradation, given as "module:function", from the working directory or as usual.

    Where it is called, it raises InputError if it fails or returns something else than LR.

    Raises:
        InputError: There is no such module or function, or importing it fails.
    """
    module_name, _, function_name = name.partition(":")
    where = f"degradation.function is {name!r:.200}"
    if not (module_name and function_name):
        raise InputError(f"{where}: take MODULE:FUNCTION, such as mymodule:degrade")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name.partition(".")[0] and error.name != module_name:
            raise InputError(f"{where}: importing {module_name} failed: {error}") from error
        raise InputError(
            f"{where}: there is no {module_name}.py in {folder}, nor such a package"
        ) from None
    except Exception as error:  # whatever the user's module raises
        raise InputError(
            f"{where}: importing {module_name} failed: {type(error).__name__}: {error}"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        near = did_you_mean(function_name, vars(module))
        raise InputError(f"{where}: {module_name} has no function {function_name}.{near}")
    return partial(_checked, function, where)


def check_function(config: Config, hr_patch: int) -> None:
    """Traces the config's function, if there is one, with an image of a stage.

    Raises:
        InputError: As `load_function`; it fails, or returns another shape or dtype than that of LR.
    """
    if config.degradation.function:
        side = hr_patch + 2 * config.degradation.margin
        image = jax.ShapeDtypeStruct((side, side, 3), jnp.float32)
        function: Any = partial(load_function(config.degradation.function), scale=config.scale)
        jax.eval_shape(function, jax.random.key(0), image)


def _checked(function: Any, where: str, key: jax.Array, hr: jax.Array, *, scale: int) -> jax.Array:
    """Calls a user's function, and raises InputError if it fails or returns something else."""
    height, width = hr.shape[:2]
    called = f"{where}: called with (key, hr {height}x{width}x3, scale={scale}) "
    try:
        lr = function(key, hr, scale=scale)
    except Exception as error:  # whatever the user's function raises
        reason = str(error).strip().partition("\n")[0]
        raise InputError(
            f"{called}it raises {type(error).__name__}: {reason}; it is compiled by jax.jit, so "
            "write it with jax.numpy"
        ) from error
    wanted = jax.ShapeDtypeStruct((height // scale, width // scale, 3), jnp.float32)
    if (getattr(lr, "shape", None), getattr(lr, "dtype", None)) != (wanted.shape, wanted.dtype):
        raise InputError(f"{called}it returns {_text(lr)}: return an array of {_text(wanted)}")
    return lr


def _text(array: Any) -> str:
    if not isinstance(array, jax.Array | jax.ShapeDtypeStruct):
        return f"a {type(array).__name__}"
    return f"{'x'.join(map(str, array.shape)) or 'one number'} {array.dtype}"
