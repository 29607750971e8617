"""The paper's claims one by one, at a size that two CPU cores train.

    python -m esrgan_jax.main --config=configs/ablations/lite.py:ragan --workdir=runs/ragan \
        --config.vgg=vgg19.safetensors --config.data.train=BSDS500/train,BSDS500/test,T91

Rows, each with one change from the row before it, or from rrdb:

    srgan_baseline  residual blocks with batch normalisation, features after activation, GAN
    no_bn           without batch normalisation
    before_activation, ragan, rrdb   as in the paper's ladder, see the configs of these names
    no_l1           rrdb without the L1 term of the GAN stage
    no_psnr         rrdb whose PSNR stage has one step: the GAN stage starts from random weights

The residual network has 20 blocks of 48 features, whose multiplications are as many as those of
the two RRDBs of `configs/lite_x4.py`. Seeds, steps and rates are the same in all rows.
"""

from typing import Any

from configs import lite_x4
from configs.ablations import before_activation, no_bn, ragan, rrdb, srgan_baseline

LADDER = {
    "srgan_baseline": srgan_baseline,
    "no_bn": no_bn,
    "before_activation": before_activation,
    "ragan": ragan,
    "rrdb": rrdb,
}
ROWS = (*LADDER, "no_l1", "no_psnr")


def get_config(row: str = "rrdb") -> Any:
    if row not in ROWS:
        raise ValueError(f"row {row!r}: choose one of {', '.join(ROWS)}")
    config, published = lite_x4.get_config(), LADDER.get(row, rrdb).get_config()
    config.recipe = f"lite_{row}"
    if published.generator.name == "srresnet":
        config.generator = published.generator
        config.generator.num_features = 48
        config.generator.num_blocks = 20
        config.generator.initializer = "torch"
    config.gan.layer_weights = published.gan.layer_weights
    config.gan.relativistic = published.gan.relativistic

    config.psnr.steps = 1 if row == "no_psnr" else 1_500
    config.gan.steps = 400
    config.psnr.learning_rate = 5e-4
    config.gan.pixel_weight = 0.0 if row == "no_l1" else config.gan.pixel_weight
    for stage in (config.psnr, config.gan):
        stage.periods = (stage.steps,)
        stage.ema_decay = 0.99  # the schedules are short
    config.eval_every = 500
    return config
