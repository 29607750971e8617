"""A small Real-ESRGAN x4 that two CPU cores train, from the package's network for clean images.

    python tools/convert_vgg.py VGG19 vgg19.safetensors
    python -m esrgan_jax.main --config=configs/lite_real_x4.py:vgg19.safetensors \
        --workdir=runs/lite_real_x4 \
        --config.data.train=BSDS500/train,BSDS500/test,T91 --config.data.val=Kodak24

The degradations, losses and discriminator are those of `realesrgan_x4`, the network that of
`lite_x4`. Batches, patches, margins and schedules are small. On a CPU a degraded image takes as
long as three quarters of its part of a PSNR step.
"""

from typing import Any

from configs import lite_x4, realesrgan_x4


def get_config(vgg: str = "") -> Any:
    config, lite = realesrgan_x4.get_config(), lite_x4.get_config(vgg)
    config.recipe = "lite_real"
    config.vgg = lite.vgg
    config.data, config.generator = lite.data, lite.generator
    config.degradation.margin = 16
    config.discriminator.num_features = 32

    config.psnr.init_from = "lite-x4-psnr"
    config.psnr.steps = 12_000
    config.psnr.periods = (12_000,)
    config.psnr.learning_rate = 5e-4
    config.gan.steps = 8_000
    config.gan.periods = (8_000,)
    config.gan.learning_rate = 2e-4
    for stage in (config.psnr, config.gan):
        stage.batch_size = 8
        stage.hr_patch = 96
        stage.schedule = "cosine"

    config.log_every = 20
    config.eval_every = 1_000
    config.checkpoint_every = 500
    return config
