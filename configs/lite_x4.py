"""A small ESRGAN x4 that two CPU cores train in seven hours; its networks are in docs/models.md.

    python tools/convert_vgg.py VGG19 vgg19.safetensors
    python -m esrgan_jax.main --config=configs/lite_x4.py:vgg19.safetensors --workdir=runs/lite_x4 \
        --config.data.train=BSDS500/train,BSDS500/test,T91 --config.data.val=Kodak24

Two blocks and 0.87 million parameters: a fifteenth of the computation of 23 blocks. Small networks
can use higher learning rates. The short schedules are cosines.
"""

from typing import Any

from configs import x4


def get_config(vgg: str = "") -> Any:
    config = x4.get_config()
    config.recipe = "lite"
    config.vgg = vgg or None
    config.data.num_threads = 2
    config.generator.num_features = 32
    config.generator.num_growth = 32
    config.generator.num_blocks = 2
    config.generator.initializer = "basicsr"  # the smaller values of "msra_tenth" cost hours
    config.discriminator.num_features = 32

    config.psnr.steps = 24_000
    config.psnr.periods = (24_000,)
    config.psnr.hr_patch = 96
    config.psnr.learning_rate = 1e-3
    # VGG takes half of a step's time, so patches are small: in 13 minutes patches of 64 reached
    # LPIPS 0.370 on Kodak, those of 96 0.389, and this learning rate of the generator 0.338.
    config.gan.steps = 6_000
    config.gan.periods = (2_400, 3_600)  # restarted, since LPIPS still fell after the first period
    config.gan.hr_patch = 64
    config.gan.learning_rate = 3e-4
    for stage in (config.psnr, config.gan):
        stage.batch_size = stage.lr_batch_size = 8
        stage.schedule = "cosine"
        stage.b2 = 0.99
        stage.ema_decay = 0.999

    config.log_every = 20
    config.eval_every = 1_000
    config.checkpoint_every = 500
    return config
