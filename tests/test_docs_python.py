"""The code blocks of docs/python.md run in order and do what the page says."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from esrgan_jax import Upscaler, load_generator

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
SKIPPED = "<!-- not run"


def blocks() -> list[str]:
    """Returns the blocks to run, each padded with empty lines so that line numbers match."""
    page = PAGE.read_text()
    found = re.finditer(r"^(<!--.*-->\n)?```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return [
        "\n" * page.count("\n", 0, match.start(2)) + match[2]
        for match in found
        if not (match[1] or "").startswith(SKIPPED)
    ]


@pytest.mark.slow
def test_the_blocks_of_the_page_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    for block in blocks():
        exec(compile(block, str(PAGE), "exec"), names)
    assert len(blocks()) == 6
    state, image = names["state"], names["image"]
    assert int(state.step) == 6  # five of the PSNR stage and one of the GAN stage
    assert np.isfinite(jax.device_get(names["metrics"]["l_g_gan"]))

    # The jitted function gives the result of Upscaler, up to rounding.
    module, variables = names["module"], names["variables"]
    whole = names["upscale"](variables, image[None] / np.float32(255))[0]
    levels = np.abs(np.asarray(whole) * 255 - Upscaler(module, variables)(image))
    assert levels.max() < 0.51

    _, saved = load_generator("mine.safetensors")
    jax.tree.map(np.testing.assert_array_equal, saved["params"], state.ema_params)


def test_every_public_name_is_on_the_page():
    import esrgan_jax

    text = PAGE.read_text()
    assert [name for name in esrgan_jax.__all__ if f"`{name}`" not in text] == []
