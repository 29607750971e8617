"""Applies the network to tiles, in one program or in several that report progress."""

import itertools
import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from esrgan_jax.models.generator import Generator, Variables
from esrgan_jax.models.winograd import ROWS
from esrgan_jax.upscaling.borders import borders
from esrgan_jax.upscaling.tiles import Span, spans

PART = 32  # rows of features that `tail` computes at a time
REPORT_STEP = 0.1  # approximate part of the work between two reports of progress


def apply(
    module: Generator,
    variables: Variables,
    x: jax.Array,
    sizes: jax.Array,
    border: str,
) -> jax.Array:
    """Returns the network's result, and computes its `tail` in strips of rows if it can be split.

    Feature maps at the size of the result need most of the memory, and `tail` has a small receptive
    field, `Split.tail_field`. With border "wrap" the first rows depend on the last, so the network
    is applied as a whole.

    Args:
        module: The generator.
        variables: Its variables.
        x: (N, h, w, in_channels) float32.
        sizes: (N, 2) int, the height and width that is image.
        border: The padding at an image's border, see `upscaling.borders`.

    Returns:
        (N, scale h, scale w, out_channels).
    """
    parts = _parts(module, x.shape[1], border)
    if not parts:
        return _method(module, variables, sizes, border, "__call__", x)
    features = _method(module, variables, sizes, border, "trunk", x)
    tail = partial(_tail, module, variables, features, sizes // module.size_multiple, border)
    results = jax.lax.map(tail, jnp.array([part.start for part in parts]))
    return joined(module, [results], x.shape[1], border)


def begun(
    module: Generator,
    variables: Variables,
    x: jax.Array,
    sizes: jax.Array,
    border: str,
) -> tuple[jax.Array, jax.Array]:
    """Returns the result of `head` and the sizes of its features, for `apply_in_parts`.

    Of a network that cannot be split, it returns the network's result. The arguments are those of
    `apply`.
    """
    method = "head" if module.split else "__call__"
    first = _method(module, variables, sizes, border, method, x)
    return first, sizes // module.size_multiple


def apply_in_parts(
    module: Generator,
    variables: Variables,
    first: jax.Array,
    sizes: jax.Array,
    border: str,
    progress: Callable[[float], None],
    by_rows: Sharding | None = None,
) -> list[jax.Array]:
    """Does the rest of `apply` after `begun` in several programs, and reports progress after each.

    A program computes some of the blocks, or some strips of rows of the result.

    Args:
        module: The generator.
        variables: Its variables.
        first: The first result of `begun`.
        sizes: Its second one.
        border: The padding at an image's border, see `upscaling.borders`.
        progress: Called with the part of the work that is done, in (0, 1].
        by_rows: Splits rows over the devices, which is how blocks exchange least on CPUs; the
            columns are split before and after. None keeps what is.

    Returns:
        The arrays that `joined` takes.
    """
    if module.split is None:
        return [first]
    num_blocks, _, block, tail = module.split
    done, total = 0.0, num_blocks * block + tail

    def count(macs: float, result: jax.Array) -> jax.Array:
        nonlocal done
        result.block_until_ready()
        done += macs
        progress(min(done / total, 1.0))
        return result

    by_columns = first.sharding
    if by_rows and first.shape[1] % (ROWS * by_rows.num_devices) == 0:
        first = jax.device_put(first, by_rows)
    y = first
    # Several blocks a program, since each program allocates its memory anew.
    step = max(int(REPORT_STEP * total / block), 1)
    for start in range(0, num_blocks, step):
        end = min(start + step, num_blocks)
        y = count((end - start) * block, _blocks(module, variables, y, sizes, border, start, end))
    features = _method_alone(module, variables, sizes, border, "join", y, first)
    features = jax.device_put(features, by_columns)
    parts = _parts(module, first.shape[1] * module.size_multiple, border)
    if not parts:
        return [count(tail, _method_alone(module, variables, sizes, border, "tail", features))]
    step = -(-len(parts) // math.ceil(tail / total / REPORT_STEP))
    results: list[jax.Array] = []
    for index in range(0, len(parts), step):
        starts = np.zeros(step, np.int32)
        chosen = [part.start for part in parts[index : index + step]]
        starts[: len(chosen)] = chosen
        result = _tails(module, variables, features, sizes, border, starts, len(chosen))
        results.append(count(tail * len(chosen) / len(parts), result))
    return results


def joined(module: Generator, results: list[jax.Array], height: int, border: str) -> jax.Array:
    """Joins the strips of rows of `apply_in_parts`.

    Args:
        module: The generator.
        results: Arrays (parts, N, rows, W, out_channels), or one (N, scale h, scale w,
            out_channels) if the network was applied as a whole.
        height: Of the tiles, in LR pixels.
        border: The padding at an image's border.

    Returns:
        (N, scale h, scale w, out_channels).
    """
    parts = _parts(module, height, border)
    if not parts:
        return results[0]
    factor = module.scale * module.size_multiple
    kept = [
        result[:, (part.keep_start - part.start) * factor : (part.keep_end - part.start) * factor]
        for result, part in zip(itertools.chain(*results), parts, strict=False)
    ]
    return jnp.concatenate(kept, axis=1)


def macs(module: Generator, variables: Variables) -> float:
    """Returns the approximate number of multiply-accumulates of a network per LR pixel."""
    if split := module.split:
        macs = split.num_blocks * split.block_macs + split.tail_macs
        return macs / module.size_multiple**2
    return max(sum(np.size(leaf) for leaf in jax.tree.leaves(variables)), 1)


def _parts(module: Generator, height: int, border: str) -> list[Span]:
    """Returns the strips of rows of features; none if the network is applied as a whole."""
    rows = height // module.size_multiple
    if module.split is None or rows <= 2 * PART or border == "wrap":
        return []
    return spans(rows, _part_length(module), 2 * module.split.tail_field)


def _part_length(module: Generator) -> int:
    """Returns the rows of a strip: PART, and the receptive field of `tail` on both sides."""
    assert module.split is not None
    return PART + 2 * module.split.tail_field


def _method(
    module: Generator,
    variables: Variables,
    sizes: jax.Array,
    border: str,
    method: str,
    *inputs: jax.Array,
    **options: bool,
) -> jax.Array:
    """Applies a method of the network, with each image of the batch padded at its own border."""
    height, width = inputs[0].shape[1:3]
    with borders(sizes, height, width, border):
        return module.apply(variables, *inputs, **options, method=method)


@partial(jax.jit, static_argnums=(0, 4))
def _blocks(
    module: Generator,
    variables: Variables,
    x: jax.Array,
    sizes: jax.Array,
    border: str,
    start: jax.Array,
    end: jax.Array,
) -> jax.Array:
    """Applies the blocks from `start` to `end`, whose parameters are stacked."""
    params, one_block = variables["params"], module.clone(num_blocks=1)

    def block(index: jax.Array, x: jax.Array) -> jax.Array:
        body = jax.tree.map(lambda p: jax.lax.dynamic_slice_in_dim(p, index, 1), params["body"])
        one = {"params": {**params, "body": body}}
        return _method(one_block, one, sizes, border, "blocks", x, rolled=True)

    return jax.lax.fori_loop(start, end, block, x)


def _tail(
    module: Generator,
    variables: Variables,
    features: jax.Array,
    sizes: jax.Array,
    border: str,
    start: jax.Array,
) -> jax.Array:
    """Computes the strip of rows of the result that begins at row `start` of the features."""
    length = _part_length(module)
    part = jax.lax.dynamic_slice_in_dim(features, start, length, axis=1)
    left = jnp.stack([(sizes[:, 0] - start).clip(0, length), sizes[:, 1]], axis=1)
    return _method(module, variables, left, border, "tail", part)


@partial(jax.jit, static_argnums=(0, 4))
def _tails(
    module: Generator,
    variables: Variables,
    features: jax.Array,
    sizes: jax.Array,
    border: str,
    starts: jax.Array,
    count: jax.Array,
) -> jax.Array:
    """Computes the first `count` strips of rows: (parts, N, rows, W, out_channels), then zeros."""
    tail = partial(_tail, module, variables, features, sizes, border)
    factor = module.scale * module.size_multiple
    rows, width = _part_length(module) * factor, features.shape[2] * factor
    # `jax.eval_shape` would trace the layers a second time.
    results = jnp.zeros((len(starts), len(features), rows, width, module.out_channels))
    return jax.lax.fori_loop(0, count, lambda i, x: x.at[i].set(tail(starts[i])), results)


_method_alone = jax.jit(_method, static_argnums=(0, 3, 4))
