"""Shared by all tests: eight simulated devices, strict rank promotion, and common fixtures."""

import contextlib
import functools
import gc
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

# Tests of small networks mostly compile, and optimisations do not change what is tested. A program
# is not cut into parts for several threads, which takes a third of compiling. The last flag cuts
# compile time to a third; other versions leave it out, as XLA aborts on unknown flags.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    " --xla_cpu_parallel_codegen_split_count=1"
    + " --xla_cpu_use_fusion_emitters=false"
    * version("jaxlib").startswith("0.10."),
)

# Tests and processes share compiled programs.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / "build" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")

# With it, each process that tests start would compile all packages anew, which takes seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import jax
import numpy as np
import pytest
from absl import flags

# Tracing makes so many objects that looking for garbage took a tenth of the time of some tests.
gc.set_threshold(20_000, 20)

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
flags.FLAGS.mark_as_parsed()  # Grain's worker processes read absl flags


def pytest_collection_finish():
    gc.freeze()  # what modules made stays


@pytest.fixture(autouse=True, scope="module")
def frozen():
    """After each module, leaves what JAX keeps out of later searches for garbage."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Returns the folder of real weights and images; skips the test if there is none."""
    default = Path(__file__).parents[1] / ".." / "shared" / "data"
    folder = Path(os.environ.get("ESRGAN_JAX_DATA", default)).resolve()
    if not folder.is_dir():
        pytest.skip(f"needs the real data: no folder {folder}; set ESRGAN_JAX_DATA to have it")
    return folder


@pytest.fixture(autouse=True)
def usual_priority():
    """Fails a test that leaves a thread with real-time priority, which would slow all others."""
    yield
    tasks = Path("/proc/self/task")
    for task in tasks.iterdir() if tasks.is_dir() else ():
        with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
            assert os.sched_getscheduler(int(task.name)) == os.SCHED_OTHER


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def random_generator():
    """Returns a maker of small RRDBs: (rng, **fields) -> (all fields, params, BasicSR tensors)."""
    from esrgan_jax.interop.rrdb_names import to_torch
    from esrgan_jax.models.rrdb import RRDBNet

    @functools.cache
    def shapes_of(module: RRDBNet):
        lr = np.zeros((1, 8, 8, module.in_channels), np.float32)
        return jax.eval_shape(module.init, jax.random.key(0), lr)["params"]

    def make(rng: np.random.Generator, **overrides):
        module = RRDBNet(**{"num_features": 4, "num_growth": 2, "num_blocks": 2, **overrides})
        shapes = shapes_of(module)
        params = jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(np.float32), shapes)
        names = ("num_features", "num_growth", "num_blocks", "in_channels", "out_channels")
        fields = {
            k: getattr(module, k) for k in (*names, "scale", "unshuffle", "plus", "upsampler")
        }
        return fields, params, to_torch(fields, params)

    return make


@pytest.fixture(scope="session")
def bicubic():
    """Returns an x2 upscaler whose results equal MATLAB's bicubic resize."""
    from esrgan_jax.models.rrdb import RRDBNet
    from esrgan_jax.upscaling.upscaler import Upscaler

    module = RRDBNet(num_features=4, num_growth=2, num_blocks=1, scale=2)
    shapes = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 4, 4, 3), np.float32))
    variables = jax.tree.map(lambda s: np.zeros(s.shape, np.float32), shapes)
    return Upscaler(
        module, variables, tile=64, overlap=8, strength=0, devices=jax.devices()[:1], name="bicubic"
    )


@pytest.fixture
def enlarged(bicubic, tmp_path):
    """Returns a function that upscales a file, given as path or bytes, to a `kept.Result`."""
    from tests.kept import enlarge

    def run(source: Path | bytes, target: str = "b.png", **options):
        if isinstance(source, bytes):
            path = tmp_path / "a"
            path.write_bytes(source)
            source = path
        (tmp_path / target).unlink(missing_ok=True)
        return enlarge(bicubic, source, tmp_path / target, **options)

    return run


@pytest.fixture
def outcome(request, enlarged):
    """Same as `enlarged`, but checks the result against the row that the test is marked with."""
    from tests.kept import check, rows

    expected = dict(rows())[request.node.get_closest_marker("kept").args[0]]

    def run(source: Path | bytes, target: str = "b.png", **options):
        result = enlarged(source, target, **options)
        check(expected, result)
        return result

    return run


@pytest.fixture(scope="session")
def page_models(tmp_path_factory):
    """Returns the paths of small generators: two x4 that can be interpolated and one x2."""
    import jax.numpy as jnp

    from esrgan_jax.checkpoint import save_generator
    from esrgan_jax.models.rrdb import RRDBNet

    folder = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(0)
    paths = {}
    for name, scale in (("psnr", 4), ("gan", 4), ("x2", 2)):
        module = RRDBNet(num_features=8, num_growth=4, num_blocks=1, scale=scale)
        shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 4, 4, 3)))
        variables = jax.tree.map(lambda s: rng.normal(0, 0.15, s.shape).astype(np.float32), shapes)
        variables["params"]["conv_last"]["bias"] += np.float32(0.5)
        paths[name] = folder / f"{name}.safetensors"
        save_generator(paths[name], module, variables)
    return paths


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """Returns a folder for all workers of this session."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def photographs(shared) -> Path:
    """Returns the folder of images of the runs below."""
    from tests.processes import write_photographs

    return _made_once(shared / "photographs", write_photographs)


@pytest.fixture(scope="session")
def both_stages(photographs) -> dict[str, object]:
    """Returns the settings of a small run of both stages, with validation."""
    from tests.processes import TINY

    return TINY | {"data.train": photographs, "data.val": photographs}


@pytest.fixture(scope="session")
def finished(both_stages, shared) -> Path:
    """Returns the workdir of that run in two processes, never stopped."""
    from tests.processes import train

    return _made_once(shared / "finished", lambda workdir: train(workdir, both_stages, 2))


@pytest.fixture(scope="session")
def alone(both_stages, shared) -> Path:
    """Returns the workdir of that run in one process with two devices, never stopped."""
    from tests.processes import train

    return _made_once(shared / "alone", lambda workdir: train(workdir, both_stages, 1, devices=2))


def _made_once(path: Path, make: Callable[[Path], object]) -> Path:
    """Calls `make` in the first worker that comes; the others wait."""
    import fcntl

    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():  # otherwise it is complete
            make(part := path.with_suffix(".part"))
            part.rename(path)
    return path
