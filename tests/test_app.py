"""The app: its limits, choices and files; and its page in a browser, as users start it."""

import http.client
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from esrgan_jax import app, app_model
from esrgan_jax.app_model import Limits
from esrgan_jax.checkpoint import save_generator
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.mixture import ALPHA
from esrgan_jax.models.rrdb import RRDBNet
from esrgan_jax.pictures.reader import open_picture
from esrgan_jax.pictures.writer import write_rows
from esrgan_jax.upscaler import Upscaler

LIMITS = Limits(megapixels=0.01, result_megapixels=0.1, megabytes=1)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
SECONDS = 120  # of patience, where the machine has other work too


def read(path):
    return np.concatenate(list(open_picture(path).rows()))


def write(path, array, **told):
    height, width, bands = array.shape
    told = {"dtype": array.dtype, "height": height, "width": width, "bands": bands, **told}
    write_rows(path, [array], **told)
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two small x4 generators that can be mixed, one x2, and where they are."""
    folder = tmp_path_factory.mktemp("models")
    rng = np.random.default_rng(0)
    paths = {}
    for name, scale in (("psnr", 4), ("gan", 4), ("x2", 2)):
        module = RRDBNet(num_features=8, num_growth=4, num_blocks=1, scale=scale)
        shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 4, 4, 3)))
        variables = jax.tree.map(lambda s: rng.normal(0, 0.15, s.shape).astype(np.float32), shapes)
        variables["params"]["conv_last"]["bias"] += np.float32(0.5)
        paths[name] = folder / f"{name}.safetensors"
        save_generator(paths[name], module, variables)
    return paths


@pytest.fixture
def photo(tmp_path, rng):
    return write(tmp_path / "photo.png", rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))


def test_models_are_those_given_the_zoo_and_uploads(monkeypatch, tmp_path):
    monkeypatch.setenv("ESRGAN_JAX_CACHE", str(tmp_path))
    shown = app_model.choices(["runs/x4/gan", "a/m.npz", "bsrgan-x4"], ["/tmp/1/own.pth"])
    assert shown[:4] == [
        ("own.pth (uploaded)", "/tmp/1/own.pth"),
        ("runs/x4/gan", "runs/x4/gan"),
        ("m.npz", "a/m.npz"),
        ("bsrgan-x4", "bsrgan-x4"),
    ]
    labels = [label for label, _ in shown[4:]]
    assert "esrgan-x4 (clean photos, GAN, x4, downloaded on first use)" in labels
    assert not any(label.startswith(("vgg19", "bsrgan")) for label in labels)
    with pytest.raises(InputError, match=r"^passwd: is not one of the models"):
        app_model.allowed("/etc/passwd", ["runs/x4/gan"], [])


def test_mixing_is_that_of_the_upscaler_and_reads_each_network_once(models, photo, monkeypatch):
    gan, psnr = str(models["gan"]), str(models["psnr"])
    image = read(photo)
    for alpha in (0.0, 0.3, 1.0):
        made = app_model.make_upscaler(gan, psnr, alpha)
        wanted = Upscaler.load(gan, psnr_model=psnr, alpha=alpha)
        assert made.name == wanted.name
        np.testing.assert_array_equal(made(image), wanted(image))
    monkeypatch.setattr(app_model, "load_generator", lambda _: pytest.fail("read again"))
    app_model.make_upscaler(gan, psnr, 0.7)
    os.utime(gan, (1, 1))
    with pytest.raises(pytest.fail.Exception, match="read again"):
        app_model.make_upscaler(gan)


def test_networks_that_cannot_be_mixed_are_named(models):
    gan = str(models["gan"])
    with pytest.raises(InputError, match=r"x2\.safetensors and gan\.safetensors: only networks of"):
        app_model.make_upscaler(gan, str(models["x2"]), 0.5)
    with pytest.raises(InputError, match=r"gan\.safetensors: is chosen twice"):
        app_model.make_upscaler(gan, gan, 0.5)


def test_what_is_too_large_is_refused_before_it_is_read(models, tmp_path):
    large = write(tmp_path / "large.png", np.zeros((101, 100, 3), np.uint8))
    with pytest.raises(InputError, match=r"^large\.png: has 0\.0101 megapixels, and"):
        app_model.open_within(large, LIMITS)
    small = write(tmp_path / "small.png", np.zeros((90, 90, 3), np.uint8))
    picture = app_model.open_within(small, LIMITS)
    upscaler = app_model.make_upscaler(str(models["gan"]))
    for scale in (None, 2, 8):  # the network makes four times as much whatever is left of it
        with pytest.raises(InputError, match=r"the result would have 0\.(1296|5184) megapixels"):
            app_model.upscale_file(upscaler, picture, tmp_path, LIMITS, scale=scale)


def test_a_file_keeps_depth_alpha_and_profile(models, tmp_path, rng):
    image = rng.integers(0, 65536, (20, 24, 4), dtype=np.uint16)
    picture = open_picture(write(tmp_path / "deep.png", image))
    upscaler = app_model.make_upscaler(str(models["gan"]))
    seen = []
    target = app_model.upscale_file(
        upscaler, picture, tmp_path, LIMITS, progress=lambda *count: seen.append(count)
    )
    assert target.name == "deep_x4.png"
    assert (seen[0], seen[-1]) == ((0, 20 * 24 * 16), (20 * 24 * 16, 20 * 24 * 16))
    np.testing.assert_array_equal(read(target), upscaler(image))
    half = app_model.upscale_file(upscaler, picture, tmp_path, LIMITS, scale=2.5, suffix=".tif")
    assert half.name == "deep_x2.5.tif"
    np.testing.assert_array_equal(read(half), upscaler(image, scale=2.5))
    with pytest.raises(InputError, match=r"\.jpg holds no transparency"):
        app_model.upscale_file(upscaler, picture, tmp_path, LIMITS, suffix=".jpg")


def test_an_animation_keeps_its_frames(models, tmp_path, rng):
    frames = rng.integers(0, 256, (3 * 8, 9, 3), dtype=np.uint8)
    path = write(tmp_path / "moving.webp", frames, height=8, frames=3, lossless=True)
    upscaler = app_model.make_upscaler(str(models["gan"]))
    target = app_model.upscale_file(upscaler, open_picture(path), tmp_path, LIMITS, suffix=".webp")
    assert (open_picture(target).frames, read(target).shape) == (3, (96, 36, 3))


def test_what_progress_raises_stops_the_work_and_leaves_no_file(models, photo, tmp_path):
    def stop(done, total):
        if done:
            raise RunError("stopped")

    upscaler, folder = app_model.make_upscaler(str(models["gan"])), tmp_path / "made"
    with pytest.raises(RunError, match="stopped"):
        app_model.upscale_file(upscaler, open_picture(photo), folder, LIMITS, progress=stop)
    assert not list(folder.iterdir())


def test_previews_are_small_opaque_and_of_the_first_frame(tmp_path):
    assert app_model.preview_size(300, 6400, longest=1600) == (75, 1600)
    assert app_model.preview_size(3, 4) == (3, 4)
    image = np.zeros((20, 24, 4), np.uint16)
    image[:10, :, 3] = 65535  # black above, transparent below
    picture = open_picture(write(tmp_path / "half.png", image))
    made = read(app_model.write_preview(picture, tmp_path / "p.webp", (40, 48)))
    assert (made.shape, made.dtype) == ((40, 48, 3), np.uint8)
    assert made[:16].max() < 8
    assert made[24:].min() > 247


def test_lines_for_the_user(tmp_path):
    assert app_model.progress_line(0, 4_800_000, 0) == "4.80 megapixels to compute"
    line = app_model.progress_line(1_200_000, 4_800_000, 12)
    assert line == "1.20 of 4.80 megapixels, 00:36 left"
    error = InputError(f"{tmp_path}/0a1b/my cat.png: cannot be read")
    assert app_model.plainly(error, tmp_path) == "my cat.png: cannot be read"


def test_the_command_says_what_is_wrong(tmp_path, monkeypatch):
    for name in (*app.ENVIRONMENT, "GRADIO_TEMP_DIR"):  # so that they are as before in the end
        monkeypatch.setenv(name, "")
    with pytest.raises(InputError, match=r"--max_megapixels=0: give a positive number"):
        app.main(["--max_megapixels=0"])
    with pytest.raises(InputError, match=r"none\.pth: no such file"):
        app.main([f"--model={tmp_path}/none.pth"])
    with pytest.raises(InputError, match="psnr_model without model"):
        app.main(["--psnr_model=p.npz"])
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(InputError, match=r"Gradio, .*: pip install 'gradio<7'"):
        app.main([])


@pytest.fixture(scope="module", autouse=True)
def starting(models, tmp_path_factory):
    """The app, started while the tests that need no page run; in the end it deletes its files."""
    if find_spec("gradio") is None or find_spec("playwright") is None or CHROMIUM is None:
        yield None
        return
    temporary = tmp_path_factory.mktemp("temporary")
    offline = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY"), "http://127.0.0.1:9")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "esrgan_jax.app", f"--port={free_port()}"),
            *(f"--model={models['gan']}", f"--psnr_model={models['psnr']}"),
            *("--max_megapixels=0.2", "--max_megabytes=2"),
        ],
        env={
            **os.environ,
            **offline,
            # As in this process: another number of devices rounds the last bit otherwise.
            **{"NO_PROXY": "127.0.0.1,localhost", "JAX_NUM_CPU_DEVICES": "8"},
            **{"TMPDIR": str(temporary), "ESRGAN_JAX_CACHE": str(temporary / "cache")},
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield process
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=SECONDS)[0]
    assert "Traceback" not in output, output
    assert [path.name for path in temporary.iterdir()] in ([], ["cache"])


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def server(starting):
    """The address of the running app."""
    if starting is None:
        pytest.skip("needs gradio, playwright and one of " + ", ".join(BROWSERS))
    line = starting.stdout.readline()
    assert line.startswith("http://127.0.0.1:"), line + starting.stdout.read()
    return line.split()[0]


@pytest.fixture(scope="module")
def browser(server):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser.new_context()  # one, so that its cache has the scripts
        browser.close()


@pytest.fixture
def page(server, browser):
    """The page, opened anew; it may ask no other host, and no error may be in the console."""
    page = browser.new_page()
    page.set_default_timeout(1000 * SECONDS)
    asked, page.errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on(
        "console",
        lambda line: line.type == "error" and page.errors.append(f"{line.text} {line.location}"),
    )
    page.goto(server)
    page.wait_for_selector("#go")
    yield page
    page.close()
    assert [url for url in asked if not url.startswith((server, "data:", "blob:"))] == []
    assert page.errors == []


def choose(page, path):
    """Drops a picture, in place of another."""
    if (clear := page.locator("#picture [aria-label=Clear]")).count():
        clear.click()
    page.set_input_files("#picture input[type=file]", path)


def press_and_choose(page, button, path):
    with page.expect_file_chooser() as chooser:
        page.click(button)
    chooser.value.set_files(path)


def download(page, folder):
    with page.expect_download() as made:
        page.click("#download")
    target = folder / made.value.suggested_filename
    made.value.save_as(target)
    return target


def expected(models, image, scale=None, **options):
    """What the Python API makes of it."""
    upscaler = Upscaler.load(models["gan"], psnr_model=models["psnr"], **options)
    return upscaler(image, scale=scale)


def test_sliding_alpha_and_pressing_make_what_python_makes(page, models, photo, tmp_path):
    slider = page.get_by_label("range slider for Alpha")
    box = slider.bounding_box()

    def slide(part):
        page.mouse.click(box["x"] + part * box["width"], box["y"] + box["height"] / 2)
        return float(page.get_by_label("number input for Alpha").input_value())

    slide(0.6)  # there is no picture yet, so nothing happens
    choose(page, photo)
    page.get_by_text("photo.png: 24×20 pixels").wait_for()
    page.click("#go")
    page.locator("#download", has_text="photo_x4.png").wait_for()
    assert page.locator("#said").inner_text().startswith("24×20 to 96×80 pixels, RGB, 8 bits, in ")
    first = read(download(page, tmp_path))
    # The slider alone is enough to have it computed anew.
    box = slider.bounding_box()
    alpha = slide(0.3)
    assert 0.2 < alpha < 0.4
    deadline = time.monotonic() + SECONDS
    while (second := read(download(page, tmp_path))).tolist() == first.tolist():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    np.testing.assert_array_equal(second, expected(models, read(photo), alpha=alpha))
    assert page.locator("#slider img").count() == 2
    assert page.locator(".toast-body").count() == 0


def test_depth_and_alpha_arrive_in_the_download(page, models, tmp_path, rng):
    image = rng.integers(0, 65536, (20, 24, 4), dtype=np.uint16)
    choose(page, write(tmp_path / "deep.png", image))
    page.get_by_text("deep.png: 24×20 pixels").wait_for()
    page.get_by_label("Enlargement").fill("2.5")
    page.get_by_label("Format of the download").click()
    page.get_by_role("option", name="TIFF").click()
    page.get_by_text("More options").click()
    page.get_by_label("Keep the picture's colours").check()
    page.get_by_label("number input for Strength").fill("0.5")
    page.click("#go")
    page.locator("#download", has_text="deep_x2.5.tif").wait_for()
    result = read(download(page, tmp_path))
    assert (result.shape, result.dtype) == ((50, 60, 4), np.uint16)
    options = {"alpha": ALPHA, "color": "keep", "strength": 0.5}
    np.testing.assert_array_equal(result, expected(models, image, 2.5, **options))


def test_a_weight_file_of_ones_own(page, models, photo, tmp_path):
    choose(page, photo)
    press_and_choose(page, "#own", models["x2"])
    page.wait_for_function("document.querySelector('[aria-label=Network]').value.includes('x2.s')")
    page.click("#go")  # the PSNR network of the one before is no longer chosen
    page.locator("#download", has_text="photo_x2.png").wait_for()
    upscaler = Upscaler.load(models["x2"])
    np.testing.assert_array_equal(read(download(page, tmp_path)), upscaler(read(photo)))
    press_and_choose(page, "#own-psnr", models["psnr"])
    mixed = "document.querySelector('[aria-label=\"Mix with a PSNR network\"]').value"
    page.wait_for_function(f"{mixed}.includes('psnr.s')")
    page.click("#go")
    page.get_by_text("only networks of one architecture and scale can be mixed").wait_for()


class Hostile:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_files_that_are_no_weights_are_refused_in_a_sentence(page, tmp_path):
    marker, hostile, text = (tmp_path / name for name in ("ran", "hostile.pth", "notes.txt"))
    hostile.write_bytes(pickle.dumps({"params": Hostile(marker)}))
    text.write_text("no network")
    markup, large = tmp_path / "markup.npz", tmp_path / "large.npz"
    np.savez(markup, **{"<img src=x>": np.zeros(1)})
    np.savez(large, a=np.zeros(300_000))
    for path, message in (
        (hostile, "hostile.pth: cannot be read as a torch file: its pickle asks for posix.mkdir"),
        (text, "notes.txt: is no weight file; accepted are .pth, .pt, .ckpt"),
        (markup, "<img src=x>"),  # shown, and not taken for HTML
        (large, "exceed the maximum allowed size"),
    ):
        press_and_choose(page, "#own", path)
        page.locator(".toast-body", has_text=message).wait_for()
        page.locator(".toast-close").first.click()
    assert not marker.exists()


def test_pictures_and_networks_that_cannot_be_had(page, photo, tmp_path):
    large, text = tmp_path / "large.png", tmp_path / "text.png"
    choose(page, write(large, np.zeros((500, 500, 3), np.uint8)))
    page.get_by_text("large.png: has 0.25 megapixels, and this app takes up to 0.2").wait_for()
    text.write_text("no picture")
    choose(page, text)
    page.get_by_text("text.png: cannot be read as a picture: not a known format").wait_for()
    choose(page, photo)
    page.get_by_text("photo.png: 24×20 pixels").wait_for()
    page.get_by_label("Network", exact=True).click()
    page.get_by_role("option", name="esrgan-x4 (").click()
    mixed = "document.querySelector('[aria-label=\"Mix with a PSNR network\"]').value"
    page.wait_for_function(f"{mixed} == 'none'")  # the other network's is no longer chosen
    page.locator("#go").press("Enter")
    page.get_by_text(re.compile("could not be downloaded: no connection")).wait_for()


def ask(server, path, method="GET", **headers):
    """(status, headers, body) of a request that no page makes."""
    connection = http.client.HTTPConnection(server.split("/")[2], timeout=SECONDS)
    with closing(connection):
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()


def test_others_are_not_served(server):
    assert ask(server, "/")[0] == 200
    assert ask(server, "/", Host="evil.example")[0] == 403
    join = "/gradio_api/queue/join"
    assert ask(server, join, "POST", Origin="http://evil.example")[0] == 403
    assert ask(server, join, "POST")[0] == 422  # answered: it has no body
    for path in ("/monitoring", "/monitoring/summary", "/gradio_api/file=https://example.org"):
        assert ask(server, path)[0] == 404, path
    assert "default-src 'self'" in ask(server, "/")[1]["content-security-policy"]


def test_every_control_has_a_name(page):
    page.get_by_text("More options").click()
    names = page.evaluate(
        """() => [...document.querySelectorAll("button, input:not([type=file]), select, textarea")]
            .filter(e => e.checkVisibility() && !(e.labels?.length || e.ariaLabel ||
                e.innerText?.trim() || e.title))
            .map(e => e.outerHTML)"""
    )
    assert names == []


def test_a_job_can_be_stopped_and_the_next_one_runs(page, photo, tmp_path, rng):
    slow = write(tmp_path / "slow.png", rng.integers(0, 256, (440, 440, 3), dtype=np.uint8))
    computing = re.compile(r"3\.10 megapixels")  # to compute, or how many of them are done
    choose(page, slow)
    page.get_by_text("slow.png: 440×440 pixels").wait_for()
    page.get_by_text("More options").click()
    page.get_by_label("Tiles").click()
    page.get_by_role("option", name="64 pixels").click()
    page.get_by_label(re.compile("eight")).check()  # so that it lasts
    page.click("#go")
    page.get_by_text(computing).first.wait_for()
    page.click("#stop")
    page.get_by_text("Stopped.").wait_for()
    page.click("#go")
    page.get_by_text(computing).first.wait_for()
    choose(page, photo)  # ends what is made of another picture
    page.get_by_text("photo.png: 24×20 pixels").wait_for()
    page.click("#go")
    page.locator("#download", has_text="photo_x4.png").wait_for()
