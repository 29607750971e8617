"""Fine-tunes the package's PSNR network to remove noise and JPEG blocks: `make demo`, in minutes.

`lite-x4-psnr` was trained on clean images, so it treats noise and JPEG blocks as detail. Some
hundreds of steps on pairs whose LR images have both (`data.train_lr`) teach it to remove them.
`tools/demo.py` makes such pairs. For your own:

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

    config.log_every = 20
    config.eval_every = 150
    config.checkpoint_every = 150
    return config
