"""tools/convert_rrdb.py: exact conversion of generators between all forms."""

import hashlib
import json

import jax
import ml_dtypes  # noqa: F401  (makes bfloat16 a NumPy type)
import numpy as np
import pytest

from esrgan_jax.checkpoint import load_generator, save_generator
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.interop import torch_file
from esrgan_jax.interop.rrdb_names import NAMINGS, find_naming
from esrgan_jax.interop.weight_file import read_tensors, write_tensors
from tools import convert_rrdb

DTYPES = ("float32", "float16", "bfloat16", "float64")


@pytest.fixture(scope="module")
def generator(random_generator):
    return random_generator(np.random.default_rng(0))


@pytest.fixture
def source(tmp_path, generator):
    path = tmp_path / "source.npz"
    write_tensors(path, generator[2])
    return path


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("suffix", "wrap"),
    [
        *((".pth", wrap) for wrap in ("params_ema", "params", "none")),
        *((suffix, "none") for suffix in (".safetensors", ".npz")),
    ],
)
@pytest.mark.parametrize("naming", NAMINGS)
def test_every_naming_format_and_dtype_round_trips(
    tmp_path, source, generator, naming, suffix, wrap, dtype
):
    target = tmp_path / f"target{suffix}"
    options = [f"--naming={naming}", f"--wrap={wrap}", f"--dtype={dtype}"]
    if suffix == ".npz" and dtype == "bfloat16":
        with pytest.raises(InputError, match="cannot hold bfloat16"):
            convert_rrdb.main([str(source), str(target), *options])
        return
    convert_rrdb.main([str(source), str(target), *options])
    tensors = read_tensors(target)
    assert find_naming(tensors) == naming
    assert {tensor.dtype.name for tensor in tensors.values()} == {dtype}
    if suffix == ".pth":
        top = next(iter(tensors)) if wrap == "none" else wrap
        assert next(iter(torch_file.read(target))) == top

    back = tmp_path / "back.npz"  # convert back to the original form
    convert_rrdb.main([str(target), str(back)])
    expected = {n: t.astype(np.dtype(dtype)).astype(np.float32) for n, t in generator[2].items()}
    returned = read_tensors(back)
    assert list(returned) == list(expected)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(returned[name], tensor, name)


def test_an_orbax_directory_round_trips(tmp_path, source, generator, capsys):
    convert_rrdb.main([str(source), str(tmp_path / "orbax")])
    module, variables = load_generator(tmp_path / "orbax")
    assert {name: getattr(module, name) for name in convert_rrdb.FIELDS} == generator[0]
    jax.tree.map(np.testing.assert_array_equal, variables["params"], generator[1])
    convert_rrdb.main([str(tmp_path / "orbax"), str(tmp_path / "back.safetensors")])
    for name, tensor in read_tensors(tmp_path / "back.safetensors").items():
        np.testing.assert_array_equal(tensor, generator[2][name], name)


def test_the_output_and_the_json_describe_the_model(tmp_path, source, generator, capsys):
    target = tmp_path / "4x-Small.pth"
    entry = tmp_path / "4x-Small.json"
    convert_rrdb.main([str(source), str(target), "--naming=old", f"--json={entry}"])
    output = capsys.readouterr().out
    count = sum(tensor.size for tensor in generator[2].values())
    sha256 = hashlib.sha256(target.read_bytes()).hexdigest()
    for part in ("basicsr", "4nf 2nb 2gc", "4x", f"{count:,}", sha256, "32 growth channels"):
        assert part in output
    model = json.loads(entry.read_text())
    assert (model["architecture"], model["size"]) == ("esrgan", ["4nf", "2nb"])
    assert (model["scale"], model["inputChannels"], model["outputChannels"]) == (4, 3, 3)
    (resource,) = model["resources"]
    assert (resource["sha256"], resource["size"]) == (sha256, target.stat().st_size)


def test_key_selects_the_network(tmp_path, generator):
    other = {name: tensor + 1 for name, tensor in generator[2].items()}
    source = tmp_path / "both.pth"
    torch_file.write(source, {"params": other, "params_ema": generator[2]})
    for options, expected in (([], generator[2]), (["--key=params"], other)):
        convert_rrdb.main([str(source), str(tmp_path / "one.npz"), *options])
        for name, tensor in read_tensors(tmp_path / "one.npz").items():
            np.testing.assert_array_equal(tensor, expected[name], name)
    with pytest.raises(InputError, match="has no key params_g, but params, params_ema"):
        convert_rrdb.main([str(source), str(tmp_path / "one.npz"), "--key=params_g"])


def test_wrong_arguments_are_refused(tmp_path, source, generator):
    for arguments, message in (
        ([source, source], "would overwrite the input"),
        ([source, tmp_path / "x.safetensors", "--wrap=params"], "only .pth"),
        ([source, tmp_path / "x", f"--json={tmp_path / 'x.json'}"], "--json describes one of"),
        ([source, tmp_path / "x.npz", f"--json={tmp_path / 'x.json'}"], "--json describes one of"),
        ([source, tmp_path / "x.pth", f"--json={source}"], "ends in .json"),
        (
            [source, tmp_path / "x.pth", f"--json={tmp_path / 'no' / 'x.json'}"],
            "an existing folder",
        ),
        ([source, tmp_path / "v1.2"], "have no suffix for a directory"),
        ([source, tmp_path / "x", "--dtype=float16"], "are for weight files"),
        ([source, tmp_path / "x.pth", "--scale=3"], "as 3x_x.pth"),
        ([source, tmp_path / "3x_x.pth", "--scale=3"], "enlarges 4 times, and cannot 3"),
        (["", tmp_path / "x.pth"], "the generator's name is empty"),
        ([tmp_path / "none.pth", tmp_path / "x.pth"], "no such file"),
        ([tmp_path, tmp_path / "x.pth"], "holds no checkpoint"),
    ):
        with pytest.raises(InputError, match=message):
            convert_rrdb.main([str(argument) for argument in arguments])
    assert not (tmp_path / "x.pth").exists()
    assert list(read_tensors(source)) == list(generator[2])


def test_an_orbax_directory_inside_a_file_is_an_error(tmp_path, source):
    with pytest.raises(RunError, match=r"x: could not be written: (Not a directory|File exists)"):
        convert_rrdb.main([str(source), str(source / "x")])


def test_a_damaged_orbax_directory_is_refused(tmp_path, source):
    convert_rrdb.main([str(source), str(tmp_path / "orbax")])
    for part in (tmp_path / "orbax" / "state").glob("ocdbt.process_0/d/*"):
        part.write_bytes(part.read_bytes()[:10])
    with pytest.raises(InputError, match=r"is damaged \(.*\); use another checkpoint"):
        load_generator(tmp_path / "orbax")


def test_values_out_of_range_for_the_dtype_are_refused(tmp_path, source, generator):
    tensors = generator[2] | {"conv_last.bias": np.full(3, 1e6, np.float32)}
    write_tensors(source, tensors)
    with pytest.raises(InputError, match=r"conv_last\.bias: has values that float16 cannot hold"):
        convert_rrdb.main([str(source), str(tmp_path / "x.pth"), "--dtype=float16"])
    convert_rrdb.main([str(source), str(tmp_path / "x.pth"), "--dtype=bfloat16"])


def test_scale_3_is_taken_from_the_flag_or_the_name(tmp_path, random_generator, rng, capsys):
    _, _, tensors = random_generator(rng, scale=3)
    for source, options in (("3x_Net.npz", []), ("Net.npz", ["--scale=3"])):
        write_tensors(tmp_path / source, tensors)
        target = tmp_path / f"3x-{source[:2]}.pth"
        convert_rrdb.main([str(tmp_path / source), str(target), *options])
        assert "they take x3 for x2" in capsys.readouterr().out
        assert load_generator(target)[0].scale == 3
    with pytest.raises(InputError, match="begin it with 3x, as 3x_Other"):
        convert_rrdb.main([str(tmp_path / "3x_Net.npz"), str(tmp_path / "Other.pth")])
    module, variables = load_generator(target)
    save_generator(tmp_path / "any", module, variables)  # an Orbax folder says the scale
    assert load_generator(tmp_path / "any")[0].scale == 3
    with pytest.raises(InputError, match="says 3x, but the network upscales twice"):
        save_generator(tmp_path / "3x_Net.pth", module.clone(scale=2), variables)


def test_an_orbax_directory_keeps_unshuffle_which_weight_files_do_not(
    tmp_path, random_generator, rng, capsys
):
    fields, _, tensors = random_generator(rng, in_channels=4, out_channels=1, scale=2)
    write_tensors(tmp_path / "net.npz", tensors)
    convert_rrdb.main([str(tmp_path / "net.npz"), str(tmp_path / "net"), "--unshuffle=1"])
    assert load_generator(tmp_path / "net")[0].in_channels == fields["in_channels"]
    convert_rrdb.main([str(tmp_path / "net"), str(tmp_path / "back.pth")])
    assert "a network that unshuffles by 2" in capsys.readouterr().out
    with pytest.raises(InputError, match="for weight files, not folders"):
        convert_rrdb.main([str(tmp_path / "net"), str(tmp_path / "x.pth"), "--unshuffle=1"])
