"""Fuzzes the readers of weight files, guided by coverage (pip install atheris).

    python -m tests.fuzz_weight_file CORPUS -max_total_time=1200

CORPUS is a folder that inputs which reach something new are kept in; an empty one is begun with
whole files of every container. A finding ends the run and is written to the current folder.
`python -m tests.fuzz_weight_file --pack CORPUS` then puts the corpus, and findings copied into it,
into `tests/weight_file_corpus.zip`, which `test_weight_file_corpus.py` reads again for good.
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
# Pieces of pickles: what is dangerous, large, deep, shared or simply unexpected.
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
    """Whole files: every container, naming, wrapping and element type, and the older torch's."""
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
            whole = [tensors] if naming == "basicsr" else []  # many bytes, little to find in them
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
    """The state as torch before 1.6 wrote it."""
    storages: list[np.ndarray] = []
    description = torch_pickle.dump(state, storages)
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    parts = [pickle.dumps(x, 2) for x in (torch_file.LEGACY_MAGIC, 1001, system)]
    parts += [description, pickle.dumps([str(index) for index in range(len(storages))], 2)]
    for array in storages:
        parts.append(struct.pack("<q", array.size) + array.tobytes())
    return b"".join(parts)


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """One change: of bytes, of a pickle inside its zip, of a zip's own fields, or of the length."""
    rng = random.Random(seed)
    kind = rng.randrange(8)
    if kind == 0:
        return data[: rng.randrange(len(data) + 1)]
    if kind == 1 and len(data) > 8:  # a number where one may be
        size, code = rng.choice(((2, "<H"), (4, "<I"), (8, "<Q")))
        place = rng.randrange(len(data) - size + 1)
        value = rng.choice((*EXTREMES, len(data), place)) % 256**size
        return data[:place] + struct.pack(code, value) + data[place + size :]
    if kind in (2, 3):
        place = rng.randrange(len(data) + 1)
        return (data[:place] + rng.choice(TOKENS) + data[place:])[:max_size]
    if kind in (4, 5):
        return _mutate_member(data, max_size, rng)
    if kind == 6:  # fields of the directory, or of the record of its end
        return _mutate_directory(data, rng)
    return atheris.Mutate(data, max_size)


def _mutate_member(data: bytes, max_size: int, rng: random.Random) -> bytes:
    """The archive written anew with one member changed: its sizes and checksums are true."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # whatever a mutated archive raises, it is mutated as bytes then
        return atheris.Mutate(data, max_size)
    names = [name for name in members if name.endswith((".pkl", ".npy"))] or list(members)
    if names:
        name = rng.choice(names)
        content = members[name]
        place = rng.randrange(len(content) + 1)
        if rng.random() < 0.7:
            behind = place + rng.choice((0, 0, 1, 3))
            content = content[:place] + rng.choice(TOKENS) + content[behind:]
        else:
            content = atheris.Mutate(content, max(len(content) * 2, 64))
        members[name] = content
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", rng.choice((0, 0, 0, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()[:max_size]


def _mutate_directory(data: bytes, rng: random.Random) -> bytes:
    marks = [i for mark in (b"PK\x01\x02", b"PK\x05\x06") for i in _places(data, mark)]
    if not marks:
        return data[::-1][: rng.randrange(1, 64)] + data
    place = rng.choice(marks) + rng.randrange(4, 46, 2)
    value = rng.choice((*EXTREMES, len(data), *marks)) % 2**32
    if rng.random() < 0.2:  # an entry again, so that members overlap
        start = rng.choice(marks)
        return data[:start] + data[start : start + 60] * rng.randrange(1, 50) + data[start:]
    return data[:place] + struct.pack("<I", value) + data[place + 4 :]


def _places(data: bytes, mark: bytes) -> list[int]:
    places, place = [], data.find(mark)
    while place >= 0:
        places.append(place)
        place = data.find(mark, place + 1)
    return places


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

        # What is imported and cached on first use is there before anything is watched.
        for content in (*(seed[:-1] for seed in seeds()), *map(Path.read_bytes, files)):
            path.write_bytes(content)
            with contextlib.suppress(InputError):
                weight_file.read_tensors(path)
        atheris.Setup([*sys.argv, "-max_len=32768", "-timeout=20"], read, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
