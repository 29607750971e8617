"""The run for accelerators: a rehearsal on tiny networks, and its budget and failures."""

import json
import subprocess
import sys
from functools import partial

import jax
import numpy as np
import pytest

from benchmarks import accelerator, checks, results, variants
from benchmarks.accelerator_cases import Case, cases
from benchmarks.variants import VARIANTS, WORKS
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.models import DISCRIMINATORS, GENERATORS, RRDBNet
from esrgan_jax.upscaling.upscaler import Upscaler

# One of each kind; `test_whole_rehearsal` does all.
SOME = "check/vgg-features,compare/upscale,psnr/remat"


def rehearse(folder, monkeypatch, *flags):
    # torch.compile takes most of a minute, and does nothing under this variable.
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    accelerator.main(["--tiny", f"--output={folder}", *flags])
    return read(folder)


def read(folder):
    lines = (folder / "results.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines], (folder / "report.md").read_text()


def check_all_done(records, text, chosen):
    assert [record["name"] for record in records] == [case.name for case in chosen]
    assert [record["status"] for record in records] == ["done"] * len(chosen)
    assert f"{len(chosen)} cases: {len(chosen)} done, 0 failed, 0 stopped, 0 not run" in text
    for case in chosen:
        if case.kind in ("check", "variant"):
            assert f"| {case.name} |" in text
    assert "### Upscaling" in text
    sides = next(r["result"]["sides"] for r in records if r["name"] == "compare/upscale")
    assert ("torch_tuned" in sides) == (not results.missing("torch"))


def test_rehearsal_of_one_case_of_each_kind(tmp_path, monkeypatch):
    records, text = rehearse(tmp_path, monkeypatch, f"--cases={SOME}", "--budget=1e4")
    check_all_done(records, text, accelerator.choose(SOME, cases(tiny=True)))


@pytest.mark.slow  # minutes; the one above does a case of each kind
def test_whole_rehearsal(tmp_path, monkeypatch):
    records, text = rehearse(tmp_path, monkeypatch, "--budget=1e4")
    check_all_done(records, text, cases(tiny=True))
    assert "### Training steps" in text


def test_a_budget_of_zero_leaves_a_report_of_what_was_not_run(tmp_path, monkeypatch):
    records, text = rehearse(tmp_path, monkeypatch, "--budget=0")
    assert records == []
    names = [case.name for case in cases(tiny=False)]
    assert f"{len(names)} cases: 0 done, 0 failed, 0 stopped, {len(names)} not run" in text
    assert f"make accelerator FLAGS=--cases={','.join(names)}\n" in text


def test_cases_cover_all_networks_and_both_steps():
    names = [case.name for case in cases(tiny=False)]
    assert len(names) == len(set(names))
    assert set(GENERATORS) | {f"discriminator-{name}" for name in DISCRIMINATORS} <= set(
        checks.CHECKS
    )
    assert {"vgg-features", "psnr-step", "gan-step", "upscaler"} <= set(checks.CHECKS)
    assert {f"check/{name}" for name in checks.CHECKS} | set(VARIANTS) <= set(names)
    for work in WORKS:  # what others are compared with comes first
        first = next(v for v in VARIANTS.values() if v.work == work)
        assert (first.predicted, first.fields, first.options) == (1, {}, {})


@pytest.mark.parametrize("wrong", [0.99, np.nan])
def test_a_wrong_network_fails_its_check(monkeypatch, wrong):
    """One of the layers is wrong on the accelerator, by a hundredth or by values not finite."""
    other = jax.devices()[1]

    def to_device(tree, device):
        if device == other:
            tree = jax.tree_util.tree_map_with_path(changed, tree)
        return jax.device_put(tree, device)

    def changed(path, leaf):
        return leaf * wrong if "['conv2_1']['kernel']" in jax.tree_util.keystr(path) else leaf

    monkeypatch.setattr(checks, "accelerator", lambda: other)
    right = checks.check("vgg-features", True, ["float32"])
    assert right["passed"], right
    monkeypatch.setattr(checks, "to_device", to_device)
    found = checks.check("vgg-features", True, ["float32"])
    assert not found["passed"]
    assert found["errors"]["float32"]["output"] > (5e-3 if wrong == 0.99 else 1e8)


def test_errors_are_relative_to_each_array_or_the_floor():
    wanted = {"a": np.array([1.0, -2]), "b": np.array([0.01])}
    assert checks.error(wanted, wanted, np.inf, 0.1) == 0
    assert checks.error({**wanted, "a": np.array([1.0, -1])}, wanted, np.inf, 0.1) == 0.5
    different = {**wanted, "b": np.array([0.03])}
    assert checks.error(different, wanted, np.inf, 0.1) == pytest.approx(0.1)
    assert checks.error(different, wanted, np.inf, 0) == pytest.approx(2)
    assert checks.error({**wanted, "a": wanted["a"] * 1.5}, wanted, 2, 0) == pytest.approx(0.5)
    assert checks.passes("float32", {"output": 9e-5, "gradient": 1e-2})
    assert not checks.passes("float32", {"output": 2e-4, "gradient": 0})
    assert not checks.passes("float32", {"output": 0, "gradient": 3e-2})


def test_the_concatenated_form_computes_the_same_by_other_convolutions():
    found = []
    for concatenated in (False, True):
        program = WORKS["upscale"](tiny=True, dtype="float32", concatenated=concatenated)
        form = jax.make_jaxpr(program.function)(None, *program.arrays)
        assert ("f32[1,16,24,10] = concatenate" in str(form)) == concatenated  # 4 + 3 · 2 maps
        found.append(jax.jit(program.function)(None, *program.arrays)[1])
    (one, finite), (other, _) = jax.device_get(found)
    assert finite.all()
    difference = one.astype(int) - other
    assert np.abs(difference).max() <= 1  # values near .5 may round either way
    assert (difference != 0).mean() < 0.01


def test_upscaling_is_timed_in_the_form_that_upscaler_calls(monkeypatch):
    forms = []

    def step(module, variables, tiles, sizes, *, border, dtype, **_):
        forms.append((tiles.shape[1:], tiles.dtype, border, dtype))
        count, height, width, bands = tiles.shape
        return np.zeros((count, 4 * height, 4 * width, bands), dtype), np.ones(count, bool)

    monkeypatch.setattr(variants, "upscale_step", step)
    program = WORKS["upscale"](tiny=False, shape=(1, 64, 64))
    program.function(None, *program.arrays)
    module = RRDBNet(num_features=4, num_growth=2, num_blocks=1)
    shapes = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    variables = jax.tree.map(lambda s: np.zeros(s.shape, np.float32), shapes)
    upscaler = Upscaler(module, variables, tile=64, overlap=8, devices=jax.devices()[:1])
    upscaler.runner.step = step
    upscaler(np.zeros((64, 64, 3), np.uint8))
    assert forms == [((64, 64, 3), np.uint8, "full", "uint8")] * 2


# Does as `accelerator_worker`, without JAX.
WORKER = """
import json, os, sys, time
for line in sys.stdin:
    kind, arguments = json.loads(line)
    if kind == "dies":
        os.abort()
    if kind == "hangs":
        time.sleep(600)
    answer = {"result": {"passed": kind != "wrong", "errors": {}, "process": os.getpid()}}
    if kind == "reads":
        answer["result"]["text"] = open(arguments["path"]).read()
    print(json.dumps({"reason": "OSError: no"} if kind == "raises" else answer), flush=True)
"""


@pytest.fixture
def worker(monkeypatch):
    command = [sys.executable, "-c", WORKER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
    start = partial(subprocess.Popen, command, **pipes, start_new_session=True)
    monkeypatch.setattr(accelerator, "start", lambda log: start())


def case(kind, seconds=0, fresh=False, **arguments):
    return Case(f"check/{kind}", seconds, kind, arguments, fresh)


def test_a_failing_case_does_not_end_the_run(worker, tmp_path):
    path = str(tmp_path / "results.jsonl")
    kinds = ("good", "wrong", "raises", "dies", "good")
    chosen = [*map(case, kinds), case("reads", path=path), case("good", fresh=True), case("good")]
    records = accelerator.run(chosen, 600, tmp_path, False)
    assert [r["status"] for r in records] == ["done", *["failed"] * 3, *["done"] * 4]
    reasons = [r["reason"] for r in records if "reason" in r]
    assert reasons[:2] == ["differs too much from the CPU", "OSError: no"]
    assert reasons[2] == "its process ended with signal SIGABRT; see log.txt"
    processes = [r["result"]["process"] for r in records if "result" in r]
    # good, wrong | good, reads | good (fresh) | good
    assert len(set(processes)) == 4
    assert processes[0] == processes[1]
    assert processes[2] == processes[3]
    # What was done before is on the disk while a case runs.
    assert len(records[5]["result"]["text"].splitlines()) == 5
    found, text = read(tmp_path)
    assert found == records
    assert "- check/raises: OSError: no." in text


def test_the_budget_stops_a_case_and_starts_no_other(worker, tmp_path):
    chosen = [case("good", seconds=1e6), case("hangs"), case("good")]
    records = accelerator.run(chosen, 2, tmp_path, False)
    assert [r["status"] for r in records] == ["not run", "stopped", "not run"]
    text = read(tmp_path)[1]
    assert "- check/hangs: the budget ended before it was done." in text
    assert "FLAGS=--cases=check/good,check/good\n" in text


def test_the_command_fails_if_a_case_fails(worker, tmp_path, monkeypatch):
    monkeypatch.setattr(accelerator, "cases", lambda tiny: [case("good"), case("wrong")])
    with pytest.raises(RunError, match=r"1 case failed: check/wrong; see .*report\.md"):
        accelerator.main([f"--output={tmp_path}"])


def test_unknown_cases_are_refused():
    with pytest.raises(InputError, match="--cases=check/rdb: choose from check, check/"):
        accelerator.main(["--cases=check/rdb"])
    chosen = accelerator.choose("psnr,check/rrdb", cases(tiny=False))
    assert [c.name for c in chosen[:3]] == ["machine", "check/rrdb", "psnr/base"]
