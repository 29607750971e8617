"""Ablation 4 of 5 (paper §4.4; Fig. 8, 5th column): the relativistic average GAN loss (Eq. 1, 2).

Expected: sharper edges and more detailed textures.
"""

from typing import Any

from configs.ablations import before_activation


def get_config() -> Any:
    config = before_activation.get_config()
    config.recipe = "ragan"
    config.gan.relativistic = True
    return config
