"""tools/convert_discriminator.py: exact conversion from BasicSR files to every format."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from esrgan_jax.checkpoint import load_discriminator
from esrgan_jax.errors import InputError
from esrgan_jax.interop import torch_file, unet_names
from esrgan_jax.interop.discriminator_names import fields, to_torch
from esrgan_jax.models.discriminator import Discriminator
from esrgan_jax.models.unet_discriminator import UNetDiscriminator
from tools import convert_discriminator


@pytest.fixture
def network(rng):
    module = Discriminator(num_features=4, use_bias=False)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    return jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(np.float32), dict(shapes))


def test_a_unet_is_converted(tmp_path, rng, capsys):
    shapes = jax.eval_shape(
        UNetDiscriminator(num_features=4).init, jax.random.key(0), jnp.zeros((1, 8, 8, 3))
    )
    unet = jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(np.float32), dict(shapes))
    tensors = unet_names.to_torch(unet_names.fields(unet), unet)
    torch_file.write(tmp_path / "netD.pth", {"params": tensors})  # as Real-ESRGAN's is
    convert_discriminator.main([str(tmp_path / "netD.pth"), str(tmp_path / "d.npz")])
    assert "U-Net discriminator, 4nf, 3 channels" in capsys.readouterr().out
    found, variables = load_discriminator(tmp_path / "d.npz")
    assert found == {"name": "unet", "in_channels": 3, "num_features": 4}
    jax.tree.map(np.testing.assert_array_equal, variables, unet)


@pytest.mark.parametrize("target", ["d.pth", "d.safetensors", "d.npz"])
def test_every_file_format_keeps_the_network(tmp_path, network, target, capsys):
    source = tmp_path / "source.pth"
    torch_file.write(source, {"net_d": to_torch(fields(network), network)})
    convert_discriminator.main([str(source), str(tmp_path / target)])
    output = capsys.readouterr().out
    for part in ("4nf, without biases", "hr_patch      64", "sha256", target):
        assert part in output
    found, variables = load_discriminator(tmp_path / target)
    assert found == fields(network)
    jax.tree.map(np.testing.assert_array_equal, variables, network)
    if target == "d.pth":
        assert list(torch_file.read(tmp_path / target)) == ["params"]


def test_torch_loads_the_converted_file(tmp_path, network):
    torch = pytest.importorskip("torch", reason="needs torch: make peers")
    source = tmp_path / "source.npz"
    from esrgan_jax.checkpoint import save_discriminator

    save_discriminator(source, network)
    convert_discriminator.main([str(source), str(tmp_path / "d.pth"), "--wrap=none"])
    state = torch.load(tmp_path / "d.pth", weights_only=True)
    expected = to_torch(fields(network), network)
    assert list(state) == list(expected)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(state[name].numpy(), tensor)
    assert state["bn1_0.num_batches_tracked"].shape == ()


def test_wrong_arguments_are_refused(tmp_path, network):
    source = tmp_path / "source.pth"
    torch_file.write(source, to_torch(fields(network), network))
    for arguments, message in (
        ([source, source], "would overwrite"),
        ([source, tmp_path / "folder"], "DST must end in"),
        ([source, tmp_path / "x.npz", "--wrap=params"], "only .pth"),
        ([source, tmp_path / "x.npz", "--key=net_g"], "has no key net_g"),
        ([tmp_path, tmp_path / "x.npz"], "holds no checkpoint"),
        (["", tmp_path / "x.npz"], "the discriminator's name is empty"),
        ([tmp_path / "none.pth", tmp_path / "x.npz"], "no such file"),
    ):
        with pytest.raises(InputError, match=message):
            convert_discriminator.main([str(argument) for argument in arguments])
    assert not (tmp_path / "x.npz").exists()
