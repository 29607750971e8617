"""Upscales the images of a benchmark by PyTorch, ONNX Runtime and OpenVINO."""

import functools
import io
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pyvips
import torch
from torch import nn

from benchmarks import timing, torch_device, torch_networks
from benchmarks.image_work import Job, Work

WRITERS = 4  # files that are compressed at the same time, as by `esrgan_jax.upscale`


class _Peer(NamedTuple):
    """A network as its framework runs it.

    Attributes:
        call: From (H, W, 3) uint8 to (scale H, scale W, 3) uint8, tensors of PyTorch or arrays.
        put: Makes the argument of `call` from an array.
    """

    call: Callable[[Any], Any]
    put: Callable[[np.ndarray], Any] = np.asarray


class ImageToImage(nn.Module):
    """A network with the conversions of images around it: (H, W, 3) uint8, as of `Upscaler`."""

    def __init__(self, network: nn.Module, dtype: torch.dtype, memory_format: torch.memory_format):
        super().__init__()
        self.dtype, self.memory_format = dtype, memory_format
        self.network: Any = network.to(dtype=dtype, memory_format=memory_format)  # pyright: ignore[reportCallIssue]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = image.permute(2, 0, 1)[None].to(self.dtype) / 255
        sr = self.network(x.contiguous(memory_format=self.memory_format))[0].float()
        return (sr.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()


def peer_sides(
    peers: Sequence[str], fields: Mapping[str, Any], arrays: Mapping[str, np.ndarray], work: Work
) -> Iterator[timing.Side]:
    """Yields the sides of the peers. Each gets whole images, without tiles.

    Args:
        peers: Of `upscale.PEERS`.
        fields: Of `torch_networks.RRDBNet`.
        arrays: Its weights.
        work: The images.
    """

    def network() -> nn.Module:
        return torch_networks.load_arrays(torch_networks.RRDBNet(**fields), arrays).eval()

    onnx = functools.cache(lambda: _onnx_file(network(), work.image))
    if "torch" in peers:
        for name in (torch_device.SHIPPED, torch_device.CHANNELS_LAST, torch_device.TUNED):
            build = functools.partial(_torch_peer, name, network)
            precision = torch_device.precision(name, training=False)
            run = functools.partial(_run, build, work, name)
            yield timing.Side(name, precision, run, torch_device.peak)
    for name, build in (("onnxruntime", _onnxruntime_peer), ("openvino", _openvino_peer)):
        if name in peers:
            run = functools.partial(_run, lambda build=build: build(onnx()), work, name)
            yield timing.Side(name, "float32", run, timing.host_peak)


def _run(build: Callable[[], _Peer], work: Work, side: str) -> timing.Run:
    """Returns the run of a side."""
    peer = build()
    if work.folder is None:
        image = peer.put(work.image)
        return lambda: peer.call(image)
    jobs = work.jobs(side)
    return lambda: _upscale_files(peer, jobs)


def _upscale_files(peer: _Peer, jobs: Sequence[Job]) -> list[Job]:
    """Reads and upscales one file after the other; the results are written in the background."""

    def write(sr: Any, job: Job) -> None:
        array = np.asarray(sr.cpu() if isinstance(sr, torch.Tensor) else sr)
        pyvips.Image.new_from_array(array).write_to_file(str(job[1]))

    with ThreadPoolExecutor(WRITERS) as pool:
        writes = []
        for job in jobs:
            image = pyvips.Image.new_from_file(str(job[0])).numpy()
            writes.append(pool.submit(write, peer.call(peer.put(image)), job))
        for done in writes:
            done.result()
    return list(jobs)


def _torch_peer(name: str, network: Callable[[], nn.Module]) -> _Peer:
    device = torch_device.find_device()
    shipped, on_gpu = name == torch_device.SHIPPED, device.type == "cuda"
    dtype = torch.float16 if shipped and on_gpu else torch.float32
    memory_format = torch.contiguous_format if shipped else torch.channels_last
    model: Any = ImageToImage(network(), dtype, memory_format).to(device)
    if name == torch_device.TUNED:
        model = torch.compile(model, dynamic=False)
    autocast = on_gpu and not shipped

    def call(image: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            sr = model(image)
        torch_device.synchronize(device)
        return sr

    return _Peer(call, lambda image: torch.from_numpy(image).to(device))


def _onnx_file(network: nn.Module, image: np.ndarray) -> bytes:
    model, file = ImageToImage(network, torch.float32, torch.contiguous_format), io.BytesIO()
    with warnings.catch_warnings(action="ignore"):  # the newer exporter needs onnxscript
        given: Any = {"input_names": ["lr"], "opset_version": 17, "dynamo": False}
        torch.onnx.export(model, (torch.from_numpy(image),), file, **given)  # pyright: ignore[reportArgumentType]
    return file.getvalue()


def _onnxruntime_peer(onnx: bytes) -> _Peer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = timing.cores()
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    return _Peer(lambda image: session.run(None, {"lr": image})[0])


def _openvino_peer(onnx: bytes) -> _Peer:
    # Without it OpenVINO does not report its use, from a process forked next to JAX's threads.
    sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]
    import openvino

    options = {
        "INFERENCE_NUM_THREADS": timing.cores(),
        "INFERENCE_PRECISION_HINT": "f32",  # otherwise bfloat16, where the processor has it
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(io.BytesIO(onnx)), "CPU", options)
    return _Peer(lambda image: compiled(image)[0])
