"""Ablation 1 of 5 (paper §4.4; Fig. 8, 2nd column): SRGAN, where ESRGAN starts from.

SRResNet of 16 blocks with batch normalisation, VGG features after activation, and the standard GAN
loss. Everything else is the paper's recipe, so that each of the five configs differs from the
previous one in one thing only:

    srgan_baseline  →  no_bn  →  before_activation  →  ragan  →  rrdb
"""

from typing import Any

from ml_collections import ConfigDict

from configs import x4


def get_config() -> Any:
    config = x4.get_config()
    config.recipe = "srgan_baseline"
    # The whole section, since SRResNet has no settings for growth, unshuffle and remat.
    config.generator = ConfigDict(
        {
            "name": "srresnet",
            "num_features": 64,
            "num_blocks": 16,
            "in_channels": 3,
            "out_channels": 3,
            "normalize": True,
            "initializer": "msra_tenth",
            "dtype": "float32",
        }
    )
    config.gan.layer_weights = ConfigDict({"relu5_4": 1.0})
    config.gan.relativistic = False
    return config
