"""Which published forms of ESRGAN models load, and which files are refused.

Each case writes a file as other programs do, and says what loading it must give. Some cases load
here that spandrel refuses or misreads.
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
    "ESRGAN+ with unshuffle": {"plus": True, "scale": 2, "unshuffle": 2},
}


def prefixed(prefix):
    return lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()}


def with_basicsr_upsampling(tensors):
    """Renames the upsampling convolutions of a BSRGAN file as BasicSR does."""
    return {name.replace("upconv", "conv_up"): tensor for name, tensor in tensors.items()}


WRAPPINGS = {
    **{key: lambda t, key=key: {key: t} for key in ("params_ema", "params", "params-ema")},
    **{key: lambda t, key=key: {key: t} for key in ("state_dict", "model_state_dict", "model")},
    "net": lambda t: {"net": t},
    "any single key": lambda t: {"foo": t},
    "params and params_ema": lambda t: {
        "params": {n: x + 1 for n, x in t.items()},
        "params_ema": t,
    },
    "with plain values": lambda t: {"state_dict": t, "epoch": 3, "cfg": {"lr": 1e-4, "x": None}},
    "nested twice": lambda t: {"state_dict": {"params_ema": t}},
    "module.": prefixed("module."),
    "netG.": prefixed("netG."),
    "module.netG.": prefixed("module.netG."),
    "netG.module.": prefixed("netG.module."),
    "reversed": lambda t: dict(reversed(t.items())),
    # spandrel refuses the following
    "generator.": prefixed("generator."),
    "net_g.": prefixed("net_g."),
    "_orig_mod.": prefixed("_orig_mod."),
    "an unknown key among others": lambda t: {"foo": t, "bar": {"lr": 0.1}, "epoch": 3},
    "SWA": lambda t: {"n_averaged": np.zeros(()), **prefixed("module.module.")(t)},
    "mmagic": lambda t: {
        **prefixed("generator_ema.")(t),
        **prefixed("generator.")({n: x + 1 for n, x in t.items()}),
        "step_counter": np.zeros(1),
    },
}


def assert_loads_as(path, fields, params):
    module, variables = load_generator(path)
    assert {name: getattr(module, name) for name in fields} == fields
    flat = to_torch(fields, variables["params"])
    for name, tensor in to_torch(fields, params).items():
        np.testing.assert_array_equal(flat[name], tensor, name)


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_loads(tmp_path, random_generator, rng, architecture, naming):
    fields, params, _ = random_generator(rng, **ARCHITECTURES[architecture])
    path = tmp_path / "model.pth"
    torch_file.write(path, to_torch(fields, params, naming))
    assert_loads_as(path, fields, params)


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_every_wrapping_and_prefix_loads(tmp_path, random_generator, rng, wrapping, naming):
    fields, params, _ = random_generator(rng)
    path = tmp_path / "model.pth"
    torch_file.write(path, WRAPPINGS[wrapping](to_torch(fields, params, naming)))
    assert_loads_as(path, fields, params)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".safetensors", ".npz"])
def test_every_file_format_loads(tmp_path, random_generator, rng, suffix):
    fields, params, tensors = random_generator(rng)
    path = tmp_path / f"model{suffix}"
    write_tensors(path, tensors, {"anything": "in the header"})
    assert_loads_as(path, fields, params)


def test_safetensors_with_a_prefix_loads(tmp_path, random_generator, rng):
    fields, params, tensors = random_generator(rng)
    path = tmp_path / "model.safetensors"
    write_tensors(path, prefixed("params_ema.")(tensors))
    assert_loads_as(path, fields, params)


def test_mixed_names_and_unrelated_tensors_load(tmp_path, random_generator, rng):
    fields, params, tensors = random_generator(rng)
    path = tmp_path / "model.pth"
    torch_file.write(path, with_basicsr_upsampling(to_torch(fields, params, "bsrgan")))
    assert_loads_as(path, fields, params)
    torch_file.write(path, {**tensors, "optimizer_noise.weight": np.zeros(3, np.float32)})
    assert_loads_as(path, fields, params)


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
def test_other_networks_and_incomplete_files_are_refused(tmp_path, random_generator, rng, case):
    _, _, tensors = random_generator(rng)
    changes, reason = REFUSED[case]
    changed = {name: t for name, t in (tensors | changes).items() if t is not None}
    path = tmp_path / "model.pth"
    torch_file.write(path, changed)
    with pytest.raises(InputError, match=reason) as error:
        load_generator(path)
    assert str(path) in str(error.value)


def test_extra_tensors_with_old_names_are_refused(tmp_path, random_generator, rng):
    fields, params, _ = random_generator(rng)
    old = to_torch(fields, params, "old")
    path = tmp_path / "model.pth"
    torch_file.write(path, {**old, "extra.weight": zeros(3)})
    with pytest.raises(InputError, match=r"left over: extra\.weight"):
        load_generator(path)


def test_scale_3_is_read_from_the_file_name(tmp_path, random_generator, rng):
    fields, params, _ = random_generator(rng, scale=3)
    old = to_torch(fields, params, "old")
    torch_file.write(tmp_path / "3x_Small.pth", old)
    assert_loads_as(tmp_path / "3x_Small.pth", fields, params)
    torch_file.write(tmp_path / "Small.pth", old)  # without "3x", all readers take it for x2
    assert_loads_as(tmp_path / "Small.pth", fields | {"scale": 2}, params)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_pixelshuffle_with_old_names_loads(tmp_path, random_generator, rng, scale):
    fields, params, _ = random_generator(rng, scale=scale, upsampler="pixelshuffle")
    old = to_torch(fields, params, "old")
    assert old["model.2.weight"].shape == (4 * (9 if scale == 3 else 4), 4, 3, 3)
    torch_file.write(tmp_path / "model.pth", old)
    assert_loads_as(tmp_path / "model.pth", fields, params)


def test_a_given_unshuffle_must_match_the_channels(tmp_path, random_generator, rng):
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
def test_the_prefix_model_loads_with_new_names(tmp_path, random_generator, rng, naming):
    """With the old names the prefix would be ambiguous, since these begin with "model." too."""
    fields, params, _ = random_generator(rng)
    torch_file.write(tmp_path / "a.pth", prefixed("model.")(to_torch(fields, params, naming)))
    assert_loads_as(tmp_path / "a.pth", fields, params)


@pytest.mark.parametrize("naming", NEW_NAMES)
def test_esrgan_plus_loads_with_new_names(tmp_path, random_generator, rng, naming):
    """spandrel silently drops its 1x1 convolutions."""
    fields, params, _ = random_generator(rng, plus=True)
    torch_file.write(tmp_path / "a.pth", {"params": to_torch(fields, params, naming)})
    assert_loads_as(tmp_path / "a.pth", fields, params)


def states_for_torch(torch, tensors):
    """Returns {case: state to save with torch.save}; "refused: NAME" must not load."""
    from argparse import Namespace
    from collections import OrderedDict
    from datetime import datetime

    weights = OrderedDict((n, torch.from_numpy(t.copy())) for n, t in tensors.items())
    parameters = {n: torch.nn.Parameter(t.clone()) for n, t in weights.items()}
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
    transposed = {n: t.transpose(0, -1).contiguous().transpose(0, -1) for n, t in weights.items()}
    return {
        "OrderedDict": weights,
        "dict": dict(weights),
        "Parameter": {n: torch.nn.Parameter(t) for n, t in weights.items()},
        "training checkpoint": {
            "params_ema": weights,
            **training,
            "rng": torch.get_rng_state(),
        },
        "one dict under three keys": {
            "params": weights,
            "params_ema": weights,
            "net_g": weights,
        },
        "shape and device": {
            "params": weights,
            "shape": torch.Size((3, 4)),
            "on": torch.device("cpu"),
        },
        "transposed": transposed,
        "refused: numpy": {"params": weights, "loss": np.float64(1)},
        "refused: argparse.Namespace": {"params": weights, "args": Namespace(lr=1)},
        "refused: datetime.datetime": {"params": weights, "date": datetime(2020, 1, 1)},
    }


@pytest.mark.parametrize("legacy", [False, True])
def test_files_written_by_torch_load_or_are_refused(tmp_path, random_generator, rng, legacy):
    torch = pytest.importorskip("torch", reason="needs torch: make peers")
    fields, params, tensors = random_generator(rng)
    path = tmp_path / "model.pth"
    for name, state in states_for_torch(torch, tensors).items():
        torch.save(state, path, _use_new_zipfile_serialization=not legacy)
        if name.startswith("refused: "):
            with pytest.raises(InputError, match=f"asks for {name.removeprefix('refused: ')}"):
                load_generator(path)
        else:
            assert_loads_as(path, fields, params)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_float_types_of_torch_load(tmp_path, random_generator, rng, dtype):
    torch = pytest.importorskip("torch", reason="needs torch: make peers")
    fields, params, tensors = random_generator(rng)
    weights = {n: torch.from_numpy(t.copy()).to(getattr(torch, dtype)) for n, t in tensors.items()}
    torch.save({"params": weights}, tmp_path / "a.pth")
    rounded = jax.tree.map(lambda a: a.astype(np.dtype(dtype)).astype(np.float32), params)
    assert_loads_as(tmp_path / "a.pth", fields, rounded)


# torch.jit is deprecated, but such files exist.
@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
def test_a_torchscript_program_is_refused(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch: make peers")
    torch.jit.trace(torch.nn.Conv2d(3, 3, 3), torch.zeros(1, 3, 8, 8)).save(tmp_path / "a.pt")
    with pytest.raises(InputError, match="it is a TorchScript program"):
        load_generator(tmp_path / "a.pt")
