"""Upscales the images of a benchmark by PyTorch, ONNX Runtime and OpenVINO."""

import functools
import io
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from benchmarks import timing, torch_device, torch_networks
from benchmarks.image_work import Job, Work


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
            run = functools.partial(
                _run, lambda threads, build=build: build(onnx(), threads), work, name
            )
            yield timing.Side(name, "float32", run, timing.host_peak)


def _run(build: Callable[[int], _Peer], work: Work, side: str) -> timing.Run:
    """Returns the run of a side. Of files, each core upscales one at a time, which is fastest."""
    cores = timing.cores()
    if work.folder is None:
        peer = build(cores)
        image = peer.put(work.image)
        return lambda: peer.call(image)
    peer, jobs = build(1), work.jobs(side)

    import pyvips  # here, since machines with accelerators may lack it

    def upscale(job: Job) -> None:
        sr = peer.call(peer.put(pyvips.Image.new_from_file(str(job[0])).numpy()))
        array = np.asarray(sr.cpu() if isinstance(sr, torch.Tensor) else sr)
        pyvips.Image.new_from_array(array).write_to_file(str(job[1]))

    upscale(jobs[0])  # once OpenVINO waited forever in the first calls of two threads at once

    def run() -> list[Job]:
        # PyTorch's number of threads is that of the calling thread.
        with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(upscale, jobs))
        return jobs

    return run


def _torch_peer(name: str, network: Callable[[], nn.Module], threads: int) -> _Peer:
    device = torch_device.find_device()
    torch.set_num_threads(threads)
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


def _onnxruntime_peer(onnx: bytes, threads: int) -> _Peer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    return _Peer(lambda image: session.run(None, {"lr": image})[0])


def _openvino_peer(onnx: bytes, threads: int) -> _Peer:
    # Without it OpenVINO does not report its use, from a process forked next to JAX's threads.
    sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]
    import openvino

    options = {
        "INFERENCE_NUM_THREADS": timing.cores(),
        "NUM_STREAMS": timing.cores() // threads,
        "INFERENCE_PRECISION_HINT": "f32",  # otherwise bfloat16, where the processor has it
    }
    core, local = openvino.Core(), threading.local()
    compiled = core.compile_model(core.read_model(io.BytesIO(onnx)), "CPU", options)

    def call(image: np.ndarray) -> np.ndarray:
        if not hasattr(local, "request"):  # one for each thread that calls
            local.request = compiled.create_infer_request()
        return local.request.infer([image])[0]

    return _Peer(call)
