"""Both stages in minutes on two CPU cores: what `make demo` trains.

One block and 0.2 million parameters, on the handful of photographs that scikit-image ships. Small
networks like higher learning rates, and the short schedules end on cosines.

`--config=configs/demo.py:vgg19.safetensors` adds the perceptual loss. The GAN stage's weights are
not the paper's: in hundreds of steps instead of hundreds of thousands, only the pixel loss can
hold colours and brightness, and the paper's 0.01 of it lets them drift.
"""

from typing import Any

from configs import x4


def get_config(vgg: str = "") -> Any:
    config = x4.get_config()
    config.recipe = "demo"
    config.generator.num_features = 32
    config.generator.num_growth = 16
    config.generator.num_blocks = 1
    config.generator.initializer = "basicsr"  # the smaller start of "msra_tenth" costs minutes
    config.discriminator.num_features = 16

    config.psnr.steps = 2_400
    config.psnr.hr_patch = 48
    config.psnr.learning_rate = 2e-3
    config.gan.steps = 240
    config.gan.hr_patch = 64
    for stage in (config.psnr, config.gan):
        stage.batch_size = 8
        stage.schedule = "cosine"
        stage.periods = (stage.steps,)

    config.vgg = vgg or None
    config.gan.pixel_weight, config.gan.gan_weight = 1.0, 0.02
    config.gan.perceptual_weight = 0.1 if vgg else 0.0

    config.log_every = 20
    config.eval_every = 600
    config.checkpoint_every = 600
    return config
