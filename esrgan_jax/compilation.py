"""Settings of XLA's compilation, and a cache of compiled programs for the next start."""

import os
import warnings
from typing import Any

import jax

from esrgan_jax.files import cache_folder

# XLA compiles such a program in a tenth of the time that it takes with all optimisations.
UNOPTIMISED = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
MOST_BYTES = 1 << 30  # of compiled programs that are kept; those not used for longest go first
WORTH_SECONDS = 0.3  # a program that compiles in less is not kept


def run_once_options() -> dict[str, int | bool] | None:
    """`compiler_options` of `jax.jit` for a program that is run once, such as initial values.

    On a CPU the initial values of a network take a minute to compile with JAX 0.12 otherwise.
    """
    return UNOPTIMISED if jax.default_backend() == "cpu" else None


def keep_programs() -> None:
    """Keeps compiled programs in the user's cache folder. For commands, before they compile.

    JAX's own variables win: JAX_COMPILATION_CACHE_DIR, JAX_COMPILATION_CACHE_MAX_SIZE (bytes),
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS, and JAX_ENABLE_COMPILATION_CACHE=0, which switches
    it off. Where the folder cannot be written, nothing is kept.
    """
    # A cache that cannot be read or written costs time alone, so nobody has to be told.
    warnings.filterwarnings("ignore", message=".*persistent compilation cache.*")
    options: Any = jax.config  # its class does not declare them
    if options.jax_compilation_cache_dir is None and options.jax_enable_compilation_cache:
        folder = cache_folder() / "programs"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return
        if os.access(folder, os.W_OK):
            jax.config.update("jax_compilation_cache_dir", str(folder))
            _default("jax_compilation_cache_max_size", MOST_BYTES)
            _default("jax_persistent_cache_min_compile_time_secs", WORTH_SECONDS)


def _default(option: str, value: float) -> None:
    if option.upper() not in os.environ:
        jax.config.update(option, value)
