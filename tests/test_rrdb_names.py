"""Tests of RRDB weights in torch's three namings, against names written by hand and RRDBNet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from esrgan_jax.errors import InputError
from esrgan_jax.interop.rrdb_names import NAMINGS, from_torch, to_torch
from esrgan_jax.interop.weight_file import read_tensors
from esrgan_jax.models.rrdb import RRDBNet

DEFAULTS = {
    "num_features": 8,
    "num_growth": 4,
    "num_blocks": 2,
    "in_channels": 3,
    "out_channels": 3,
    "scale": 4,
    "unshuffle": 1,
    "plus": False,
    "upsampler": "upconv",
}
ARCHITECTURES = {
    "x1": {"scale": 1},
    "x2": {"scale": 2},
    "x4": {},
    "x8": {"scale": 8, "num_blocks": 1},
    "x16": {"scale": 16},
    "realesrgan x2": {"scale": 2, "unshuffle": 2},
    "realesrgan x1": {"scale": 1, "unshuffle": 4},
    "unshuffled x4": {"scale": 4, "unshuffle": 2},
    "plus": {"plus": True},
    "pixelshuffle": {"upsampler": "pixelshuffle"},
    "pixelshuffle x3": {"scale": 3, "upsampler": "pixelshuffle"},
    "plus, unshuffled": {"plus": True, "scale": 2, "unshuffle": 2},
    "grey": {"in_channels": 1, "out_channels": 1},
    "grey to colour": {"in_channels": 1, "out_channels": 3},
    "alpha": {"in_channels": 4, "out_channels": 4},
    "eleven blocks": {"num_blocks": 11, "num_features": 5, "num_growth": 3},
}


def fields_of(name):
    return DEFAULTS | ARCHITECTURES[name]


def random_params(fields, rng):
    """Returns random parameters whose tree and shapes are those of RRDBNet."""
    network = RRDBNet(**fields)
    lr = jnp.zeros((1, 8, 8, fields["in_channels"]))
    shapes = jax.eval_shape(network.init, jax.random.key(0), lr)["params"]
    return jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(np.float32), shapes)


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_parameters_survive_a_round_trip(architecture, naming, rng):
    fields = fields_of(architecture)
    params = random_params(fields, rng)
    tensors = to_torch(fields, params, naming)
    found, back = from_torch(dict(reversed(tensors.items())))
    assert found == fields
    assert_same(back, params)
    for name, tensor in to_torch(found, back, naming).items():
        np.testing.assert_array_equal(tensor, tensors[name], err_msg=name)


def test_kernels_are_transposed_and_blocks_stacked(rng):
    params = random_params(DEFAULTS, rng)
    tensors = to_torch(DEFAULTS, params)
    kernel = params["body"]["rdb2"]["conv3"]["kernel"]
    assert kernel.shape == (2, 3, 3, 8 + 2 * 4, 4)
    torch_kernel = tensors["body.1.rdb2.conv3.weight"]
    assert torch_kernel.shape == (4, 16, 3, 3)
    assert torch_kernel[3, 11, 0, 2] == kernel[1, 0, 2, 11, 3]
    np.testing.assert_array_equal(tensors["conv_up2.bias"], params["conv_up2"]["bias"])


EDGES = {  # for each scale, the indices of the layers outside the blocks
    1: [0, 2, 4],
    2: [0, 3, 5, 7],
    4: [0, 3, 6, 8, 10],
    8: [0, 3, 6, 9, 11, 13],
    16: [0, 3, 6, 9, 12, 14, 16],
}


@pytest.mark.parametrize("scale", EDGES)
def test_names_in_the_old_naming(scale, rng):
    fields = DEFAULTS | {"scale": scale, "num_blocks": 1, "plus": True}
    blocks = [
        f"model.1.sub.0.RDB{r}.{tensor}"
        for r in (1, 2, 3)
        for tensor in [
            *(f"conv{c}.0.{kind}" for c in range(1, 6) for kind in ("weight", "bias")),
            "conv1x1.weight",
        ]
    ]
    first, *rest = (f"model.{index}" for index in EDGES[scale])
    expected = [f"{first}.weight", f"{first}.bias", *blocks]
    for layer in ("model.1.sub.1", *rest):
        expected += [f"{layer}.weight", f"{layer}.bias"]
    assert list(to_torch(fields, random_params(fields, rng), "old")) == expected


@pytest.mark.parametrize(
    ("naming", "edges"),
    [
        ("basicsr", ["conv_first", "conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]),
        ("bsrgan", ["conv_first", "trunk_conv", "upconv1", "upconv2", "HRconv", "conv_last"]),
    ],
)
def test_names_in_the_basicsr_and_bsrgan_namings(naming, edges, rng):
    block = {"basicsr": "body.{}.rdb{}.conv{}", "bsrgan": "RRDB_trunk.{}.RDB{}.conv{}"}[naming]
    blocks = [block.format(k, r, c) for k in (0, 1) for r in (1, 2, 3) for c in range(1, 6)]
    expected = [f"{n}.{t}" for n in [edges[0], *blocks, *edges[1:]] for t in ("weight", "bias")]
    assert list(to_torch(DEFAULTS, random_params(DEFAULTS, rng), naming)) == expected


@pytest.mark.parametrize(
    ("file", "num_blocks", "count", "naming"),
    [
        ("RRDB_ESRGAN_x4.npz", 23, 16_697_987, "bsrgan"),
        ("RRDB_PSNR_x4.npz", 23, 16_697_987, "bsrgan"),
        ("RealESRGAN_x4plus_anime_6B.pth", 6, 4_467_779, "basicsr"),
    ],
)
def test_published_files(shared_data, file, num_blocks, count, naming):
    tensors = read_tensors(shared_data / "weights" / file)
    fields, params = from_torch(tensors, file)
    assert fields == DEFAULTS | {"num_features": 64, "num_growth": 32, "num_blocks": num_blocks}
    assert sum(array.size for array in jax.tree.leaves(params)) == count
    back = to_torch(fields, params, naming)
    assert list(back) == list(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(back[name], tensor, err_msg=name)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_dtypes_become_float32(dtype, rng):
    tensors = to_torch(DEFAULTS, random_params(DEFAULTS, rng))
    rounded = {
        name: np.asarray(jnp.asarray(tensor, jnp.bfloat16)) for name, tensor in tensors.items()
    }
    exact = {name: tensor.astype(dtype) for name, tensor in rounded.items()}
    _, params = from_torch(exact)
    assert {array.dtype for array in jax.tree.leaves(params)} == {np.dtype("float32")}
    for name, tensor in to_torch(DEFAULTS, params).items():
        np.testing.assert_array_equal(tensor, rounded[name].astype(np.float32))


@pytest.mark.parametrize(
    ("columns", "rows", "scale", "expected"),
    [
        (12, 3, 4, {"scale": 2, "unshuffle": 2, "in_channels": 3}),
        (48, 3, 4, {"scale": 1, "unshuffle": 4, "in_channels": 3}),
        (48, 3, 16, {"scale": 4, "unshuffle": 4, "in_channels": 3}),
        (16, 4, 4, {"scale": 2, "unshuffle": 2, "in_channels": 4}),
        (4, 1, 2, {"scale": 1, "unshuffle": 2, "in_channels": 1}),
        (4, 1, 1, {"scale": 1, "unshuffle": 1, "in_channels": 4}),  # at x1 nothing is unshuffled
        (48, 3, 2, {"scale": 2, "unshuffle": 1, "in_channels": 48}),
        (1, 3, 4, {"scale": 4, "unshuffle": 1, "in_channels": 1}),
    ],
)
def test_unshuffle_is_inferred_from_the_channels(columns, rows, scale, expected, rng):
    fields = DEFAULTS | {"in_channels": columns, "out_channels": rows, "scale": scale}
    for naming in NAMINGS:
        found, _ = from_torch(to_torch(fields, random_params(fields, rng), naming))
        assert found == fields | expected


def zeros(*shape):
    return np.zeros(shape, np.float32)


OLD_BLOCK = {
    "model.0.weight": zeros(8, 3, 3, 3),
    "model.1.sub.0.RDB1.conv1.0.weight": zeros(4, 8, 3, 3),
}
SIMILAR_NETWORKS = {
    "SPSR": OLD_BLOCK | {"f_HR_conv1.0.weight": zeros(1)},
    "SOFVSR": {"OFR.conv.weight": zeros(1)},
    "MMRealSR": {
        "conv_first.weight": zeros(8, 3, 3, 3),
        "body.0.rdb1.conv1.weight": zeros(4, 8, 3, 3),
        "am_list.0.fc.0.weight": zeros(1),
    },
    "SRResNet": {"model.0.weight": zeros(8, 3, 9, 9), "model.1.sub.0.res.0.weight": zeros(1)},
    "MSRResNet": {"conv_first.weight": zeros(8, 3, 3, 3), "body.0.conv1.weight": zeros(1)},
    "Compact": {"body.0.weight": zeros(8, 3, 3, 3), "body.1.weight": zeros(8)},
    "srdb": {"model.1.sub.0.srdb1.conv1.0.weight": zeros(1)},
    "2C2": OLD_BLOCK | {"model.0.weight": zeros(8, 3, 2, 2)},
    "a discriminator of ESRGAN": {"conv0_0.weight": zeros(1)},
    "wonbeomjang's ESRGAN-pytorch": {"basic_block.0.layer1.layer1.0.weight": zeros(1)},
    "leverxgroup's esrgan": {
        "encoder.blocks.1.module.block_0.module.module.0.conv.weight": zeros(1),
    },
    "U-Net discriminator": {"conv0.weight": zeros(1), "conv9.weight": zeros(1)},
    "convert-vgg": {"features.0.weight": zeros(64, 3, 3, 3)},
    "no RRDB network: none of body.0.rdb1.conv1": {"weight": zeros(1)},
    "no RRDB network": {},
}  # fmt: skip


@pytest.mark.parametrize("name", SIMILAR_NETWORKS)
def test_the_refusal_of_a_similar_network_names_it(name):
    with pytest.raises(InputError, match=name) as error:
        from_torch(SIMILAR_NETWORKS[name], "some/file.pth")
    assert str(error.value).startswith("some/file.pth: ")


@pytest.mark.parametrize("naming", NAMINGS)
def test_missing_extra_and_wrong_tensors_are_listed(naming, rng):
    tensors = to_torch(DEFAULTS, random_params(DEFAULTS, rng), naming)
    names = {kind: form.format(k=1, r=2, c=3, nb=2, hr=8) for kind, form in NAMINGS[naming].items()
             if kind in ("block", "body", "hr")}  # fmt: skip
    hr = f"{names['hr']}.bias"
    del tensors[f"{names['block']}.bias"]
    tensors["extra.weight"] = zeros(1)
    tensors[f"{names['body']}.weight"] = zeros(8, 8, 1, 1)
    tensors[hr] = tensors[hr].astype(np.int32)
    with pytest.raises(InputError) as error:
        from_torch(tensors, "file.pth")
    assert str(error.value) == (
        f"file.pth: nearly an RRDB network: missing: {names['block']}.bias; "
        f"left over: extra.weight; of another shape: {names['body']}.weight (8, 8, 1, 1) "
        f"for (8, 8, 3, 3); not floating-point: {hr} int32"
    )


@pytest.mark.parametrize("naming", NAMINGS)
def test_a_file_without_any_one_tensor_is_refused(naming, rng):
    fields = DEFAULTS | {"plus": True}
    tensors = to_torch(fields, random_params(fields, rng), naming)
    for missing in tensors:
        with pytest.raises(InputError):
            from_torch({name: tensor for name, tensor in tensors.items() if name != missing})


def test_too_large_a_scale_is_refused():
    ups = {f"conv_up{u}.weight": zeros(8, 8, 3, 3) for u in range(1, 7)}
    block = {"body.0.rdb1.conv1.weight": zeros(4, 8, 3, 3)}
    edges = {"conv_first.weight": zeros(8, 3, 3, 3), "conv_last.weight": zeros(3, 8, 3, 3)}
    with pytest.raises(InputError, match=r"enlarges 2\^6 times; RRDBNet up to 32 times"):
        from_torch(edges | block | ups)


def test_to_torch_refuses_parameters_of_other_fields(rng):
    params = random_params(DEFAULTS, rng)
    with pytest.raises(InputError, match=r"body/rdb1/conv1/kernel.*\(2, 3, 3, 8, 4\).*\(3, 3, 3"):
        to_torch(DEFAULTS | {"num_blocks": 3}, params)
    with pytest.raises(InputError, match="conv_up3/kernel of the parameters: nothing"):
        to_torch(DEFAULTS | {"scale": 8}, params)
