"""Flags, paths and values of the commands; wrong ones are refused before any work starts."""

import importlib

import jax
import numpy as np
import pytest

from esrgan_jax import __version__, checkpoint, interpolate
from esrgan_jax.checkpoint import load_generator, save_generator
from esrgan_jax.errors import InputError
from esrgan_jax.images.image_file import read_image, write_image
from esrgan_jax.interpolation import interpolate_params
from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.upscale import main as upscale
from esrgan_jax.upscaling.upscaler import Upscaler

COMMANDS = (
    *(
        "esrgan_jax.upscale",
        "esrgan_jax.interpolate",
        "esrgan_jax.evaluate",
        "esrgan_jax.app.command",
    ),
    *("esrgan_jax.interop.zoo", "tools.convert_rrdb", "tools.convert_vgg", "tools.export"),
    *("tools.convert_discriminator", "tools.prepare_data", "tools.plot_run", "tools.alpha_strip"),
    *("tools.degrade_images", "tools.vgg_activations", "tools.before_after"),
    *("tools.demo", "benchmarks.memory", "benchmarks.upscale", "benchmarks.train_step"),
)


def run(command: str, arguments: list[str], monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["command", *arguments])
    importlib.import_module(command).main()


@pytest.fixture
def home(tmp_path, monkeypatch, rng, random_generator):
    """Returns a home folder with an image of 9x8 px and two x2 networks, a.npz and b.npz."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "photo.png", rng.integers(0, 256, (8, 9, 3), dtype=np.uint8))
    for name in "ab":
        fields, params, _ = random_generator(rng, num_blocks=1, scale=2)
        params = jax.tree.map(lambda a: a * np.float32(0.2), params)
        save_generator(f"~/{name}.npz", RRDBNet(**fields), {"params": params})
    return tmp_path


@pytest.fixture
def unloaded(monkeypatch):
    """Fails the test if a network is loaded."""
    monkeypatch.setattr(checkpoint, "load_generator", lambda *_, **__: pytest.fail("it was loaded"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_version_and_refuses_unknown_flags(command, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        run(command, ["--version"], monkeypatch)
    assert ended.value.code in (0, None)
    assert capsys.readouterr().out == f"esrgan_jax {__version__}\n"
    for flag in ("--frobnicate=1", "--frobnicate", "-q"):
        with pytest.raises(InputError, match=f"there is no flag {flag[:12]}. --help lists all"):
            run(command, [flag, "x"], monkeypatch)


@pytest.mark.parametrize(
    ("command", "flag", "suggestion"),
    [
        ("esrgan_jax.upscale", "--ouput=x.png", "--output"),
        ("esrgan_jax.upscale", "--modle", "--model"),
        ("esrgan_jax.upscale", "--psnr-model=x", "--psnr_model"),
        ("esrgan_jax.upscale", "--Tile=3", "--tile"),
        ("esrgan_jax.upscale", "--outscale=2", "--scale"),
        ("esrgan_jax.upscale", "-output=x", "--output"),
        ("esrgan_jax.upscale", "--over-write", "--overwrite"),
        ("esrgan_jax.upscale", "--scal=2", "--scale"),
        ("esrgan_jax.upscale", "--q=90", "--quality"),
        ("esrgan_jax.upscale", "--overwr", "--overwrite"),
        ("esrgan_jax.upscale", "--gan_model=x", "--model"),
        ("esrgan_jax.upscale", "--psnr_models=x", "--psnr_model"),
        ("esrgan_jax.interpolate", "--alhpa=0.5", "--alpha"),
        ("esrgan_jax.interpolate", "--psnr_model=x", "--psnr"),
        ("esrgan_jax.interpolate", "--use-gan-weights", "--gan"),
        ("esrgan_jax.evaluate", "--hr_folder=x", "--hr"),
        ("esrgan_jax.evaluate", "--lrdirectory=x", "--lr"),
        ("esrgan_jax.evaluate", "--metric-s=x", "--metrics"),
        ("esrgan_jax.app.command", "--prot=1", "--port"),
        ("tools.convert_rrdb", "--warp=none", "--wrap"),
        ("tools.export", "--plat=cpu", "--platforms"),
        ("tools.prepare_data", "--ouptut=x", "--output"),
    ],
)
def test_a_similar_flag_is_suggested_for_an_unknown_one(command, flag, suggestion, monkeypatch):
    with pytest.raises(InputError) as raised:
        run(command, [flag, "x"], monkeypatch)
    expected = f"there is no flag {flag.partition('=')[0]}. Did you mean {suggestion}?"
    assert str(raised.value) == expected


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("esrgan_jax.upscale", "--alpha=abc", "--alpha=abc: give a number"),
        ("esrgan_jax.upscale", "--alpha=", "--alpha=: give a number"),
        ("esrgan_jax.upscale", "--scale=x", "--scale=x: give a number"),
        ("esrgan_jax.upscale", "-s it's", "--scale=it's: give a number"),
        ("esrgan_jax.upscale", "--strength=1,5", "--strength=1,5: give a number"),
        ("esrgan_jax.upscale", "--quality=9.5", "--quality=9.5: give a whole number"),
        ("esrgan_jax.upscale", "-t big", "--tile=big: give a whole number"),
        ("esrgan_jax.upscale", "--overlap=2px", "--overlap=2px: give a whole number"),
        ("esrgan_jax.upscale", "--depth=ten", "--depth=ten: give a whole number"),
        ("esrgan_jax.upscale", "--depth=12", "--depth=12: choose one of 8, 10, 16, 32"),
        ("esrgan_jax.upscale", "--size=3", "--size: '3' is not WIDTHxHEIGHT, such as 1920x1080"),
        ("esrgan_jax.upscale", "--overwrite=no", "--overwrite takes no value"),
        ("esrgan_jax.upscale", "--tile", "--tile needs a value"),
        ("esrgan_jax.upscale", "--mix", "--mix needs a value"),
        ("esrgan_jax.interpolate", "--alpha=half", "--alpha=half: give a number"),
        ("esrgan_jax.interpolate", "", "give --psnr, --gan, --output; --help explains it"),
        ("esrgan_jax.evaluate", "--alpha=half", "--alpha=half: give a number"),
        ("esrgan_jax.app.command", "--port=abc", "--port=abc: give a whole number"),
        ("esrgan_jax.app.command", "--max_megapixels=x", "--max_megapixels=x: give a number"),
        ("tools.alpha_strip", "--zoom=x", "--zoom=x: give a whole number"),
        ("benchmarks.overlap", "--size=x", "--size=x: give a whole number"),
        ("benchmarks.train_step", "--batch=x", "--batch=x: give a whole number"),
        ("benchmarks.upscale", "--repeats=x", "--repeats=x: give a whole number"),
        ("benchmarks.memory", "--side x", "--side=x: give a whole number"),
        ("tools.convert_rrdb", "--scale=x", "--scale=x: give a whole number"),
        ("tools.convert_rrdb", "--unshuffle=3", "--unshuffle=3: choose one of 1, 2, 4, 8"),
        ("tools.convert_vgg", "a b c", "there are too many arguments: c"),
    ],
)
def test_errors_for_wrong_values_name_the_flag_and_the_accepted_values(
    command, arguments, message, monkeypatch
):
    with pytest.raises(InputError) as raised:
        run(command, arguments.split(), monkeypatch)
    assert str(raised.value) == message


def test_values_and_file_names_may_start_with_a_dash(home):
    """A negative number is a value, and arguments after -- are file names."""
    (home / "photo.png").rename(home / "-q.png")
    upscale(
        ["--output=x.png", "--model=a.npz", "--psnr_model=b.npz", "--alpha", "-1", "--", "-q.png"]
    )
    assert read_image(home / "x.png").shape == (16, 18, 3)


def test_short_flags_are_accepted(home):
    upscale(["-i", "photo.png", "-o", "x.png", "-s", "3", "-n", "a.npz", "-t", "64"])
    assert read_image(home / "x.png").shape == (24, 27, 3)
    upscale(["photo.png", "-oout", "-n", "a.npz", "-f", "tif"])
    assert [path.name for path in (home / "out").iterdir()] == ["photo.tif"]
    with pytest.raises(InputError, match="nothing to upscale: name images"):
        upscale(["-o", "x.png"])


def test_inputs_may_be_given_between_flags(home):
    write_image(home / "second.png", read_image(home / "photo.png"))
    upscale(["photo.png", "--output=out", "second.png", "--model=a.npz", "--progress=quiet"])
    assert sorted(path.name for path in (home / "out").iterdir()) == ["photo.png", "second.png"]


def test_a_tilde_is_expanded_in_every_path(home):
    image = read_image(home / "photo.png")
    model = "--model=~/a.npz"
    upscale(["~/photo.png", "--output=~/one.png", model])
    np.testing.assert_array_equal(read_image("~/one.png"), Upscaler.load("~/a.npz")(image))
    upscale(["~/*.png", "--output=~/out/", model, "--then=~/b.npz"])
    assert read_image(home / "out/photo.png").shape == (32, 36, 3)
    upscale(["~/photo.png", "--output=~/two.png", "--mix", "~/a.npz=0.5", "~/b.npz=0.5"])
    upscale(["~/photo.png", "-o", "~/three.png", "--psnr_model=~/a.npz", "-n~/b.npz", "--alpha=.5"])
    np.testing.assert_array_equal(read_image("~/two.png"), read_image(home / "three.png"))
    interpolate.main(["--psnr=~/a.npz", "--gan=~/b.npz", "--alpha=0.5", "--output=~/mix.pth"])
    assert load_generator(home / "mix.pth")[0].scale == 2
    assert not (home / "~").exists()


def test_a_tilde_is_expanded_in_the_other_commands(home, monkeypatch, capsys):
    write_image(home / "hr/a.png", np.zeros((32, 32, 3), np.uint8))
    for command, *arguments in (
        ("esrgan_jax.evaluate", "--model=~/a.npz", "--hr=~/hr", "--csv=~/a.csv", "--sheet=~/a.png"),
        ("tools.convert_rrdb", "~/a.npz", "~/c.pth", "--json=~/c.json"),
        ("tools.alpha_strip", "~/photo.png", "--output=~/strip.png"),
        ("tools.prepare_data", "--input", "~/hr", "--output=~/sub", "--size=16", "--step=16"),
    ):
        run(command, arguments, monkeypatch)
    for name in ("a.csv", "a.png", "c.pth", "c.json", "strip.png", "sub"):
        assert (home / name).exists(), name
    assert not (home / "~").exists()
    assert "~" not in capsys.readouterr().out


def test_the_default_alpha_of_interpolate_is_0_8(home):
    interpolate.main(["--psnr=a.npz", "--gan=b.npz", "--output=mix.npz"])
    a, b, mix = (load_generator(name)[1] for name in ("a.npz", "b.npz", "mix.npz"))
    expected = interpolate_params(a, b, 0.8)
    jax.tree.map(np.testing.assert_array_equal, mix, jax.tree.map(np.asarray, expected))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--scale=1000", "a scale of 1000 is too large; the most is 100"),
        ("--scale=nan", "not a positive number"),
        ("--scale=inf", "not a positive number"),
        ("--scale=0", "not a positive number"),
        ("--scale=1e-400", "not a positive number"),
        ("--size=9999999x1", "a side has at most 1000000 px"),
        ("--tile=1000000 --overlap=9999", "a tile of 1000000 px must be .* at most 16384"),
        ("--tile=-3", "a tile of -3 px must be 1 px or more"),
        ("--overlap=9999", "an overlap of 9999 px is too large"),
        ("--tile=64 --overlap=65", "a tile of 64 px must be more than the overlap, 65"),
        ("--strength=nan", "a strength of nan is not within"),
        ("--strength=-0.1", r"a strength of -0\.1 is not within"),
        ("--alpha=nan", "alpha is nan: give a finite number"),
        ("--alpha=-inf", "alpha is -inf: give a finite number"),
        ("--quality=101 --output=x.jpg", "the quality 101 is not from 1 to 100"),
        ("--quality=0 --output=x.webp", "the quality 0 is not from 1 to 100"),
        ("--quality=-5 --format=jpg", "the quality -5 is not from 1 to 100"),
        ("--depth=16 --output=x.jpg", r"\.jpg holds 8 bits a channel, not 16"),
        ("--depth=32", r"\.png holds 8 or 16 bits a channel, not 32"),
        ("--lossless --output=x.jpg", r"\.jpg is not lossless"),
        ("--suffix=../x", "contains a slash"),
        ("--model=b.npx", "b.npx: no such file or directory.* Did you mean ./b.npz"),
        ("--model=a.npz --then=gone.npz", "gone.npz: no such file or directory"),
        ("--mix a.npz=nan b.npz=1", "is not MODEL=WEIGHT"),
        ("--mix a.npz=0.5 c.npz=0.5", "c.npz: no such file or directory"),
    ],
)
def test_wrong_values_are_refused_before_a_network_is_loaded(home, unloaded, options, message):
    with pytest.raises(InputError, match=message):
        upscale(["photo.png", "--output=out", *options.split()])
    assert sorted(path.name for path in home.iterdir()) == ["a.npz", "b.npz", "photo.png"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            "x.pgn",
            r"\.pgn is not supported\. Did you mean \.png\? For a folder, add a / to the name",
        ),
        ("x.jpgg", r"Did you mean \.jpg\?"),
        ("x.WEPB", r"\.wepb is not supported\. Did you mean \.webp\?"),
        ("x.jxl", r"\.jxl is not supported\. Choose one of \.avif, "),
        ("x.psd", r"\.psd is not supported\. Choose one of \.avif, "),
        ("x.mp5", r"Did you mean \.mp4\?"),
        ("x.bmp", r"a file must end in \.avif"),
    ],
)
def test_an_unknown_suffix_of_the_output_is_refused(home, unloaded, output, message):
    with pytest.raises(InputError, match=message):
        upscale(["photo.png", f"--output={output}"])
    assert not (home / output).exists()


def test_a_folder_name_may_contain_a_dot(home):
    for output in ("2024.05", "a.d", "x.pgn/"):
        upscale(["photo.png", f"--output={output}", "--model=a.npz", "--progress=quiet"])
        assert (home / output / "photo.png").is_file()
    upscale(["photo.png", "--output=x.pgn", "--model=a.npz"])  # an existing folder


def test_similar_names_of_images_and_networks_are_suggested(home):
    with pytest.raises(InputError, match=r"no image or folder phtoo\.png\. Did you mean ./photo"):
        upscale(["phtoo.png", "--output=x.png"])
    with pytest.raises(InputError, match=r"Did you mean realesrgan-x4plus\?$"):
        upscale(["photo.png", "--output=x.png", "--model=realesrgan-x4pluss"])


def test_an_error_names_the_fields_in_which_architectures_differ(home, rng, random_generator):
    fields, params, _ = random_generator(rng, num_blocks=3, num_features=8, scale=2)
    save_generator("c.npz", RRDBNet(**fields), {"params": params})
    with pytest.raises(InputError) as raised:
        interpolate.main(["--psnr=a.npz", "--gan=c.npz", "--output=mix.npz"])
    assert str(raised.value) == (
        "a.npz and c.npz are not of one architecture, and cannot be interpolated: "
        "num_features is 4 and 8, num_blocks is 1 and 3"
    )
