"""The cache of compiled programs, and quick compilation of programs that run once."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from configs import demo
from esrgan_jax import compilation
from esrgan_jax.sharding import create_mesh
from esrgan_jax.training.stages import gan_stage

PROGRAM = """
import jax
from esrgan_jax.compilation import keep_programs
jax.monitoring.register_event_listener(lambda name, **_: print(name))
keep_programs()
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
print(jax.jit(lambda x: x + 1)(1.0))
"""


def _run(cache: Path, **variables: str) -> subprocess.CompletedProcess:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    environment = kept | {"ESRGAN_JAX_CACHE": str(cache)} | variables
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )


def test_a_second_process_uses_the_cached_program(tmp_path):
    first, second = _run(tmp_path), _run(tmp_path)
    assert "/jax/compilation_cache/cache_misses" in first.stdout
    assert "/jax/compilation_cache/cache_hits" in second.stdout
    assert "/jax/compilation_cache/cache_misses" not in second.stdout
    assert list((tmp_path / "programs").glob("*-cache"))
    assert first.stderr == second.stderr == ""


def test_the_cache_can_be_disabled_and_moved(tmp_path):
    off = _run(tmp_path / "a", JAX_ENABLE_COMPILATION_CACHE="0")
    _run(tmp_path / "b", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "mine"))
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()
    assert "2.0" in off.stdout
    assert list((tmp_path / "mine").glob("*-cache"))


def test_a_moved_cache_keeps_quick_compilations_too(monkeypatch, tmp_path):
    """JAX's own default is a second, which most programs of a small network do not take."""
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", raising=False)
    updates: dict[str, object] = {}
    monkeypatch.setattr(jax.config, "update", updates.__setitem__)
    monkeypatch.setattr(type(jax.config), "jax_compilation_cache_dir", str(tmp_path))
    compilation.keep_programs()
    assert updates == {"jax_persistent_cache_min_compile_time_secs": compilation.WORTH_SECONDS}


def test_an_unwritable_cache_folder_is_ignored(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    done = _run(file)  # no folder can be created in a file
    assert "2.0" in done.stdout
    assert done.stderr == ""


@pytest.mark.slow
def test_a_damaged_cache_entry_is_silently_recompiled(tmp_path):
    _run(tmp_path)
    for entry in (tmp_path / "programs").glob("*-cache"):
        entry.write_bytes(entry.read_bytes()[:40])
    done = _run(tmp_path)
    assert "2.0" in done.stdout
    assert done.stderr == ""


def test_keep_programs_limits_the_size_of_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ESRGAN_JAX_CACHE", str(tmp_path))
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", raising=False)
    updates: dict[str, object] = {}
    monkeypatch.setattr(jax.config, "update", updates.__setitem__)
    monkeypatch.setattr(type(jax.config), "jax_compilation_cache_dir", None)
    compilation.keep_programs()
    assert updates == {
        "jax_compilation_cache_dir": str(tmp_path / "programs"),
        "jax_compilation_cache_max_size": 2**30,
        "jax_persistent_cache_min_compile_time_secs": 0.05,
    }


@pytest.mark.parametrize("level", [None, "0"])
def test_xla_logs_are_silenced_unless_the_user_sets_a_level(level):
    code = "import esrgan_jax, os; print(os.environ['TF_CPP_MIN_LOG_LEVEL'])"
    variables = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    variables |= {"TF_CPP_MIN_LOG_LEVEL": level} if level else {}
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [level or "3"]


def test_the_loop_over_blocks_is_not_unrolled_for_initial_values():
    """Unrolled, 23 blocks took minutes to compile."""
    config = demo.get_config()
    config.generator.num_blocks = 5
    create = gan_stage(config, None, create_mesh()).create
    equations = jax.make_jaxpr(create)(jax.random.key(0)).eqns
    loops = [e.params for e in equations if e.primitive.name == "scan"]
    assert [(loop["length"], loop["unroll"]) for loop in loops if loop["length"] == 5] == [(5, 1)]
