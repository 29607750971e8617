"""Real-ESRGAN x2 as published: `realesrgan_x4` with pixel unshuffle in front of the network.

    python -m esrgan_jax.main --config=configs/realesrgan_x2.py --workdir=runs/realesrgan_x2 \
        --config.data.train=DF2K_OST --config.vgg=vgg19.safetensors

See options/train_realesrnet_x2plus.yml and options/train_realesrgan_x2plus.yml of the authors.
They start the first stage from the x4 network, all but its first convolution, which has another
shape; here it starts from random weights. To start from their x2 network:

    … --config.stage=gan --config.gan.init_from=realesrgan-x2plus
"""

from typing import Any

from ml_collections import config_dict

from configs import realesrgan_x4


def get_config() -> Any:
    config = realesrgan_x4.get_config()
    config.scale = 2
    config.generator.unshuffle = 2
    config.psnr.init_from = config_dict.placeholder(str)
    return config
