"""The U-Net discriminator: sizes, names, and equality with PyTorch, a training step included."""

import functools

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath
from flax import linen as nn

from configs import realesrgan_x4, x4
from esrgan_jax import sharding
from esrgan_jax.checkpoint import save_discriminator
from esrgan_jax.errors import InputError
from esrgan_jax.imresize import margin
from esrgan_jax.interop import unet_names
from esrgan_jax.models.conv import Conv
from esrgan_jax.models.generator import Generator
from esrgan_jax.models.unet_discriminator import UNetDiscriminator
from esrgan_jax.training import losses, run_config, steps
from esrgan_jax.training.initial import initial_discriminator
from esrgan_jax.training.run_checkpoints import RunCheckpoints
from esrgan_jax.training.settings import check_run
from esrgan_jax.training.stages import gan_stage
from esrgan_jax.training.train_state import Network, TrainState

SMALL = UNetDiscriminator(num_features=4)
FIELDS = {"name": "unet", "in_channels": 3, "num_features": 4}
TOLERANCE = 1e-5


def shapes(network=SMALL, height=16, width=16):
    return jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, height, width, 3)))


@pytest.fixture
def variables(rng):
    """Returns variables of SMALL; u and v have length 1, as power iteration leaves them."""

    def draw(path, leaf):
        array = rng.standard_normal(leaf.shape).astype(np.float32)
        return array / (np.linalg.norm(array) if path[-1].key in "uv" else 4)

    return jax.tree_util.tree_map_with_path(draw, dict(shapes()))


@pytest.fixture
def peer(variables):
    """Returns PyTorch's module with these variables."""
    pytest.importorskip("torch", reason="needs torch: make peers")
    from benchmarks import torch_networks

    module = torch_networks.UNetDiscriminatorSN(num_features=4)
    return torch_networks.load_arrays(module, unet_names.to_torch(FIELDS, variables))


def assert_agrees(ours, theirs, name=""):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, name
    difference = abs(ours - theirs).max() / abs(theirs).max()
    assert difference <= TOLERANCE, f"{name}: {difference:.1e}"


def assert_state_agrees(ours, peer):
    """Compares parameters, u and v."""
    ours, theirs = unet_names.to_torch(FIELDS, jax.device_get(ours)), peer.state_dict()
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert_agrees(ours[name], theirs[name].numpy(), name)


def nchw(array):
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.asarray(array).transpose(0, 3, 1, 2)))


def nhwc(tensor):
    return tensor.detach().numpy().transpose(0, 2, 3, 1)


def test_size_and_names_are_the_published_ones():
    """Real-ESRGAN's file has 10 kernels, 2 biases, and u and v of the 8 layers between."""
    full = shapes(UNetDiscriminator())
    assert sum(leaf.size for leaf in jax.tree.leaves(full["params"])) == 4_376_897
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), dict(full))
    tensors = unet_names.to_torch(unet_names.fields(zeros), zeros)
    assert len(tensors) == 10 + 2 + 2 * 8
    assert tensors["conv3.weight_orig"].shape == (512, 256, 4, 4)
    assert tensors["conv3.weight_v"].shape == (256 * 4 * 4,)
    assert tensors["conv9.bias"].shape == (1,)


def test_patches_are_multiples_of_8_and_need_not_be_square():
    init = functools.partial(jax.eval_shape, SMALL.init_with_output, jax.random.key(0))
    assert init(jnp.zeros((2, 8, 24, 3)))[0].shape == (2, 8, 24, 1)
    with pytest.raises(InputError, match="multiples of 8 pixels, not 16x20"):
        init(jnp.zeros((2, 16, 20, 3)))


def test_names_round_trip(variables):
    tensors = unet_names.to_torch(FIELDS, variables)
    fields, back = unet_names.from_torch(tensors)
    assert fields == FIELDS == unet_names.fields(variables)
    jax.tree.map(np.testing.assert_array_equal, back, variables)
    with pytest.raises(InputError, match=r"net_d\.pth: nearly .* missing: conv4\.weight_u"):
        unet_names.from_torch(
            {name: array for name, array in tensors.items() if name != "conv4.weight_u"},
            "net_d.pth",
        )
    with pytest.raises(InputError, match=r"no U-Net discriminator: conv0\.weight is"):
        unet_names.from_torch({"a.weight": np.zeros(3)})
    with pytest.raises(InputError, match=r"conv0/kernel: \(4, 3, 3, 3\) where \(8"):
        unet_names.to_torch(FIELDS | {"num_features": 8}, variables)


@pytest.fixture
def config():
    config = x4.get_config()
    config.generator.update(num_features=4, num_growth=2, num_blocks=1)
    config.discriminator = {"name": "unet", "num_features": 4, "initializer": "torch"}
    config.discriminator.dtype = "float32"
    config.data.train = "photographs"
    config.gan.update(hr_patch=24, perceptual_weight=0.0, batch_size=8, accumulation=8)
    return config


def test_its_patches_are_multiples_of_8_and_may_change(config):
    check_run(config, devices=1)
    saved = run_config.to_json(config)
    config.gan.hr_patch = 32  # a single patch, which the other discriminator cannot normalise
    check_run(config, devices=1)
    assert run_config.refused_changes(saved, run_config.to_json(config), "gan") == {}
    config.gan.hr_patch = 20
    with pytest.raises(InputError, match=r"^gan\.hr_patch is 20: take a multiple of 8"):
        check_run(config, devices=1)


@pytest.mark.parametrize("module", [x4, realesrgan_x4])
def test_the_discriminator_of_a_config_is_exchanged_by_its_name(module):
    """Settings that the other one has alone are left out; `use_bias` counts for vgg."""
    config = module.get_config()
    config.data.train = "photographs"
    config.gan.hr_patch = 64
    config.discriminator.num_features = 4
    config.discriminator.use_bias = False
    config.discriminator.name = name = {"vgg": "unet", "unet": "vgg"}[config.discriminator.name]
    check_run(config, devices=1)
    stage = gan_stage(config, None, sharding.create_mesh())
    state = jax.eval_shape(stage.create, jax.random.key(0))
    bias = {} if name == "unet" else {"use_bias": False}
    saved = run_config.to_json(config)["discriminator"]
    initializer = config.discriminator.initializer
    assert saved == bias | {
        **{"name": name, "num_features": 4, "initializer": initializer, "dtype": "float32"}
    }
    first = state.discriminator.params["conv0" if name == "unet" else "conv0_1"]
    assert ("bias" in first) == (name == "unet")


def test_training_starts_from_a_file_or_a_run(config, variables, tmp_path):
    save_discriminator(tmp_path / "net_d.pth", variables)
    stage = gan_stage(config, None, sharding.create_mesh())
    state = jax.eval_shape(stage.create, jax.random.key(0))
    state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state)
    state = state.replace(discriminator=state.discriminator.replace(**variables))
    values, images = run_config.to_json(config), {"count": 0, "sha256": "", "files": {}}
    batches = iter(grain.MapDataset.source([0]).to_iter_dataset())
    with RunCheckpoints(epath.Path(tmp_path) / "run" / "gan", values, images, 1) as checkpoints:
        checkpoints.save(state, batches)
    for source in ("net_d.pth", "run"):
        config.gan.d_init_from = str(tmp_path / source)
        found = initial_discriminator(config, stage)
        jax.tree.map(np.testing.assert_array_equal, found, variables)
    config.discriminator.num_features = 8
    with pytest.raises(InputError, match=r"discriminator\.num_features=4 would fit"):
        initial_discriminator(config, stage)
    other = x4.get_config()
    other.gan.d_init_from = config.gan.d_init_from
    with pytest.raises(InputError, match=r"its name is unet, .* vgg; .*name=unet would"):
        initial_discriminator(other, stage)


def test_training_and_evaluation_equal_torch(rng, variables, peer):
    """Compares logits, all gradients, u and v, and then logits with the new u and v."""
    hr, seed = (rng.standard_normal((2, 16, 24, c)).astype(np.float32) for c in (3, 1))

    @jax.jit
    def compute(variables, hr):
        def apply(params, hr):
            merged = {**variables, "params": params}
            logits, updated = SMALL.apply(merged, hr, train=True, mutable=["batch_stats"])
            return logits, updated["batch_stats"]

        logits, pull_back, stats = jax.vjp(apply, variables["params"], hr, has_aux=True)
        evaluated = SMALL.apply({**variables, "batch_stats": stats}, hr)
        return logits, evaluated, stats, *pull_back(seed)

    logits, evaluated, stats, param_grads, hr_grad = compute(variables, hr)
    x = nchw(hr).requires_grad_()
    theirs = peer.train()(x)
    theirs.backward(nchw(seed))
    assert_agrees(logits, nhwc(theirs), "logits")
    assert_agrees(hr_grad, nhwc(x.grad), "gradient of hr")
    assert_agrees(evaluated, nhwc(peer.eval()(x)), "logits of evaluation")
    assert_state_agrees({"params": variables["params"], "batch_stats": stats}, peer)
    ours = unet_names.to_torch(
        FIELDS, {"params": jax.device_get(param_grads), "batch_stats": stats}
    )
    for name, parameter in peer.named_parameters():
        assert_agrees(ours[name], parameter.grad.numpy(), f"gradient of {name}")


class OneConvolution(nn.Module, Generator):
    """The smallest generator, since a step's compilation takes longer than all else here."""

    scale: int = 4
    in_channels: int = 3
    out_channels: int = 3
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, lr, train=False):
        return Conv(3, name="conv")(lr).repeat(4, axis=1).repeat(4, axis=2)


def test_a_gan_step_equals_torch(rng, variables, peer):
    """One step of Real-ESRGAN: L1 and 0.1 of the standard GAN loss, in the order of BasicSR."""
    import torch
    from torch.nn import functional as F

    side = 16 + 2 * margin(4)
    batch = {"hr": rng.integers(0, 256, (2, side, side, 3), dtype=np.uint8)}
    convolution = torch.nn.Conv2d(3, 3, 3, padding=1)
    kernel, bias = (p.detach().numpy().copy() for p in convolution.parameters())
    g_params = {"conv": {"kernel": kernel.transpose(2, 3, 1, 0), "bias": bias}}
    sgd = optax.sgd(0.1)
    step = functools.partial(
        steps.gan_step,
        generator=OneConvolution(),
        discriminator=SMALL,
        vgg=None,
        optimizer=sgd,
        d_optimizer=sgd,
        scale=4,
        use=losses.GanLosses(1.0, 0.0, 0.1, {}, relativistic=False),
    )
    networks = (
        Network(g_params, {}, sgd.init(g_params)),
        Network(variables["params"], variables["batch_stats"], sgd.init(variables["params"])),
    )
    state, metrics = jax.jit(step)(TrainState(jnp.int32(0), *networks), {}, batch)

    peer.train()
    optimizers = [torch.optim.SGD(network.parameters(), 0.1) for network in (convolution, peer)]
    lr, hr = jax.jit(functools.partial(steps.images, scale=4))(batch)
    lr, hr = nchw(lr), nchw(hr["gan"])
    one, zero = torch.ones(2, 1, 16, 16), torch.zeros(2, 1, 16, 16)
    entropy = F.binary_cross_entropy_with_logits

    sr = F.interpolate(convolution(lr), scale_factor=4)
    l_g_pix, l_g_gan = F.l1_loss(sr, hr), entropy(peer(sr), one)
    (l_g_pix + 0.1 * l_g_gan).backward()
    optimizers[0].step()
    optimizers[1].zero_grad()
    l_d_real = entropy(peer(hr), one)
    l_d_fake = entropy(peer(sr.detach()), zero)
    (l_d_real + l_d_fake).backward()
    optimizers[1].step()

    theirs = {"l_g_pix": l_g_pix, "l_g_gan": l_g_gan, "l_d_real": l_d_real, "l_d_fake": l_d_fake}
    for name, loss in theirs.items():
        assert_agrees(metrics[name], loss.item(), name)
    found = state.discriminator
    assert_state_agrees({"params": found.params, "batch_stats": found.batch_stats}, peer)
    ours = state.generator.params["conv"]
    assert_agrees(ours["kernel"].transpose(3, 2, 0, 1), convolution.weight.detach().numpy())
    assert_agrees(ours["bias"], convolution.bias.detach().numpy())
