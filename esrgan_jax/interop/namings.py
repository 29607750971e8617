"""The layer names of RRDB generators in the three namings that are read and written."""

# n is the number of x2 steps, nb that of blocks; u counts steps and r, c within a block from 1.
NAMINGS = {
    "basicsr": {  # BasicSR, Real-ESRGAN; others write ESRGAN+ as "old" only
        "first": "conv_first",
        "block": "body.{k}.rdb{r}.conv{c}",
        "plus": "body.{k}.rdb{r}.conv1x1",
        "body": "conv_body",
        "up": "conv_up{u}",
        "hr": "conv_hr",
        "last": "conv_last",
    },
    "bsrgan": {  # the ESRGAN repository since 2019, BSRGAN, RealSR
        "first": "conv_first",
        "block": "RRDB_trunk.{k}.RDB{r}.conv{c}",
        "plus": "RRDB_trunk.{k}.RDB{r}.conv1x1",
        "body": "trunk_conv",
        "up": "upconv{u}",
        "hr": "HRconv",
        "last": "conv_last",
    },
    "old": {  # the first release, most community models
        "first": "model.0",
        "block": "model.1.sub.{k}.RDB{r}.conv{c}.0",
        "plus": "model.1.sub.{k}.RDB{r}.conv1x1",
        "body": "model.1.sub.{nb}",
        "up": "model.{u3}",
        "hr": "model.{hr}",
        "last": "model.{last}",
    },
}
