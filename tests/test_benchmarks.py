"""Counted operations against published figures, and the benchmark commands on tiny cases."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import flops, memory, overlap, plots, results, table, timing, train_step, upscale
from esrgan_jax.checkpoint import save_generator
from esrgan_jax.errors import InputError
from esrgan_jax.images.image_file import read_image
from esrgan_jax.models.discriminator import Discriminator
from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.models.vgg import VGGFeatures

ROOT = Path(__file__).parents[1]


def generator_macs(nf, gc, nb):
    """Returns MACs per LR pixel at x4: conv_up1 runs on 4 pixels, the last three on 16."""
    dense = sum((nf + index * gc) * (gc if index < 4 else nf) for index in range(5))
    trunk = 3 * nf + nb * 3 * dense + nf * nf
    return 9 * (trunk + 4 * nf * nf + 16 * (nf * nf + nf * nf + 3 * nf))


@pytest.mark.parametrize(("nf", "gc", "nb"), [(64, 32, 23), (64, 32, 6), (8, 5, 2)])
@pytest.mark.parametrize("form", [{}, {"unroll": True}, {"remat": True}])
def test_generator_macs_equal_a_count_by_hand(nf, gc, nb, form):
    module = RRDBNet(num_features=nf, num_growth=gc, num_blocks=nb, **form)
    assert flops.forward_macs(module, (2, 8, 6, 3)) == 96 * generator_macs(nf, gc, nb)


def test_counts_equal_the_published_figures():
    generator, discriminator, vgg = RRDBNet(), Discriminator(), VGGFeatures()
    hr = (1, 128, 128, 3)
    macs = flops.forward_macs(generator, (1, 8, 8, 3)) / 8**2
    assert 2e-6 * macs == pytest.approx(35.85, abs=5e-3)
    assert flops.forward_macs(discriminator, hr) / 1e9 == pytest.approx(2.23, abs=5e-3)
    assert flops.forward_macs(vgg, hr) / 1e9 == pytest.approx(6.37, abs=5e-3)
    assert flops.psnr_step_flop(generator, 16, 32) / 1e12 == pytest.approx(1.76, abs=5e-3)
    assert flops.psnr_step_flop(generator, 16, 48) / 1e12 == pytest.approx(3.97, abs=5e-3)
    step = flops.gan_step_flop(generator, discriminator, vgg, 16, 128)
    assert step / 1e12 == pytest.approx(3.09, abs=5e-3)


def test_products_loops_and_gradients_are_counted():
    x, w = jnp.zeros((5, 7)), jnp.zeros((7, 3))
    assert flops.count_macs(jnp.matmul, x, w) == 5 * 7 * 3
    loop = lambda x, w: jax.lax.scan(lambda c, _: (c @ w @ w.T, None), x, None, 4)[0]  # noqa: E731
    assert flops.count_macs(loop, x, w) == 4 * 2 * 5 * 7 * 3
    gradient = jax.grad(lambda w, x: jnp.sum(jnp.sin(x @ w)))
    assert flops.count_macs(gradient, w, x) == 2 * 5 * 7 * 3


def side(name, run, build=None):
    return timing.Side(name, "float32", build or (lambda: run), timing.host_peak)


def test_sides_take_turns_and_a_failing_side_does_not_stop_the_others():
    calls = []

    def fails():
        raise RuntimeError("no\ncompiler")

    sides = [side("a", lambda: calls.append("a")), side("b", fails), side("c", None, fails)]
    sides.append(side("d", lambda: calls.append("d") or 3.0))
    found = timing.measure(sides, 2)
    assert "".join(calls) == "aaddadad"  # once to compile, once for memory, then in turns
    assert found["b"]["ms"] is found["c"]["ms"] is None
    assert found["b"]["reason"] == found["c"]["reason"] == "RuntimeError: no compiler"
    assert found["d"]["result"] == 3.0
    assert 0 < found["a"]["fastest_ms"] <= found["a"]["ms"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_host_peak_is_the_memory_that_a_run_allocates():
    def run():
        np.ones(40_000_000, np.uint8)
        np.ones(30_000_000, np.uint8)

    # Linux counts resident memory with an error of a few dozen pages per thread.
    assert 39e6 < timing.host_peak(run) < 45e6


TINY = ["--blocks=1", "--num_features=4", "--num_growth=2", "--repeats=1"]


def run(module, *flags):
    # torch.compile takes most of a minute, and does nothing under this variable.
    environment = os.environ | {"TORCHDYNAMO_DISABLE": "1"}
    command = [sys.executable, "-m", f"benchmarks.{module}", *TINY, *flags]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def check_line(line, sides, unit, tflop):
    assert list(line["sides"]) == sides
    assert line["platform"] == "cpu"
    assert line["threads"] >= 1
    assert {"jax", "python"} <= line["versions"].keys()
    assert line["tflop"] == pytest.approx(tflop, rel=1e-3)
    fastest = min((line["sides"][name]["ms"] for name in sides[1:]), default=None)
    for measured in line["sides"].values():
        assert measured["ms"] > 0, measured
        rate = line["tflop"] / measured["ms"] * 1e3
        assert measured["tflops"] == pytest.approx(rate, rel=2e-3)
        peak = line["matmul_tflops"][measured["precision"]]
        assert measured["of_matmul_peak"] == pytest.approx(rate / peak, rel=2e-3)
        assert measured["compile_s"] >= 0
        assert measured["peak_mb"] >= 0
        assert measured[unit] > 0
        if fastest is not None:
            assert measured["of_fastest_peer"] == pytest.approx(fastest / measured["ms"], rel=2e-3)


def onnx_peers():
    return [name for name in ("onnxruntime", "openvino") if results.missing(name) == []]


def table_rows(line, work, file):
    file.write_text(json.dumps(line))
    rows = [text.split(" | ") for text in table.tables(table.read_lines([file])).splitlines()]
    return [row for row in rows if row[0] == f"| {work}"]


@pytest.mark.slow  # the rehearsal in test_accelerator.py measures upscaling, too
def test_the_upscale_command_prints_consistent_results(tmp_path):
    pytest.importorskip("torch", reason="needs torch: make peers")
    done = run("upscale", "--size=8x6", f"--peer={','.join(['torch', *onnx_peers()])}")
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    sides = ["ours", "torch_shipped", "torch_channels_last", "torch_tuned", *onnx_peers()]
    check_line(line, sides, "output_mpx_per_s", 2e-12 * 48 * generator_macs(4, 2, 1))
    ours = line["sides"]["ours"]
    assert ours["output_mpx_per_s"] == pytest.approx(48 * 16e-3 / ours["ms"], rel=2e-3)
    assert all(line["sides"][name]["difference"] <= 1 for name in sides[1:])

    rows = table_rows(line, "1 blocks, 8×6 px", tmp_path / "results.jsonl")
    assert [row[1] for row in rows] == [table.NAMES[name] for name in sides]
    assert float(rows[1][3]) == pytest.approx(line["sides"]["torch_shipped"]["ms"], rel=1e-2)
    assert "1.00" in [row[4] for row in rows[1:]]


@pytest.mark.slow
def test_files_in_tiles_equal_those_of_peers(tmp_path):
    """Compares the command's results in tiles with the peers' results of whole images."""
    pytest.importorskip("torch", reason="needs torch: make peers")
    peers = onnx_peers() or pytest.skip("needs onnxruntime or openvino: make peers")
    line = upscale.measure_case("lite", "120x8", 2, "float32", peers, 1, tile=96)
    check_line(line, ["ours", *peers], "output_mpx_per_s", 2e-12 * 1920 * generator_macs(32, 32, 2))
    assert all(line["sides"][name]["difference"] <= 1 for name in peers)
    rows = table_rows(line, "lite, 2 files of 120×8 px", tmp_path / "results.jsonl")
    assert len(rows) == 1 + len(peers)
    assert "ours in 2 tiles of 96x32 px" in table.tables([line])


@pytest.mark.slow  # the rehearsal in test_accelerator.py measures a training step, too
@pytest.mark.parametrize("stage", ["psnr", "gan"])
def test_the_train_step_command_prints_consistent_results(stage):
    pytest.importorskip("torch", reason="needs torch: make peers")
    flags = ("--config=lite_x4", "--batch=2", "--patch=32", "--features=conv1_2")
    done = run("train_step", *flags, f"--stage={stage}")
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    generator = RRDBNet(num_features=4, num_growth=2, num_blocks=1)
    discriminator, vgg = Discriminator(num_features=4), VGGFeatures(("conv1_2",))
    flop = {
        "psnr": flops.psnr_step_flop(generator, 2, 8),
        "gan": flops.gan_step_flop(generator, discriminator, vgg, 2, 32),
    }[stage]
    check_line(line, ["ours", "torch_shipped", "torch_tuned"], "images_per_s", flop / 1e12)
    # The peer does the same work: with the same weights it has the same loss.
    losses = [measured["first_loss"] for measured in line["sides"].values()]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-3)


@pytest.mark.slow  # the test above runs this step too
def test_the_psnr_step_is_measured_without_a_peer():
    changes = {"batch": 8, "patch": 32, "blocks": 1, "num_features": 4, "num_growth": 2}
    line = train_step.measure_case("x4", "psnr", "float32", (), 1, **changes)
    generator = RRDBNet(num_features=4, num_growth=2, num_blocks=1)
    check_line(line, ["ours"], "images_per_s", flops.psnr_step_flop(generator, 8, 8) / 1e12)
    assert "of_fastest_peer" not in line["sides"]["ours"]


def test_training_is_measured_with_both_configs(monkeypatch):
    cases = []
    monkeypatch.setattr(results, "run_cases", lambda measure, found: cases.extend(found))
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    train_step.main(["--peer=none"])
    configs = [(case["stage"], train_step.read_config(**changes_of(case))) for case in cases]
    assert [
        (stage, config[stage].batch_size, config[stage].hr_patch, config.generator.num_blocks)
        for stage, config in configs
    ] == [("psnr", 8, 96, 2), ("gan", 8, 64, 2), ("psnr", 4, 192, 23), ("gan", 4, 128, 23)]


def changes_of(case):
    return {"name": case["name"], **{name: case[name] for name in train_step.CHANGES}}


def test_the_table_says_why_a_side_is_missing(monkeypatch):
    monkeypatch.setattr(timing, "matmul_tflops", lambda dtype: 0.1)
    failed = {"precision": "float32", "ms": None, "reason": "no compiler"}
    done = {"precision": "float32", "ms": 12.0, "compile_s": 1.0, "peak_mb": 7.0}
    case = {"blocks": "6", "width": 8, "height": 8, "files": 0, "our_tiles": 1}
    sides = {"ours": done, "torch_tuned": failed}
    line = results.result_line("upscale", case, sides, flop=1, amount=1, unit="output_mpx_per_s")
    text = table.tables([line])
    assert "| PyTorch, compiled | float32 | – |" in text
    assert "- 6 blocks, 8×8 px, PyTorch, compiled: no compiler" in text


@pytest.mark.parametrize(
    ("main", "flags", "message"),
    [
        (upscale.main, ["--size=64x", "--peer=none"], "--size=64x: give sizes such as 64"),
        (upscale.main, ["--peer=tensorflow"], "choose torch, onnxruntime, openvino or none"),
        (upscale.main, ["--repeats=0", "--peer=none"], "--repeats=0: take 1"),
        (upscale.main, ["--dtype=float16", "--peer=none"], "--dtype=float16: choose"),
        (upscale.main, ["--blocks=x", "--peer=none"], "--blocks=x: give a number or lite"),
        (upscale.main, ["--files=-1", "--peer=none"], "--files=-1: take 0 or more"),
        (train_step.main, ["--config=x2", "--peer=none"], "--config=x2: choose lite_x4, x4"),
        (train_step.main, ["--patch=100", "--peer=none"], "multiple of 32"),
        (train_step.main, ["--stage=both", "--peer=none"], "choose psnr, gan"),
        (train_step.main, ["--features=conv9_9", "--peer=none"], "choose conv1_1"),
        (train_step.main, ["--batch=3", "--peer=none"], "multiple of the 8 devices"),
        (table.main, ["none.jsonl"], "none.jsonl: No such file"),
    ],
)
def test_wrong_arguments_are_refused(main, flags, message):
    with pytest.raises(InputError, match=message):
        main(flags)


def test_a_missing_peer_is_reported_with_its_install_command(monkeypatch):
    monkeypatch.setattr(results.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs torch: pip install '\.\[bench\]'"):
        upscale.main(["--peer=torch"])


def test_lines_of_other_benchmarks_are_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"benchmark": "another"}\n')
    with pytest.raises(InputError, match="line 1: is not a result of a benchmark"):
        table.read_lines([tmp_path / "a.jsonl"])


@pytest.mark.slow  # `test_only_a_few_strips_are_in_memory` counts what is in memory
def test_memory_does_not_grow_with_the_image(tmp_path, monkeypatch):
    """The peak stays the same for a result that is 37 MiB larger (148 MiB as float32)."""
    monkeypatch.delenv("XLA_FLAGS")  # the flags for tests compile fast but run slowly
    module = RRDBNet(num_features=4, num_growth=2, num_blocks=1)
    variables = jax.jit(module.init)(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    model = tmp_path / "model.safetensors"
    save_generator(model, module, jax.device_get(variables))
    peaks = {
        height: memory.measure(str(model), height, 280, ".png", ["--tile=160", "--overlap=32"])[
            "peak_mib"
        ]
        for height in (1200, 4000)  # the smaller one already fills all queues
    }
    assert peaks[4000] - peaks[1200] < 25, peaks


def test_plots_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    lines = [
        {"model": "a", "image": "p", "size": 160, "overlap": overlap, "largest": 100 / overlap}
        for overlap in (16, 32, 64)
    ]
    lines += [
        {"model": "a", "suffix": ".png", "lr_height": side, "lr_width": side, "peak_mib": 900}
        for side in (250, 7500)
    ]
    file = tmp_path / "lines.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    plots.main([str(file), f"--output={tmp_path / 'plots'}"])
    for name in ("overlap", "memory"):
        assert read_image(tmp_path / "plots" / f"{name}.png").std() > 5


def test_overlap_is_measured_against_the_untiled_result():
    """There is no difference where the overlap is twice the receptive field, and some below."""
    module = RRDBNet(num_features=4, num_growth=2, num_blocks=1, scale=2)
    shapes = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    rng = np.random.default_rng(0)
    draw = lambda s: rng.normal(0, max(np.prod(s.shape[-4:-1]), 25) ** -0.5, s.shape)  # noqa: E731
    variables = jax.tree.map(lambda s: draw(s).astype(np.float32), shapes)
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    small, large = overlap.measure(module, variables, image, (8, 2 * module.receptive_field))
    assert small["largest"] > 1 > 1e-3 > large["largest"]
    assert small["percentile_99_9"] <= small["largest"]
