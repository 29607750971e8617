"""The acceptance matrix: what is published as an ESRGAN model, and what only looks like one.

Each row makes a file as other programs write it and says what must come of it. The rows that
spandrel refuses or takes wrongly, and that can be read without doubt, are read here.
"""

import jax
import ml_dtypes  # noqa: F401  (makes bfloat16 a NumPy type)
import numpy as np
import pytest

from esrgan_jax.checkpoint import load_generator
from esrgan_jax.errors import InputError
from esrgan_jax.interop import torch_file
from esrgan_jax.interop.rrdb_names import NAMINGS, to_torch
from esrgan_jax.interop.weight_file import write_tensors

ARCHITECTURES = {
    **{f"{scale}x": {"scale": scale} for scale in (1, 2, 4, 8, 16, 32)},
    "12 inputs, one step": {"scale": 1, "unshuffle": 2},
    "12 inputs, two steps": {"scale": 2, "unshuffle": 2},
    "12 inputs, three steps": {"scale": 4, "unshuffle": 2},
    "48 inputs, two steps": {"scale": 1, "unshuffle": 4},
    "48 inputs, three steps": {"scale": 2, "unshuffle": 4},
    "48 inputs, four steps": {"scale": 4, "unshuffle": 4},
    "192 inputs, three steps": {"scale": 1, "unshuffle": 8},
    "192 inputs, five steps": {"scale": 4, "unshuffle": 8},
    "RGBA 16 to 4": {"in_channels": 4, "out_channels": 4, "scale": 2, "unshuffle": 2},
    "gray 4 to 1": {"in_channels": 1, "out_channels": 1, "scale": 2, "unshuffle": 2},
    "gray 16 to 1": {"in_channels": 1, "out_channels": 1, "scale": 1, "unshuffle": 4},
    "RGBA": {"in_channels": 4, "out_channels": 4},
    "gray to colour": {"in_channels": 1, "out_channels": 3},
    "one block": {"num_blocks": 1},
    "ESRGAN+": {"plus": True},
    "ESRGAN+ that unshuffles": {"plus": True, "scale": 2, "unshuffle": 2},
}


def prefixed(prefix):
    return lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()}


def with_other_edges(tensors):
    """RRDB_trunk blocks with BasicSR's names of the steps."""
    return {name.replace("upconv", "conv_up"): tensor for name, tensor in tensors.items()}


WRAPPINGS = {
    **{key: lambda t, key=key: {key: t} for key in ("params_ema", "params", "params-ema")},
    **{key: lambda t, key=key: {key: t} for key in ("state_dict", "model_state_dict", "model")},
    "net": lambda t: {"net": t},
    "any single key": lambda t: {"foo": t},
    "both": lambda t: {"params": {n: x + 1 for n, x in t.items()}, "params_ema": t},
    "beside plain values": lambda t: {"state_dict": t, "epoch": 3, "cfg": {"lr": 1e-4, "x": None}},
    "two deep": lambda t: {"state_dict": {"params_ema": t}},
    "module.": prefixed("module."),
    "netG.": prefixed("netG."),
    "module.netG.": prefixed("module.netG."),
    "netG.module.": prefixed("netG.module."),
    "reversed": lambda t: dict(reversed(t.items())),
    # spandrel refuses these
    "generator.": prefixed("generator."),
    "net_g.": prefixed("net_g."),
    "_orig_mod.": prefixed("_orig_mod."),
    "an unknown key beside others": lambda t: {"foo": t, "bar": {"lr": 0.1}, "epoch": 3},
    "SWA": lambda t: {"n_averaged": np.zeros(()), **prefixed("module.module.")(t)},
    "mmagic": lambda t: {
        **prefixed("generator_ema.")(t),
        **prefixed("generator.")({n: x + 1 for n, x in t.items()}),
        "step_counter": np.zeros(1),
    },
}


def assert_is(path, fields, params):
    module, variables = load_generator(path)
    assert {name: getattr(module, name) for name in fields} == fields
    flat = to_torch(fields, variables["params"])
    for name, tensor in to_torch(fields, params).items():
        np.testing.assert_array_equal(flat[name], tensor, name)


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_architectures(tmp_path, random_generator, rng, architecture, naming):
    fields, params, _ = random_generator(rng, **ARCHITECTURES[architecture])
    path = tmp_path / "model.pth"
    torch_file.write(path, to_torch(fields, params, naming))
    assert_is(path, fields, params)


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrappings_and_prefixes(tmp_path, random_generator, rng, wrapping, naming):
    fields, params, _ = random_generator(rng)
    path = tmp_path / "model.pth"
    torch_file.write(path, WRAPPINGS[wrapping](to_torch(fields, params, naming)))
    assert_is(path, fields, params)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".safetensors", ".npz"])
def test_containers(tmp_path, random_generator, rng, suffix):
    fields, params, tensors = random_generator(rng)
    path = tmp_path / f"model{suffix}"
    write_tensors(path, tensors, {"anything": "in the header"})
    assert_is(path, fields, params)


def test_flat_prefix_in_safetensors(tmp_path, random_generator, rng):
    fields, params, tensors = random_generator(rng)
    path = tmp_path / "model.safetensors"
    write_tensors(path, prefixed("params_ema.")(tensors))
    assert_is(path, fields, params)


def test_mixed_names_and_unrelated_tensors(tmp_path, random_generator, rng):
    fields, params, tensors = random_generator(rng)
    path = tmp_path / "model.pth"
    torch_file.write(path, with_other_edges(to_torch(fields, params, "bsrgan")))
    assert_is(path, fields, params)
    torch_file.write(path, {**tensors, "optimizer_noise.weight": np.zeros(3, np.float32)})
    assert_is(path, fields, params)


def zeros(*shape):
    return np.zeros(shape, np.float32)


REFUSED = {
    "SPSR": ({"f_HR_conv1.0.weight": zeros(4, 4, 3, 3)}, "SPSR"),
    "MMRealSR": ({"am_list.0.fc.0.weight": zeros(4, 4)}, "MMRealSR"),
    "SRResNet": ({"model.1.sub.0.res.0.weight": zeros(4, 4, 3, 3)}, "SRResNet"),
    "Compact": ({"body.0.weight": zeros(4, 3, 3, 3), "body.1.weight": zeros(4)}, "Compact"),
    "missing bias": ({"conv_last.bias": None}, "missing: conv_last.bias"),
    "case mix": ({"body.1.RDB1.conv1.weight": zeros(2, 4, 3, 3)}, "left over"),
    "missing block": ({"body.0.rdb2.conv5.weight": None}, "missing: body.0.rdb2.conv5.weight"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_a_reason(tmp_path, random_generator, rng, case):
    _, _, tensors = random_generator(rng)
    changes, reason = REFUSED[case]
    changed = {name: t for name, t in (tensors | changes).items() if t is not None}
    path = tmp_path / "model.pth"
    torch_file.write(path, changed)
    with pytest.raises(InputError, match=reason) as error:
        load_generator(path)
    assert str(path) in str(error.value)


def test_old_names_with_extra_tensors(tmp_path, random_generator, rng):
    fields, params, _ = random_generator(rng)
    old = to_torch(fields, params, "old")
    path = tmp_path / "model.pth"
    torch_file.write(path, {**old, "extra.weight": zeros(3)})
    with pytest.raises(InputError, match=r"left over: extra\.weight"):
        load_generator(path)


def test_x3_is_told_by_the_files_name(tmp_path, random_generator, rng):
    fields, params, _ = random_generator(rng, scale=3)
    old = to_torch(fields, params, "old")
    torch_file.write(tmp_path / "3x_Small.pth", old)
    assert_is(tmp_path / "3x_Small.pth", fields, params)
    torch_file.write(tmp_path / "Small.pth", old)  # as every reader has it
    assert_is(tmp_path / "Small.pth", fields | {"scale": 2}, params)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_pixelshuffle(tmp_path, random_generator, rng, scale):
    fields, params, _ = random_generator(rng, scale=scale, upsampler="pixelshuffle")
    old = to_torch(fields, params, "old")
    assert old["model.2.weight"].shape == (4 * (9 if scale == 3 else 4), 4, 3, 3)
    torch_file.write(tmp_path / "model.pth", old)
    assert_is(tmp_path / "model.pth", fields, params)


def test_what_only_looks_as_if_it_unshuffled(tmp_path, random_generator, rng):
    fields, _, tensors = random_generator(rng, in_channels=4, out_channels=1, scale=2)
    torch_file.write(tmp_path / "model.pth", tensors)
    module, variables = load_generator(tmp_path / "model.pth", unshuffle=1)
    assert {name: getattr(module, name) for name in fields} == fields
    for name, tensor in to_torch(fields, variables["params"]).items():
        np.testing.assert_array_equal(tensor, tensors[name], name)
    for wrong in (4, 8):
        with pytest.raises(InputError, match=f"does not unshuffle by {wrong}"):
            load_generator(tmp_path / "model.pth", unshuffle=wrong)


NEW_NAMES = [naming for naming in NAMINGS if naming != "old"]


@pytest.mark.parametrize("naming", NEW_NAMES)
def test_model_before_the_newer_names(tmp_path, random_generator, rng, naming):
    """Before the oldest ones it would be part of them: model.0."""
    fields, params, _ = random_generator(rng)
    torch_file.write(tmp_path / "a.pth", prefixed("model.")(to_torch(fields, params, naming)))
    assert_is(tmp_path / "a.pth", fields, params)


@pytest.mark.parametrize("naming", NEW_NAMES)
def test_esrgan_plus_in_the_newer_names(tmp_path, random_generator, rng, naming):
    """spandrel drops its 1x1 convolutions in silence."""
    fields, params, _ = random_generator(rng, plus=True)
    torch_file.write(tmp_path / "a.pth", {"params": to_torch(fields, params, naming)})
    assert_is(tmp_path / "a.pth", fields, params)


def saved_by_torch(torch, tensors):
    """(How torch.save is called, what it is given) of each row."""
    from argparse import Namespace
    from collections import OrderedDict
    from datetime import datetime

    given = OrderedDict((n, torch.from_numpy(t.copy())) for n, t in tensors.items())
    parameters = {n: torch.nn.Parameter(t.clone()) for n, t in given.items()}
    adam = torch.optim.Adam(list(parameters.values()))
    sum(parameter.sum() for parameter in parameters.values()).backward()
    adam.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(adam, [5, 10])
    training = {
        "schedulers": [schedule.state_dict()],
        "losses": [0.5] * 1000,
        "epoch": 3,
        "iter": 10,
        "optimizers": [adam.state_dict()],
        "best": None,
    }
    turned = {n: t.transpose(0, -1).contiguous().transpose(0, -1) for n, t in given.items()}
    return {
        "OrderedDict": given,
        "dict": dict(given),
        "Parameter": {n: torch.nn.Parameter(t) for n, t in given.items()},
        "a whole training": {"params_ema": given, **training, "rng": torch.get_rng_state()},
        "three names of one": {"params": given, "params_ema": given, "net_g": given},
        "shape and device": {
            "params": given,
            "shape": torch.Size((3, 4)),
            "on": torch.device("cpu"),
        },
        "transposed": turned,
        "refused: numpy": {"params": given, "loss": np.float64(1)},
        "refused: argparse.Namespace": {"params": given, "args": Namespace(lr=1)},
        "refused: datetime.datetime": {"params": given, "date": datetime(2020, 1, 1)},
    }


@pytest.mark.parametrize("legacy", [False, True])
def test_files_of_torch_itself(tmp_path, random_generator, rng, legacy):
    torch = pytest.importorskip("torch", reason="needs torch: make peers")
    fields, params, tensors = random_generator(rng)
    path = tmp_path / "model.pth"
    for row, state in saved_by_torch(torch, tensors).items():
        torch.save(state, path, _use_new_zipfile_serialization=not legacy)
        if row.startswith("refused: "):
            with pytest.raises(InputError, match=f"asks for {row.removeprefix('refused: ')}"):
                load_generator(path)
        else:
            assert_is(path, fields, params)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_element_types_of_torch(tmp_path, random_generator, rng, dtype):
    torch = pytest.importorskip("torch", reason="needs torch: make peers")
    fields, params, tensors = random_generator(rng)
    given = {n: torch.from_numpy(t.copy()).to(getattr(torch, dtype)) for n, t in tensors.items()}
    torch.save({"params": given}, tmp_path / "a.pth")
    rounded = jax.tree.map(lambda a: a.astype(np.dtype(dtype)).astype(np.float32), params)
    assert_is(tmp_path / "a.pth", fields, rounded)


# PyTorch announces the end of torch.jit, but people have such files.
@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
def test_a_torchscript_is_refused(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch: make peers")
    torch.jit.trace(torch.nn.Conv2d(3, 3, 3), torch.zeros(1, 3, 8, 8)).save(tmp_path / "a.pt")
    with pytest.raises(InputError, match="it is a TorchScript program"):
        load_generator(tmp_path / "a.pt")
