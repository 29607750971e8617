"""Tests of networks, relativistic losses and a GAN step against the PyTorch code in benchmarks/.

All values and gradients agree within 1e-4 of the tensor's largest element. Gradients that are zero
but for rounding are not compared: those of biases before batch normalisation and, with the
relativistic loss, of the last bias.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from esrgan_jax.imresize import margin
from esrgan_jax.interop import discriminator_names, rrdb_names, vgg_names
from esrgan_jax.models.discriminator import Discriminator
from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.models.vgg import VGGFeatures
from esrgan_jax.training import losses, steps
from esrgan_jax.training.train_state import Network, TrainState, create_optimizer

torch = pytest.importorskip("torch", reason="needs torch: make peers")

from benchmarks import torch_networks, torch_steps  # noqa: E402 - they need torch

TOLERANCE = 1e-4
LEARNING_RATE = 1e-3


def assert_agrees(ours, theirs, name=""):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, name
    difference = abs(ours - theirs).max() / abs(theirs).max()
    assert difference <= TOLERANCE, f"{name}: {difference:.1e}"


def assert_all_agree(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert_agrees(ours[name], theirs[name], name)


def nhwc(tensor):
    return tensor.detach().numpy().transpose(0, 2, 3, 1)


def gradients(module):
    return {name: p.grad.numpy() for name, p in module.named_parameters() if p.grad is not None}


def floats(tensors):
    return {name: tensor for name, tensor in tensors.items() if tensor.dtype == np.float32}


@pytest.mark.parametrize(
    "architecture",
    [
        pytest.param({"num_growth": 3, "num_blocks": 3}, marks=pytest.mark.slow),
        {"scale": 2, "unshuffle": 2},
        {"scale": 1, "unshuffle": 4, "plus": True},
        {"scale": 3, "in_channels": 1, "out_channels": 2, "unroll": True},
        {"scale": 8, "plus": True, "remat": True},
        pytest.param({"scale": 4, "upsampler": "pixelshuffle"}, marks=pytest.mark.slow),
        {"scale": 3, "upsampler": "pixelshuffle", "num_features": 6, "num_blocks": 1},
    ],
    ids=lambda fields: "-".join(f"{name}{value}" for name, value in fields.items()),
)
def test_generator_matches_torch(rng, random_generator, architecture):
    fields, params, _ = random_generator(rng, **architecture)
    params = jax.tree.map(lambda p: p / 4, params)
    module = RRDBNet(**architecture | {k: fields[k] for k in ("num_features", "num_growth")})
    module = module.clone(num_blocks=fields["num_blocks"])
    peer = torch_networks.RRDBNet(**fields)
    torch_networks.load_arrays(peer, rrdb_names.to_torch(fields, params))
    lr = rng.random((2, 8, 12, fields["in_channels"]), np.float32)

    @jax.jit
    def compute(params, lr, seed):
        sr, pull_back = jax.vjp(lambda p, x: module.apply({"params": p}, x), params, lr)
        return sr, *pull_back(seed)

    shape = (2, 8 * fields["scale"], 12 * fields["scale"], fields["out_channels"])
    seed = rng.standard_normal(shape).astype(np.float32)
    sr, param_grads, lr_grad = compute(params, lr, seed)

    x = torch_networks.to_nchw(lr).requires_grad_()
    theirs = peer(x)
    theirs.backward(torch_networks.to_nchw(seed))
    assert_agrees(sr, nhwc(theirs), "sr")
    assert_agrees(lr_grad, nhwc(x.grad), "gradient of lr")
    assert_all_agree(rrdb_names.to_torch(fields, jax.device_get(param_grads)), gradients(peer))


def random_discriminator(rng, use_bias, patch):
    module = Discriminator(num_features=4, use_bias=use_bias)
    fields = {"in_channels": 3, "num_features": 4, "use_bias": use_bias, "hr_patch": patch}
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, patch, patch, 3)))
    draw = lambda s: rng.uniform(0.1, 0.3, s.shape).astype(np.float32)  # noqa: E731
    signed = lambda a: a * rng.choice(np.float32([-1, 1]), a.shape)  # noqa: E731
    variables = jax.tree.map(draw, dict(shapes))
    variables["params"] = jax.tree.map(signed, variables["params"])
    peer = torch_networks.VGGStyleDiscriminator(**fields)
    torch_networks.load_arrays(peer, discriminator_names.to_torch(fields, variables))
    return module, fields, variables, peer.train()


@pytest.mark.parametrize(("use_bias", "patch"), [(False, 64), (True, 64), (True, 96)])
def test_discriminator_in_training_matches_torch(rng, use_bias, patch):
    module, fields, variables, peer = random_discriminator(rng, use_bias, patch)
    hr = rng.random((4, patch, patch, 3), np.float32)
    seed = rng.standard_normal((4, 1)).astype(np.float32)

    @jax.jit
    def compute(params, hr):
        def apply(params, hr):
            merged = {**variables, "params": params}
            logits, updated = module.apply(merged, hr, train=True, mutable=["batch_stats"])
            return logits, updated["batch_stats"]

        logits, pull_back, stats = jax.vjp(apply, params, hr, has_aux=True)
        return logits, stats, *pull_back(seed)

    logits, stats, param_grads, hr_grad = compute(variables["params"], hr)
    x = torch_networks.to_nchw(hr).requires_grad_()
    theirs = peer(x)
    theirs.backward(torch.from_numpy(seed))
    assert_agrees(logits, theirs.detach().numpy(), "logits")
    assert_agrees(hr_grad, nhwc(x.grad), "gradient of hr")

    ours = {"params": jax.device_get(param_grads), "batch_stats": variables["batch_stats"]}
    ours, expected = discriminator_names.to_torch(fields, ours), gradients(peer)
    for name, gradient in expected.items():
        if before_normalisation(name):
            for zero in (ours[name], gradient):
                assert abs(zero).max() <= 1e-5 * abs(expected[name[:-4] + "weight"]).max(), name
        else:
            assert_agrees(ours[name], gradient, name)

    before = discriminator_names.to_torch(fields, variables)
    after = {"params": variables["params"], "batch_stats": jax.device_get(stats)}
    for name, tensor in discriminator_names.to_torch(fields, after).items():
        if "running_" in name:
            expected_move = peer.state_dict()[name].numpy() - before[name]
            if "var" in name:  # torch uses the unbiased estimate
                pair, index = int(name[2]), int(name[4])
                count = 4 * (patch >> (pair + index)) ** 2
                moved = peer.state_dict()[name].numpy() - 0.9 * before[name]
                expected_move = moved * (count - 1) / count - 0.1 * before[name]
            assert_agrees(tensor - before[name], expected_move, name)


def before_normalisation(name):
    return re.fullmatch(r"conv(?!0_0).*\.bias", name) is not None


def test_discriminator_with_running_statistics_matches_torch(rng):
    module, _, variables, peer = random_discriminator(rng, True, 32)
    hr = rng.random((2, 32, 32, 3), np.float32)
    with torch.no_grad():
        theirs = peer.eval()(torch_networks.to_nchw(hr))
    logits = jax.jit(functools.partial(module.apply, train=False))(variables, hr)
    assert_agrees(logits, theirs.numpy())


def random_vgg(seed, layers, depth, preset):
    """Returns our module, random parameters and torch's module with the same parameters."""
    torch.manual_seed(seed)
    preprocessing = vgg_names.PRESETS[preset]
    peer = torch_networks.VGGFeatures(layers, depth, preprocessing)
    for parameter in peer.parameters():
        parameter.requires_grad_(False)
        if parameter.ndim == 4:
            torch.nn.init.kaiming_normal_(parameter)
        else:
            parameter.normal_(0, 0.1)
    arrays = {name: tensor.numpy() for name, tensor in peer.state_dict().items()}
    _, params = vgg_names.from_torch(arrays, preset)
    return VGGFeatures(layers, depth), params, peer


@pytest.mark.parametrize(
    ("layers", "depth", "preset"),
    [
        (("conv1_2", "relu1_1", "conv2_1", "relu2_1"), 19, "torchvision"),
        (("conv1_2",), 19, "caffe"),
        (("conv4_1", "conv3_3"), 16, "caffe"),
        (("conv5_4",), 19, "torchvision"),
    ],
    ids=["lower", "first", "vgg16", "conv5_4"],
)
def test_vgg_matches_torch(rng, layers, depth, preset):
    module, params, peer = random_vgg(5, layers, depth, preset)
    rgb = rng.uniform(-0.2, 1.2, (2, 32, 48, 3)).astype(np.float32)
    x = torch_networks.to_nchw(rgb).requires_grad_()
    peer.requires_grad_(True)
    theirs = peer(x)
    seeds = {
        layer: rng.standard_normal(tensor.permute(0, 2, 3, 1).shape).astype(np.float32)
        for layer, tensor in theirs.items()
    }
    parts = [(theirs[layer] * torch_networks.to_nchw(seeds[layer])).sum() for layer in layers]
    torch.stack(parts).sum().backward()

    kernels = {name: leaf for name, leaf in params.items() if "conv" in name}

    @jax.jit
    def compute(kernels, rgb):
        apply = lambda k, x: module.apply({"params": params | k}, x)  # noqa: E731
        features, pull_back = jax.vjp(apply, kernels, rgb)
        return features, *pull_back(seeds)

    features, kernel_grads, rgb_grad = compute(kernels, rgb)
    assert_all_agree(features, {layer: nhwc(tensor) for layer, tensor in theirs.items()})
    assert_agrees(rgb_grad, nhwc(x.grad), "gradient of rgb")
    _, expected = vgg_names.from_torch(gradients(peer), preset)
    for name in kernels:
        assert_all_agree(kernel_grads[name], expected[name])


@pytest.mark.parametrize("stop_means", [False, True])
@pytest.mark.parametrize("spread", [1, 30])
def test_relativistic_losses_match_torch(rng, stop_means, spread):
    real, fake = (spread * rng.standard_normal((16, 1)).astype(np.float32) for _ in range(2))
    a, b = (torch.from_numpy(x).requires_grad_() for x in (real, fake))

    value, grad = jax.value_and_grad(losses.ragan_generator_loss, argnums=1)(real, fake)
    theirs = torch_steps.ragan_generator_loss(a.detach(), b)
    theirs.backward()
    assert_agrees(value, theirs.detach())
    assert_agrees(grad, b.grad)

    a.grad = b.grad = None
    pair = functools.partial(losses.ragan_discriminator_losses, stop_means=stop_means)
    grads = jax.grad(lambda *logits: sum(pair(*logits)), (0, 1))(real, fake)
    theirs = torch_steps.ragan_discriminator_losses(a, b, stop_means)
    (theirs[0] + theirs[1]).backward()
    for ours, part in zip(pair(real, fake), theirs, strict=True):
        assert_agrees(ours, part.detach())
    for ours, tensor in zip(grads, (a, b), strict=True):
        assert_agrees(ours, tensor.grad)


@pytest.mark.parametrize(
    ("use_bias", "stop_means"),
    [(True, True), pytest.param(False, False, marks=pytest.mark.slow)],
)
def test_gan_step_matches_torch(rng, random_generator, use_bias, stop_means):
    """Compares losses and, after one step, gradients, parameters and running means."""
    weights = {"pixel_weight": 0.1, "perceptual_weight": 1.0, "gan_weight": 0.5}
    weights |= {"layer_weights": {"conv1_2": 0.5, "conv2_1": 1.0}, "stop_means": stop_means}
    g_fields, g_params, _ = random_generator(rng)
    g_params = jax.tree.map(lambda p: p / 4, g_params)
    d, d_fields, d_variables, d_peer = random_discriminator(rng, use_bias, 64)
    vgg, vgg_params, vgg_peer = random_vgg(6, ("conv1_2", "conv2_1"), 19, "torchvision")
    side = 64 + 2 * margin(4)
    batch = {"hr": rng.integers(0, 256, (4, side, side, 3), dtype=np.uint8)}
    lr, hr = jax.jit(functools.partial(steps.images, scale=4))(batch)

    adam = create_optimizer(optax.constant_schedule(LEARNING_RATE), b1=0.9, b2=0.99)
    d_params, d_stats = d_variables["params"], d_variables["batch_stats"]
    networks = (
        Network(g_params, {}, adam.init(g_params)),
        Network(d_params, d_stats, adam.init(d_params)),
    )
    step = functools.partial(
        steps.gan_step,
        generator=RRDBNet(num_features=4, num_growth=2, num_blocks=2),
        discriminator=d,
        vgg=vgg,
        optimizer=adam,
        d_optimizer=adam,
        scale=4,
        use=losses.GanLosses(**weights),
    )
    state, metrics = jax.jit(step)(TrainState(jnp.int32(0), *networks), vgg_params, batch)

    g_peer = torch_networks.RRDBNet(**g_fields)
    torch_networks.load_arrays(g_peer, rrdb_names.to_torch(g_fields, g_params))
    peers = (g_peer, d_peer)
    optimizers = [
        torch.optim.Adam(p.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99)) for p in peers
    ]
    images = [torch_networks.to_nchw(np.array(x)) for x in (lr, hr["gan"])]
    theirs = torch_steps.gan_step(*peers, vgg_peer, *optimizers, *images, **weights)

    norms = {name: metrics.pop(f"grad_norm_{name}") for name in "gd"}
    assert_all_agree(metrics, {name: value.numpy() for name, value in theirs.items()})
    g_to_torch = functools.partial(rrdb_names.to_torch, g_fields)
    stats = state.discriminator.batch_stats
    d_to_torch = lambda params: discriminator_names.to_torch(  # noqa: E731
        d_fields, {"params": params, "batch_stats": jax.device_get(stats)}
    )
    zero = {name for name, _ in d_peer.named_parameters() if before_normalisation(name)}
    if not stop_means:
        zero.add("linear2.bias")  # the loss depends only on differences of logits
    unsure = 0
    for network, to_torch, peer, norm in (
        (state.generator, g_to_torch, g_peer, norms["g"]),
        (state.discriminator, d_to_torch, d_peer, norms["d"]),
    ):
        updated = to_torch(jax.device_get(network.params))
        # Adam's first moment is a tenth of the gradient.
        moments = to_torch(jax.device_get(network.opt_state[0].mu))
        expected = gradients(peer)
        for name, parameter in peer.named_parameters():
            if name in zero:  # Adam turns rounding errors into full steps
                continue
            assert_agrees(moments[name], 0.1 * expected[name], f"moment of {name}")
            # Adam's first step is nearly the gradient's sign, even if the gradient is rounding.
            sure = abs(expected[name]) > 1e-5 * abs(expected[name]).max()
            unsure += np.sum(~sure)
            theirs = parameter.detach().numpy()
            assert_agrees(np.where(sure, updated[name], theirs), theirs, name)
        square = sum((gradient.astype(np.float64) ** 2).sum() for gradient in expected.values())
        assert_agrees(norm, np.sqrt(square), "norm of the gradient")
    assert unsure < 500  # of 73,000 elements
    for name, tensor in d_to_torch(state.discriminator.params).items():
        if name.endswith("running_mean"):
            assert_agrees(tensor, d_peer.state_dict()[name].numpy(), name)
