"""The benchmark of the input pipeline, on tiny images."""

import numpy as np
import pytest

from benchmarks import input_pipeline, timing
from esrgan_jax.errors import InputError
from esrgan_jax.images.image_file import write_image


def test_every_source_is_measured(tmp_path):
    folder, photographs = tmp_path / "sources", tmp_path / "photographs"
    folder.mkdir()
    write_image(photographs / "a.png", np.full((240, 250, 3), 9, np.uint8))
    input_pipeline.write_sources(folder, photographs, (300, 256), 2)
    for source in input_pipeline.SOURCES:
        line = input_pipeline.measure_case(source, 0, str(folder), (300, 256), 32, 4, 0.01)
        assert line["case"]["source"] == source
        assert line["crops_per_s"] > 0
        busy = line["cpu_ms_per_crop"] / 1e3 * line["crops_per_s"]  # cores
        assert 0 < busy < timing.cores() + 0.5


def test_photographs_must_be_large_enough(tmp_path):
    write_image(tmp_path / "a.png", np.zeros((239, 250, 3), np.uint8))
    with pytest.raises(InputError, match="no image of at least 240 pixels"):
        input_pipeline.write_sources(tmp_path / "sources", tmp_path, (300, 256), 1)
