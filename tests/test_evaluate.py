"""The evaluate command: pairs of images, scores, its reports and its errors."""

import csv
import json
import math
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from esrgan_jax.blend import DENOISE
from esrgan_jax.checkpoint import save_generator
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.evaluate import main
from esrgan_jax.evaluation.metrics import mean_scores, scores
from esrgan_jax.evaluation.samples import bicubic, image_paths, read_pair, readable
from esrgan_jax.images.image_file import read_image, write_image
from esrgan_jax.imresize import imresize
from esrgan_jax.models.rrdb import RRDBNet


@pytest.fixture
def photos(tmp_path, rng):
    """Returns a folder of smooth HR images, not of multiples of 4 px, one in a subfolder."""
    folder = tmp_path / "Photos"
    for name, size in [("a.png", (46, 53)), ("sub/b.png", (60, 41))]:
        noise = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        write_image(folder / name, imresize(noise, 4)[: size[0], : size[1]])
    return folder


def repeat4(lr):
    return lr.repeat(4, axis=0).repeat(4, axis=1)


def test_hr_is_cropped_and_lr_computed_from_it(photos):
    (path, none), (other, _) = image_paths(photos, None, 4)
    assert (path, none, other) == (photos / "a.png", None, photos / "sub/b.png")
    name, lr, hr = read_pair(path, None, 4)
    assert (name, lr.shape, hr.shape) == ("a.png", (11, 13, 3), (44, 52, 3))
    np.testing.assert_array_equal(lr, imresize(hr, 1 / 4))
    assert lr.dtype == hr.dtype == np.uint8


def test_lr_is_found_by_name(photos, tmp_path):
    lr = tmp_path / "lr"
    write_image(lr / "ax4.png", np.full((11, 13, 3), 9, np.uint8))
    write_image(lr / "sub/b.png", np.full((15, 10, 3), 7, np.uint8))
    pairs = image_paths(photos, lr, 4)
    assert [found for _, found in pairs] == [lr / "ax4.png", lr / "sub/b.png"]
    assert [read_pair(*pair, 4).lr[0, 0, 0] for pair in pairs] == [9, 7]


def test_lr_images_that_do_not_match_are_refused(photos, tmp_path):
    lr = tmp_path / "lr"
    write_image(lr / "a.png", np.zeros((22, 26, 3), np.uint8))
    with pytest.raises(InputError, match=r"1 images .* no partner: \S+sub/b\.png;"):
        image_paths(photos, lr, 4)
    write_image(lr / "sub/b.png", np.zeros((15, 10, 3), np.uint8))
    pair = image_paths(photos, lr, 4)[0]
    with pytest.raises(InputError, match=r"lr/a\.png has 26x22 px, but 1/4 of .*a\.png is 13x11"):
        read_pair(*pair, 4)
    write_image(lr / "ax4.png", np.zeros((11, 13, 3), np.uint8))
    with pytest.raises(InputError, match=r"no partner: \S+lr/ax4\.png;"):
        image_paths(photos, lr, 4)


def test_an_image_that_is_too_small_is_refused_by_name(tmp_path):
    write_image(tmp_path / "tiny.png", np.zeros((40, 18, 3), np.uint8))
    with pytest.raises(InputError, match=r"tiny\.png is smaller than 19 px"):
        read_pair(tmp_path / "tiny.png", None, 4)


def test_scores_leave_out_the_border(rng):
    lr = rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)
    hr = repeat4(lr)
    hr[4:-4, 4:-4] ^= 1  # inside the border every sample is off by 1 of 255
    exact, off = scores(repeat4(lr), repeat4(lr), 4), scores(repeat4(lr), hr, 4)
    assert exact == {"psnr_y": math.inf, "ssim_y": 1.0, "psnr_rgb": math.inf}
    assert off["psnr_rgb"] == pytest.approx(20 * math.log10(255), abs=1e-9)
    hr[:4] = 0  # the border does not count
    assert scores(repeat4(lr), hr, 4) == off


def save_model(path, value=0.01, **fields):
    """Saves a small network whose results are flat, and brighter for larger values."""
    module = RRDBNet(num_features=8, num_growth=4, num_blocks=1, **fields)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 4, 4, 3)))
    variables = jax.tree.map(lambda s: np.full(s.shape, value, np.float32), shapes)
    path.parent.mkdir(exist_ok=True)
    save_generator(path, module, variables)
    return path


@pytest.fixture
def model(tmp_path):
    return save_model(tmp_path / "model.safetensors")


@pytest.fixture
def models(tmp_path):
    """Returns the paths of two networks with the same file name."""
    return [
        save_model(tmp_path / f"run{i}" / "net.npz", value) for i, value in ((1, 0.01), (2, 0.02))
    ]


def test_the_json_report_has_the_printed_scores(photos, model, tmp_path, capsys):
    output = tmp_path / "new" / "scores.json"
    main([f"--model={model}", f"--hr={photos}", f"--json={output}"])
    written = json.loads(output.read_text())
    assert list(written) == ["dataset", "scale", "images", "mean"]
    assert (written["dataset"], written["scale"]) == ("Photos", 4)
    assert [row["name"] for row in written["images"]] == ["a.png", "sub/b.png"]
    assert list(written["mean"]) == ["psnr_y", "ssim_y", "psnr_rgb"]
    pairs = [read_pair(*pair, 4) for pair in image_paths(photos, None, 4)]
    by_hand = mean_scores([scores(bicubic(4)(lr), hr, 4) for _, lr, hr in pairs])
    mean = capsys.readouterr().out.splitlines()[-1].split()
    printed = [f"{by_hand['psnr_y']:.2f}", f"{by_hand['ssim_y']:.4f}", f"{by_hand['psnr_rgb']:.2f}"]
    assert mean[:4] == ["mean", *printed]
    assert mean[4] == f"{written['mean']['psnr_y']:.2f}"


def test_a_missing_folder_is_refused_before_models_are_loaded(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        main(["--model=none.npz", f"--hr={tmp_path / 'nowhere'}"])


def test_a_broken_image_is_reported_and_the_others_scored(photos, model, tmp_path, capsys):
    (photos / "b.png").write_bytes(b"junk")
    output = tmp_path / "scores.json"
    with pytest.raises(RunError, match="1 of 3 images were left out of the means"):
        main([f"--model={model}", f"--hr={photos}", f"--json={output}"])
    images = json.loads(output.read_text())["images"]
    assert [row["name"] for row in images] == ["a.png", "sub/b.png"]
    printed = capsys.readouterr()
    assert "Photos/b.png: cannot be read as an image" in printed.err
    assert printed.out.splitlines()[-1].startswith("mean")
    for path in (photos / "a.png", photos / "sub/b.png"):
        path.write_bytes(b"junk")
    with pytest.raises(InputError, match="none of 3 images can be scored"):
        main([f"--model={model}", f"--hr={photos}"])


def test_an_unwritable_report_is_refused_before_models_are_loaded(photos, tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "scores.json"):
        with pytest.raises(InputError, match=r"--json=\S+ cannot be written"):
            main(["--model=none.npz", f"--hr={photos}", f"--json={path}"])


def arguments(models, photos, **files):
    return [
        f"--hr={photos}",
        *(f"--model={model}" for model in models),
        *(f"--{name}={file}" for name, file in files.items()),
    ]


def test_reports_have_the_scores_of_every_model(photos, models, tmp_path, capsys):
    output = tmp_path / "out"
    files = {name: output / f"scores.{name}" for name in ("json", "csv", "markdown")}
    main(arguments(models, photos, **files))
    for index, model in enumerate(models):
        main(arguments([model], photos, json=output / f"{index}.json"))
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["bicubic", "run1/net", "run2/net"]
    written = json.loads(files["json"].read_text())
    alone = [json.loads((output / f"{index}.json").read_text()) for index in (0, 1)]
    assert {k: v for k, v in written.items() if k != "models"} == alone[0]
    assert [each["model"] for each in written["models"]] == ["bicubic", "run1/net", "run2/net"]
    for each, single in zip(written["models"][1:], alone, strict=True):
        assert each == {"model": each["model"], "images": single["images"], "mean": single["mean"]}
    with files["csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    for each in written["models"]:
        of_method = [row for row in rows if row["method"] == each["model"]]
        assert [float(row["psnr_y"]) for row in of_method] == [
            *(row["psnr_y"] for row in each["images"]),
            each["mean"]["psnr_y"],
        ]
    head, _, *lines = files["markdown"].read_text().split("\n\n")[0].splitlines()
    assert head.split(" | ")[0] == "| Photos, x4, mean of 2"
    assert [line.split(" | ")[0] for line in lines] == ["| bicubic", "| run1/net", "| run2/net"]
    psnr = [each["mean"]["psnr_y"] for each in written["models"]]
    assert [line.split(" | ")[1] for line in lines] == [
        f"**{value:.2f}**" if value == max(psnr) else f"{value:.2f}" for value in psnr
    ]


def test_models_of_different_scales_are_refused(photos, model, tmp_path):
    other = save_model(tmp_path / "double.npz", scale=2)
    with pytest.raises(InputError, match=r"model upscales 4 times and double 2 times"):
        main(arguments([model, other], photos))


def test_a_blend_needs_exactly_one_model(photos, models, capsys):
    mixed = [f"--psnr_model={models[0]}", "--alpha=0.5"]
    with pytest.raises(InputError, match=r"need exactly one --model, but 2 are given"):
        main([*arguments(models, photos), *mixed])
    main([*arguments(models[1:], photos), *mixed])
    assert capsys.readouterr().out.splitlines()[0].split() == ["bicubic", "net,", "alpha", "0.5"]


def test_without_a_model_the_built_in_networks_are_blended(photos, capsys):
    main([f"--hr={photos}", "--alpha=0.25"])
    heading = capsys.readouterr().out.splitlines()[0]
    assert heading.split("  ")[-1].strip() == f"lite-x4, alpha 0.25, denoise {DENOISE:g}"
    with pytest.raises(InputError, match="psnr_model without model"):
        main([f"--hr={photos}", "--psnr_model=p.npz"])


def test_unreadable_models_are_refused_before_images_are_read(photos, model, tmp_path, capsys):
    (tmp_path / "broken.npz").write_bytes(b"junk")
    for other, message in (("broken.npz", r"broken\.npz"), ("missing.npz", r"missing\.npz")):
        with pytest.raises(InputError, match=message):
            main(arguments([model, tmp_path / other], photos))
    assert capsys.readouterr().err == ""


@pytest.fixture
def stand_ins(monkeypatch):
    """Replaces LPIPS by the mean difference, and NIQE by the mean of images of 48 px or more."""

    def lpips(sr, hr):
        return float(np.abs(sr.astype(float) - hr).mean())

    def niqe(sr):
        if sr.shape[0] < 48:
            raise InputError("too small")
        return float(sr.mean())

    for name, function in (("lpips", lpips), ("niqe", niqe)):
        module = types.ModuleType(name)
        setattr(module, f"load_{name}", lambda function=function: function)
        monkeypatch.setitem(sys.modules, f"esrgan_jax.evaluation.{name}", module)


def test_only_the_given_metrics_are_computed_in_the_given_order(
    photos, model, tmp_path, capsys, stand_ins
):
    output = tmp_path / "scores.json"
    main([*arguments([model], photos, json=output), "--metrics=niqe,psnr_y,lpips"])
    written = json.loads(output.read_text())
    assert list(written["mean"]) == ["niqe", "psnr_y", "lpips"]
    small, large = written["images"]  # 36 and 52 px high inside the border
    assert small["niqe"] is None
    assert written["mean"]["niqe"] == large["niqe"]
    assert written["mean"]["lpips"] == pytest.approx((small["lpips"] + large["lpips"]) / 2)
    printed = capsys.readouterr()
    assert "niqe: 1 of 2 images have no value" in printed.err
    assert printed.err.strip().endswith(": a.png")
    assert [line.split()[1] for line in printed.out.splitlines()[1:3]] == ["NIQE", "-"]


def test_means_of_all_methods_are_over_the_same_images(
    photos, models, tmp_path, monkeypatch, stand_ins
):
    seen = []

    def niqe(sr):
        seen.append(sr)
        if len(seen) == 2:  # the first network's result on the first image
            raise InputError("flat")
        return 5.0

    monkeypatch.setattr(sys.modules["esrgan_jax.evaluation.niqe"], "load_niqe", lambda: niqe)
    output = tmp_path / "scores.json"
    main([*arguments(models, photos, json=output), "--metrics=niqe"])
    values = [
        [row["niqe"] for row in each["images"]] for each in json.loads(output.read_text())["models"]
    ]
    assert values == [[None, 5.0]] * 3


def test_an_unknown_metric_is_refused_before_models_are_loaded(photos):
    with pytest.raises(InputError, match=r"'psnr' is not a metric: choose from psnr_y, .*niqe"):
        main([*arguments(["none.npz"], photos), "--metrics=ssim_y,psnr"])


def test_a_missing_parameter_file_is_reported_before_models_are_loaded(
    photos, monkeypatch, stand_ins
):
    def load_lpips():
        raise RunError("no such file")

    monkeypatch.setattr(sys.modules["esrgan_jax.evaluation.lpips"], "load_lpips", load_lpips)
    with pytest.raises(RunError, match="no such file"):
        main([*arguments(["none.npz"], photos), "--metrics=lpips"])


def test_the_sheet_shows_at_most_eight_images(model, tmp_path, capsys):
    photos = tmp_path / "Photos"
    for index in range(15):
        write_image(photos / f"{index:02}.png", np.full((40, 40, 3), 16 * index, np.uint8))
    main(arguments([model], photos, sheet=tmp_path / "sheet.png"))
    assert "sheet.png: 8 of 15 images are shown" in capsys.readouterr().out
    for index, part in enumerate(np.split(read_image(tmp_path / "sheet.png"), 8)):
        assert (part == 16 * 2 * index).all(
            axis=2
        ).sum() > 2 * 250**2  # in the whole image and HR's crop
    for index in range(1, 15):
        (photos / f"{index:02}.png").unlink()
    main(arguments([model], photos, sheet=tmp_path / "one.jpg"))
    assert read_image(tmp_path / "one.jpg").shape == part.shape
    assert "shown" not in capsys.readouterr().out


def test_a_sheet_shows_other_images_instead_of_broken_ones(model, tmp_path, capsys):
    photos, sheet = tmp_path / "Photos", tmp_path / "sheet.png"
    for index in range(15):
        write_image(photos / f"{index:02}.png", np.full((40, 40, 3), 16 * index, np.uint8))
    paths = image_paths(photos, None, 4)
    assert readable(paths, 4, 8) == {0, 2, 4, 6, 8, 10, 12, 14}
    for index in (0, 8, 9, 14):
        (photos / f"{index:02}.png").write_bytes(b"junk")
    assert readable(paths, 4, 8) == {1, 2, 4, 6, 7, 10, 12, 13}
    for index in range(15):
        if index != 5:  # which is not one of the eight
            (photos / f"{index:02}.png").write_bytes(b"junk")
    with pytest.raises(RunError, match="14 of 15 images were left out"):
        main(arguments([model], photos, sheet=sheet))
    assert (read_image(sheet) == 16 * 5).all(axis=2).sum() > 2 * 250**2
    assert "shown" not in capsys.readouterr().out


def test_the_sheet_shows_the_results_of_every_method(photos, models, tmp_path):
    main([*arguments(models, photos, sheet=tmp_path / "new/sheet.png"), "--metrics=psnr_rgb"])
    sheet = read_image(tmp_path / "new/sheet.png")
    hr = read_pair(photos / "a.png", None, 4).hr
    boxes = [
        hr[top : top + 32, left : left + 32].repeat(8, axis=0).repeat(8, axis=1)
        for top in range(13)
        for left in range(21)
    ]
    row = sheet[12 : 12 + 256]
    (left,) = (
        x
        for box in boxes
        for x in np.flatnonzero((row[0, :-255] == box[0, 0]).all(axis=1))
        if np.array_equal(row[:, x : x + 256], box)
    )
    networks = row[:, left + 2 * (256 + 12) :]
    assert sheet.shape[1] == left + 4 * (256 + 12)
    # The results of the networks are flat; the second is brighter.
    assert networks[128, 128].mean() < networks[128, 128 + 256 + 12].mean()


def test_an_unwritable_sheet_is_refused_before_models_are_loaded(photos):
    for name, message in (("sheet.bmp", "is not an output format"), ("sheet", "no ending")):
        with pytest.raises(InputError, match=rf"--sheet=\S+ .*{message}"):
            main(arguments(["none.npz"], photos, sheet=photos.parent / name))


@pytest.mark.parametrize("option", ["json", "csv", "markdown", "sheet"])
def test_no_output_replaces_an_image(photos, tmp_path, option):
    write_image(tmp_path / "lr/a.png", np.zeros((11, 13, 3), np.uint8))
    for image in (photos / "sub/b.png", tmp_path / "lr/a.png"):
        before = image.read_bytes()
        with pytest.raises(InputError, match=f"{image.name}: would overwrite the input"):
            main([*arguments(["none.npz"], photos, **{option: image}), f"--lr={tmp_path / 'lr'}"])
        assert image.read_bytes() == before


def test_outputs_are_neither_models_nor_each_other(photos, model, tmp_path):
    before = model.read_bytes()
    with pytest.raises(InputError, match="would overwrite the input"):
        main(arguments([model], photos, csv=model))
    assert model.read_bytes() == before
    with pytest.raises(InputError, match="--json and --csv are both "):
        main(arguments([model], photos, csv=tmp_path / "scores", json=tmp_path / "scores"))
