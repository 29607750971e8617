"""Ablation 2 of 5 (paper §4.4; Fig. 8, 3rd column): the baseline without batch normalisation.

Expected: no loss of quality, less memory, and none of the artifacts of batch statistics.
"""

from typing import Any

from configs.ablations import srgan_baseline


def get_config() -> Any:
    config = srgan_baseline.get_config()
    config.recipe = "no_bn"
    config.generator.normalize = False
    return config
