"""Fuzzes the readers of weight files, guided by coverage (pip install atheris).

    python -m tests.fuzz_weight_file CORPUS -max_total_time=1200

CORPUS is a folder that collects the inputs that reach new code; an empty one starts with valid
files of every format. The first failure ends the run and is written to the current folder.
`python -m tests.fuzz_weight_file --pack CORPUS` then packs the corpus, and failures copied into it,
into `tests/weight_file_corpus.zip`, which `test_weight_file_corpus.py` reads on every test run.
"""

import contextlib
import io
import pickle
import random
import struct
import sys
import tempfile
import zipfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["esrgan_jax.interop", "zipfile", "pickletools"]):
    import numpy as np

    from esrgan_jax.errors import InputError
    from esrgan_jax.interop import rrdb_names, torch_file, torch_pickle, weight_file
    from tests.watched import read_watched

ARCHIVE = Path(__file__).with_name("weight_file_corpus.zip")
FIELDS = {
    **{"num_features": 2, "num_growth": 1, "num_blocks": 1, "in_channels": 3, "out_channels": 3},
    **{"scale": 2, "unshuffle": 1, "plus": False, "upsampler": "upconv"},
}
# Fragments of pickles that are dangerous, large, deeply nested, shared or just unexpected.
TOKENS = (
    *(b"cos\nsystem\n", b"cbuiltins\neval\n", b"\x8c\x02os\x8c\x06system\x93", b"ctorch\nload\n"),
    *(b"(X\x04\x00\x00\x00truetR", b"ccollections\nOrderedDict\n)R", b"ctorch\nHalfStorage\n"),
    *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_parameter\n"),
    *(b"ccollections\nCounter\n", b"ctorch\nSize\n", b"ctorch\ndevice\n"),
    *(b"}", b"]", b")", b"(", b"t", b"\x85", b"\x86", b"\x87", b"R", b"Q", b"b", b"s", b"u", b"a"),
    *(b"0", b"2", b"1", b"N", b"\x88", b"K\xff", b"M\xff\xff", b"J\xff\xff\xff\xff", b"h\x00"),
    *(b"q\x00", b"r\xff\xff\xff\x7f", b"\x94", b"e", b"\x81", b"\x92", b"\x82\x01", b"P1\n", b"."),
    b"\x8a\x09" + b"\xff" * 8 + b"\x00",
    b"\x8d" + struct.pack("<Q", 2**40),
    b"X" + struct.pack("<I", 2**31),
    b"]" * 500,
    b"\x85" * 500,
    b"}K\x01" * 300,
    b"2" * 1000,
)
EXTREMES = (0, 1, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)


def seeds() -> list[bytes]:
    """Returns valid files of every format (old torch's too), naming, wrapping and element type."""
    module = rrdb_names.RRDBNet(**FIELDS)
    import jax

    shapes = jax.eval_shape(module.init, jax.random.key(0), np.zeros((1, 4, 4, 3), np.float32))
    params = jax.tree.map(lambda s: np.full(s.shape, 0.5, np.float32), shapes["params"])
    contents = []
    with tempfile.TemporaryDirectory() as folder:
        for naming in rrdb_names.NAMINGS:
            tensors = rrdb_names.to_torch(FIELDS, params, naming)
            few = dict(list(tensors.items())[:2])
            half = {name: tensor.astype(np.float16) for name, tensor in few.items()}
            whole = [tensors] if naming == "basicsr" else []  # large, and adds little coverage
            for state in (
                *whole,
                few,
                {"params_ema": few, "epoch": 1},
                {"params": half, "n": None},
            ):
                torch_file.write(f"{folder}/a.pth", state)
                contents.append(Path(folder, "a.pth").read_bytes())
                contents.append(_legacy(state))
            for suffix in (".safetensors", ".npz"):
                for some in (*whole, few, half):
                    weight_file.write_tensors(f"{folder}/a{suffix}", some)
                    contents.append(Path(folder, f"a{suffix}").read_bytes())
            np.savez_compressed(f"{folder}/a.npz", **few)
            contents.append(Path(folder, "a.npz").read_bytes())
    return contents


def _legacy(state: dict) -> bytes:
    """Returns the state as torch before 1.6 wrote it."""
    storages: list[np.ndarray] = []
    description = torch_pickle.dump(state, storages)
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    parts = [pickle.dumps(x, 2) for x in (torch_file.LEGACY_MAGIC, 1001, system)]
    parts += [description, pickle.dumps([str(index) for index in range(len(storages))], 2)]
    for array in storages:
        parts.append(struct.pack("<q", array.size) + array.tobytes())
    return b"".join(parts)


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Makes one random change: to bytes, a pickle in a zip, fields of a zip, or the length."""
    rng = random.Random(seed)
    kind = rng.randrange(8)
    if kind == 0:
        return data[: rng.randrange(len(data) + 1)]
    if kind == 1 and len(data) > 8:  # overwrite an integer
        size, code = rng.choice(((2, "<H"), (4, "<I"), (8, "<Q")))
        offset = rng.randrange(len(data) - size + 1)
        value = rng.choice((*EXTREMES, len(data), offset)) % 256**size
        return data[:offset] + struct.pack(code, value) + data[offset + size :]
    if kind in (2, 3):
        offset = rng.randrange(len(data) + 1)
        return (data[:offset] + rng.choice(TOKENS) + data[offset:])[:max_size]
    if kind in (4, 5):
        return _mutate_member(data, max_size, rng)
    if kind == 6:  # fields of the zip's directory or its end record
        return _mutate_directory(data, rng)
    return atheris.Mutate(data, max_size)


def _mutate_member(data: bytes, max_size: int, rng: random.Random) -> bytes:
    """Rewrites the archive with one member changed; its sizes and checksums are correct."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # a broken archive may raise anything: mutate its bytes instead
        return atheris.Mutate(data, max_size)
    names = [name for name in members if name.endswith((".pkl", ".npy"))] or list(members)
    if names:
        name = rng.choice(names)
        content = members[name]
        offset = rng.randrange(len(content) + 1)
        if rng.random() < 0.7:
            end = offset + rng.choice((0, 0, 1, 3))
            content = content[:offset] + rng.choice(TOKENS) + content[end:]
        else:
            content = atheris.Mutate(content, max(len(content) * 2, 64))
        members[name] = content
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", rng.choice((0, 0, 0, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()[:max_size]


def _mutate_directory(data: bytes, rng: random.Random) -> bytes:
    entries = [i for magic in (b"PK\x01\x02", b"PK\x05\x06") for i in _find_all(data, magic)]
    if not entries:
        return data[::-1][: rng.randrange(1, 64)] + data
    offset = rng.choice(entries) + rng.randrange(4, 46, 2)
    value = rng.choice((*EXTREMES, len(data), *entries)) % 2**32
    if rng.random() < 0.2:  # repeat an entry, so that members overlap
        start = rng.choice(entries)
        return data[:start] + data[start : start + 60] * rng.randrange(1, 50) + data[start:]
    return data[:offset] + struct.pack("<I", value) + data[offset + 4 :]


def _find_all(data: bytes, magic: bytes) -> list[int]:
    offsets, offset = [], data.find(magic)
    while offset >= 0:
        offsets.append(offset)
        offset = data.find(magic, offset + 1)
    return offsets


def main() -> None:
    if sys.argv[1:2] == ["--pack"]:
        with zipfile.ZipFile(ARCHIVE, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(Path(sys.argv[2]).iterdir()):
                archive.write(path, path.name)
        return
    folders = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")]
    if not folders:
        sys.exit(__doc__)
    folders[0].mkdir(parents=True, exist_ok=True)
    if not any(folders[0].iterdir()):
        for index, content in enumerate(seeds()):
            (folders[0] / f"seed{index}").write_bytes(content)
    files = list(folders[0].iterdir())

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pth"

        def read(data: bytes) -> None:
            path.write_bytes(data)
            read_watched(path)

        # Read all files once before watching: some modules are imported and cached on first use.
        for content in (*(seed[:-1] for seed in seeds()), *map(Path.read_bytes, files)):
            path.write_bytes(content)
            with contextlib.suppress(InputError):
                weight_file.read_tensors(path)
        atheris.Setup([*sys.argv, "-max_len=32768", "-timeout=20"], read, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
