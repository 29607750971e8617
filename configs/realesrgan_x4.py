"""Real-ESRGAN x4 as published (arXiv 2107.10833): RealESRNet by L1, then the GAN stage from it.

    python -m esrgan_jax.main --config=configs/realesrgan_x4.py --workdir=runs/realesrgan_x4 \
        --config.data.train=DF2K_OST --config.vgg=vgg19.safetensors

All numbers are those of the authors' option files, github.com/xinntao/Real-ESRGAN,
options/train_realesrnet_x4plus.yml and options/train_realesrgan_x4plus.yml. Their batch of 48 is 12
on each of four GPUs. They flip patches from left to right only (`use_rot: False`); here patches are
rotated and turned upside down, too. Their training images are DIV2K, Flickr2K and OST, and reduced
copies of the first two, which their scripts/generate_multiscale_DF2K.py makes.

To fine-tune the released networks, both of them:

    … --config.stage=gan --config.gan.init_from=realesrgan-x4plus \
        --config.gan.d_init_from=RealESRGAN_x4plus_netD.pth
"""

from typing import Any

from ml_collections import ConfigDict

from configs import x4
from esrgan_jax.degradation.settings import RealESRGAN


def get_config() -> Any:
    config = x4.get_config()
    config.recipe = "realesrgan"
    config.generator.initializer = "basicsr"
    config.discriminator.name = "unet"  # network_d: UNetDiscriminatorSN
    config.discriminator.num_features = 64  # num_feat
    config.discriminator.initializer = "torch"

    # The numbers of both orders: esrgan_jax/degradation/settings.py.
    config.degradation.name = "realesrgan"
    config.degradation.update(RealESRGAN()._asdict())

    config.psnr.init_from = "esrgan-x4"  # pretrain_network_g: ESRGAN_SRx4_DF2KOST_official-ff704c30
    config.psnr.steps = 1_000_000  # total_iter
    config.psnr.learning_rate = 2e-4
    config.gan.steps = 400_000
    config.gan.learning_rate = 1e-4
    config.gan.d_learning_rate = 1e-4
    for stage in (config.psnr, config.gan):
        stage.batch_size = stage.lr_batch_size = 48  # batch_size_per_gpu: 12, num_gpu: 4
        stage.hr_patch = 256  # gt_size
        stage.schedule = "multistep"
        stage.milestones = ()  # theirs, the last step, changes nothing
        stage.b1, stage.b2 = 0.9, 0.99  # betas
        stage.ema_decay = 0.999
        stage.pixel_norm = "l1"
    config.psnr.unsharp = ("pixel",)  # gt_usm
    config.gan.unsharp = ("pixel", "perceptual")  # l1_gt_usm, percep_gt_usm, not gan_gt_usm

    config.gan.pixel_weight = 1.0
    config.gan.perceptual_weight = 1.0
    config.gan.perceptual_norm = "l1"
    config.gan.layer_weights = ConfigDict(
        {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}
    )
    config.gan.gan_weight = 0.1
    config.gan.relativistic = False  # gan_type: vanilla
    return config
