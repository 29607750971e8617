"""Ablation 3 of 5 (paper §4.4; Fig. 8, 4th column): perceptual loss on features before activation.

Expected: the brightness of the HR images, while features after activation give darker ones; sharper
edges.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.ablations import no_bn


def get_config() -> Any:
    config = no_bn.get_config()
    config.recipe = "before_activation"
    config.gan.layer_weights = ConfigDict({"conv5_4": 1.0})
    return config
