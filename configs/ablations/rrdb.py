"""Ablation 5 of 5 (paper §4.4; Fig. 8, 6th column): the deeper network of 23 RRDBs.

Expected: better textures, above all in regular structures such as roofs, and less noise. This is
`configs/x4.py` under the ladder's name; the 7th column has the same network and more training
images.
"""

from typing import Any

from configs import x4


def get_config() -> Any:
    config = x4.get_config()
    config.recipe = "rrdb"
    return config
