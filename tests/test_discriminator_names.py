"""BasicSR's discriminator against PyTorch's own layers, values and gradients, and round trips."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from esrgan_jax.errors import InputError
from esrgan_jax.interop.discriminator_names import from_torch, to_torch
from esrgan_jax.models.discriminator import Discriminator


def random_variables(rng, use_bias, patch):
    network = Discriminator(num_features=4, use_bias=use_bias)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, patch, patch, 3)))
    draw = lambda s: rng.uniform(0.1, 0.3, s.shape).astype(np.float32)  # noqa: E731
    fields = {"in_channels": 3, "num_features": 4, "use_bias": use_bias, "hr_patch": patch}
    return network, fields, jax.tree.map(draw, dict(shapes))


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("patch", [32, 64, 128])
def test_round_trip(rng, use_bias, patch):
    _, fields, variables = random_variables(rng, use_bias, patch)
    tensors = to_torch(fields, variables)
    assert tensors["linear1.weight"].shape == (100, 32 * (patch // 32) ** 2)
    assert tensors["bn4_1.num_batches_tracked"] == 0
    found, back = from_torch(tensors)
    assert found == fields
    jax.tree.map(np.testing.assert_array_equal, back, variables)


def test_flatten_order(rng):
    _, fields, variables = random_variables(rng, True, 64)
    features = rng.random((2, 2, 2, 32), np.float32)  # NHWC, as they come to linear1
    ours = features.reshape(2, -1) @ variables["params"]["linear1"]["kernel"]
    weight = to_torch(fields, variables)["linear1.weight"]
    theirs = features.transpose(0, 3, 1, 2).reshape(2, -1) @ weight.T
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def torch_logits(torch, tensors, hr, use_bias):
    """The network of BasicSR in training mode, from torch's own functions."""
    F = torch.nn.functional
    x = hr
    for layer in (f"{pair}_{index}" for pair in range(5) for index in (0, 1)):
        bias = tensors.get(f"conv{layer}.bias")
        x = F.conv2d(x, tensors[f"conv{layer}.weight"], bias, stride=1 + int(layer[2]), padding=1)
        if layer != "0_0":
            scale, shift = tensors[f"bn{layer}.weight"], tensors[f"bn{layer}.bias"]
            x = F.batch_norm(x, None, None, scale, shift, training=True, eps=1e-5)
        x = F.leaky_relu(x, 0.2)
    x = F.leaky_relu(
        F.linear(x.flatten(1), tensors["linear1.weight"], tensors["linear1.bias"]), 0.2
    )
    return F.linear(x, tensors["linear2.weight"], tensors["linear2.bias"])


@pytest.mark.parametrize("use_bias", [False, True])
def test_torch_agrees_in_training(rng, use_bias):
    torch = pytest.importorskip("torch", reason="needs torch: make peers")
    network, fields, variables = random_variables(rng, use_bias, 64)
    signs = lambda a: a * rng.choice(np.float32([-1, 1]), a.shape)  # noqa: E731
    variables["params"] = jax.tree.map(signs, variables["params"])
    hr = rng.random((4, 64, 64, 3), np.float32)

    def mean_square(params):
        logits, _ = network.apply(
            {**variables, "params": params}, hr, train=True, mutable=["batch_stats"]
        )
        return jnp.mean(logits**2), logits

    (_, ours), gradients = jax.value_and_grad(mean_square, has_aux=True)(variables["params"])
    floats = {n: t for n, t in to_torch(fields, variables).items() if t.dtype == np.float32}
    tensors = {n: torch.from_numpy(t.copy()).requires_grad_() for n, t in floats.items()}
    theirs = torch_logits(
        torch, tensors, torch.from_numpy(hr.transpose(0, 3, 1, 2).copy()), use_bias
    )
    np.testing.assert_allclose(
        ours, theirs.detach().numpy(), rtol=1e-4, atol=1e-4 * abs(ours).max()
    )

    (theirs**2).mean().backward()
    grads = to_torch(fields, {**variables, "params": jax.device_get(gradients)})
    largest = max(abs(t.grad.numpy()).max() for t in tensors.values() if t.grad is not None)
    for name, tensor in tensors.items():
        if tensor.grad is not None:
            # Biases in front of normalisation have no gradient but rounding: judged by the largest.
            scale = max(abs(tensor.grad.numpy()).max(), 1e-2 * largest)
            assert abs(grads[name] - tensor.grad.numpy()).max() <= 1e-4 * scale, name


def test_refusals(rng):
    _, fields, variables = random_variables(rng, True, 32)
    tensors = to_torch(fields, variables)
    with pytest.raises(InputError, match=r"missing: bn2_0\.running_var"):
        from_torch({n: t for n, t in tensors.items() if n != "bn2_0.running_var"})
    with pytest.raises(InputError, match="U-Net"):
        from_torch({"conv0.weight": np.zeros((64, 3, 3, 3), np.float32)}, "net_d.pth")
    with pytest.raises(InputError, match="no discriminator"):
        from_torch({"a.weight": np.zeros(3, np.float32)})
    with pytest.raises(InputError, match="where"):
        to_torch({**fields, "hr_patch": 64}, variables)
