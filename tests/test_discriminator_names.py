"""BasicSR's names of the discriminator: round trips, order of flattening, refused files."""

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
    fields = {"name": "vgg", "in_channels": 3, "num_features": 4}
    fields |= {"use_bias": use_bias, "hr_patch": patch}
    return network, fields, jax.tree.map(draw, dict(shapes))


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("patch", [32, 64, 128])
def test_variables_round_trip(rng, use_bias, patch):
    _, fields, variables = random_variables(rng, use_bias, patch)
    tensors = to_torch(fields, variables)
    assert tensors["linear1.weight"].shape == (100, 32 * (patch // 32) ** 2)
    assert tensors["bn4_1.num_batches_tracked"] == 0
    found, back = from_torch(tensors)
    assert found == fields
    jax.tree.map(np.testing.assert_array_equal, back, variables)


def test_linear1_is_reordered_for_torch_layout(rng):
    _, fields, variables = random_variables(rng, True, 64)
    features = rng.random((2, 2, 2, 32), np.float32)  # NHWC, the input of linear1
    ours = features.reshape(2, -1) @ variables["params"]["linear1"]["kernel"]
    weight = to_torch(fields, variables)["linear1.weight"]
    theirs = features.transpose(0, 3, 1, 2).reshape(2, -1) @ weight.T
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_incomplete_and_other_files_are_refused(rng):
    _, fields, variables = random_variables(rng, True, 32)
    tensors = to_torch(fields, variables)
    with pytest.raises(InputError, match=r"missing: bn2_0\.running_var"):
        from_torch({n: t for n, t in tensors.items() if n != "bn2_0.running_var"})
    with pytest.raises(InputError, match="no discriminator"):
        from_torch({"a.weight": np.zeros(3, np.float32)})
    with pytest.raises(InputError, match="where"):
        to_torch({**fields, "hr_patch": 64}, variables)
