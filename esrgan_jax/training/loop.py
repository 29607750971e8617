"""The training loop, read from top to bottom: build, restore, step, log, evaluate, save."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
from etils import epath
from jax.sharding import Mesh

from esrgan_jax import checkpoint, distributed, sharding
from esrgan_jax.checksums import DamagedError
from esrgan_jax.data import changed, device_cache, pipeline
from esrgan_jax.data.device_cache import DeviceCache
from esrgan_jax.data.sources import Source
from esrgan_jax.evaluation.metrics import METRICS
from esrgan_jax.progress import Progress
from esrgan_jax.training import data_wait, processes, run_config
from esrgan_jax.training.degrading import create_recipe
from esrgan_jax.training.finite import check_finite, not_finite
from esrgan_jax.training.folders import check_apart, path, workdir_path
from esrgan_jax.training.initial import (
    Initial,
    initial_discriminator,
    initial_generator,
    restore_or_create,
    restore_target,
)
from esrgan_jax.training.inputs import (
    check_room,
    count_workers,
    cropper,
    make_batches,
    on_devices,
    open_images,
)
from esrgan_jax.training.metric_writer import MetricWriter
from esrgan_jax.training.run_checkpoints import RunCheckpoints, saved_steps
from esrgan_jax.training.run_config import Config
from esrgan_jax.training.save_clock import SaveClock
from esrgan_jax.training.setting_rules import STAGES
from esrgan_jax.training.settings import check_run, check_settings
from esrgan_jax.training.stages import Stage, create_config_generator, create_stage, load_features
from esrgan_jax.training.stopping import RunStopped, StopRequest
from esrgan_jax.training.train_state import Params, TrainState
from esrgan_jax.training.validation import Validation, owed, set_owed

Callback = Callable[[int, dict[str, float]], None]
SAVING = "saving after this step, then stopping"


def use_cores(config: Config, processes: int = 1) -> None:
    """Makes each CPU core a device, as far as the config's batches allow; see `sharding`."""
    check_settings(config)
    stages = [config[name] for name in STAGES[config.stage]]
    parts = [stage.accumulation * processes for stage in stages]
    sharding.split_cpu(*(s.batch_size // n for s, n in zip(stages, parts, strict=True)))


def train_and_evaluate(
    config: Config, workdir: str, callback: Callback | None = None
) -> TrainState:
    """Trains the stages of `config.stage`, each in its folder below `workdir`.

    A stage with checkpoints continues from them, bit for bit. Otherwise it starts from the
    generator `init_from`; without one, the GAN stage starts from the PSNR stage's generator in the
    same workdir, and the PSNR stage from random weights.

    Args:
        config: As `configs/x4.py` returns it.
        workdir: Folder for config.json, psnr/ and gan/.
        callback: Called as `callback(step, metrics)` after every step, with its losses, gradient
            norms and learning rates, and after every validation, with its scores (`val_psnr_y` and
            others). Each stage counts its steps from 1. The device already computes the next step
            meanwhile. An exception from the callback ends the run; earlier checkpoints stay.

    Returns:
        The state after the last step of the last stage, on the devices.

    Raises:
        InputError: The config cannot be used; raised before the first step.
        RunError: A loss was not finite, or the disk is full; earlier checkpoints stay.
        RunStopped: SIGTERM or SIGINT was received, and everything is saved. Outside the main
            thread the two signals are not handled.
    """
    folder = workdir_path(workdir)
    with StopRequest() as stop:
        return _train_and_evaluate(config, folder, stop, callback or (lambda step, metrics: None))


def _train_and_evaluate(
    config: Config, folder: epath.Path, stop: StopRequest, callback: Callback
) -> TrainState:
    with stop.interrupting("while networks and images were being read"):
        check_run(config, jax.device_count())
        check_apart(folder, config)
        mesh = sharding.create_mesh(fsdp=config.mesh.fsdp)
        names = STAGES[config.stage]
        vgg, vgg_params = load_features(config) if "gan" in names else (None, {})
        vgg_params = sharding.replicate(vgg_params, mesh)
        stages = [create_stage(config, name, vgg, mesh) for name in names]
        loaded: dict[str, Initial] = {}
        for stage in stages:
            jax.eval_shape(stage.create, jax.random.key(0))  # raises if it cannot be built
            made_here = stage.name == "gan" and "psnr" in names and not config.gan.init_from
            if not saved_steps(folder / stage.name):
                generator = None if made_here else initial_generator(config, stage, folder)
                loaded[stage.name] = Initial(generator, initial_discriminator(config, stage))
        source = open_images(config)
        room = check_room(source, mesh) if on_devices(config) else 0
        images = changed.fingerprint(source)
        processes.check_equal(config, images)
        held_out = path(config.data.val), path(config.data.val_lr), config.scale
        validation = Validation.load(*held_out, create_recipe(config), config.metrics)

    with processes.locked(folder):
        owing = bool(validation.pairs)
        done = {stage.name: _finished(config, stage, folder, owing) for stage in stages}
        done = distributed.gather(done)[0]
        for stage in stages:
            if not done[stage.name]:
                _checkpoints(config, stage, folder, images).check()
        if distributed.first():
            run_config.write_config(config, folder)
        state, cache = None, None
        for stage in stages:
            if done[stage.name]:
                if distributed.first():
                    print(f"{stage.name}: finished at step {done[stage.name]}, nothing to do")
                state = None
                continue
            if on_devices(config) and cache is None:
                with stop.interrupting("while images were being copied to the devices"):
                    cache = device_cache.load(source, mesh, room)
            state = None  # that of the stage before would stay in the devices' memory
            inputs = loaded.pop(stage.name, Initial()), source, cache, validation, vgg_params, mesh
            checkpoints = _checkpoints(config, stage, folder, images)
            state = train_stage(config, stage, folder, checkpoints, *inputs, stop, callback)
            if stop.anywhere():  # received after the last step
                assert stop.signal
                raise RunStopped(
                    f"stopped after the {stage.name} stage; all is saved in {folder}, and the "
                    "same command continues from there",
                    stop.signal,
                )
        if state is None:
            checkpoints = _checkpoints(config, stages[-1], folder, images)
            state = checkpoints.newest_state(restore_target(config, stages[-1]))
        return state


def train_stage(
    config: Config,
    stage: Stage,
    workdir: epath.Path,
    checkpoints: RunCheckpoints,
    loaded: Initial,
    source: Source,
    cache: DeviceCache | None,
    validation: Validation,
    vgg_params: Params,
    mesh: Mesh,
    stop: StopRequest,
    callback: Callback,
) -> TrainState:
    """Trains one stage and returns its last state; see `train_and_evaluate`."""
    steps, batch_size = config[stage.name].steps, config[stage.name].batch_size
    folder, first = workdir / stage.name, distributed.first()
    eval_generator, crop = create_config_generator(config), cropper(cache, mesh)

    with (
        contextlib.closing(iter(make_batches(config, stage.name, source, cache, mesh))) as data,
        checkpoints,
    ):
        stop.when = "stopping as soon as the state is there"
        state = restore_or_create(config, stage, workdir, loaded, checkpoints, data)
        start, skipped = int(state.step), 0  # skipped steps in a row
        checkpoints.check_room(state)
        stop.check(f"before a step of the {stage.name} stage")
        with (
            MetricWriter(folder, start, writes=first) as writer,
            Progress(steps, "step", stage.name, initial=start, shown=first) as progress,
            data_wait.DataWait() as wait,
        ):
            say: Callable[[str], None] = progress.write if first else lambda line: None

            def log(step: int, metrics: dict[str, jax.Array]) -> None:
                nonlocal skipped
                where = f"step {step} of the {stage.name} stage"
                values = {name: value.item() for name, value in jax.device_get(metrics).items()}
                if skipped >= config.skip_nonfinite:
                    check_finite(values, where, folder)
                skipped = skipped + 1 if values.get("skipped") else 0
                if skipped:
                    say(f"{where}: skipped, since {not_finite(values)}")
                progress.update()
                loss = values.get("l_g_total", values["l_g_pix"])
                progress.note = f"{progress.rate * batch_size:.1f} images/s, loss {loss:.4f}"
                logs = step % config.log_every == 0 or step == steps or skipped > 0
                if (logs or not writer.warned) and wait.share > data_wait.SHARE:
                    workers = count_workers(config, source)
                    warning = data_wait.advice(wait.share, source, config.data, workers)
                    if not writer.warned:
                        say(f"{stage.name} step {step}: {warning}")
                    writer.warning(step, warning, data_wait=round(wait.share, 3))
                if logs:
                    writer.scalars(step, values)
                    writer.plot(step, {"steps_per_s": progress.lap(), "data_wait_s": wait.mean})
                    if wait.seconds >= data_wait.SECONDS:
                        wait.restart()
                callback(step, values)

            def validate(step: int) -> dict[str, float] | None:
                """Returns scores; None without images, or if a signal stopped it."""
                if not validation.pairs:
                    return None
                stop.when = "stopping after this image of the validation, and saving"
                variables = sharding.local(state.generator_variables())
                result = validation.run(eval_generator, variables, lambda: stop.signal)
                stop.when = SAVING
                if result is None:
                    if first:
                        set_owed(folder, step)
                    return None
                scores, samples = result
                writer.scalars(step, scores)
                if first:
                    set_owed(folder, None)
                for name, image in samples.items():
                    writer.image(step, name, image)
                callback(step, scores)
                scores = {name.removeprefix("val_"): score for name, score in scores.items()}
                shown = (f"{METRICS[n].heading} {METRICS[n].shown(v)}" for n, v in scores.items())
                say(f"{stage.name} step {step}: validation {', '.join(shown)}")
                return scores

            if any(distributed.gather(owed(folder, start))):
                validate(start)
                stop.check("while validating")
            pipeline.start(data)
            stop.when = "stopping after the first step; compiling it cannot be interrupted"
            pending: tuple[int, dict[str, jax.Array]] | None = None
            clock = SaveClock(stage.name, config.checkpoint_minutes)
            for step in range(start + 1, steps + 1):
                batch = crop(wait.next(data))
                compiles = step == start + 1
                with progress.waiting("compiling") if compiles else contextlib.nullcontext():
                    state, metrics = stage.step(state, vgg_params, batch)
                if compiles:
                    wait.restart()
                wait.started(metrics)
                stop.when = SAVING
                # The device computes this step while the previous step's values are logged.
                if pending:
                    log(*pending)
                pending = step, metrics
                evaluates = step % config.eval_every == 0 or step == steps
                saves = clock.due(step) or step % config.checkpoint_every == 0
                stops = stop.after(step)
                if not (evaluates or saves or stops):
                    continue
                log(*pending)  # nothing is saved after a loss that is not finite
                pending = None
                with wait.paused():
                    scores = validate(step) if evaluates else None
                    writer.copy()
                    checkpoints.save(state, data, scores)
                clock.saved()
                if stop.anywhere():
                    checkpoints.wait()
                    distributed.wait_for_all()  # it is complete in all processes
                    assert stop.signal
                    raise RunStopped(
                        f"stopped after step {step} of the {stage.name} stage; all is saved in "
                        f"{folder}, and the same command continues from there",
                        stop.signal,
                    )
        return state


def _checkpoints(
    config: Config, stage: Stage, workdir: epath.Path, images: Mapping[str, Any]
) -> RunCheckpoints:
    values = run_config.to_json(config)
    best = config[stage.name].best
    return RunCheckpoints(workdir / stage.name, values, images, config.keep, best)


def _finished(config: Config, stage: Stage, workdir: epath.Path, validates: bool) -> int:
    """Returns the last step of a stage that is complete; 0 if it is not."""
    newest = next(iter(saved_steps(workdir / stage.name)), 0)
    if newest < config[stage.name].steps or (validates and owed(workdir / stage.name, newest)):
        return 0
    try:
        checkpoint.verify(workdir / stage.name)
    except DamagedError:
        return 0  # the stage continues from the checkpoint before
    return newest
