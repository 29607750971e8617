"""The known weight files: use, size, licence, address and sha256."""

from typing import NamedTuple

PREFIX = 8  # digits of the sha256 in a file's name, by the convention of torch's hub
WEIGHT_KINDS = {
    "generator": "a generator",
    "vgg": "a VGG for the perceptual loss",
    "metric": "part of a metric",
}


class Weights(NamedTuple):
    """A weight file, published elsewhere or in this package.

    Attributes:
        kind: A key of WEIGHT_KINDS.
        what: What it is for, in two or three words.
        scale: The scale of a generator; 0 for other networks.
        parameters: How many numbers the whole network has.
        size: Bytes; 0 where not known.
        licence: SPDX identifier.
        citation: The paper to cite.
        url: Where its publishers have it; "" for a file of this package.
        sha256: 64 hexadecimal digits, or the first PREFIX where no more are known.
        file: Its name, where the URL does not end in it.
        repacked: Another file of the same tensors, which does where the cache has it: its name and
            its sha256.
        data: What it was trained on, where that has terms of its own.
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
    data: str = ""


_ESRGAN = "Wang et al., ESRGAN: Enhanced Super-Resolution GANs, ECCVW 2018, arXiv:1809.00219"
_REAL = "Wang et al., Real-ESRGAN, ICCVW 2021, arXiv:2107.10833"
_BSRGAN = "Zhang et al., Designing a Practical Degradation Model, ICCV 2021, arXiv:2103.14006"
_VGG = "Simonyan and Zisserman, Very Deep Convolutional Networks, ICLR 2015, arXiv:1409.1556"
_ALEXNET = "Krizhevsky, One weird trick for parallelizing CNNs, 2014, arXiv:1404.5997"
_LPIPS = (
    "Zhang et al., The Unreasonable Effectiveness of Deep Features, CVPR 2018, arXiv:1801.03924"
)
_NIQE = "Mittal et al., Completely Blind Image Quality Analyzer, 2013, doi:10.1109/LSP.2012.2227726"
_BSDS = "BSDS500, which is for non-commercial research, and T91: see docs/models.md"
_RELEASES = "https://github.com/xinntao/Real-ESRGAN/releases/download"

# Sizes and hashes of published files are those that independent projects record.
# fmt: off
ZOO = {
    "lite-x4-real": Weights(
        "generator", "flawed photos, GAN", 4, 869_155, 1_744_742, "Apache-2.0", _REAL,
        "", "9bb9809c2db5bdeab1b21ba10d11eb845151d1328af5f77cd7338d68671bd760",
        "lite_x4_real.safetensors", data=_BSDS,
    ),
    "lite-x4-real-psnr": Weights(
        "generator", "flawed photos, PSNR", 4, 869_155, 1_744_742, "Apache-2.0", _REAL,
        "", "85586d6ba40b921700de1be6e1a66fe8a7827a54d4e18f1678015e2e30bfe53f",
        "lite_x4_real_psnr.safetensors", data=_BSDS,
    ),
    "lite-x4-gan": Weights(
        "generator", "clean photos, GAN", 4, 869_155, 1_744_742, "Apache-2.0", _ESRGAN,
        "", "4ba07657bfc75ce9e1f5fec3b4ccf683814fbf8f4c92336d50506f3f8a180da3",
        "lite_x4_gan.safetensors", data=_BSDS,
    ),
    "lite-x4-psnr": Weights(
        "generator", "clean photos, PSNR", 4, 869_155, 1_744_742, "Apache-2.0", _ESRGAN,
        "", "46c6d0daa9b66e27ba039377c603873bdbe7f7e89dfc20ffd3c34f95b3f6cba6",
        "lite_x4_psnr.safetensors", data=_BSDS,
    ),
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
