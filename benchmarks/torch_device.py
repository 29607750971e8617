"""PyTorch on the device that JAX uses: as other projects ship their networks, and tuned."""

from typing import Any

import jax
import torch
from torch import nn

from benchmarks import timing

SHIPPED, CHANNELS_LAST, TUNED = "torch_shipped", "torch_channels_last", "torch_tuned"


def find_device() -> torch.device:
    """Returns PyTorch's name for JAX's default device.

    Raises:
        RuntimeError: This PyTorch has none.
    """
    torch.set_num_threads(timing.cores())
    platform = jax.default_backend()
    if platform == "cpu":
        return torch.device("cpu")
    if platform == "gpu" and torch.cuda.is_available():
        return torch.device("cuda")
    raise RuntimeError(f"this PyTorch cannot use the {platform} that JAX uses")


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak(run: timing.Run) -> int:
    """As `timing.host_peak`; on a GPU, that of its memory."""
    device = find_device()
    if device.type == "cpu":
        return timing.host_peak(run)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    return torch.cuda.max_memory_allocated(device) - before


class Tuned(nn.Module):
    """Tunes a network: channels_last, compiled, and on a GPU bfloat16 by autocast."""

    def __init__(self, module: nn.Module, device: torch.device):
        super().__init__()
        module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.inner: Any = torch.compile(module, dynamic=False)
        self.kind = device.type

    def forward(self, x: torch.Tensor) -> Any:
        with torch.autocast(self.kind, torch.bfloat16, enabled=self.kind == "cuda"):
            return self.inner(x.contiguous(memory_format=torch.channels_last))


def precision(name: str, training: bool) -> str:
    """Returns the dtype in which the networks of a side compute."""
    if jax.default_backend() == "cpu":
        return "float32"
    if name == SHIPPED:
        return "float32" if training else "float16"
    return "bfloat16 autocast"
