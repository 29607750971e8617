"""Programs compiled for accelerators that are not there, and what their text tells."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from benchmarks import compile_for, hlo, programs, table, targets, timing
from configs import lite_x4
from esrgan_jax import sharding
from esrgan_jax.errors import InputError
from esrgan_jax.training.stages import create_config_generator
from esrgan_jax.upscaling import memory

TINY = (
    "generator.num_features=8",
    "generator.num_growth=8",
    "generator.num_blocks=1",
    "discriminator.num_features=4",
    "psnr.hr_patch=32",
    "gan.hr_patch=32",
    "gan.layer_weights={'conv1_2': 1.0}",
)
CHANGES = [f"--config.{change}" for change in TINY]


LOOP = """\
HloModule jit_f, is_scheduled=true

%add (l: f32[], r: f32[]) -> f32[] {
  %l = f32[] parameter(0)
  %r = f32[] parameter(1)
  ROOT %sum = f32[] add(%l, %r)
}

%body (p: (s32[], f32[2,8,8,4])) -> (s32[], f32[2,8,8,4]) {
  %p = (s32[]{:T(128)}, f32[2,8,8,4]{3,2,1,0:T(8,128)S(1)}) parameter(0)
  %k = f32[3,3,4,4]{3,2,1,0} constant({...})
  %x = f32[2,8,8,4]{3,2,1,0:T(8,128)} get-tuple-element(%p), index=1
  %y = f32[2,8,8,4]{3,2,1,0} convolution(%x, %k), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, backend_config={"window_config":{"estimated_cycles":"100"}}
  %s = bf16[3,3,4,4]{3,2,1,0} all-reduce(%k), to_apply=%add, backend_config={"known":1}
  %i = s32[] get-tuple-element(%p), index=0
  ROOT %t = (s32[], f32[2,8,8,4]{3,2,1,0}) tuple(%i, /*index=1*/%y)
}

%condition (q: (s32[], f32[2,8,8,4])) -> pred[] {
  %q = (s32[], f32[2,8,8,4]{3,2,1,0}) parameter(0)
  %limit = s32[]{:T(128)} constant(23)
  %j = s32[] get-tuple-element(%q), index=0
  ROOT %lt = pred[] compare(%j, %limit), direction=LT
}

%products (a: f32[5,7], b: f32[7,3]) -> f32[5,3] {
  %a = f32[5,7]{1,0} parameter(0)
  %b = f32[7,3]{1,0} parameter(1)
  ROOT %d = f32[5,3]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (in: f32[2,8,8,4], a.1: f32[5,7], b.1: f32[7,3]) -> f32[5,3] {
  %in = f32[2,8,8,4]{3,2,1,0} parameter(0)
  %a.1 = f32[5,7]{1,0} parameter(1)
  %b.1 = f32[7,3]{1,0} parameter(2)
  %zero = s32[] constant(0)
  %start = (s32[], f32[2,8,8,4]{3,2,1,0}) tuple(%zero, %in)
  %loop = (s32[], f32[2,8,8,4]{3,2,1,0}) while(%start), condition=%condition, body=%body
  %g = (f32[5,7]{1,0}, f32[20,7]{1,0}) all-gather-start(%a.1), dimensions={0}
  %h = f32[20,7]{1,0} all-gather-done(%g)
  ROOT %f = f32[5,3]{1,0} fusion(%a.1, %b.1), kind=kOutput, calls=%products, backend_config={"window_config":{"estimated_cycles":"11"}}
}
"""  # noqa: E501


def test_what_a_loop_does_counts_as_often_as_it_runs():
    cost = hlo.cost(LOOP)
    assert cost.flop == 2 * (23 * 2 * 8 * 8 * 4 * 9 * 4 + 5 * 7 * 3)
    assert cost.cycles == 23 * 100 + 11
    size = 3 * 3 * 4 * 4 * 4
    assert cost.collectives == {"all-reduce": (23, 23 * size), "all-gather": (1, 5 * 7 * 4)}
    assert cost.endless == 0


def test_loops_of_known_and_of_unknown_length():
    known = 'body=%body, backend_config={"known_trip_count":{"n":"5"},"other":1}'
    assert hlo.cost(LOOP.replace("body=%body", known)).cycles == 5 * 100 + 11
    unknown = hlo.cost(LOOP.replace("direction=LT", "direction=NE"))
    assert (unknown.cycles, unknown.endless) == (100 + 11, 1)


STRIDED = "window={size=3x3 stride=2x2 pad=0_1x0_1}"
CUDNN = STRIDED + ', dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$conv'
X, Y, KERNEL, CUDNN_KERNEL = "f32[2,8,8,5]", "f32[2,4,4,6]", "f32[3,3,5,6]", "f32[6,3,3,5]"
# An operation, its operands, its result: each with 2 · 4 · 4 · 6 · 3 · 3 · 5 products.
PRODUCTS = {
    "strided": ("convolution", (X, KERNEL), Y, STRIDED + ", dim_labels=b01f_01io->b01f"),
    "gradient of the input": (
        *("convolution", (Y, KERNEL), X),
        "window={size=3x3 pad=2_1x2_1 lhs_dilate=2x2 rhs_reversal=1x1}, dim_labels=b01f_01oi->b01f",
    ),
    "gradient of the kernel": (
        *("convolution", (X, Y), KERNEL),
        "window={size=4x4 pad=0_0x0_0 rhs_dilate=2x2}, dim_labels=f01b_i01o->01bf",
    ),
    "cuDNN": ("custom-call", (X, CUDNN_KERNEL), f"({Y}, u8[0])", CUDNN + 'Forward"'),
    "cuDNN, input": ("custom-call", (Y, CUDNN_KERNEL), f"({X}, u8[0])", CUDNN + 'BackwardInput"'),
    "cuDNN, kernel": (
        *("custom-call", (X, Y), f"({CUDNN_KERNEL}, u8[0])"),
        CUDNN + 'BackwardFilter"',
    ),
    "cuBLAS": (
        *("custom-call", ("f32[32,45]", "f32[45,6]"), "(f32[32,6], s8[4194304])"),
        'custom_call_target="__cublas$lt$matmul", backend_config={"gemm_backend_config":'
        '{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}}',
    ),
    "product": ("dot", ("f32[45,32]", "f32[45,6]"), "f32[32,6]", "lhs_contracting_dims={0}"),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_gradients_count_as_much_as_the_forward_pass(name):
    opcode, operands, result, attributes = PRODUCTS[name]
    lines = ["ENTRY %main () -> f32[] {"]
    lines += [f"  %x{i} = {shape} parameter({i})" for i, shape in enumerate(operands)]
    lines += [f"  ROOT %y = {result} {opcode}(%x0, %x1), {attributes}", "}"]
    assert hlo.cost("\n".join(lines)).flop == 2 * 2 * 4 * 4 * 6 * 3 * 3 * 5


@pytest.fixture(scope="module")
def config():
    config = lite_x4.get_config()
    compile_for.change(config, CHANGES)
    return config


@pytest.mark.parametrize("stage", ["psnr", pytest.param("gan", marks=pytest.mark.slow)])
def test_devices_send_each_other_gradients_and_means_alone(config, stage):
    """Each device has all parameters, so it needs nothing but sums over the devices."""
    mesh = sharding.create_mesh()
    program = programs.training_step(config, mesh, stage)
    cost = hlo.cost(program.lowered.compile().as_text())
    assert cost.collectives.keys() == {"all-reduce"}
    sent = program.parameter_bytes
    if stage == "gan":
        # On CPUs the discriminator's gradients of HR and of SR are added up after they were sent.
        sent += sent - programs.training_step(config, mesh, "psnr").parameter_bytes
    assert cost.collectives["all-reduce"][1] <= 1.1 * sent
    assert cost.endless == 0


def test_operations_of_a_program_are_those_of_its_network(config):
    program = programs.upscaling(config, sharding.create_mesh(jax.devices()[:1]), 64, 1)
    cost = hlo.cost(program.lowered.compile().as_text())
    assert cost.collectives == {}
    # Upsampling to 2 and 4 times the side: four kernels of 2x2, which compute one more row.
    wide = 4 * 4 * ((64 + 1) * 64 + (2 * 64 + 1) * 2 * 64)
    saved = 2 * config.generator.num_features**2 * (9 * (2**2 + 4**2) * 64**2 - wide)
    assert cost.flop == pytest.approx(program.flop - saved, rel=1e-3)


def test_settings_are_changed_as_in_training():
    config = lite_x4.get_config()
    compile_for.change(config, ["--config.data.train_lr=lr", "--config.psnr.learning_rate=1"])
    assert (config.data.train_lr, config.psnr.learning_rate) == ("lr", 1.0)


CONFIG = "--config=configs/lite_x4.py"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--target=v5e"], "--target=v5e: give such as v5e:2x2"),
        (["--target=h100:2x2"], "--target=h100:2x2: give such as"),
        (["--target=v5e:1x1", "--program=lpips"], "--program=lpips: choose psnr"),
        (["--target=v5e:1x1", "--batch=0"], "--batch: take 1 or more"),
        (["--target=v5e:1x1", "--config.psnr.bach_size=8"], "bach_size=8: .*bach_size"),
        (["--target=v5e:1x1", "--config.psnr.batch_size=many"], "batch_size=many: "),
    ],
)
def test_wrong_input(flags, message):
    with pytest.raises(InputError, match=message):
        compile_for.main([CONFIG, *flags])


@pytest.mark.parametrize(
    ("target", "packages"),
    [("v5e:2x2", r"'jax\[tpu\]=="), ("h100:4", "--no-deps jax-cuda12-plugin==")],
)
def test_a_missing_compiler_is_named(target, packages, monkeypatch):
    monkeypatch.setattr(targets, "_installed", lambda package: False)
    with pytest.raises(InputError, match=f"--target={target} needs .*pip install {packages}"):
        compile_for.main([CONFIG, f"--target={target}"])


def skip_without_compiler(target):
    try:
        targets.check(target)
    except InputError as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["v5e:2x2", "h100:4"])
def test_all_programs_compile_for(target, capsys, monkeypatch):
    monkeypatch.delenv("XLA_FLAGS")  # of the tests, for CPUs
    skip_without_compiler(target)
    compile_for.main([CONFIG, f"--target={target}", "--tile=32", *CHANGES])
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [line["program"] for line in lines] == ["psnr", "gan", "upscale"]
    assert printed.err.count(f"| {target} |") == 3
    for line in lines:
        assert "reason" not in line
        assert line["devices"] == 4
        assert 0 < line["memory_bytes"] < 2**28 < line["chip_bytes"]
        sent = line["collectives"]
        assert sent.keys() == ({"all-reduce"} if line["program"] != "upscale" else set())
        assert sum(s["bytes"] for s in sent.values()) <= 1.1 * line["parameter_bytes"]
        assert line["tflop_compiled"] == pytest.approx(line["tflop"], rel=0.25)
        assert ("ms" in line) == (target != "h100:4")


@pytest.mark.slow
@pytest.mark.parametrize("target", ["v5e:1x1", "h100:1"])
def test_estimated_memory_is_within_a_quarter_of_compiled_programs(target, monkeypatch):
    monkeypatch.delenv("XLA_FLAGS")
    skip_without_compiler(target)
    config = lite_x4.get_config()
    case = "upscale", target, config, 256, 8
    used = timing.in_fresh_process(compile_for.compile_case, *case)["temporary_bytes"]
    generator = create_config_generator(config).clone(dtype=jnp.dtype("bfloat16"))
    device = SimpleNamespace(platform="gpu" if target == "h100:1" else "tpu")
    estimate = memory.bytes_per_pixel(generator, device) * 8 * 256**2
    assert estimate == pytest.approx(used, rel=0.25)


def test_table_tells_what_does_not_compile():
    line = {
        "benchmark": "compile_for",
        "target": "v5e:1x1",
        "versions": {"jax": "0.10.2"},
        "program": "psnr",
        "case": {"hr_patch": 192, "batch": 64, "dtype": "float32"},
        "reason": "RESOURCE_EXHAUSTED: 17.0G of 15.75G",
    }
    text = table.tables([line])
    assert "| v5e:1x1 | PSNR step, 64 × 192², float32 | – |" in text
    assert "- v5e:1x1, PSNR step, 64 × 192², float32: RESOURCE_EXHAUSTED: 17.0G of 15.75G" in text
