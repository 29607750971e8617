"""LPIPS, the perceptual distance of two images from features of AlexNet.

This is version 0.1 of Zhang et al. 2018 (arXiv 1801.03924) with AlexNet, which papers report as
LPIPS: 0 for equal images, about 0.7 for very different ones.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from esrgan_jax.errors import InputError
from esrgan_jax.interop import zoo
from esrgan_jax.interop.weight_file import check_tensors, read_tensors

# Normalisation of the network's input, from an image in [-1, 1] (the authors' ScalingLayer).
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
EPSILON = 1e-10  # added to the length of a feature vector, which may be zero
SMALLEST_SIDE = 31  # pixels; the last layers then have one
BUCKET = 256  # sides are padded to a multiple of this many pixels


class _Shape(NamedTuple):
    """A convolution of AlexNet that is followed by a ReLU.

    Attributes:
        position: Index of the convolution in torchvision's `features`.
        inputs, outputs: Numbers of channels.
        size: Kernel height and width.
        stride: Step in both directions.
        padding: Rows or columns of zeros on each side.
        pooled: Whether a max-pool of 3x3 with stride 2 comes first.
    """

    position: int
    inputs: int
    outputs: int
    size: int
    stride: int
    padding: int
    pooled: bool


SHAPES = (
    _Shape(0, 3, 64, 11, 4, 2, False),
    _Shape(3, 64, 192, 5, 1, 2, True),
    _Shape(6, 192, 384, 3, 1, 1, True),
    _Shape(8, 384, 256, 3, 1, 1, False),
    _Shape(10, 256, 256, 3, 1, 1, False),
)


class Layer(NamedTuple):
    """Parameters of one of the five layers.

    Attributes:
        kernel: (K, K, I, O) float32.
        bias: (O,) float32.
        weight: (O,) float32, the weight of each channel in LPIPS.
    """

    kernel: Any
    bias: Any
    weight: Any


def load_lpips() -> Callable[[np.ndarray, np.ndarray], float]:
    """Returns `lpips` as a function of two images, with the published weights.

    The weights are downloaded once by `zoo.fetch`.

    Raises:
        InputError: A file has the wrong content.
        RunError: As `zoo.fetch`.
    """
    return partial(lpips, read_layers(zoo.fetch("alexnet"), zoo.fetch("lpips-alex")))


def read_layers(
    alexnet: str | os.PathLike[str], linear: str | os.PathLike[str]
) -> tuple[Layer, ...]:
    """Reads the five layers from two weight files.

    Args:
        alexnet: torchvision's AlexNet, `features.N.weight` (OIHW) and `.bias`; its classifier is
            ignored.
        linear: The weights of LPIPS, `linN.model.1.weight` (1, O, 1, 1).

    Raises:
        InputError: A file is missing, is damaged or has other tensors.
    """
    network = {
        name: tensor
        for name, tensor in read_tensors(alexnet).items()
        if not name.startswith("classifier.")
    }
    weights = read_tensors(linear)
    kernels: dict[str, tuple[int, ...]] = {}
    vectors: dict[str, tuple[int, ...]] = {}
    for number, layer in enumerate(SHAPES):
        kernel = (layer.outputs, layer.inputs, layer.size, layer.size)
        kernels |= {f"features.{layer.position}.weight": kernel}
        kernels |= {f"features.{layer.position}.bias": (layer.outputs,)}
        vectors |= {f"lin{number}.model.1.weight": (1, layer.outputs, 1, 1)}
    check_tensors(network, kernels, f"{alexnet}: not torchvision's AlexNet")
    check_tensors(weights, vectors, f"{linear}: not the weights of LPIPS for AlexNet")
    return tuple(
        Layer(
            _float32(network[f"features.{layer.position}.weight"].transpose(2, 3, 1, 0)),
            _float32(network[f"features.{layer.position}.bias"]),
            _float32(weights[f"lin{number}.model.1.weight"].reshape(-1)),
        )
        for number, layer in enumerate(SHAPES)
    )


def _float32(tensor: np.ndarray) -> jax.Array:
    return jnp.asarray(np.array(tensor, np.float32, order="C"))


def lpips(layers: Sequence[Layer], a: np.ndarray, b: np.ndarray) -> float:
    """Returns the distance of two images: 0 for equal images, the same for (a, b) and (b, a).

    Args:
        layers: From `read_layers`.
        a: (H, W, 3) uint8 RGB, with sides of SMALLEST_SIDE pixels or more.
        b: Another of the same shape.

    Raises:
        InputError: The images have other shapes or dtypes.
    """
    _check(a, b)
    height, width = a.shape[:2]
    # A program for each shape would take longer to compile than to run on a folder of images. So
    # images are padded to few shapes, and the padding is masked.
    pad = ((0, -height % BUCKET), (0, -width % BUCKET), (0, 0))
    network = [(layer.kernel, layer.bias) for layer in layers]
    # Both go through the same program; otherwise equal images might get different features.
    features = [_features(network, np.pad(image, pad), height, width) for image in (a, b)]
    return float(_distance([layer.weight for layer in layers], *features))


def _check(a: np.ndarray, b: np.ndarray) -> None:
    for image in (a, b):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(
                f"LPIPS compares images of (H, W, 3) uint8, got {image.shape} {image.dtype}"
            )
    if a.shape != b.shape:
        raise InputError(
            f"images of shapes {a.shape} and {b.shape} cannot be compared; "
            "resize them to one size first"
        )
    height, width = a.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        raise InputError(
            f"LPIPS needs {SMALLEST_SIDE}x{SMALLEST_SIDE} px or more, got {width}x{height}; "
            "score a larger image"
        )


Size = tuple[jax.Array, jax.Array]  # (height, width) of the part that is not padding


@jax.jit
def _features(
    network: Sequence[tuple[jax.Array, jax.Array]],
    image: jax.Array,
    height: jax.Array,
    width: jax.Array,
) -> list[tuple[jax.Array, Size]]:
    """Returns after each ReLU (1, h, w, O) unit vectors and their size without padding.

    `image` is (H, W, 3) uint8; only its upper left (height, width) is used. The rest is zero before
    every convolution, like the network's own zero padding.
    """
    x = image.astype(jnp.float32) / 127.5 - 1
    x = (x - jnp.asarray(SHIFT).reshape(1, 1, 3)) / jnp.asarray(SCALE).reshape(1, 1, 3)
    size = (height, width)
    x = _inside(x[None], size)
    features = []
    for (kernel, bias), layer in zip(network, SHAPES, strict=True):
        if layer.pooled:
            size = _windows(size, 3, 2)
            x = _inside(nn.max_pool(x, (3, 3), (2, 2)), size)
        x = lax.conv_general_dilated(
            x,
            kernel,
            (layer.stride, layer.stride),
            [(layer.padding, layer.padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision="highest",  # otherwise GPUs and TPUs round the factors
        )
        size = _windows(size, layer.size, layer.stride, layer.padding)
        x = _inside(nn.relu(x + bias.reshape(1, 1, 1, -1)), size)
        length = jnp.sqrt(jnp.sum(x**2, axis=-1, keepdims=True))
        features.append((x / (length + EPSILON), size))
    return features


@jax.jit
def _distance(
    weights: Sequence[jax.Array],
    a: Sequence[tuple[jax.Array, Size]],
    b: Sequence[tuple[jax.Array, Size]],
) -> jax.Array:
    """Returns the weighted squared differences: mean over pixels, sum over channels and layers."""
    total = jnp.float32(0)
    for weight, (x, (height, width)), (y, _) in zip(weights, a, b, strict=True):
        squares = (x - y) ** 2 * weight.reshape(1, 1, 1, -1)
        # Two sums, since one long sum in float32 would be less exact.
        total += jnp.sum(jnp.sum(squares, axis=(2, 3)) / width) / height
    return total


def _windows(size: Size, side: int, stride: int, padding: int = 0) -> Size:
    """Returns how many windows of `side` pixels fit into (height, width), down and across."""
    height, width = ((length + 2 * padding - side) // stride + 1 for length in size)
    return height, width


def _inside(x: jax.Array, size: Size) -> jax.Array:
    """Returns (1, H, W, C) with zeros outside the upper left (height, width)."""
    rows, columns = (lax.broadcasted_iota(jnp.int32, x.shape, axis) for axis in (1, 2))
    return jnp.where((rows < size[0]) & (columns < size[1]), x, 0)
