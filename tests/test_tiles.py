"""Tests of plans of tiles: they cover each pixel once, overlap enough and have few shapes."""

import numpy as np
import pytest

from esrgan_jax.upscaling.tiles import SHORTEST_TILE, plan_axis, rounded, spans


@pytest.mark.parametrize("multiple", [1, 2, 4])
@pytest.mark.parametrize(
    ("size", "tile", "overlap"), [(100, 64, 32), (65, 64, 0), (1000, 36, 32), (129, 64, 7)]
)
def test_spans_are_equally_long_and_spaced_and_overlap_enough(size, tile, overlap, multiple):
    size += -size % multiple
    parts = spans(size, tile, overlap, multiple)
    starts = np.array([part[0] for part in parts])
    assert starts[0] == 0
    assert parts[-1][1] == size
    assert all(end - start == tile for start, end, *_ in parts)
    assert (starts % multiple == 0).all()
    steps = np.diff(starts)
    assert steps.max() <= tile - overlap
    assert steps.max() - steps.min() <= multiple  # no thin last tile
    assert len(parts) == 1 + int(np.ceil((size - tile) / ((tile - overlap) // multiple * multiple)))
    kept = [position for *_, begin, end in parts for position in range(begin, end)]
    assert kept == list(range(size))  # every position once
    for start, end, begin, finish in parts:
        assert begin == 0 or begin - start >= overlap // 2
        assert finish == size or end - finish >= overlap // 2


@pytest.mark.parametrize("steps", [0, 1, 4])
@pytest.mark.parametrize("multiple", [1, 2, 8])
@pytest.mark.parametrize("size", [1, 31, 32, 33, 100, 256, 257, 400, 1000, 5001])
def test_plans_cover_the_axis_with_tiles_of_at_most_the_given_length(size, multiple, steps):
    size += -size % multiple
    axis = plan_axis(size, 256, 112, multiple=multiple, steps=steps)
    assert axis.length <= 256
    assert axis.length % multiple == 0
    assert all(0 <= s.start < s.end <= size and s.end - s.start <= axis.length for s in axis.spans)
    kept = [position for s in axis.spans for position in range(s.keep_start, s.keep_end)]
    assert kept == list(range(size))
    for span in axis.spans:
        assert span.keep_start == 0 or span.keep_start - span.start >= 56
        assert span.keep_end == size or span.end - span.keep_end >= 56
    assert (len(axis.spans) == 1) == (size <= 256)


def test_the_last_tile_is_not_much_shorter_than_the_others():
    for size in range(257, 2000, 7):
        axis = plan_axis(size, 256, 112)
        lengths = [span.keep_end - span.keep_start for span in axis.spans]
        inner = lengths[1:-1] or lengths
        assert max(inner) - min(inner) <= 1
        assert min(lengths) >= max(lengths) - 112


@pytest.mark.parametrize(("steps", "most"), [(1, 6), (4, 21)])
def test_rounded_lengths_are_few_and_waste_little(steps, most):
    lengths = {size: rounded(size, 1, steps) for size in range(1, 1025)}
    assert len(set(lengths.values())) <= most
    assert all(length >= size for size, length in lengths.items())
    waste = [length / size for size, length in lengths.items() if size >= SHORTEST_TILE]
    assert max(waste) < 1 + 1 / steps


@pytest.mark.parametrize("steps", [0, 1, 4])
@pytest.mark.parametrize("multiple", [1, 2, 4])
@pytest.mark.parametrize(("tile", "overlap"), [(256, 112), (32, 0), (64, 6)])
def test_a_wrapped_axis_has_overlap_at_its_ends(tile, overlap, multiple, steps):
    for size in range(1, 700):
        axis = plan_axis(size, tile, overlap, multiple=multiple, steps=steps, wrap=True)
        if size <= tile and size % multiple == 0:
            assert [tuple(span) for span in axis.spans] == [(0, size, 0, size)]
            continue
        kept = [position for s in axis.spans for position in range(s.keep_start, s.keep_end)]
        assert kept == list(range(size))
        assert axis.length <= tile
        for span in axis.spans:
            assert span.start % multiple == 0
            assert span.end - span.start == axis.length
            assert span.keep_start - span.start >= overlap / 2
            assert span.end - span.keep_end >= overlap / 2
