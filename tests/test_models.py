"""Networks by name, and a third generator that is only registered in `GENERATORS`."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from configs import x4
from esrgan_jax import models
from esrgan_jax.checkpoint import load_generator, save_generator
from esrgan_jax.errors import InputError
from esrgan_jax.models.conv import Conv
from esrgan_jax.models.discriminator import Discriminator
from esrgan_jax.models.generator import Generator
from esrgan_jax.models.unet_discriminator import UNetDiscriminator
from esrgan_jax.setting_rule import whole
from esrgan_jax.training import run_config
from esrgan_jax.training.setting_rules import rules
from esrgan_jax.training.settings import check_settings
from esrgan_jax.training.stages import create_config_generator
from esrgan_jax.upscaling.upscaler import Upscaler


class Third(nn.Module, Generator):
    """One convolution, on LR sizes that are multiples of `multiple`."""

    multiple: int = 2
    scale: int = 2
    in_channels: int = 3
    out_channels: int = 3
    dtype: jnp.dtype = jnp.dtype("float32")

    @property
    def size_multiple(self) -> int:
        return self.multiple

    @property
    def receptive_field(self) -> int:
        return 1

    @nn.compact
    def __call__(self, lr, train=False):
        assert lr.shape[1] % self.multiple == lr.shape[2] % self.multiple == 0
        y = Conv(self.out_channels, initializer="torch", dtype=self.dtype)(lr)
        return y.repeat(self.scale, axis=1).repeat(self.scale, axis=2).astype(jnp.float32)


@pytest.fixture
def third(monkeypatch):
    """Registers `Third`; returns a module of it and its variables."""
    monkeypatch.setitem(models.GENERATORS, "third", Third)
    module = models.create_generator("third", multiple=4)
    return module, jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 4, 4, 3)))


def test_a_third_architecture_is_saved_and_loaded(third, tmp_path):
    module, variables = third
    save_generator(tmp_path / "net", module, variables)
    read, read_variables = load_generator(tmp_path / "net")
    assert read == module
    jax.tree.map(np.testing.assert_array_equal, read_variables["params"], variables["params"])
    with pytest.raises(InputError, match="only RRDB networks have names for weight files"):
        save_generator(tmp_path / "net.npz", module, variables)


@pytest.mark.parametrize("networks", [models.GENERATORS, models.DISCRIMINATORS])
def test_settings_of_networks_are_fields(networks):
    for network in networks.values():
        assert network.settings.keys() <= models.field_names(network)


def test_a_second_discriminator_has_its_own_settings(monkeypatch):
    class Second(nn.Module):
        settings: ClassVar = {"depth": whole(1)}
        depth: int = 1

    monkeypatch.setitem(models.DISCRIMINATORS, "second", Second)
    config = x4.get_config()
    config.discriminator = {"name": "second", "depth": 3}
    check_settings(config)
    known = {key for key in rules(config.to_dict()) if key.startswith("discriminator.")}
    assert known == {"discriminator.name", "discriminator.depth"}
    config.discriminator = {"name": "second", "depth": 0}
    with pytest.raises(InputError, match=r"^discriminator\.depth is 0: take a whole number"):
        check_settings(config)
    config.discriminator = {"name": "second", "num_feature": 64}
    with pytest.raises(InputError, match=r"^discriminator\.num_feature is not a setting"):
        check_settings(config)


def test_a_third_architecture_has_settings(third):
    del third
    assert rules({"generator": {"name": "third"}})["generator.dtype"] == "one of float32, bfloat16"


def test_a_third_architecture_upscales_in_tiles(third, rng):
    """Tiles have sides that are multiples of `multiple`; the result equals that of the whole."""
    module, variables = third
    image = rng.uniform(0, 1, (40, 52, 3)).astype(np.float32)
    result = Upscaler(module, variables, tile=16, exact=True, dtype="float32")(image)
    whole = Third(multiple=1).apply(variables, image[None])[0].clip(0, 1)
    np.testing.assert_allclose(result, whole, rtol=0, atol=1e-6)


def test_saving_an_unregistered_network_is_refused(tmp_path):
    """It used to be saved as "srresnet", which could not be loaded."""
    with pytest.raises(InputError, match=r"Third is not in models\.GENERATORS, which has"):
        save_generator(tmp_path / "net", Third(), {"params": {}})


def test_a_third_architecture_is_created_from_a_config(third):
    config = x4.get_config()
    config.generator = {"name": "third", "multiple": 4, "dtype": "float32"}
    assert create_config_generator(config) == Third(multiple=4, scale=4)


def test_discriminators_are_created_by_name():
    discriminator = models.create_discriminator("vgg", dtype="bfloat16", num_features=8)
    assert discriminator == Discriminator(num_features=8, dtype=jnp.dtype("bfloat16"))
    assert models.create_discriminator("unet", num_features=8) == UNetDiscriminator(8)
    with pytest.raises(InputError, match=r"^discriminator\.name is 'gram': choose vgg or unet"):
        models.create_discriminator("gram")
    with pytest.raises(InputError, match=r"^discriminator: vgg has no depth; it takes dtype, init"):
        models.create_discriminator(depth=3)


def test_checkpoints_without_a_discriminator_name_have_that_of_the_paper():
    new = x4.get_config()
    saved = run_config.to_json(new)
    del saved["discriminator"]["name"]  # like an older checkpoint
    assert run_config.refused_changes(saved, run_config.to_json(new), "gan") == {}
    new.discriminator.name = "unet"
    changes = run_config.refused_changes(saved, run_config.to_json(new), "gan")
    assert changes == {
        "discriminator.name": ("vgg", "unet"),
        "discriminator.use_bias": (True, None),  # which only the one of ESRGAN has
    }


@pytest.mark.parametrize("name", models.GENERATORS)
def test_generator_name_inverts_create_generator(name):
    assert models.generator_name(models.create_generator(name)) == name
