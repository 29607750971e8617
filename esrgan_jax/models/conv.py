"""The convolution of all networks: NHWC, PyTorch's zero padding, three initialisers."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from esrgan_jax.errors import InputError
from esrgan_jax.models.padding import padded
from esrgan_jax.models.winograd import convolve_winograd, suits_winograd


def _scaled(draw: Callable[..., jax.Array], square: float) -> nn.initializers.Initializer:
    """Returns an initialiser that draws values and scales them by sqrt(square / fan_in).

    It draws a vector: the same values, but XLA takes four times as long to compile a kernel's four
    indices for CPUs.
    """

    def init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        scale = np.sqrt(np.float32(square / math.prod(shape[:-1])))
        return draw(key, (math.prod(shape),), dtype).reshape(shape) * scale

    return init


_KERNEL_INIT = {
    # Kaiming He's "MSRA": normal with variance 2 / fan_in.
    "msra": _scaled(jax.random.normal, 2.0),
    # MSRA times 0.1, so the variance is times 0.01 (ESRGAN, supplement §2).
    "msra_tenth": _scaled(jax.random.normal, 0.02),
    # torch's default, kaiming_uniform with a = sqrt(5): uniform within 1 / sqrt(fan_in).
    "torch": _scaled(partial(jax.random.uniform, minval=-1), 1.0),
}
INITIALIZERS = tuple(_KERNEL_INIT)

# A kernel with more than this many times the values of an image is slow in XLA on CPUs, so there
# the convolution and its gradients are matrix products: deep layers of VGG and the discriminator.
LARGE_KERNEL = 32
# Winograd's method takes convolutions with so many channels or more, unless the kernel, which it
# rearranges each time, has more than this many times the values of an image. With 64 channels it
# gains nothing where devices split the columns, as after upsampling.
WINOGRAD_CHANNELS = 128
WINOGRAD_KERNEL = 10
STRIP_PIXELS = 512  # pixels of a strip in `_kernel_gradient`; the fastest of 256 to 2048
Padding = tuple[tuple[int, int], ...]  # (above, below), (left, right)
Pair = tuple[jax.Array, jax.Array]  # of an input and a kernel


def kernel_init(initializer: str) -> nn.initializers.Initializer:
    """Returns the initialiser of kernels: "msra", "msra_tenth" or "torch"."""
    if initializer not in _KERNEL_INIT:
        raise InputError(f"initializer is {initializer!r}: choose {', '.join(_KERNEL_INIT)}")
    return _KERNEL_INIT[initializer]


def bias_init(initializer: str, fan_in: int) -> nn.initializers.Initializer:
    """Returns the initialiser of biases: zeros, or for "torch" uniform within 1 / sqrt(fan_in)."""
    limit = fan_in**-0.5
    uniform = partial(jax.random.uniform, minval=-limit, maxval=limit)
    return uniform if initializer == "torch" else nn.initializers.zeros_init()


class Conv(nn.Module):
    """A square convolution with torch's padding.

    Attributes:
        features: Output channels.
        size: Kernel height and width.
        stride: Step in both directions.
        upsample: Factor by which the input is enlarged before, by nearest neighbour.
        initializer: "msra", "msra_tenth" or "torch" (see `kernel_init`).
        use_bias: Whether a bias is added.
        dtype: Computation dtype, also of what `parameters` returns; they are kept in float32.

    Zero padding is (size - 1) // 2 on all four sides: 1 for 3x3, 1 for 4x4 with stride 2, as the
    published networks have it. Flax's "SAME" pads 3x3 with stride 2 on one side only.
    """

    features: int
    size: int = 3
    stride: int = 1
    upsample: int = 1
    initializer: str = "msra"
    use_bias: bool = True
    dtype: jnp.dtype = jnp.dtype("float32")

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, *biases = self.parameters(x.shape[-1])
        x = x.astype(self.dtype)
        if self.upsample > 1:
            return sum(biases, convolve_upsampled(x, kernel, self.upsample))
        return sum(biases, convolve(x, kernel, self.stride))

    @nn.compact
    def parameters(self, inputs: int) -> list[jax.Array]:
        """Returns the kernel (size, size, inputs, features) and any bias (1, 1, 1, features)."""
        kernel = kernel_init(self.initializer), (self.size, self.size, inputs, self.features)
        bias = bias_init(self.initializer, self.size**2 * inputs), (self.features,)
        found = []
        for name, (init, shape) in [("kernel", kernel), ("bias", bias)][: 1 + self.use_bias]:
            # Flax traces the initialiser of a parameter that exists as well, to compare the shapes.
            init = nn.initializers.zeros if self.has_variable("params", name) else init
            found.append(self.param(name, init, shape).astype(self.dtype))
        return [found[0], *(bias.reshape(1, 1, 1, -1) for bias in found[1:])]


def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolves (N, H, W, C) with a kernel (K, K, C, O), padded with (K - 1) // 2 zeros.

    Within `padded_by`, its pad takes the place of the zeros. Only reverse mode works (`jax.grad`),
    not `jax.jvp`, because of `_backward`.
    """
    x, padding = padded(x, (kernel.shape[0] - 1) // 2)
    return _with_gradient(x, kernel, stride, ((padding, padding),) * 2)


def convolve_upsampled(x: jax.Array, kernel: jax.Array, factor: int) -> jax.Array:
    """(N, H, W, C) -> (N, factor H, factor W, O): nearest neighbour, then a kernel (3, 3, C, O).

    It is padded as by `convolve`. Each of the factor² results at a pixel reads only 2x2 pixels of
    x. So the values of the kernel are added up to a kernel of 2x2 for each of them: at factor 2,
    4/9 of the multiplications.
    """
    (n, height, width, inputs), outputs = x.shape, kernel.shape[-1]
    shifts = [0] * (factor - 1) + [1]  # the last results read the next pixel, others the one before
    place, reads, tap = np.ogrid[:factor, :2, :3]
    taps = np.float32((place + tap - 1) // factor + (place < factor - 1) == reads)
    kernels = jnp.einsum("ysd,xte,deio->stiyxo", taps, taps, kernel, precision="highest")
    x, pad = padded(x, 1)
    # Results of one width, so that devices that split the columns exchange only their borders.
    beside = [
        _with_gradient(x, k.reshape(2, 2, inputs, -1), 1, ((pad, pad), (pad - i, pad - 1 + i)))
        for i, k in enumerate(jnp.split(kernels.astype(kernel.dtype), [factor - 1], axis=4))
    ]
    # Stacking the columns as well takes TPUs a third longer, by the compiler's estimate.
    parts = zip(shifts, *(jnp.split(each, factor, axis=-1) for each in beside), strict=True)
    rows = [jnp.concatenate(each, axis=-1)[:, i : i + height] for i, *each in parts]
    return jnp.stack(rows, axis=2).reshape(n, factor * height, factor * width, outputs)


def _convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    def by_xla(x: jax.Array, kernel: jax.Array) -> jax.Array:
        names = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, (stride,) * 2, padding, dimension_numbers=names)

    def by_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
        wider = jnp.pad(x, ((0, 0), *padding, (0, 0)))
        shifts = jnp.concatenate(_shifts(wider, len(kernel), stride), axis=-1)
        return shifts @ kernel.reshape(-1, kernel.shape[-1])

    if _by_winograd(x, kernel, stride, padding):
        return lax.platform_dependent(x, kernel, cpu=convolve_winograd, default=by_xla)
    exported = not all(isinstance(side, int) for side in x.shape[1:3])  # for images of any size
    if exported or kernel.size <= LARGE_KERNEL * x[0].size:
        return by_xla(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=by_product, default=by_xla)


def _by_winograd(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> bool:
    same = len(kernel) == 3 and stride == 1 and padding == ((1, 1), (1, 1))
    return (
        same
        and suits_winograd(x, kernel, WINOGRAD_CHANNELS)
        and kernel.size <= WINOGRAD_KERNEL * x[0].size
    )


def _shifts(x: jax.Array, size: int, stride: int = 1) -> list[jax.Array]:
    """Returns what each of the size² values of a kernel reads from x, padded: (N, h, w, C)."""
    height, width = x.shape[1] - size + 1, x.shape[2] - size + 1
    return [
        x[:, down : down + height : stride, right : right + width : stride]
        for down, right in np.ndindex(size, size)
    ]


def _backward(stride: int, padding: Padding, saved: Pair, g: jax.Array) -> Pair:
    x, kernel = saved

    def by_xla(x: jax.Array, g: jax.Array) -> jax.Array:
        of_kernel = partial(_convolve, x, stride=stride, padding=padding)
        return jax.linear_transpose(of_kernel, kernel)(g)[0]

    # On CPUs XLA's gradient of the kernel is several times slower than the forward pass.
    fits = stride == 1 and all(0 <= pad < len(kernel) for pads in padding for pad in pads)
    by_products = partial(_kernel_gradient, size=len(kernel), padding=padding)
    of_kernel = lax.platform_dependent(x, g, cpu=by_products if fits else by_xla, default=by_xla)

    def transposed(kernel: jax.Array, g: jax.Array) -> jax.Array:
        return jax.linear_transpose(lambda x: _convolve(x, kernel, stride, padding), x)(g)[0]

    def flipped(kernel: jax.Array, g: jax.Array) -> jax.Array:
        # Without the barrier XLA would convolve with a kernel of other dimensions, which takes CPUs
        # several times as long.
        turned = lax.optimization_barrier(kernel[::-1, ::-1].swapaxes(2, 3))
        return _convolve(g, turned, 1, _rest(padding, len(kernel)))

    if not fits:
        return transposed(kernel, g), of_kernel
    return lax.platform_dependent(kernel, g, cpu=flipped, default=transposed), of_kernel


def _rest(padding: Padding, size: int) -> Padding:
    """Returns the padding of a result's gradient when the turned kernel convolves it."""
    return tuple((size - 1 - before, size - 1 - after) for before, after in padding)


_with_gradient = jax.custom_vjp(_convolve, nondiff_argnums=(2, 3))
_with_gradient.defvjp(lambda x, k, *rest: (_convolve(x, k, *rest), (x, k)), _backward)


def _kernel_gradient(x: jax.Array, g: jax.Array, size: int, padding: Padding) -> jax.Array:
    """Computes the gradient of a (size, size, C, O) kernel as matrix products; stride 1.

    Strips of rows of x, (pixels, C) transposed, are multiplied with the size² shifts of g,
    concatenated to (pixels, size² O). A strip is so small that its shifts fit in the cache.
    """
    (_, height, width, inputs), outputs = x.shape, g.shape[-1]
    rest = _rest(padding, size)
    if inputs < outputs:  # shifting the narrower array is less work; the result is flipped
        return _kernel_gradient(g, x, size, rest)[::-1, ::-1].swapaxes(2, 3)
    wider = jnp.pad(g, ((0, 0), *rest, (0, 0)))
    most = max(1, STRIP_PIXELS // (len(x) * width))
    rows = next(rows for rows in range(min(most, height), 0, -1) if height % rows == 0)

    def add(total: jax.Array, top: jax.Array) -> tuple[jax.Array, None]:
        strip = lax.dynamic_slice_in_dim(x, top, rows, 1).reshape(-1, inputs)
        shifts = _shifts(lax.dynamic_slice_in_dim(wider, top, rows + size - 1, 1), size)
        beside = jnp.concatenate(shifts[::-1], axis=-1).reshape(-1, size**2 * outputs)
        return total + jnp.dot(strip.T, beside, preferred_element_type=jnp.float32), None

    zeros = jnp.zeros((inputs, size**2 * outputs), jnp.float32)
    total, _ = lax.scan(add, zeros, jnp.arange(0, height, rows))
    return total.reshape(inputs, size, size, outputs).transpose(1, 2, 0, 3).astype(x.dtype)


def leaky_relu(x: jax.Array) -> jax.Array:
    """Leaky ReLU with the slope of 0.2 that generator and discriminator share."""
    return nn.leaky_relu(x, 0.2)
