"""The zoo: published weights by name, downloaded once, verified and kept in the user's cache.

`python -m esrgan_jax.interop.zoo` lists them, with names behind it fetches those. The network is
used by `fetch` alone, and only where the cache does not have the file.
"""

import argparse
import difflib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from esrgan_jax.errors import InputError, RunError, run_command
from esrgan_jax.files import sha256
from esrgan_jax.interop.download import MEGABYTE, download

CACHE_VARIABLE = "ESRGAN_JAX_CACHE"
PREFIX = 8  # digits of a sha256 that a file's name gives, by the convention of torch's hub
KINDS = {
    "generator": "a generator",
    "vgg": "a VGG for the perceptual loss",
    "metric": "part of a metric",
}


class Weights(NamedTuple):
    """A published weight file.

    Attributes:
        kind: A key of KINDS.
        what: What it is for, in two or three words.
        scale: How many times a generator enlarges; 0 for what is none.
        parameters: How many numbers the whole network has.
        size: Bytes; 0 where not known.
        licence: SPDX identifier.
        citation: The paper to cite.
        url: Where its publishers have it.
        sha256: 64 hexadecimal digits, or the first PREFIX where no more are known.
        file: Its name, where the URL does not end in it.
        repacked: Another file of the same tensors, which does where the cache has it: its name and
            its sha256.
    """

    kind: str
    what: str
    scale: int
    parameters: int
    size: int
    licence: str
    citation: str
    url: str
    sha256: str
    file: str = ""
    repacked: tuple[str, str] | None = None


_ESRGAN = "Wang et al., ESRGAN: Enhanced Super-Resolution GANs, ECCVW 2018, arXiv:1809.00219"
_REAL = "Wang et al., Real-ESRGAN, ICCVW 2021, arXiv:2107.10833"
_BSRGAN = "Zhang et al., Designing a Practical Degradation Model, ICCV 2021, arXiv:2103.14006"
_VGG = "Simonyan and Zisserman, Very Deep Convolutional Networks, ICLR 2015, arXiv:1409.1556"
_ALEXNET = "Krizhevsky, One weird trick for parallelizing CNNs, 2014, arXiv:1404.5997"
_LPIPS = (
    "Zhang et al., The Unreasonable Effectiveness of Deep Features, CVPR 2018, arXiv:1801.03924"
)
_NIQE = "Mittal et al., Completely Blind Image Quality Analyzer, 2013, doi:10.1109/LSP.2012.2227726"
_RELEASES = "https://github.com/xinntao/Real-ESRGAN/releases/download"

# Sizes and hashes are the ones that independent projects record for these files.
# fmt: off
ZOO = {
    "esrgan-x4": Weights(
        "generator", "clean photos, GAN", 4, 16_697_987, 0, "Apache-2.0", _ESRGAN,
        f"{_RELEASES}/v0.1.1/ESRGAN_SRx4_DF2KOST_official-ff704c30.pth",
        "ff704c30ff560305e48ed1f4db895e525ab6bc81a46fafe80c0094a271c806d9",
    ),
    "esrgan-psnr-x4": Weights(
        "generator", "clean photos, PSNR", 4, 16_697_987, 0, "Apache-2.0", _ESRGAN,
        "https://drive.google.com/uc?export=download&id=1swaV5iBMFfg-DL6ZyiARztbhutDCWXMM",
        "150ff491",
        "ESRGAN_PSNR_SRx4_DF2K_official-150ff491.pth",
    ),
    "realesrgan-x4plus": Weights(
        "generator", "flawed photos, GAN", 4, 16_697_987, 67_040_989, "BSD-3-Clause", _REAL,
        f"{_RELEASES}/v0.1.0/RealESRGAN_x4plus.pth",
        "4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
    ),
    "realesrnet-x4plus": Weights(
        "generator", "flawed photos, PSNR", 4, 16_697_987, 67_040_989, "BSD-3-Clause", _REAL,
        f"{_RELEASES}/v0.1.1/RealESRNet_x4plus.pth",
        "a820b9bde89a874d7599d545567308ce6c128fc8754a53208eda016d40aa81df",
    ),
    "realesrgan-x4plus-anime": Weights(
        "generator", "drawings, GAN", 4, 4_467_779, 17_938_799, "BSD-3-Clause", _REAL,
        f"{_RELEASES}/v0.2.2.4/RealESRGAN_x4plus_anime_6B.pth",
        "f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da",
    ),
    "realesrgan-x2plus": Weights(
        "generator", "flawed photos, GAN", 2, 16_703_171, 67_061_725, "BSD-3-Clause", _REAL,
        f"{_RELEASES}/v0.2.1/RealESRGAN_x2plus.pth",
        "49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
    ),
    "bsrgan-x4": Weights(
        "generator", "flawed photos, GAN", 4, 16_697_987, 67_046_751, "Apache-2.0", _BSRGAN,
        "https://github.com/cszn/KAIR/releases/download/v1.0/BSRGAN.pth",
        "5d505a0766160921e0388d76e1ddf08cb114303990f9080432bf2b1c988b1c54",
    ),
    "vgg19": Weights(
        "vgg", "perceptual loss", 0, 143_667_240, 574_673_361, "BSD-3-Clause", _VGG,
        "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
    ),
    "alexnet": Weights(
        "metric", "LPIPS's network", 0, 61_100_840, 244_408_911, "BSD-3-Clause", _ALEXNET,
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        repacked=("alexnet_features_torchvision.npz",
                  "e762b28a0489ca1b9a809bcf1fc6d82b9310cd77ff6c495d057dc8811994eab4"),
    ),
    "lpips-alex": Weights(
        "metric", "LPIPS's weights", 0, 1152, 6009, "BSD-2-Clause", _LPIPS,
        "https://github.com/richzhang/PerceptualSimilarity/raw/master/lpips/weights/v0.1/alex.pth",
        "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
        "LPIPS_v0.1_alex-df73285e.pth",
        ("lpips_alex_lin.npz",
         "a9a43154a47d4792e446458327351227f3af3cc3c819f07b17f692bb6f31c90a"),
    ),
    "niqe": Weights(
        "metric", "NIQE's statistics", 0, 1381, 11_850, "Apache-2.0", _NIQE,
        "https://github.com/XPixelGroup/BasicSR/raw/master/basicsr/metrics/niqe_pris_params.npz",
        "2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296",
    ),
}
# fmt: on


def resolve(model: str | os.PathLike, kind: str = "generator") -> Path:
    """The file or directory that a user's MODEL means: a path that exists, or a name of the zoo.

    Raises:
        InputError: It is neither, or names weights of another kind.
        RunError: as `fetch`.
    """
    name = os.fspath(model)
    if Path(model).exists():
        return Path(model)
    names = [key for key, weights in ZOO.items() if weights.kind == kind]
    if name in names:
        return fetch(name)
    problem = f"is {KINDS[ZOO[name].kind]}" if name in ZOO else "no such file or directory"
    raise InputError(
        f"{name}: {problem}, wanted {KINDS[kind]}: a path, or of the zoo {_choice(name, names)}"
    )


def cache_folder() -> Path:
    """Where files are kept: what ESRGAN_JAX_CACHE says, else the user's cache."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given).expanduser().absolute()
    import pooch

    return Path(pooch.os_cache("esrgan_jax"))


def cached_path(name: str) -> Path:
    """Where the file of weights is kept, or would be, as published.

    Raises:
        InputError: The zoo has no such name.
    """
    if name not in ZOO:
        raise InputError(f"{name}: is not in the zoo, which has {_choice(name, list(ZOO))}")
    return cache_folder() / (ZOO[name].file or ZOO[name].url.rpartition("/")[2])


def fetch(name: str) -> Path:
    """The verified file of weights in the cache, downloaded where it is not there.

    A file that the user put there is as good, and so is the repacked one, where there is one. One
    that is not what was published is downloaded again. The file takes its place when it is
    verified, so any number of processes may fetch it.

    Raises:
        InputError: The zoo has no such name.
        RunError: It cannot be downloaded, is not the published file, or the cache cannot be used.
    """
    path = cached_path(name)
    weights = ZOO[name]
    try:
        # Always the whole hash: it takes less time than reading the tensors does.
        if weights.repacked:  # first, as it is smaller
            repacked, digest = path.with_name(weights.repacked[0]), weights.repacked[1]
            if _is_published(repacked, name, digest, "passed over"):
                return repacked
        if _is_published(path, name, weights.sha256, "downloaded again"):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        # A folder of its own, since process ids repeat between the machines that share a cache.
        with tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent) as folder:
            partial = Path(folder) / path.name
            _note(f"{name}: downloading {weights.url} to {path}")
            if problem := download(weights.url, partial, name, _size(weights), weights.sha256):
                raise RunError(
                    f"{name}: {weights.url} {problem}. "
                    f"Try again, or get the file on another machine and put it at {path}"
                )
            partial.replace(path)
    except OSError as error:
        raise RunError(
            f"{path}: the cache cannot be used: {error.strerror or error}. "
            f"Set {CACHE_VARIABLE} to a folder that can be written"
        ) from error
    verified = "sha256 verified"
    if len(weights.sha256) == PREFIX:
        verified = f"verified by the {PREFIX} digits of its sha256 that are published"
    _note(f"{name}: {verified}, licence {weights.licence}")
    return path


def _is_published(path: Path, name: str, digest: str, otherwise: str) -> bool:
    """Whether a file is there and what it should be; a note says what is done with another."""
    if not path.exists():
        return False
    found = sha256(path)
    if found.startswith(digest):
        return True
    _note(
        f"{path}: is not {name} as published (its sha256 is {found}, wanted {digest}); "
        f"it is {otherwise}"
    )
    return False


def _size(weights: Weights) -> int:
    # The numbers are float32, and there is little else in the file.
    return weights.size or 4 * weights.parameters


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _choice(name: str, names: list[str]) -> str:
    """The names to choose from, and the one that was perhaps meant by `name`."""
    # Many know the published files' names better: RealESRGAN_x4plus.pth.
    written = Path(name).stem.lower().replace("_", "-")
    near = difflib.get_close_matches(written, names, 1, 0.7)
    return ", ".join(names) + (f". Did you mean {near[0]}?" if near else "")


def _publisher(url: str) -> str:
    """The account on GitHub, or the host."""
    parts = urlsplit(url)
    return parts.path.split("/")[1] if parts.netloc == "github.com" else parts.netloc


def table() -> str:
    """The zoo as lines of text of at most 100 characters."""
    rows = [("name", "for", "scale", "MB", "licence", "published by", "cached")]
    for name, weights in ZOO.items():
        scale = f"{weights.scale}x" if weights.scale else "-"
        path = cached_path(name)
        files = [path, path.with_name(weights.repacked[0])] if weights.repacked else [path]
        cached = "yes" if any(file.is_file() for file in files) else "no"
        size = str(round(_size(weights) / MEGABYTE) or "<1")
        publisher = _publisher(weights.url)
        rows.append((name, weights.what, scale, size, weights.licence, publisher, cached))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m esrgan_jax.interop.zoo",
        description="List the published weights that are known by name, or fetch some.",
        epilog="Wherever MODEL is asked for, a name of the zoo fetches it too. Files are kept in "
        f"the user's cache, or in the folder that {CACHE_VARIABLE} names.",
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="weights to fetch (default: list)")
    args = parser.parse_args(argv)
    if not args.names:
        print(table())
        print(f"\nThe cache is {cache_folder()}, or what {CACHE_VARIABLE} says.")
        return
    for name in args.names:
        cached_path(name)  # no name is wrong before any is fetched
    for name in args.names:
        print(fetch(name))
        print(f"  licence  {ZOO[name].licence}")
        print(f"  cite     {ZOO[name].citation}")


if __name__ == "__main__":
    run_command(main)
