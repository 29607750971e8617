"""VGG16 and VGG19 as feature extractors for the perceptual loss (paper §3.3)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from esrgan_jax.errors import InputError
from esrgan_jax.models.conv import Conv

# Convolutions in each of the five stages; a 2x2 max-pool ends every stage.
STAGE_CONVOLUTIONS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (64, 128, 256, 512, 512)


def layer_names(depth: int) -> list[str]:
    """Returns the names of all layers in order: conv1_1, relu1_1, conv1_2, …, relu5_4."""
    return [
        f"{kind}{stage}_{index}"
        for stage, count in enumerate(STAGE_CONVOLUTIONS[depth], 1)
        for index in range(1, count + 1)
        for kind in ("conv", "relu")
    ]


class VGGFeatures(nn.Module):
    """Features of named layers; `conv5_4` is before its activation, `relu5_4` after it.

    Attributes:
        layers: Names of the layers. What is deeper than the deepest of them is not computed and
            needs no parameters.
        depth: 16 or 19.
        dtype: Computation dtype of the convolutions.

    The weights say how an image is preprocessed. The parameters contain `input`
    (channel `order`, `scale`, `mean`, `std`: x = (rgb * scale)[order], then (x - mean) / std) and
    `feature_scale`, by which the features are multiplied, so that a perceptual weight means the
    same with torchvision's, Caffe's and the MINC weights. `tools/convert_vgg.py` writes them.
    """

    layers: Sequence[str] = ("conv5_4",)
    depth: int = 19
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, rgb: jax.Array) -> dict[str, jax.Array]:
        """(N, H, W, 3) RGB or (N, H, W, 1) gray in [0, 1] -> {layer: (N, h, w, c) float32}."""
        names = layer_names(self.depth)
        unknown = [layer for layer in self.layers if layer not in names]
        if unknown or not self.layers:
            raise InputError(f"VGG{self.depth} has no layer {unknown}; it has {', '.join(names)}")
        last = max(names.index(layer) for layer in self.layers)

        preprocessing = self.param("input", _plain_input)
        feature_scale = self.param("feature_scale", nn.initializers.ones, ())
        rgb = jnp.broadcast_to(rgb, (*rgb.shape[:-1], 3))
        x = jnp.take(rgb * preprocessing["scale"], preprocessing["order"], axis=-1)
        mean, std = (preprocessing[key].reshape(1, 1, 1, 3) for key in ("mean", "std"))
        x = (x - mean) / std
        features = {}
        for name in names[: last + 1]:
            kind, stage, index = name[:4], int(name[4]), int(name[6:])
            if kind == "conv":
                if stage > 1 and index == 1:
                    x = max_pool(x)
                x = Conv(WIDTHS[stage - 1], dtype=self.dtype, name=name)(x)
            else:
                x = nn.relu(x)
            if name in self.layers:
                features[name] = x.astype(jnp.float32) * feature_scale
        return features


def max_pool(x: jax.Array) -> jax.Array:
    """Returns the largest value of each 2x2 pixels: (N, H, W, C) -> (N, H // 2, W // 2, C).

    NaN if one of them is. The gradient goes to the first of equal values, as that of `nn.max_pool`,
    whose gradient XLA computes on CPUs by four arrays of indices and a loop over all values.
    """
    for axis in (2, 1):
        end = x.shape[axis] // 2 * 2
        a, b = (lax.slice_in_dim(x, start, end, 2, axis) for start in (0, 1))
        x = jnp.where((a >= b) | jnp.isnan(a), a, b)
    return x


def _plain_input(_: jax.Array) -> dict[str, jax.Array]:
    """Preprocessing that changes nothing, for networks without converted weights."""
    return {
        "order": jnp.arange(3),
        "scale": jnp.ones(()),
        "mean": jnp.zeros(3),
        "std": jnp.ones(3),
    }
