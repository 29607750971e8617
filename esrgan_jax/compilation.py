"""Settings of XLA's compilation, and a cache of compiled programs for the next start."""

import os
import warnings
from typing import Any

import jax

from esrgan_jax.files import cache_folder

# XLA's usual order on CPUs begins early what could run in parallel, and keeps the results for long.
LITTLE_MEMORY = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
MOST_BYTES = 1 << 30  # size of the cache; the least recently used programs are removed first
WORTH_SECONDS = 0.05  # faster compilations are not cached


def keep_programs() -> None:
    """Caches compiled programs in the user's cache folder; call it before anything is compiled.

    JAX's own variables take precedence: JAX_COMPILATION_CACHE_DIR, JAX_COMPILATION_CACHE_MAX_SIZE
    (bytes), JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS, and JAX_ENABLE_COMPILATION_CACHE=0, which
    switches it off. In a folder of the user's choice, JAX limits no size by default. If the folder
    cannot be written, nothing is cached.
    """
    # A cache that cannot be read or written costs only time.
    warnings.filterwarnings("ignore", message=".*persistent compilation cache.*")
    _default("jax_persistent_cache_min_compile_time_secs", WORTH_SECONDS)
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


def _default(option: str, value: float) -> None:
    if option.upper() not in os.environ:
        jax.config.update(option, value)
