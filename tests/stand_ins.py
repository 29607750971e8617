"""Small inputs under the names that the pages use, and a Python whose zoo has small networks.

`python tests/stand_ins.py -m MODULE …` runs a command as `python -m MODULE …` does, with these
differences: published weights are those that `write_weights` has put into the cache, a training
takes two steps, and the page in the browser ends when it has been served.
"""

import os
import runpy
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

NETWORKS = (  # of the pages, as files
    *("RRDB_PSNR_x4.pth", "RRDB_ESRGAN_x4.pth", "RRDB_ESRGAN_x4.npz", "RealESRGAN_x4plus.pth"),
    *("RealESRGAN_x4plus_anime_6B.pth", "model.pth", "4x_Somebody.pth", "GAN.pth", "PSNR.pth"),
)
RUNS = {"GAN": "runs/x4/gan", "PSNR": "runs/x4/psnr"}  # what the words in capitals are
IMAGES = {  # and their sides
    **dict.fromkeys(
        ["photo.jpg", "image.png", "brick.png", "kodim22.png", "scans/1999/scan.tif"], 48
    ),
    "photo.png": 256,
}
FOLDERS = {  # and the sides of their images
    **dict.fromkeys(["holiday", "psnr_out", "gan_out", "LR_FOLDER"], 48),
    **dict.fromkeys(["Set5", "Set14", "BSD100", "Urban100", "Manga109", "val", "Kodak24"], 192),
    **dict.fromkeys(["photos", "more_photos", "PHOTOGRAPHS", "FOLDER", "HR_FOLDER"], 192),
    **dict.fromkeys(["BSDS500/train", "BSDS500/test", "T91", "DF2K_sub"], 192),
    "DIV2K_train_HR": 480,
}
SMALL = {"num_features": 8, "num_growth": 4, "num_blocks": 1}
STAGE = ("steps=2", "batch_size=2", "hr_patch=32", "periods=(2,)", "milestones=()")
SHORT = (
    *(f"--config.{stage}.{setting}" for stage in ("psnr", "gan") for setting in STAGE),
    *(f"--config.{name}_every={count}" for name, count in (("log", 1), ("eval", 2))),
    "--config.checkpoint_every=2",
    "--config.data.num_workers=0",
    "--config.discriminator.num_features=8",
)
RATIO = 4


def write_images(folder: Path) -> None:
    """Writes photographs of scikit-image under the names of the pages."""
    import skimage.data
    from PIL import Image

    from esrgan_jax.images.image_file import read_image

    source = Path(skimage.data.__file__).parent
    photographs = [read_image(source / name) for name in ("astronaut.png", "motorcycle_left.png")]

    def write(name: str, side: int, number: int) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = slice(0, 480, 480 // side)  # smaller images are thinned out
        Image.fromarray(photographs[number][pixels, pixels][:side, :side]).save(path)

    for name, side in IMAGES.items():
        write(name, side, 0)
    for name, side in FOLDERS.items():
        for number in range(2):
            write(f"{name}/{number}.png", side, number)


def write_weights(folder: Path, cache: Path) -> None:
    """Writes random weights under the names of the pages, and those of the zoo into a cache."""
    import jax
    import jax.numpy as jnp

    from esrgan_jax.checkpoint import save_discriminator, save_generator
    from esrgan_jax.evaluation import lpips, niqe
    from esrgan_jax.interop import torch_file, vgg_names, weight_file
    from esrgan_jax.interop.zoo import ZOO, weights_path
    from esrgan_jax.models import create_discriminator, create_generator

    random = np.random.default_rng(0)

    def init(module: Any) -> Any:
        return jax.jit(module.init)(jax.random.key(0), jnp.zeros((2, 32, 32, 3)))

    def kernel(*shape: int) -> np.ndarray:
        return random.standard_normal(shape, np.float32) * np.float32(np.prod(shape[1:])) ** -0.5

    def convolution(name: str, *shape: int) -> dict[str, np.ndarray]:
        return {f"{name}.weight": kernel(*shape), f"{name}.bias": np.zeros(shape[0], np.float32)}

    generators = {}
    for scale in (2, RATIO):
        module = create_generator(scale=scale, unshuffle=RATIO // scale, **SMALL)  # as Real-ESRGAN
        generators[scale] = module, init(module)
    for name in NETWORKS:
        save_generator(folder / name, *generators[RATIO])
    tensors = weight_file.read_tensors(folder / "model.pth")
    torch_file.write(folder / "model.pth", {"params": tensors, "params_ema": tensors})
    discriminator = create_discriminator("unet", num_features=8)
    save_discriminator(folder / "RealESRGAN_x4plus_netD.pth", init(discriminator))

    cache.mkdir()
    for name, weights in ZOO.items():
        if weights.kind == "generator" and weights.url:
            save_generator(weights_path(name), *generators[weights.scale])
    vgg: dict[str, np.ndarray] = {}
    for index, shape in vgg_names.convolutions(19).values():
        vgg |= convolution(f"features.{index}", *shape)
    weight_file.write_tensors(weights_path("vgg19"), vgg)
    _, params = vgg_names.from_torch(vgg)
    vgg_names.save_vgg(cache / "vgg19.safetensors", params, {"depth": "19"})
    weight_file.write_tensors(cache / "vgg19_caffe_conv.npz", vgg)
    for name in ("vgg19.safetensors", "vgg19_caffe_conv.npz"):  # which are large
        (folder / name).symlink_to(cache / name)
    alexnet, linear = {}, {}
    for number, layer in enumerate(lpips.SHAPES):
        shape = (layer.outputs, layer.inputs, layer.size, layer.size)
        alexnet |= convolution(f"features.{layer.position}", *shape)
        linear[f"lin{number}.model.1.weight"] = random.random((1, layer.outputs, 1, 1), np.float32)
    weight_file.write_tensors(weights_path("alexnet"), alexnet)
    weight_file.write_tensors(weights_path("lpips-alex"), linear)
    count, side = niqe.FEATURES, niqe.WINDOW
    statistics = {
        "mu_pris_param": np.zeros((1, count)),
        "cov_pris_param": np.eye(count),
        "gaussian_window": np.full((side, side), 1 / side**2),
    }
    weight_file.write_tensors(weights_path("niqe"), statistics)


def main() -> None:
    """Runs a command; see above."""
    from esrgan_jax.files import sha256
    from esrgan_jax.interop import vgg_names, zoo

    for name, weights in list(zoo.ZOO.items()):
        if weights.url:
            digest = sha256(zoo.weights_path(name))
            zoo.ZOO[name] = weights._replace(sha256=digest, repacked=None)
    vgg_names.TORCHVISION = (zoo.ZOO["vgg19"].sha256,)
    first, *words = sys.argv[1:]
    if first == "-c":
        exec(words[0], {"__name__": "__main__"})
        return
    name, *arguments = words if first == "-m" else (first, *words)
    named = (name, *arguments[:1])
    if name == "esrgan_jax.main" or named == ("esrgan_jax.cli", "train"):
        small = not any("=configs/lite" in word for word in arguments)
        sizes = [f"--config.generator.{key}={value}" for key, value in SMALL.items()]
        arguments += [*SHORT, *sizes * small]
    if name == "esrgan_jax.app":
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        arguments += [f"--port={port}"]
        threading.Thread(target=_end_when_served, args=[port], daemon=True).start()
    sys.argv = [name, *arguments]
    if first == "-m":
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(name, run_name="__main__")


def _end_when_served(port: int) -> None:
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}") as answer:
                assert b"gradio" in answer.read()
                os._exit(0)
        except urllib.error.URLError:
            time.sleep(0.2)


if __name__ == "__main__":
    main()
