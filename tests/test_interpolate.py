"""Interpolation of networks, parameter trees and images against its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from esrgan_jax.checkpoint import load_generator, save_generator
from esrgan_jax.errors import InputError
from esrgan_jax.images.image_blend import blend
from esrgan_jax.images.image_file import read_image, write_image
from esrgan_jax.interpolate import main
from esrgan_jax.interpolation import blend_params, interpolate_params, load_blend
from esrgan_jax.models.rrdb import RRDBNet

SMALL = {"num_features": 8, "num_growth": 4, "num_blocks": 2}


def generator(seed, **fields):
    """Returns a small network and random parameters; `init` would take long to compile."""
    module = RRDBNet(**{**SMALL, **fields})
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 4, 4, 3)))
    rng = np.random.default_rng(seed)
    return module, jax.tree.map(lambda s: rng.normal(0, 0.1, s.shape).astype(np.float32), shapes)


def test_every_leaf_is_the_weighted_sum(rng):
    a, b, c = ({"x": rng.normal(size=(2, 3)), "y": [rng.normal(size=4)]} for _ in range(3))
    for alpha in (0.2, 0.5, -0.5, 1.7):
        mixed = interpolate_params(a, b, alpha)
        np.testing.assert_allclose(mixed["x"], (1 - alpha) * a["x"] + alpha * b["x"], rtol=1e-14)
        np.testing.assert_allclose(mixed["y"][0], b["y"][0] * alpha + a["y"][0] * (1 - alpha))
    mixed = blend_params([a, b, c], [0.5, 0.75, -0.25])
    np.testing.assert_allclose(mixed["x"], 0.5 * a["x"] + 0.75 * b["x"] - 0.25 * c["x"])


def test_alpha_0_and_1_are_exact_and_dtypes_are_kept():
    (_, psnr), (_, gan) = generator(0), generator(1)
    for alpha, expected in [(0, psnr), (0.0, psnr), (1, gan), (np.float64(1), gan)]:
        mixed = interpolate_params(psnr, gan, alpha)
        assert jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), mixed, expected))
    for kind in (np.float32, jnp.bfloat16):
        tree = {"x": np.ones(3, kind)}
        assert interpolate_params(tree, tree, np.float64(0.3))["x"].dtype == kind


def test_networks_of_weight_0_do_not_affect_the_result():
    tree = {"x": np.array([-0.0, np.inf, 1e-30], np.float32), "n": np.array([3])}
    other = {"x": np.array([np.nan, np.nan, np.inf], np.float16), "n": np.array([4])}
    for mixed in (interpolate_params(tree, other, 0), interpolate_params(other, tree, 1.0)):
        assert mixed["x"].dtype == np.float32
        assert mixed["x"].tobytes() == tree["x"].tobytes()
        assert mixed["n"] == 3
    unused = blend_params([tree["x"], other["x"], tree["x"]], [0.5, 0, 0.5])
    assert unused.tobytes() == tree["x"].tobytes()


def test_results_are_affine_in_the_bias_of_the_last_layer():
    """If only this bias differs, results must blend like parameters: an independent check."""
    module, psnr = generator(0)
    gan = jax.tree.map(lambda leaf: leaf, psnr)
    gan["params"]["conv_last"]["bias"] = np.array([0.1, -0.2, 0.3], np.float32)
    lr = jax.random.uniform(jax.random.key(2), (1, 5, 6, 3))
    mixed = module.apply(interpolate_params(psnr, gan, 0.25), lr)
    expected = 0.75 * module.apply(psnr, lr) + 0.25 * module.apply(gan, lr)
    np.testing.assert_allclose(mixed, expected, atol=1e-6)


def test_errors_name_the_leaves_in_which_trees_differ():
    _, psnr = generator(0)
    _, gan = generator(0, num_features=12)
    message = r"body/rdb1/conv1/kernel: \(2, 3, 3, 8, 4\) and \(2, 3, 3, 12, 4\), .* and \d+ more"
    with pytest.raises(InputError, match=message):
        interpolate_params(psnr, gan, 0.5)
    lacking = {"params": {k: v for k, v in psnr["params"].items() if k != "conv_hr"}}
    message = r"params/conv_hr/kernel: \(3, 3, 8, 8\) and absent"
    with pytest.raises(InputError, match=message):
        interpolate_params(psnr, lacking, 0.5)
    with pytest.raises(InputError, match="different containers"):
        interpolate_params(psnr, {**psnr, "batch_stats": {}}, 0.5)


@pytest.mark.parametrize(
    ("count", "weights", "message"),
    [
        (2, [0.5, float("nan")], "finite"),
        (2, [float("inf"), 0.0], "finite"),
        (2, [0.5], "2 networks and 1 weights"),
        (0, [], "0 networks"),
        (2, [0.0, -0.0], "all weights are 0"),
    ],
)
def test_wrong_weights_are_refused(count, weights, message):
    with pytest.raises(InputError, match=message):
        blend_params([{"x": np.ones(2)}] * count, weights)


def test_integer_leaves_are_refused():
    for leaf in (np.array([1, 2]), jnp.array([True, False])):
        with pytest.raises(InputError, match=f"a leaf of {leaf.dtype} cannot be interpolated"):
            interpolate_params({"n": leaf}, {"n": leaf}, 0.5)


@pytest.fixture
def models(tmp_path):
    """Returns (path, variables) of two small generators."""
    result = []
    for seed in (0, 1):
        module, variables = generator(seed)
        path = tmp_path / f"model{seed}.safetensors"
        save_generator(path, module, variables)
        result.append((path, variables))
    return result


def test_the_command_writes_the_interpolated_network(models, tmp_path, capsys):
    (psnr_path, psnr), (gan_path, gan) = models
    output = tmp_path / "mixed.safetensors"
    main([f"--psnr={psnr_path}", f"--gan={gan_path}", "--alpha=0.8", f"--output={output}"])
    module, variables = load_generator(output)
    assert (module.num_features, module.num_blocks, module.scale) == (8, 2, 4)
    expected = jax.tree.map(lambda a, b: 0.2 * a + 0.8 * b, psnr, gan)
    compare = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7)  # noqa: E731
    jax.tree.map(compare, variables["params"], expected["params"])
    printed = capsys.readouterr().out
    assert "mixed.safetensors: a x4 RRDBNet, 0.2 · " in printed


def test_the_command_refuses_networks_of_different_scales(models, tmp_path):
    double = tmp_path / "x2.safetensors"
    save_generator(double, *generator(0, scale=2))
    arguments = [f"--psnr={models[0][0]}", f"--gan={double}", "--alpha=0.5", "--output=none.npz"]
    with pytest.raises(InputError, match=r"a x4 RRDBNet and .*x2\.safetensors is a x2 RRDBNet"):
        main(arguments)


def test_interpolating_a_network_with_itself_is_refused(models, tmp_path):
    run = tmp_path / "run"
    for stage, seed in (("psnr", 0), ("gan", 1)):
        (run / stage / "checkpoints").mkdir(parents=True)
        save_generator(run / stage / "checkpoints" / "5", *generator(seed))
    (tmp_path / "link.safetensors").symlink_to(models[0][0])
    for psnr, gan in [
        (run, run),  # a workdir means its GAN stage
        (run, run / "gan"),
        (run / "gan" / "checkpoints" / "5", run),
        (tmp_path / "link.safetensors", models[0][0]),
    ]:
        with pytest.raises(InputError, match=r"are the same network; .*WORKDIR/psnr and"):
            load_blend(psnr, gan, 0.5)
    _, mixed = load_blend(run / "psnr", run, 1.0)
    jax.tree.map(np.testing.assert_array_equal, mixed["params"], generator(1)[1]["params"])


def test_the_command_refuses_an_alpha_that_is_not_finite():
    with pytest.raises(InputError, match="--alpha=nan"):
        main(["--psnr=a.npz", "--gan=b.npz", "--alpha=nan", "--output=c.npz"])


def test_the_command_does_not_overwrite_its_inputs(models, tmp_path):
    (psnr, _), (gan, _) = models
    before = psnr.read_bytes(), gan.read_bytes()
    for output in (psnr, gan):
        with pytest.raises(InputError, match=rf"{output.name}: would overwrite the input"):
            main([f"--psnr={psnr}", f"--gan={gan}", f"--output={output}"])
    assert (psnr.read_bytes(), gan.read_bytes()) == before

    for folder, level in (("p", 1), ("g", 9)):
        for name in ("a.png", "sub/a.png", "z.png"):
            write_image(tmp_path / folder / name, np.full((4, 4, 3), level, np.uint8))
    p, g = tmp_path / "p", tmp_path / "g"
    for first, second, output in (
        (p, g, p),
        (p, g, g),
        (p, g, p / "sub"),  # a.png would become sub/a.png
        (p / "a.png", g / "a.png", g / "a.png"),
    ):
        with pytest.raises(InputError, match=r"a\.png: would overwrite the input"):
            main(["--images", f"--psnr={first}", f"--gan={second}", f"--output={output}"])
    for folder, level in ((p, 1), (g, 9)):
        assert {read_image(path).max() for path in folder.rglob("*.png")} == {level}
        assert len([*folder.rglob("*.png")]) == 3


def test_image_blends_are_rounded_once():
    levels = np.arange(256, dtype=np.uint8)
    psnr, gan = (levels.repeat(256).reshape(256, 256), np.tile(levels, (256, 1)))
    for alpha in (0.0, 0.3, 0.5, 1.0, 1.5):
        exact = psnr + alpha * (gan.astype(float) - psnr)
        error = np.abs(blend(psnr, gan, alpha) - exact.clip(0, 255))
        assert error.max() <= 0.5 + 1e-12
    np.testing.assert_array_equal(blend(psnr, gan, 0), psnr)
    np.testing.assert_array_equal(blend(psnr, gan, 1), gan)
    assert blend(psnr, gan, 0.5).mean() == pytest.approx(
        127.5, abs=0.01
    )  # ties are rounded without bias


def test_the_command_blends_images_of_folders_by_relative_path(tmp_path, rng):
    images = {}
    for folder in ("psnr", "gan"):
        for name in ("a.png", "sub/b.png"):
            images[folder, name] = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
            write_image(tmp_path / folder / name, images[folder, name])
    psnr, gan, output = (tmp_path / name for name in ("psnr", "gan", "out"))
    main(["--images", f"--psnr={psnr}", f"--gan={gan}", "--alpha=0.25", f"--output={output}"])
    for name in ("a.png", "sub/b.png"):
        expected = np.rint(0.75 * images["psnr", name] + 0.25 * images["gan", name])
        np.testing.assert_array_equal(read_image(output / name), expected)

    single = tmp_path / "single.png"
    files = [f"--psnr={psnr / 'a.png'}", f"--gan={gan / 'a.png'}", f"--output={single}"]
    main(["--images", "--alpha=1", *files])
    np.testing.assert_array_equal(read_image(single), images["gan", "a.png"])


def test_images_that_do_not_match_are_refused(tmp_path):
    for name, size in [("p/a.png", 4), ("p/b.png", 4), ("g/a.png", 5), ("g/c.png", 5)]:
        write_image(tmp_path / name, np.zeros((size, size, 3), np.uint8))
    p, g = tmp_path / "p", tmp_path / "g"

    def run(psnr, gan, output="out.png"):
        output = tmp_path / output
        main(["--images", f"--psnr={psnr}", f"--gan={gan}", "--alpha=0.5", f"--output={output}"])

    for arguments, message in [
        ((p, g), r"do not share b\.png, c\.png"),
        ((p / "a.png", g), "two images or two folders"),
        ((p / "a.png", g / "a.png"), "4x4 px and .* 5x5 px"),
        ((p / "a.png", g / "none.png"), "no image or folder .*none.png"),
        ((p / "a.png", p / "b.png", "out"), r"one file, named \*\.png"),
    ]:
        with pytest.raises(InputError, match=message):
            run(*arguments)
    assert not list(tmp_path.glob("out*"))
