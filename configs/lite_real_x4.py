"""A small Real-ESRGAN x4 that two CPU cores train, from the package's network for clean images.

    python tools/convert_vgg.py VGG19 vgg19.safetensors
    python -m esrgan_jax.main --config=configs/lite_real_x4.py:vgg19.safetensors \
        --workdir=runs/lite_real_x4 \
        --config.data.train=BSDS500/train,BSDS500/test,T91 --config.data.val=Kodak24

The losses and the discriminator are those of `realesrgan_x4`, the network that of `lite_x4`.
Batches, patches, margins and schedules are small. Degradations are milder, since a small network
that learns all of the published ones blurs what is clean: after 1,000 steps of the PSNR stage with
them, LPIPS on Set14 was 0.419 instead of the 0.292 that it started from. Targets are not sharpened,
for results without halos.
"""

from typing import Any

from configs import lite_x4, realesrgan_x4


def get_config(vgg: str = "") -> Any:
    config, lite = realesrgan_x4.get_config(), lite_x4.get_config(vgg)
    config.recipe = "lite_real"
    config.vgg = lite.vgg
    config.data, config.generator = lite.data, lite.generator
    config.degradation.margin = 16
    config.degradation.clean_prob = 0.4
    config.degradation.blur_sigma = (0.2, 2.5)
    config.degradation.resize_prob = (0.1, 0.4, 0.5)
    config.degradation.resize_range = (0.5, 1.2)
    config.degradation.noise_range = (0.0, 12.0)
    config.degradation.poisson_scale_range = (0.0, 1.0)
    config.degradation.second_blur_prob = 0.3
    config.degradation.blur_sigma2 = (0.2, 1.0)
    config.degradation.resize_prob2 = (0.1, 0.2, 0.7)
    config.degradation.resize_range2 = (0.6, 1.1)
    config.degradation.noise_range2 = (0.0, 8.0)
    config.degradation.poisson_scale_range2 = (0.0, 0.6)
    config.degradation.final_sinc_prob = 0.3
    config.discriminator.num_features = 32

    config.psnr.init_from = "lite-x4-psnr"
    config.psnr.steps = 2_500
    config.psnr.periods = (2_500,)
    config.psnr.learning_rate = 5e-4
    config.psnr.hr_patch, config.gan.hr_patch = 96, 64
    config.psnr.unsharp = config.gan.unsharp = ()
    config.gan.steps = 5_500
    config.gan.periods = (5_500,)
    config.gan.learning_rate = 3e-4
    # Of five layers of Oxford's VGG19, the loss is then about a hundred times the pixel loss. Four
    # times as much made white pages 7 to 10 levels darker in the first 1,000 steps.
    config.gan.perceptual_weight = 0.1
    for stage in (config.psnr, config.gan):
        stage.batch_size = stage.lr_batch_size = 8
        stage.schedule = "cosine"

    config.log_every = 20
    config.eval_every = 2_500
    config.checkpoint_every = 500
    return config
