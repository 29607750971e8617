"""ESRGAN x4 as published: the PSNR stage, then the GAN stage from its generator.

    python -m esrgan_jax.main --config=configs/x4.py --workdir=runs/x4 \
        --config.data.train=DF2K_sub --config.data.val=Set5 --config.vgg=vgg19.safetensors

Three recipes, behind a colon (`--config=configs/x4.py:basicsr`):

    paper         arXiv 1809.00219 and its supplement (the default)
    official2019  the authors' code of January 2019, when the weights were released
    basicsr       today's BasicSR: Adam's beta2, initialisation, cosine restarts, EMA, means of the
                  relativistic loss without gradient, discriminator without doubled biases

Expected with the paper's recipe on DF2K: Set5 32.73 dB on Y after the PSNR stage (RRDB DF2K, S
Table 2). The whole schedule takes 5.2e18 floating point operations.
"""

from typing import Any

from ml_collections import ConfigDict, config_dict

RECIPES = ("paper", "official2019", "basicsr")


def get_config(recipe: str = "paper") -> Any:
    if recipe not in RECIPES:
        raise ValueError(f"recipe {recipe!r}: choose one of {', '.join(RECIPES)}")
    config: Any = ConfigDict()
    config.recipe = recipe
    config.stage = "both"  # "psnr", "gan" or "both"
    config.seed = 0
    config.scale = 4
    config.vgg = config_dict.placeholder(str)  # made by tools/convert_vgg.py
    config.precision = "default"  # "highest": float32 products are exact on accelerators, too

    config.skip_nonfinite = 0  # so many steps in a row are skipped if a loss is not finite

    config.data = ConfigDict()
    config.data.train = config_dict.placeholder(str)  # folders, comma-separated, or a prepared one
    config.data.train_lr = config_dict.placeholder(str)  # their LR images; otherwise LR is computed
    config.data.val = config_dict.placeholder(str)  # folder of HR images
    config.data.val_lr = config_dict.placeholder(str)
    config.data.changed = "refuse"  # "accept": continue although the training images changed
    config.data.augment = True
    config.data.cache = "memory"  # or "device": all images are in the devices' memory
    config.data.num_workers = config_dict.placeholder(int)  # processes; None: chosen by the run
    config.data.num_threads = 4

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1  # devices over which parameters, Adam's state and averages are split
    config.mesh.data = config_dict.placeholder(int)  # None: the number of devices / fsdp
    config.mesh.rules = (("batch_stats", "replicated"), (".*", "fsdp"))  # the first that fits

    config.degradation = ConfigDict()
    config.degradation.name = "bicubic"  # MATLAB's
    config.degradation.function = config_dict.placeholder(str)  # or your own, "module:function"
    config.degradation.margin = 72  # HR pixels around a patch that a random degradation gets

    config.generator = ConfigDict()
    config.generator.name = "rrdb"
    config.generator.num_features = 64
    config.generator.num_growth = 32
    config.generator.num_blocks = 23
    config.generator.in_channels = 3
    config.generator.out_channels = 3
    config.generator.unshuffle = 1
    config.generator.plus = False
    config.generator.upsampler = "upconv"
    config.generator.initializer = "msra_tenth"
    config.generator.remat = False
    config.generator.dtype = "float32"

    config.discriminator = ConfigDict()
    config.discriminator.name = "vgg"
    config.discriminator.num_features = 64
    config.discriminator.use_bias = True  # of "vgg" alone
    config.discriminator.initializer = "msra"
    config.discriminator.dtype = "float32"

    stage: Any = ConfigDict()
    config.psnr = stage
    stage.init_from = config_dict.placeholder(str)  # any generator file or run
    stage.steps = 1_000_000
    stage.batch_size = 16
    stage.hr_patch = 192  # S §4
    stage.learning_rate = 2e-4
    stage.lr_scaling = "none"  # or "sqrt", "linear": learning rates grow with batch_size
    stage.lr_batch_size = 16  # that the learning rates are meant for
    stage.schedule = "multistep"
    stage.milestones = (200_000, 400_000, 600_000, 800_000)
    stage.factor = 0.5
    stage.periods = (250_000, 250_000, 250_000, 250_000)  # for "cosine", as is the minimum
    stage.minimum = 1e-7
    stage.warmup = 0  # first steps, in which the learning rate rises
    stage.optimizer = "adam"  # or "adamw", or "adan" with b1 = 0.98 and b2 = 0.92
    stage.b1, stage.b2 = 0.9, 0.999
    stage.b3 = 0.99  # of "adan"
    stage.weight_decay = 0.0  # of "adamw" and "adan"
    stage.clip_norm = 0.0  # 0: no clipping
    stage.accumulation = 1  # parts into which a batch is split
    stage.ema_decay = 0.0  # 0: no averaging
    stage.pixel_norm = "l1"
    stage.ms_ssim_weight = 0.0  # of 1 - MS-SSIM
    stage.unsharp = ()  # losses that compare with sharpened HR, such as ("pixel",)
    stage.best = "psnr_y"  # the metric by which the best checkpoint is kept

    stage = ConfigDict(stage.to_dict())
    config.gan = stage
    stage.init_from = config_dict.placeholder(str)  # None: the PSNR stage of this workdir
    stage.d_init_from = config_dict.placeholder(str)  # None: random weights
    stage.steps = 400_000
    stage.hr_patch = 128
    stage.learning_rate = 1e-4
    stage.d_learning_rate = 1e-4
    stage.d_frozen = 0  # first steps, in which the discriminator is not updated
    stage.schedule = "multistep"
    stage.milestones = (50_000, 100_000, 200_000, 300_000)
    stage.periods = (400_000,)
    stage.pixel_weight = 1e-2
    stage.perceptual_weight = 1.0  # 0: without VGG
    stage.perceptual_norm = "l1"
    stage.perceptual_dtype = "float32"  # of VGG's convolutions
    stage.layer_weights = ConfigDict({"conv5_4": 1.0})
    stage.gan_weight = 5e-3
    stage.ldl_weight = 0.0  # of LDL's map of artifacts; needs ema_decay
    stage.relativistic = True
    stage.stop_means = False

    config.log_every = 100
    config.eval_every = 5_000
    config.checkpoint_every = 5_000
    config.checkpoint_minutes = 60.0  # since the last checkpoint; 0: by steps alone
    config.metrics = (
        "psnr_y",
        "ssim_y",
        "psnr_rgb",
    )  # of validation; also "lpips", "niqe", "brightness"
    config.keep = 3  # newest checkpoints, in addition to the best

    if recipe == "official2019":
        config.psnr.hr_patch = 128
        config.gan.steps = 500_000
    if recipe == "basicsr":
        config.generator.initializer = "basicsr"
        config.discriminator.initializer = "torch"
        config.discriminator.use_bias = False
        config.psnr.hr_patch = 128
        config.psnr.schedule = "cosine"
        config.gan.stop_means = True
        for stage in (config.psnr, config.gan):
            stage.b2 = 0.99
            stage.ema_decay = 0.999
    return config
