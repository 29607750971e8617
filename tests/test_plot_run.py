"""Tests of plot_run: reading, thinning and drawing the curves of a run."""

import json

import numpy as np
import pytest

from esrgan_jax.errors import InputError
from esrgan_jax.images.image_file import read_image, write_image
from esrgan_jax.training.metric_writer import MetricWriter
from esrgan_jax.upscaling.upscaler import Upscaler
from tools import compare_runs, plot_run


@pytest.fixture
def run(tmp_path):
    """A workdir with 1300 logged steps and three validations, as training writes it."""
    with MetricWriter(tmp_path / "run/psnr", 0) as writer:
        for step in range(1, 1301):
            writer.scalars(step, {"l_g_pix": 1 / step, "grad_norm_g": 2.0, "lr_g": 1e-3})
            if step % 433 == 0:
                writer.scalars(step, {"val_psnr_y": 20 + step / 1000})
    return tmp_path / "run"


def test_thinning_keeps_validations_and_the_first_and_last_step(run):
    lines = plot_run.read_run(run)["psnr"]
    assert len(lines) == 1303
    thinned = plot_run.thin(lines)
    assert [line for line in thinned if "val_psnr_y" in line] == [
        {"step": step, "val_psnr_y": 20 + step / 1000} for step in (433, 866, 1299)
    ]
    steps = [line["step"] for line in thinned if "l_g_pix" in line]
    assert len(steps) <= plot_run.LINES
    assert len(steps) > plot_run.LINES / 2
    assert (steps[0], steps[-1]) == (1, 1300)
    assert all(line in lines for line in thinned)
    assert plot_run.thin(lines[:40]) == lines[:40]


def test_a_thinned_run_can_be_read_as_a_run(run, tmp_path):
    plot_run.main([str(run), f"--output={tmp_path / 'a.png'}", f"--thinned={tmp_path / 'kept'}"])
    kept = [json.loads(line) for line in (tmp_path / "kept/psnr.jsonl").read_text().splitlines()]
    assert plot_run.read_run(tmp_path / "kept") == {"psnr": kept}
    assert kept == plot_run.thin(plot_run.read_run(run)["psnr"])


def test_two_stages_are_drawn_one_below_the_other(run, tmp_path):
    def drawn(name):
        plot_run.main([str(run), f"--output={tmp_path / name}"])
        return read_image(tmp_path / name)

    psnr_alone = drawn("one.png")
    (run / "gan").mkdir()
    logged = {"l_g_pix": 0.1, "l_g_percep": 3.0, "l_g_gan": 0.7, "l_d_total": 0.6}
    lines = [{"step": step, **logged, "out_d_real": 1.0, "out_d_fake": -1.0} for step in (1, 2)]
    (run / "gan/metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    both = drawn("two.png")
    assert both.shape[0] == 2 * psnr_alone.shape[0]
    assert (both != 255).any(axis=(1, 2))[psnr_alone.shape[0] :].mean() > 0.5


def test_runs_are_drawn_below_each_other_with_a_part_of_an_image(run, tmp_path, monkeypatch):
    """The networks are replaced: one gives red images, the other blue ones."""
    colors = {"a": (255, 0, 0), "b": (0, 0, 255)}
    for name in colors:
        (tmp_path / name / "gan").mkdir(parents=True)
        line = {"step": 1, "l_g_gan": 0.7, "l_d_total": 0.6, "val_lpips": 0.2}
        (tmp_path / name / "gan/metrics.jsonl").write_text(json.dumps(line) + "\n")
    monkeypatch.setattr(
        Upscaler,
        "load",
        lambda model, **_: lambda lr: np.full((32, 32, 3), colors[model.split("/")[-2]], np.uint8),
    )
    write_image(tmp_path / "lr.png", np.zeros((8, 8, 3), np.uint8))
    options = [f"--output={tmp_path / 'both.png'}", f"--image={tmp_path / 'lr.png'}"]
    options += ["--box=4,4,16,16"]
    compare_runs.main([str(tmp_path / "a"), str(tmp_path / "b"), *options])
    figure = read_image(tmp_path / "both.png")
    half = len(figure) // 2
    for rows, color in ((figure[:half], colors["a"]), (figure[half:], colors["b"])):
        assert 0.05 < (rows == color).all(axis=2).mean() < 0.25
    (tmp_path / "other").mkdir()
    (tmp_path / "b").rename(tmp_path / "other/a")
    compare_runs.main([str(tmp_path / "a"), str(tmp_path / "other/a"), *options])
    assert read_image(tmp_path / "both.png").shape == figure.shape
    with pytest.raises(InputError, match="run: has no GAN stage"):
        compare_runs.main([str(run), *options])
    with pytest.raises(InputError, match="would overwrite the input"):
        compare_runs.main(
            [str(tmp_path / "a"), options[1], options[2], f"--output={tmp_path}/lr.png"]
        )
    with pytest.raises(InputError, match=r"box \(0, 90, 9, 9\) .* is not inside 32 x 32 px"):
        compare_runs.main([str(tmp_path / "a"), *options[:2], "--box=0,90,9,9"])


def test_window_means_are_over_equal_numbers_of_steps():
    steps, values = plot_run.window_means(range(100), [step % 3 for step in range(100)])
    assert (steps[:2], values[:2]) == ([1.0, 4.0], [1.0, 1.0])  # 34 windows of 3
    assert (steps[-1], values[-1]) == (99.0, 0.0)


def test_an_incomplete_last_line_is_ignored(tmp_path):
    (tmp_path / "psnr.jsonl").write_text('{"step": 1, "l_g_pix": 0.1}\n{"step": 2, "l_g')
    assert plot_run.read_run(tmp_path) == {"psnr": [{"step": 1, "l_g_pix": 0.1}]}


def test_a_folder_without_a_run_is_refused(tmp_path):
    for text in ("", '{"step": 20, "data_wait": 0.3, "warning": "x"}\n'):
        (tmp_path / "psnr.jsonl").write_text(text)
        with pytest.raises(InputError, match=r"has no psnr or gan with losses or scores in metr"):
            plot_run.main([str(tmp_path), f"--output={tmp_path / 'a.png'}"])


def test_an_output_folder_that_is_a_file_is_refused(run, tmp_path):
    (tmp_path / "file").touch()
    for flags in (
        [f"--output={tmp_path}/file/x.png"],
        [f"--output={tmp_path}/x.png", f"--thinned={tmp_path}/file"],
    ):
        with pytest.raises(InputError, match=r"file: cannot be a folder: .*file is a file"):
            plot_run.main([str(run), *flags])
