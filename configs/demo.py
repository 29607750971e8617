"""The package's PSNR network learns what it does not know: what `make demo` trains, in minutes.

`lite-x4-psnr` was trained on clean images: noise and the blocks of JPEG it takes for detail, and
enlarges them. Some hundreds of steps on pairs whose LR images have both (`data.train_lr`) teach
it to leave them out. `tools/demo.py` makes such pairs; real ones are used alike:

    python -m esrgan_jax.main --config=configs/demo.py --workdir=runs/demo \
        --config.data.train=HR_FOLDER --config.data.train_lr=LR_FOLDER
"""

from typing import Any

from configs import lite_x4


def get_config() -> Any:
    config = lite_x4.get_config()
    config.recipe = "demo"
    config.stage = "psnr"
    config.psnr.init_from = "lite-x4-psnr"
    config.psnr.steps = 600
    config.psnr.periods = (600,)
    config.psnr.hr_patch = 64
    config.psnr.learning_rate = 5e-4
    config.psnr.ema_decay = 0.99  # the 0.999 of long runs would average over a sixth of this one

    config.log_every = 20
    config.eval_every = 150
    config.checkpoint_every = 150
    return config
