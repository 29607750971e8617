"""Tests of weight files: containers, and mappings and prefixes around the tensors."""

import io
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from esrgan_jax.errors import InputError
from esrgan_jax.interop import torch_file, weight_file
from esrgan_jax.interop.safetensors_file import read_metadata
from esrgan_jax.interop.weight_file import WEIGHT_SUFFIXES, read_tensors, write_tensors

W = np.arange(6, dtype=np.float32).reshape(2, 3)
NET = {"conv_first.weight": W, "conv_first.bias": W[0]}
OLD = {"model.0.weight": W, "model.3.weight": W}
EMA = {name: tensor + 10 for name, tensor in NET.items()}


def assert_same(read, expected):
    assert sorted(read) == sorted(expected)
    for name, tensor in expected.items():
        assert (read[name].dtype, read[name].shape) == (tensor.dtype, np.shape(tensor))
        np.testing.assert_array_equal(read[name], tensor, err_msg=name)


@pytest.mark.parametrize("suffix", WEIGHT_SUFFIXES)
def test_tensors_and_metadata_survive_a_round_trip(tmp_path, suffix, rng):
    tensors = {
        "file": rng.standard_normal((2, 3)).astype(np.float32),  # also a parameter of np.savez
        "f16": rng.standard_normal(5).astype(np.float16),
        "f64": rng.standard_normal((4, 2)).T,
        "i32": np.arange(3, dtype=np.int32),
        "scalar": np.float32(2.5),
        "empty": np.zeros((0, 3), np.float32),
    }
    if suffix != ".npz":
        tensors["bf16"] = rng.standard_normal(7).astype(ml_dtypes.bfloat16)
    path = tmp_path / f"weights{suffix}"
    write_tensors(path, tensors, {"made": "by hand"})
    assert_same(read_tensors(path), tensors)
    assert read_metadata(path) == ({"made": "by hand"} if suffix == ".safetensors" else {})
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    (tmp_path / "another").touch()
    assert path.stat().st_mode == (tmp_path / "another").stat().st_mode


def test_npz_files_of_numpy_are_read(tmp_path):
    tensors = {"a": np.asfortranarray(W), "b": W.astype(">f8"), "zeros": np.zeros(300)}
    np.savez_compressed(tmp_path / "a.npz", **tensors)
    assert_same(read_tensors(tmp_path / "a.npz"), tensors)


def test_the_content_takes_precedence_over_the_suffix(tmp_path):
    write_tensors(tmp_path / "a.safetensors", NET)
    (tmp_path / "a.safetensors").rename(tmp_path / "a.pth")
    assert_same(read_tensors(tmp_path / "a.pth"), NET)


WRAPPED = {
    "raw": (NET, NET),
    "params": ({"params": NET}, NET),
    "both": ({"params": NET, "params_ema": EMA}, EMA),
    "hyphen": ({"params": NET, "params-ema": EMA}, EMA),
    "single key of any name": ({"foo": NET}, NET),
    "nested": ({"state_dict": {"params_ema": EMA, "params": NET}, "epoch": 3}, EMA),
    "trainer": ({"model_state_dict": NET, "optimizer": {"state": {}}, "step": 3}, NET),
    "generator and discriminator": ({"net_g": NET, "net_d": {"conv.weight": W}}, NET),
    "ema without tensors": ({"ema": {"decay": 0.999}, "model": NET}, NET),
    "plain values between": ({**NET, "note": "x", "epoch": 3}, NET),
    "module": ({f"module.{k}": v for k, v in NET.items()}, NET),
    "module twice": (
        {**{f"module.module.{k}": v for k, v in NET.items()}, "n_averaged": np.int64(7)},
        NET,
    ),
    "netG": ({f"netG.module.{k}": v for k, v in NET.items()}, NET),
    "compiled": ({f"_orig_mod.{k}": v for k, v in NET.items()}, NET),
    "model": ({f"model.{k}": v for k, v in NET.items()}, NET),
    "old names": (OLD, OLD),
    "model before old names": ({f"model.{k}": v for k, v in OLD.items()}, OLD),
    "lightning": (
        {
            "state_dict": {
                **{f"net_g.{k}": v for k, v in NET.items()},
                "net_d.conv.weight": W,
                "loss.vgg.features.0.weight": W,
            },
            "epoch": 5,
            "hyper_parameters": {"lr": 1e-4},
        },
        NET,
    ),
    "mmagic": (
        {
            **{f"generator.{k}": v for k, v in NET.items()},
            **{f"generator_ema.{k}": v for k, v in EMA.items()},
            "step_counter": np.int64(400_000),
        },
        EMA,
    ),
    "counter with a prefix": (
        {**{f"generator.{k}": v for k, v in NET.items()}, "generator.step_counter": np.int64(1)},
        NET,
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_wrappers_and_prefixes_are_removed(tmp_path, wrapper):
    state, expected = WRAPPED[wrapper]
    counters = {k: np.asarray(v) for k, v in state.items() if isinstance(v, np.generic)}
    torch_file.write(tmp_path / "a.pth", {**state, **counters})
    assert_same(read_tensors(tmp_path / "a.pth"), expected)


def test_an_ema_prefix_in_safetensors_is_preferred(tmp_path):
    flat = {f"params.{k}": v for k, v in NET.items()}
    flat |= {f"params_ema.{k}": v for k, v in EMA.items()}
    write_tensors(tmp_path / "a.safetensors", flat)
    assert_same(read_tensors(tmp_path / "a.safetensors"), EMA)


def test_published_files(shared_data):
    old = read_tensors(shared_data / "weights" / "RRDB_ESRGAN_x4.npz")
    assert len(old) == 702
    assert sum(tensor.size for tensor in old.values()) == 16_697_987
    anime = read_tensors(shared_data / "weights" / "RealESRGAN_x4plus_anime_6B.pth")
    assert len(anime) == 192
    assert next(iter(anime)) == "conv_first.weight"


@pytest.mark.parametrize("name", ["a.onnx", "a", "a.pkl"])
def test_an_unknown_suffix_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=r"\.pth, \.pt, \.ckpt, \.safetensors, \.npz"):
        read_tensors(tmp_path / name)
    with pytest.raises(InputError, match=r"accepted are \.pth"):
        write_tensors(tmp_path / name, NET)


def test_missing_files_folders_and_empty_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"absent\.pth: no such file"):
        read_tensors(tmp_path / "absent.pth")
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        read_tensors(tmp_path / "folder.pth")
    with pytest.raises(InputError, match="there is no folder"):
        write_tensors(tmp_path / "absent" / "a.npz", NET)
    for state in ({}, {"epoch": 1}, {"params": {}}, {"a": {"b": {"c": {}}}}):
        torch_file.write(tmp_path / "a.pth", state)
        with pytest.raises(InputError, match="holds no tensors"):
            read_tensors(tmp_path / "a.pth")


def test_several_networks_are_refused_without_a_key(tmp_path):
    torch_file.write(tmp_path / "a.pth", {"G": NET, "D": OLD})
    with pytest.raises(InputError, match="holds no tensors under names, but G, D: choose by --key"):
        read_tensors(tmp_path / "a.pth")
    assert_same(read_tensors(tmp_path / "a.pth", "D"), OLD)


def test_a_key_is_searched_inside_wrappers(tmp_path):
    flat = {f"net_d.{name}": tensor for name, tensor in NET.items()}
    flat |= {f"net_g.{name}": tensor for name, tensor in EMA.items()}
    torch_file.write(tmp_path / "a.ckpt", {"state_dict": flat, "epoch": 3})
    assert_same(read_tensors(tmp_path / "a.ckpt", "net_d"), NET)
    assert_same(read_tensors(tmp_path / "a.ckpt", "state_dict/net_d"), NET)
    with pytest.raises(InputError, match="has no key net_x, but state_dict, epoch"):
        read_tensors(tmp_path / "a.ckpt", "net_x")


def test_metadata_is_read_unless_it_is_far_too_long(tmp_path):
    """Some programs store workflows of megabytes in it."""
    write_tensors(tmp_path / "a.safetensors", NET, {"workflow": "x" * 3_000_000})
    assert_same(read_tensors(tmp_path / "a.safetensors"), NET)
    write_tensors(tmp_path / "a.safetensors", NET, {"workflow": "x" * 6_000_000})
    with pytest.raises(InputError, match="far larger than tensors need"):
        read_tensors(tmp_path / "a.safetensors")


def test_cyclic_and_very_deep_mappings_are_refused(tmp_path):
    """A mapping that contains itself, and one that is 50,000 levels deep."""
    for description in (
        b"\x80\x02}q\x00X\x06\x00\x00\x00paramsh\x00s.",
        b"\x80\x02" + b"}K\x01" * 50_000 + b"}" + b"s" * 50_000 + b".",
    ):
        with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
            archive.writestr("a/data.pkl", description)
        with pytest.raises(InputError, match="holds no tensors"):
            read_tensors(tmp_path / "a.pth")


@pytest.mark.parametrize("suffix", WEIGHT_SUFFIXES)
def test_truncated_files_are_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_tensors(path, NET)
    content = path.read_bytes()
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        with pytest.raises(InputError, match="cannot be read"):
            read_tensors(path)


def npz(tmp_path, header: str, content: bytes):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        text = header.encode().ljust(117) + b"\n"
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + text + content)
    (tmp_path / "a.npz").write_bytes(stream.getvalue())
    return read_tensors(tmp_path / "a.npz")


def test_hostile_npz_files_are_refused(tmp_path):
    good = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
    assert_same(npz(tmp_path, good, W.tobytes()), {"a": W})
    for header, message in {
        good.replace("(2, 3)", "(2, 4)"): "cannot reshape",
        good.replace("(2, 3)", f"({2**40},)"): "cannot reshape",
        good.replace("<f4", "|O"): "holds object, not numbers",
        good.replace("<f4", "|V2"): "not numbers",
        good.replace("(2, 3)", "__import__('os')"): "cannot be read",
    }.items():
        with pytest.raises(InputError, match=message):
            npz(tmp_path, header, W.tobytes())
    with pytest.raises(InputError, match="unpack to over 100 times its size"):
        npz(tmp_path, good.replace("(2, 3)", f"({2**22},)"), bytes(2**24))
    with pytest.raises(InputError, match=r"a: \.npz cannot hold bfloat16: write \.safetensors"):
        write_tensors(tmp_path / "b.npz", {"a": W.astype(ml_dtypes.bfloat16)})
    assert not (tmp_path / "b.npz").exists()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_damaged_files_are_refused_or_read(tmp_path, suffix, rng):
    path = tmp_path / f"a{suffix}"
    write_tensors(path, NET)
    content = path.read_bytes()
    refused = 0
    for _ in range(500):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_tensors(path)
        except InputError:
            refused += 1
    assert refused > 50


def test_check_tensors_lists_all_differences():
    expected = {"a": (2, 3), "b": (3,), "c": (1,)}
    weight_file.check_tensors({"a": W, "b": W[0], "c": W[0, :1]}, expected, "x")
    tensors = {"a": W.T, "b": W[0].astype(np.int32), **{f"d{i}": W for i in range(9)}}
    with pytest.raises(InputError) as error:
        weight_file.check_tensors(tensors, expected, "file.pth: nearly")
    assert str(error.value) == (
        "file.pth: nearly: missing: c; left over: d0, d1, d2, d3, d4, d5 and 3 more; "
        "of another shape: a (3, 2) for (2, 3); not floating-point: b int32"
    )
