"""Evaluation: pairs found, scored by an independent computation, written as valid JSON."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from esrgan_jax.checkpoint import save_generator
from esrgan_jax.data.resize import imresize
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.evaluate import (
    Pair,
    bicubic,
    evaluate_pairs,
    find_pairs,
    main,
    mean_scores,
    read_pair,
    report,
    table,
)
from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.picture import write_picture


@pytest.fixture
def photos(tmp_path, rng):
    """Smooth HR pictures of sizes that are no multiples of 4, one in a sub-folder."""
    folder = tmp_path / "Photos"
    for name, size in [("a.png", (46, 53)), ("sub/b.png", (60, 41))]:
        noise = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        write_picture(folder / name, imresize(noise, 4)[: size[0], : size[1]])
    return folder


def repeat4(lr):
    return lr.repeat(4, axis=0).repeat(4, axis=1)


def test_hr_is_cropped_and_lr_made_from_it(photos):
    (path, none), (other, _) = find_pairs(photos, 4)
    assert (path, none, other) == (photos / "a.png", None, photos / "sub/b.png")
    name, lr, hr = read_pair(path, None, 4)
    assert (name, lr.shape, hr.shape) == ("a.png", (11, 13, 3), (44, 52, 3))
    np.testing.assert_array_equal(lr, imresize(hr, 1 / 4))
    assert lr.dtype == hr.dtype == np.uint8


def test_lr_is_found_by_name(photos, tmp_path):
    lr = tmp_path / "lr"
    write_picture(lr / "ax4.png", np.full((11, 13, 3), 9, np.uint8))
    write_picture(lr / "sub/b.png", np.full((15, 10, 3), 7, np.uint8))
    pairs = find_pairs(photos, 4, lr)
    assert [found for _, found in pairs] == [lr / "ax4.png", lr / "sub/b.png"]
    assert [read_pair(*pair, 4).lr[0, 0, 0] for pair in pairs] == [9, 7]


def test_lr_that_does_not_fit_is_explained(photos, tmp_path):
    lr = tmp_path / "lr"
    write_picture(lr / "a.png", np.zeros((22, 26, 3), np.uint8))
    with pytest.raises(InputError, match=r"1 pictures .* no partner: \S+sub/b\.png;"):
        find_pairs(photos, 4, lr)
    write_picture(lr / "sub/b.png", np.zeros((15, 10, 3), np.uint8))
    pair = find_pairs(photos, 4, lr)[0]
    with pytest.raises(InputError, match=r"lr/a\.png has 26x22 px, but 1/4 of .*a\.png has 13x11"):
        read_pair(*pair, 4)
    write_picture(lr / "ax4.png", np.zeros((11, 13, 3), np.uint8))
    with pytest.raises(InputError, match=r"no partner: \S+lr/ax4\.png;"):
        find_pairs(photos, 4, lr)


def test_a_small_picture_is_named(tmp_path):
    write_picture(tmp_path / "tiny.png", np.zeros((40, 18, 3), np.uint8))
    with pytest.raises(InputError, match=r"tiny\.png is smaller than 19 px"):
        read_pair(tmp_path / "tiny.png", None, 4)


def test_scores_are_those_of_the_upscaled_picture(rng):
    lr = rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)
    hr = repeat4(lr)
    hr[4:-4, 4:-4] ^= 1  # inside the border every sample is 1 of 255 off
    exact, off = evaluate_pairs(repeat4, [Pair("same", lr, repeat4(lr)), Pair("off", lr, hr)], 4)
    assert exact == {"name": "same", "psnr_y": math.inf, "ssim_y": 1.0, "psnr_rgb": math.inf}
    assert off["name"] == "off"
    assert off["psnr_rgb"] == pytest.approx(20 * math.log10(255), abs=1e-9)
    hr[:4] = 0  # the border does not count
    assert evaluate_pairs(repeat4, [Pair("off", lr, hr)], 4) == [off]


ROWS = [
    {"name": "a.png", "psnr_y": 30.0, "ssim_y": 0.9, "psnr_rgb": 28.0},
    {"name": "long/name.png", "psnr_y": 33.0, "ssim_y": 0.8, "psnr_rgb": 31.0},
]


def test_mean_is_over_pictures():
    expected = {"psnr_y": 31.5, "ssim_y": 0.85, "psnr_rgb": 29.5}
    assert mean_scores(ROWS) == pytest.approx(expected, abs=1e-12)


def test_table_has_a_row_for_each_picture_and_the_mean():
    worse = [{**row, "psnr_y": row["psnr_y"] - 5} for row in ROWS]
    lines = table({"bicubic": worse, "model": ROWS}).splitlines()
    assert lines[0].split() == ["bicubic", "model"]
    head = ["PSNR-Y", "SSIM-Y", "PSNR-RGB"]
    assert lines[1].split() == ["picture", *head, *head]
    assert lines[2].split() == ["a.png", "25.00", "0.9000", "28.00", "30.00", "0.9000", "28.00"]
    assert lines[-1].split() == ["mean", "26.50", "0.8500", "29.50", "31.50", "0.8500", "29.50"]
    assert len({len(line) for line in lines[1:]}) == 1


def test_report_stays_valid_json_where_a_picture_is_exact():
    exact = {"name": "c.png", "psnr_y": math.inf, "ssim_y": 1.0, "psnr_rgb": math.inf}
    undefined = report("set", 4, [{**ROWS[0], "psnr_y": math.nan}])
    assert undefined["images"][0]["psnr_y"] is undefined["mean"]["psnr_y"] is None
    written = json.dumps(report("set", 4, [*ROWS, exact]), allow_nan=False)
    assert json.loads(written) == {
        "dataset": "set",
        "scale": 4,
        "images": [*ROWS, {"name": "c.png", "psnr_y": None, "ssim_y": 1.0, "psnr_rgb": None}],
        "mean": {"psnr_y": None, "ssim_y": pytest.approx(0.9), "psnr_rgb": None},
    }


@pytest.fixture
def model(tmp_path):
    module = RRDBNet(num_features=8, num_growth=4, num_blocks=1)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 4, 4, 3)))
    variables = jax.tree.map(lambda s: np.full(s.shape, 0.01, np.float32), shapes)
    save_generator(tmp_path / "model.safetensors", module, variables)
    return tmp_path / "model.safetensors"


def test_command_writes_what_it_prints(photos, model, tmp_path, capsys):
    output = tmp_path / "new" / "scores.json"
    main([f"--model={model}", f"--hr={photos}", f"--json={output}"])
    written = json.loads(output.read_text())
    assert list(written) == ["dataset", "scale", "images", "mean"]
    assert (written["dataset"], written["scale"]) == ("Photos", 4)
    assert [row["name"] for row in written["images"]] == ["a.png", "sub/b.png"]
    assert list(written["mean"]) == ["psnr_y", "ssim_y", "psnr_rgb"]
    pairs = [read_pair(*pair, 4) for pair in find_pairs(photos, 4)]
    by_hand = mean_scores(evaluate_pairs(bicubic(4), pairs, 4))
    mean = capsys.readouterr().out.splitlines()[-1].split()
    printed = [f"{by_hand['psnr_y']:.2f}", f"{by_hand['ssim_y']:.4f}", f"{by_hand['psnr_rgb']:.2f}"]
    assert mean[:4] == ["mean", *printed]
    assert mean[4] == f"{written['mean']['psnr_y']:.2f}"


def test_a_wrong_folder_is_told_first(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        main(["--model=none.npz", f"--hr={tmp_path / 'nowhere'}"])


def test_a_broken_picture_is_named_and_the_others_scored(photos, model, tmp_path, capsys):
    (photos / "b.png").write_bytes(b"junk")
    output = tmp_path / "scores.json"
    with pytest.raises(RunError, match="1 of 3 pictures were left out of the means"):
        main([f"--model={model}", f"--hr={photos}", f"--json={output}"])
    images = json.loads(output.read_text())["images"]
    assert [row["name"] for row in images] == ["a.png", "sub/b.png"]
    printed = capsys.readouterr()
    assert "Photos/b.png: cannot be read as a picture" in printed.err
    assert printed.out.splitlines()[-1].startswith("mean")
    for path in (photos / "a.png", photos / "sub/b.png"):
        path.write_bytes(b"junk")
    with pytest.raises(InputError, match="none of 3 pictures can be scored"):
        main([f"--model={model}", f"--hr={photos}"])


def test_an_impossible_report_is_told_first(photos, tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "scores.json"):
        with pytest.raises(InputError, match=r"--json=\S+ cannot be written"):
            main(["--model=none.npz", f"--hr={photos}", f"--json={path}"])
