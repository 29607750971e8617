"""Resizing of images on a canvas next to torch and OpenCV."""

import cv2
import jax
import numpy as np
import pytest

from esrgan_jax.degradation.resize import MODES, resize

CANVAS = (48, 64)
SIZES = [((40, 64), (48, 63)), ((40, 64), (7, 10)), ((33, 47), (33, 47)), ((9, 5), (16, 31))]
resized = jax.jit(resize, static_argnames="canvas")


def run(image: np.ndarray, before, after, mode: str) -> np.ndarray:
    return np.asarray(resized(image, before, after, MODES.index(mode), canvas=CANVAS))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_resize_is_that_of_torch(rng, mode, before, after):
    torch = pytest.importorskip("torch", reason="needs torch: make peers")
    canvas = rng.random((40, 64, 3), np.float32)
    tensor = torch.from_numpy(canvas[: before[0], : before[1]]).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(tensor, size=after, mode=mode)[0].permute(1, 2, 0)
    ours = run(canvas, before, after, mode)[: after[0], : after[1]]
    np.testing.assert_allclose(ours, expected.numpy(), atol=2e-5)


@pytest.mark.parametrize(
    ("mode", "before", "after"),
    [
        *(("bilinear", *sizes) for sizes in SIZES),
        *(("bicubic", *sizes) for sizes in SIZES),
        ("area", (40, 60), (8, 15)),
    ],
)
def test_resize_is_that_of_opencv(rng, mode, before, after):
    kinds = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
    canvas = rng.random((40, 64, 3), np.float32)
    image = np.ascontiguousarray(canvas[: before[0], : before[1]])
    expected = cv2.resize(image, after[::-1], interpolation=kinds[mode])
    ours = run(canvas, before, after, mode)[: after[0], : after[1]]
    np.testing.assert_allclose(ours, expected, atol=2e-5)


@pytest.mark.parametrize("mode", MODES)
def test_beyond_its_size_the_edge_is_repeated(rng, mode):
    result = run(rng.random((40, 64, 3), np.float32), (40, 64), (21, 17), mode)
    edge = np.pad(result[:21, :17], ((0, 27), (0, 47), (0, 0)), mode="edge")
    np.testing.assert_array_equal(result, edge)
