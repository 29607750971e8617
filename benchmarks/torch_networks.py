"""The three networks in PyTorch, with the tensor names of BasicSR and torchvision.

What our own are measured against, in speed (benchmarks) and in their numbers (tests). Images are
NCHW here. Activations are in place, as in the programs that people run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

VGG_STAGES = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
VGG_WIDTHS = (64, 128, 256, 512, 512)


def _conv(columns: int, rows: int) -> nn.Conv2d:
    return nn.Conv2d(columns, rows, 3, padding=1)


def _lrelu(x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, 0.2, inplace=True)


class DenseBlock(nn.Module):
    """BasicSR's ResidualDenseBlock; with `plus` that of ESRGAN+."""

    def __init__(self, num_features: int, num_growth: int, plus: bool):
        super().__init__()
        if plus:
            self.conv1x1 = nn.Conv2d(num_features, num_growth, 1, bias=False)
        self.conv1 = _conv(num_features, num_growth)
        self.conv2 = _conv(num_features + num_growth, num_growth)
        self.conv3 = _conv(num_features + 2 * num_growth, num_growth)
        self.conv4 = _conv(num_features + 3 * num_growth, num_growth)
        self.conv5 = _conv(num_features + 4 * num_growth, num_features)
        self.plus = plus

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x1 = _lrelu(self.conv1(x))
        x2 = _lrelu(self.conv2(torch.cat((x, x1), 1)))
        if self.plus:
            x2 = x2 + self.conv1x1(x)
        x3 = _lrelu(self.conv3(torch.cat((x, x1, x2), 1)))
        x4 = _lrelu(self.conv4(torch.cat((x, x1, x2, x3), 1)))
        if self.plus:
            x4 = x4 + x2
        return x + 0.2 * self.conv5(torch.cat((x, x1, x2, x3, x4), 1))


class RRDB(nn.Module):
    def __init__(self, num_features: int, num_growth: int, plus: bool):
        super().__init__()
        self.rdb1 = DenseBlock(num_features, num_growth, plus)
        self.rdb2 = DenseBlock(num_features, num_growth, plus)
        self.rdb3 = DenseBlock(num_features, num_growth, plus)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.2 * self.rdb3(self.rdb2(self.rdb1(x)))


class RRDBNet(nn.Module):
    """The generator; takes the fields that `interop.rrdb_names.from_torch` finds."""

    def __init__(
        self,
        num_features: int = 64,
        num_growth: int = 32,
        num_blocks: int = 23,
        in_channels: int = 3,
        out_channels: int = 3,
        scale: int = 4,
        unshuffle: int = 1,
        plus: bool = False,
        upsampler: str = "upconv",
    ):
        super().__init__()
        self.unshuffle, self.upsampler = unshuffle, upsampler
        enlarging = scale * unshuffle
        self.factors = (3,) if enlarging == 3 else (2,) * (enlarging.bit_length() - 1)
        self.conv_first = _conv(in_channels * unshuffle**2, num_features)
        blocks = (RRDB(num_features, num_growth, plus) for _ in range(num_blocks))
        self.body = nn.Sequential(*blocks)
        self.conv_body = _conv(num_features, num_features)
        for index, factor in enumerate(self.factors, 1):
            rows = num_features * (1 if upsampler == "upconv" else factor**2)
            setattr(self, f"conv_up{index}", _conv(num_features, rows))
        self.conv_hr = _conv(num_features, num_features)
        self.conv_last = _conv(num_features, out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.unshuffle > 1:
            x = F.pixel_unshuffle(x, self.unshuffle)
        x = self.conv_first(x)
        x = x + self.conv_body(self.body(x))
        for index, factor in enumerate(self.factors, 1):
            conv = getattr(self, f"conv_up{index}")
            if self.upsampler == "upconv":
                x = conv(F.interpolate(x, scale_factor=factor, mode="nearest"))
            else:
                x = F.pixel_shuffle(conv(x), factor)
            x = _lrelu(x)
        return self.conv_last(_lrelu(self.conv_hr(x)))


class VGGStyleDiscriminator(nn.Module):
    """BasicSR's discriminator, without biases before normalisation, or that of 2019.

    Sides of images are multiples of 32.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_features: int = 64,
        use_bias: bool = True,
        hr_patch: int = 128,
    ):
        super().__init__()
        columns = in_channels
        self.layers = [f"{pair}_{index}" for pair in range(5) for index in (0, 1)]
        for layer in self.layers:
            rows, strided = num_features * min(2 ** int(layer[0]), 8), int(layer[2])
            bias = use_bias or layer == "0_0"
            conv = nn.Conv2d(columns, rows, 3 + strided, 1 + strided, padding=1, bias=bias)
            setattr(self, f"conv{layer}", conv)
            if layer != "0_0":
                setattr(self, f"bn{layer}", nn.BatchNorm2d(rows))
            columns = rows
        self.linear1 = nn.Linear(columns * (hr_patch // 32) ** 2, 100)
        self.linear2 = nn.Linear(100, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = getattr(self, f"conv{layer}")(x)
            if layer != "0_0":
                x = getattr(self, f"bn{layer}")(x)
            x = _lrelu(x)
        return self.linear2(_lrelu(self.linear1(x.flatten(1))))


class UNetDiscriminatorSN(nn.Module):
    """Real-ESRGAN's discriminator, with a logit for each pixel.

    Sides of images are multiples of 8.
    """

    def __init__(self, in_channels: int = 3, num_features: int = 64):
        super().__init__()
        nf = num_features
        widths = [nf, 2 * nf, 4 * nf, 8 * nf, 4 * nf, 2 * nf, nf, nf, nf]
        self.conv0 = nn.Conv2d(in_channels, nf, 3, padding=1)
        for index in range(1, 9):
            size, stride = (4, 2) if index < 4 else (3, 1)
            shape = widths[index - 1], widths[index], size, stride
            conv = nn.Conv2d(*shape, padding=1, bias=False)
            setattr(self, f"conv{index}", nn.utils.spectral_norm(conv))
        self.conv9 = nn.Conv2d(nf, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = [_lrelu(self.conv0(x))]
        for conv in (self.conv1, self.conv2, self.conv3):
            skips.append(_lrelu(conv(skips[-1])))
        x = skips.pop()
        for conv in (self.conv4, self.conv5, self.conv6):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = _lrelu(conv(x)) + skips.pop()
        return self.conv9(_lrelu(self.conv8(_lrelu(self.conv7(x)))))


class VGGFeatures(nn.Module):
    """torchvision's `features` up to the deepest layer asked for, after the weights' preprocessing.

    Args:
        layers: Names such as conv5_4 (before its activation) and relu5_4.
        depth: 16 or 19.
        preprocessing: `order`, `scale`, `mean`, `std` and `feature_scale` of the weights; left
            out, torchvision's.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        layers: Sequence[str] = ("conv5_4",),
        depth: int = 19,
        preprocessing: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        values = {
            "order": (0, 1, 2),
            "scale": 1.0,
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
            "feature_scale": 1.0,
        } | dict(preprocessing or {})
        self.order = [int(channel) for channel in values["order"]]
        self.scale, self.feature_scale = float(values["scale"]), float(values["feature_scale"])
        for key in ("mean", "std"):
            tensor = torch.tensor(np.asarray(values[key], np.float32)).view(1, 3, 1, 1)
            self.register_buffer(key, tensor, persistent=False)

        modules: list[nn.Module] = []
        self.names: list[str] = []  # of the modules, "" for pools
        columns = 3
        for stage, (count, rows) in enumerate(zip(VGG_STAGES[depth], VGG_WIDTHS, strict=True), 1):
            for index in range(1, count + 1):
                modules += [_conv(columns, rows), nn.ReLU(inplace=True)]
                self.names += [f"conv{stage}_{index}", f"relu{stage}_{index}"]
                columns = rows
            modules.append(nn.MaxPool2d(2, 2))
            self.names.append("")
        deepest = max(self.names.index(layer) for layer in layers)
        self.names = self.names[: deepest + 1]
        self.wanted = tuple(layers)
        self.features = nn.Sequential(*modules[: deepest + 1])

    def forward(self, rgb: torch.Tensor) -> dict[str, torch.Tensor]:
        x = (rgb * self.scale)[:, self.order]
        x = (x - self.mean) / self.std
        found = {}
        for name, layer in zip(self.names, self.features, strict=True):
            x = layer(x)
            if name in self.wanted:
                # A copy, because the activation after it works in place.
                found[name] = x.clone() * self.feature_scale
        return found


def load_arrays(module: nn.Module, arrays: Mapping[str, np.ndarray]) -> nn.Module:
    """Returns the module with exactly these tensors, by name."""
    module.load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in arrays.items()})
    return module


def to_nchw(images: np.ndarray) -> torch.Tensor:
    """Converts (N, H, W, C) float to a contiguous (N, C, H, W) tensor."""
    return torch.from_numpy(np.ascontiguousarray(np.asarray(images).transpose(0, 3, 1, 2)))
