"""Tests of torch files written by Python's pickler, and of hostile ones written by hand."""

import io
import pickle
import struct
import sys
import tracemalloc
import types
import zipfile
from collections import OrderedDict

import ml_dtypes
import numpy as np
import pytest

from esrgan_jax.errors import InputError
from esrgan_jax.interop import torch_file, torch_pickle, weight_file

SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2}}
A = np.arange(24, dtype=np.float32)


class Storage:
    def __init__(self, key: str, array: np.ndarray, part: tuple | None = None):
        self.key, self.array, self.part = key, array, part


class Tensor:
    """Pickles itself as torch's tensors do: as a call of one of torch's functions."""

    def __init__(self, storage, offset, shape, strides, function="_rebuild_tensor_v2"):
        self.arguments = (storage, offset, shape, strides)
        self.function = function

    def __reduce__(self):
        more = (False, OrderedDict()) if self.function == "_rebuild_tensor_v2" else ()
        return getattr(sys.modules["torch._utils"], self.function), (*self.arguments, *more)


class Parameter:
    def __init__(self, tensor: Tensor):
        self.tensor = tensor

    def __reduce__(self):
        function = sys.modules["torch._utils"]._rebuild_parameter
        return function, (self.tensor, True, OrderedDict())


class Pickler(pickle.Pickler):
    legacy = False

    def persistent_id(self, obj):
        if not isinstance(obj, Storage):
            return None
        names = {dtype: name for name, dtype in torch_pickle.STORAGE_DTYPES.items()}
        storage_type = getattr(sys.modules["torch"], names[obj.array.dtype])
        numel = obj.array.size
        return (
            "storage",
            storage_type,
            obj.key,
            "cpu",
            numel,
            *([obj.part] if self.legacy else []),
        )


@pytest.fixture(autouse=True)
def torch_names(monkeypatch):
    """Adds modules with torch's names, which pickle needs for writing; the reader does not."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in torch_pickle.STORAGE_DTYPES:
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"):
        function = types.FunctionType((lambda *_: None).__code__, {}, name)
        function.__module__, function.__qualname__ = "torch._utils", name
        setattr(utils, name, function)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def pickled(state, legacy=False, protocol=2) -> bytes:
    stream = io.BytesIO()
    pickler = Pickler(stream, protocol)
    pickler.legacy = legacy
    pickler.dump(state)
    return stream.getvalue()


def zip_bytes(description: bytes, arrays: dict, compress=False) -> bytes:
    stream = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", kind) as archive:
        archive.writestr("model/data.pkl", description)
        for key, array in arrays.items():
            archive.writestr(f"model/data/{key}", array.tobytes())
    return stream.getvalue()


def legacy_bytes(state, arrays: dict, protocol=2) -> bytes:
    parts = [pickle.dumps(x, 2) for x in (torch_file.LEGACY_MAGIC, 1001, SYSTEM)]
    parts += [pickled(state, True, protocol), pickle.dumps(list(arrays), 2)]
    for array in arrays.values():
        parts.append(struct.pack("<q", array.size) + array.tobytes())
    return b"".join(parts)


def read_bytes(tmp_path, content: bytes):
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    return torch_file.read(path)


def zip_and_legacy(state, arrays):
    return zip_bytes(pickled(state), arrays), legacy_bytes(state, arrays)


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_with_strides_offsets_and_shared_storages(tmp_path, legacy):
    s = Storage("0", A)
    state = OrderedDict(
        whole=Tensor(s, 0, (2, 3, 4), (12, 4, 1)),
        transposed=Tensor(s, 0, (4, 6), (1, 4)),
        part=Tensor(s, 5, (3, 2), (6, 2)),
        repeated=Tensor(s, 7, (2, 2), (0, 0)),
        scalar=Tensor(s, 9, (), ()),
        empty=Tensor(s, 24, (0, 3), (3, 1)),
        old=Tensor(s, 1, (5,), (1,), "_rebuild_tensor"),
        parameter=Parameter(Tensor(s, 2, (5,), (2,))),
    )
    read = read_bytes(tmp_path, zip_and_legacy({"state_dict": state}, {"0": A})[legacy])[
        "state_dict"
    ]
    expected = {
        "whole": A.reshape(2, 3, 4),
        "transposed": A.reshape(6, 4).T,
        "part": np.stack([A[[5, 7]], A[[11, 13]], A[[17, 19]]]),
        "repeated": np.full((2, 2), A[7]),
        "scalar": A[9],
        "empty": np.zeros((0, 3), np.float32),
        "old": A[1:6],
        "parameter": A[2:12:2],
    }
    assert list(read) == list(expected)
    for name, array in expected.items():
        assert read[name].dtype == np.float32
        np.testing.assert_array_equal(read[name], array, err_msg=name)
    assert not read["whole"].flags.writeable
    assert np.shares_memory(read["whole"], read["transposed"])


@pytest.mark.parametrize("legacy", [False, True])
def test_every_dtype(tmp_path, legacy, rng):
    arrays = {
        name: (rng.standard_normal(7) * 50).astype(dtype)
        for name, dtype in torch_pickle.STORAGE_DTYPES.items()
    }
    state = {name: Tensor(Storage(name, a), 0, (7,), (1,)) for name, a in arrays.items()}
    read = read_bytes(tmp_path, zip_and_legacy(state, arrays)[legacy])
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        assert read[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_in_every_protocol(tmp_path, protocol):
    plain = {
        "none": None, "flags": [True, False], "big": 2**70, "neg": -300, "pi": 3.25, 5: "five",
        "text": "é" * 300, "nested": {"tuple": (1, (2, 3, (4, 5, 6, 7))), "empty": ((), [], {})},
        "ordered": OrderedDict(a=1),
    }  # fmt: skip
    assert read_bytes(tmp_path, zip_bytes(pickled(plain, protocol=protocol), {})) == plain
    assert read_bytes(tmp_path, legacy_bytes(plain, {}, protocol)) == plain


def test_metadata_of_a_state_dict_is_ignored(tmp_path):
    state = OrderedDict(a=1)
    state._metadata = {"version": 1}  # type: ignore
    description = pickled(state)
    assert b"_metadata" in description
    assert read_bytes(tmp_path, zip_bytes(description, {})) == {"a": 1}


def test_python_2_strings_and_ordered_dict(tmp_path):
    pairs = b"]](U\x01aK\x01ea"  # [["a", 1]] with a string as Python 2 writes it
    description = b"\x80\x02ccollections\nOrderedDict\n" + pairs + b"\x85R."
    assert read_bytes(tmp_path, zip_bytes(description, {})) == {"a": 1}


def test_a_view_of_a_legacy_storage(tmp_path):
    state = {"a": Tensor(Storage("0", A, ("view", 10, 6)), 1, (2, 2), (2, 1))}
    read = read_bytes(tmp_path, legacy_bytes(state, {"0": A}))
    np.testing.assert_array_equal(read["a"], A[11:15].reshape(2, 2))
    state = {"a": Tensor(Storage("0", A, ("view", 10, 6)), 3, (2, 2), (2, 1))}
    with pytest.raises(InputError, match="reaches beyond its storage"):
        read_bytes(tmp_path, legacy_bytes(state, {"0": A}))


def test_a_published_file(shared_data):
    read = torch_file.read(shared_data / "weights" / "RealESRGAN_x4plus_anime_6B.pth")
    assert list(read) == ["params_ema"]
    tensors = read["params_ema"]
    assert len(tensors) == 192
    assert sum(tensor.size for tensor in tensors.values()) == 4_467_779
    assert tensors["body.5.rdb3.conv5.weight"].shape == (64, 192, 3, 3)
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())


# Hostile files ------------------------------------------------------------------------------------

HOSTILE = {
    "posix.system": b"\x80\x02cposix\nsystem\n(X\x04\x00\x00\x00truetR.",
    "builtins.eval": b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93(X\x01\x00\x00\x001tR.",
    "OBJ": b"\x80\x02(X\x01\x00\x00\x001o.",
    "INST": b"\x80\x02(iposix\nsystem\n.",
    "NEWOBJ": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "EXT1": b"\x80\x02\x82\x01.",
    "torch.Generator": b"\x80\x02ctorch\nGenerator\n)R.",
    "function with wrong arguments": b"\x80\x02ctorch\nSize\n)R.",
    "function with wrong arguments: a count of a list": b"\x80\x02ccollections\nCounter\n]\x85R.",
    "torch._utils._rebuild_tensor_v3": b"\x80\x02ctorch._utils\n_rebuild_tensor_v3\n)R.",
    "a TorchScript program": b"\x80\x02c__torch__\nNet\n)\x81.",
    "global without a name": b"\x80\x04]\x8c\x01a\x93.",
    "calls a function with wrong arguments": b"\x80\x02X\x01\x00\x00\x00a)R.",
    "attributes of an object that has none": b"\x80\x02K\x01}b.",
    "not a list": b"\x80\x02}K\x01a.",
    "not a mapping": b"\x80\x02]K\x01K\x02s.",
    "not a storage of torch": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "tuple as a key": b"\x80\x02}K\x01\x85K\x02s.",
    "int as a key": b"\x80\x02}\x8a\x09" + b"\x00" * 7 + b"\x10\x00" + b"K\x02s.",
    "float as a key": b"\x80\x02}G" + b"\x00" * 8 + b"K\x02s.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_the_refusal_of_a_hostile_pickle_names_the_cause(tmp_path, name):
    match = name.partition(":")[0].replace(".", r"\.")
    with pytest.raises(InputError, match=match) as error:
        read_bytes(tmp_path, zip_bytes(HOSTILE[name], {}))
    assert "file.pth" in str(error.value)
    with pytest.raises(InputError, match=r"file\.pth"):
        read_bytes(tmp_path, HOSTILE[name])


def test_no_code_of_a_pickle_is_executed(tmp_path):
    class Run:
        def __reduce__(self):
            return open, (str(tmp_path / "executed"), "w")

    for content in (zip_bytes(pickled({"a": Run()}), {}), legacy_bytes({"a": Run()}, {})):
        with pytest.raises(InputError, match=r"(_)?io\.open.*nothing was executed"):
            read_bytes(tmp_path, content)
    assert not (tmp_path / "executed").exists()


def tensor_of_size(key="0", offset=0, shape=(24,), strides=(1,), numel=24):
    storage = Storage(key, np.lib.stride_tricks.as_strided(A, (numel,), (0,)))
    return {"a": Tensor(storage, offset, shape, strides)}


FALSE_SIZES = {
    "fewer than its tensor claims": tensor_of_size(numel=10**12),
    "reaches beyond its storage": tensor_of_size(offset=1),
    "reaches beyond its storage 0": tensor_of_size(shape=(24, 2), strides=(1, 1)),
    "negative or impossible sizes": tensor_of_size(offset=23, strides=(-1,)),
    "negative or impossible": tensor_of_size(offset=-1),
    "impossible sizes": tensor_of_size(shape=(-3,)),
    "impossible sizes, for a bool": tensor_of_size(shape=(True,)),
    "impossible sizes, beyond an int64": tensor_of_size(shape=(2**70,), strides=(0,)),
    "array is too big": tensor_of_size(shape=(2**62,), strides=(0,)),
    "impossible axes": tensor_of_size(shape=(1, 1)),
    "impossible axes, too many": tensor_of_size(shape=(1,) * 33, strides=(1,) * 33),
    "lacks data/7": tensor_of_size(key="7"),
    "takes": {"a": Tensor(Storage("0", A), 0, [24], (1,))},
}


@pytest.mark.parametrize("message", FALSE_SIZES)
def test_false_sizes_are_refused_without_allocating(tmp_path, message):
    content = zip_bytes(pickled(FALSE_SIZES[message]), {"0": A})
    message = "with wrong arguments" if message == "takes" else message.partition(",")[0]
    tracemalloc.start()
    with pytest.raises(InputError, match=message):
        read_bytes(tmp_path, content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("numel", [-1, 25, 10**12, 2**62])
def test_a_false_size_of_a_legacy_storage_is_refused(tmp_path, numel):
    content = legacy_bytes({"a": Tensor(Storage("0", A), 0, (24,), (1,))}, {"0": A})
    before = len(content) - 8 - A.nbytes
    content = content[:before] + struct.pack("<q", numel) + content[before + 8 :]
    with pytest.raises(InputError, match=r"beyond the file's end"):
        read_bytes(tmp_path, content)


def test_many_views_of_one_storage_use_no_memory_until_copied(tmp_path):
    state = {str(i): Tensor(Storage("0", A), 0, (24,), (0,)) for i in range(40)}
    content = zip_bytes(pickled(state), {"0": A})
    assert len(read_bytes(tmp_path, content)) == 40
    big = np.zeros(25_000, np.float32)
    state = {str(i): Tensor(Storage("0", big), 0, (25_000,), (1,)) for i in range(40)}
    content = zip_bytes(pickled(state), {"0": big})
    tracemalloc.start()
    assert len(read_bytes(tmp_path, content)) == 40
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    with pytest.raises(InputError, match="claim over 2 times the size"):  # of copied tensors
        weight_file.read_tensors(tmp_path / "file.pth")


EXPENSIVE = {
    "a huge memo": b"\x80\x02Nr\xff\xff\xff\xff.",
    "a long string": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"a.",
    "a long integer": b"\x80\x02\x8b" + struct.pack("<i", 2**30) + b"\x01.",
    "long bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"a.",
    "a long bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"a.",
    "deep lists": b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".",
    "deep tuples": b"\x80\x02)" + b"\x85" * 50_000 + b".",
    "deep marks": b"\x80\x02" + b"(" * 50_000 + b"t" * 50_000 + b".",
    "2**200 leaves": b"\x80\x02)" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(200)) + b".",
    "a key of 2**200 leaves": b"\x80\x02})"
    + b"".join(b"q%ch%c\x86" % (i, i) for i in range(200))
    + b"Ns.",
    "a name of 2**200 leaves": b"\x80\x04)"
    + b"".join(b"q%ch%c\x86" % (i, i) for i in range(200))
    + b"\x8c\x01a\x93.",
    "a storage of 2**200 leaves": b"\x80\x04)"
    + b"".join(b"q%ch%c\x86" % (i, i) for i in range(200))
    + b"Q.",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
}


@pytest.mark.parametrize("name", EXPENSIVE)
def test_expensive_pickles_are_read_cheaply_or_refused(tmp_path, name):
    """Each is a few bytes and causes no crash, hang or large allocation."""
    content = zip_bytes(EXPENSIVE[name], {})
    tracemalloc.start()
    try:
        value = read_bytes(tmp_path, content)
    except InputError:
        value = None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    refused = not name.startswith(("a huge", "deep", "2**", "a list in"))
    assert (value is None) == (refused or name == "a huge memo")
    assert peak < 200 * len(content) + 2**20


def test_the_memory_of_a_pickle_is_limited_by_the_size_of_its_file(tmp_path):
    """The limit is the file's size and 32 MiB, which is 250,000 objects of 128 bytes."""
    enough = b"\x80\x02(" + b"N" * 200_000 + b"t."
    assert len(read_bytes(tmp_path, zip_bytes(enough, {}))) == 200_000
    text = b"\x80\x02X" + struct.pack("<I", 5 * 2**18) + b"a" * 5 * 2**18 + b"."
    for description in (b"\x80\x02(" + b"N" * 300_000 + b"t.", text):
        tracemalloc.start()
        for content in (zip_bytes(description, {}), description):
            with pytest.raises(InputError, match="far too large for them"):
                read_bytes(tmp_path, content)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 33 * 2**20 + len(description)
    # In a larger file the limit is higher.
    content = zip_bytes(text, {"0": np.zeros(2**24, np.uint8)})
    assert read_bytes(tmp_path, content) == "a" * 5 * 2**18


SMALL = {"a": Tensor(Storage("0", A), 0, (4, 6), (6, 1)), "n": 1}


@pytest.mark.parametrize("legacy", [False, True])
def test_every_truncation_is_refused(tmp_path, legacy):
    content = zip_and_legacy(SMALL, {"0": A})[legacy]
    read_bytes(tmp_path, content)
    for size in range(len(content)):
        with pytest.raises(InputError, match=r"file\.pth"):
            read_bytes(tmp_path, content[:size])


@pytest.mark.parametrize("legacy", [False, True])
def test_damaged_bytes_are_refused_or_read(tmp_path, legacy, rng):
    content = zip_and_legacy(SMALL, {"0": A})[legacy]
    refused = 0
    for _ in range(1500):
        damaged = bytearray(content)
        for place in rng.integers(len(content), size=rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        try:
            read_bytes(tmp_path, bytes(damaged))
        except InputError:
            refused += 1
    assert refused > 100


def test_unusual_zip_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="compressed or encrypted"):
        read_bytes(tmp_path, zip_bytes(pickled(SMALL), {"0": A}, compress=True))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.npy", b"")
    with pytest.raises(InputError, match=r"no data\.pkl"):
        read_bytes(tmp_path, stream.getvalue())
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("m/data.pkl", pickled({}))
        archive.writestr("m/byteorder", b"big")
    with pytest.raises(InputError, match="big-endian"):
        read_bytes(tmp_path, stream.getvalue())


def test_overlapping_members_are_refused(tmp_path):
    """All entries of the directory refer to the same bytes, as in a zip bomb."""
    content = zip_bytes(pickled({}), {"0": np.zeros(2000, np.uint8)})
    directory = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x05\x06")
    entries, count = content[directory:end], 400
    tail = bytearray(content[end:])
    struct.pack_into("<HHI", tail, 8, 2 * count, 2 * count, len(entries) * count)
    with pytest.raises(InputError, match="overlap"):
        read_bytes(tmp_path, content[:directory] + entries * count + tail)


def test_a_directory_too_large_for_its_file_is_refused(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for index in range(30_000):
            archive.writestr(f"m/{index}", b"")
    tracemalloc.start()
    with pytest.raises(InputError, match="far too large for them"):
        read_bytes(tmp_path, stream.getvalue())
    assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    tracemalloc.stop()


def test_other_files_and_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        torch_file.read(tmp_path / "absent.pth")
    with pytest.raises(InputError, match="is a folder"):
        torch_file.read(tmp_path)
    for content, reason in (
        (b"", "it is empty"),
        (b"\n<!DOCTYPE html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS"),
        (b"MZ", "does not begin like a torch file"),
        (b"PK\x03\x04 and no more", "truncated or damaged"),
        (pickle.dumps({"a": 1}, 2), "pickle exhausted"),
    ):
        with pytest.raises(InputError, match=rf"file\.pth: cannot be read as a torch.*{reason}"):
            read_bytes(tmp_path, content)


# Writing ------------------------------------------------------------------------------------------


def test_written_files_are_read_back_exactly(tmp_path, rng):
    tensors = {
        name: (rng.standard_normal((3, 5)) * 50).astype(dtype)
        for name, dtype in torch_pickle.STORAGE_DTYPES.items()
    }
    tensors |= {
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "strided": rng.standard_normal((4, 6)).astype(np.float32).T[::2],
        "bf16": np.arange(5).astype(ml_dtypes.bfloat16),
    }
    others = {"epoch": 3, "lr": 1e-4, "note": "ünï", "none": None, "flag": True, "low": -(2**40)}
    path = tmp_path / "out.pth"
    torch_file.write(path, {"params_ema": tensors, **others})
    read = torch_file.read(path)
    assert {key: read[key] for key in others} == others
    assert list(read["params_ema"]) == list(tensors)
    for name, tensor in tensors.items():
        back = read["params_ema"][name]
        assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
        assert back.tobytes() == tensor.tobytes()
        assert back.ctypes.data % torch_file.ALIGNMENT == 0 or not back.size
    assert [file.name for file in tmp_path.iterdir()] == ["out.pth"]


def test_pickles_written_are_read_by_pickle(tmp_path):
    """Python's unpickler, with torch's names defined, makes the calls that we wrote."""
    torch_file.write(tmp_path / "out.pth", {"a": A.reshape(4, 6)})
    with zipfile.ZipFile(tmp_path / "out.pth") as archive:
        assert archive.testzip() is None
        assert archive.read("archive/byteorder") == b"little"
        assert archive.read("archive/version") == b"3\n"
        assert archive.read("archive/data/0") == A.tobytes()
        description = archive.read("archive/data.pkl")
    calls = []
    sys.modules["torch._utils"]._rebuild_tensor_v2 = lambda *arguments: calls.append(arguments)  # type: ignore

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, pid):
            return pid

    assert Unpickler(io.BytesIO(description)).load() == OrderedDict(a=None)
    pid = ("storage", sys.modules["torch"].FloatStorage, "0", "cpu", 24)
    assert calls == [(pid, 0, (4, 6), (6, 1), False, OrderedDict())]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "out.pth"
    torch_file.write(path, {"a": A})
    before = path.read_bytes()
    with pytest.raises(InputError, match="b: a torch file cannot hold elements of complex64"):
        torch_file.write(path, {"a": A, "b": A.astype(np.complex64)})
    with pytest.raises(InputError, match="b: a torch file cannot hold a set"):
        torch_file.write(path, {"b": {1}})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["out.pth"]
    with pytest.raises(InputError, match="there is no folder"):
        torch_file.write(tmp_path / "absent" / "out.pth", {"a": A})
    with pytest.raises(InputError, match="it is a folder"):
        torch_file.write(tmp_path, {"a": A})
