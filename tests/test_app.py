"""The app: its command, and its page in a real browser, started as users do."""

import http.client
import json
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esrgan_jax.app import command
from esrgan_jax.app.guard import COOKIE
from esrgan_jax.blend import ALPHA
from esrgan_jax.errors import InputError
from esrgan_jax.images.reader import open_image
from esrgan_jax.images.writer import write_rows
from esrgan_jax.upscaling.upscaler import Upscaler

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
SECONDS = 120  # timeout, long enough for a busy machine


def read(path):
    return np.concatenate(list(open_image(path).rows()))


def write(path, array, **init):
    height, width, bands = array.shape
    init = {"dtype": array.dtype, "height": height, "width": width, "bands": bands, **init}
    write_rows(path, [array], **init)
    return path


@pytest.fixture
def photo(tmp_path, rng):
    return write(tmp_path / "photo.png", rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))


def test_wrong_arguments_of_the_command_are_refused(tmp_path, monkeypatch):
    for name in (*command.ENVIRONMENT, "GRADIO_TEMP_DIR"):  # restores them after the test
        monkeypatch.setenv(name, "")
    with pytest.raises(InputError, match=r"--max_megapixels=0: give a positive number"):
        command.main(["--max_megapixels=0"])
    with pytest.raises(InputError, match=r"none\.pth: no such file"):
        command.main([f"--model={tmp_path}/none.pth"])
    with pytest.raises(InputError, match="psnr_model without model"):
        command.main(["--psnr_model=p.npz"])
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(InputError, match=r"Gradio, .*: pip install 'gradio<7'"):
        command.main([])


@pytest.fixture(scope="module", autouse=True)
def starting(page_models, tmp_path_factory):
    """Yields the app's process, started early; at the end it must have deleted its files."""
    if find_spec("gradio") is None or find_spec("playwright") is None or CHROMIUM is None:
        yield None
        return
    temporary = tmp_path_factory.mktemp("temporary")
    offline = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY"), "http://127.0.0.1:9")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "esrgan_jax.app", f"--port={free_port()}"),
            *(f"--model={page_models['gan']}", f"--psnr_model={page_models['psnr']}"),
            *("--max_megapixels=0.4", "--max_megabytes=2"),
        ],
        env={
            **os.environ,
            **offline,
            # As in this process: with another number of devices, results differ in the last bit.
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
    """Returns the address of the running app."""
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
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream"],
        )
        yield browser.new_context()  # shared by all tests, so that scripts are cached
        browser.close()


def opened(server, context):
    """Opens the page; records its requests in `page.asked` and its errors in `page.errors`."""
    page = context.new_page()
    page.set_default_timeout(1000 * SECONDS)
    page.asked, page.errors = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on(
        "console",
        lambda line: (
            line.type == "error"
            and "400 (Bad Request)" not in line.text  # the answer for files that cannot be read
            and page.errors.append(f"{line.text} {line.location}")
        ),
    )
    page.goto(server)
    page.wait_for_selector("#go")
    return page


@pytest.fixture
def page(server, browser):
    """Yields the page; fails if it asked another host or had an error in its console."""
    page = opened(server, browser)
    yield page
    page.close()
    assert [url for url in page.asked if not url.startswith((server, "data:", "blob:"))] == []
    assert page.errors == []


def choose(page, *paths):
    """Adds images and waits until the last one is listed."""
    page.set_input_files("#files", paths)
    row = page.locator("#list li", has_text=Path(paths[-1]).name)
    row.locator(".facts", has_text="×").or_(row.locator(".error:visible")).first.wait_for()


def press_and_choose(page, button, path):
    with page.expect_file_chooser() as chooser:
        page.click(button)
    chooser.value.set_files(path)


def open_more_options(page):
    page.locator("#more button", has_text="More").first.click()


def download(page, folder, link="#download"):
    """Clicks a link and returns the path of the file it downloads."""
    with page.expect_download() as downloading:
        page.click(link)
    target = folder / downloading.value.suggested_filename
    downloading.value.save_as(target)
    return target


def wait_for_result(page, name):
    page.locator("#download", has_text=name).wait_for()


def wait_for_status(page, text):
    page.locator("#said", has_text=text).wait_for()


def expected(models, image, scale=None, **options):
    """Returns the result of the Python API."""
    upscaler = Upscaler.load(models["gan"], psnr_model=models["psnr"], **options)
    return upscaler(image, scale=scale)


def test_the_button_and_the_slider_give_the_result_of_the_api(page, page_models, photo, tmp_path):
    slider = page.get_by_label("range slider for Faithful")

    def slide(part):
        box = slider.bounding_box()
        page.mouse.click(box["x"] + part * box["width"], box["y"] + box["height"] / 2)
        return float(page.get_by_label("number input for Faithful").input_value())

    page.click("#go")
    wait_for_status(page, "Add an image first.")
    slide(0.6)  # without an image the slider does nothing
    choose(page, photo)
    wait_for_status(page, "photo.png: 24×20 pixels")
    page.click("#go")
    wait_for_result(page, "photo_x4.png")
    wait_for_status(page, re.compile("^24×20 to 96×80 pixels, RGB, 8 bits, in "))
    first = read(download(page, tmp_path))
    # Moving the slider upscales again without pressing the button.
    alpha = slide(0.3)
    assert 0.2 < alpha < 0.4
    deadline = time.monotonic() + SECONDS
    while (second := read(download(page, tmp_path))).tolist() == first.tolist():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    np.testing.assert_array_equal(second, expected(page_models, read(photo), alpha=alpha))
    assert page.locator("#before img").count() == page.locator("#after img").count() == 1
    assert page.locator("#tag-before").inner_text() == "Before (bicubic)"
    assert page.locator("#tag-after").inner_text() == "After"
    page.click("#go")
    wait_for_status(page, "Already done with these settings")
    assert page.locator(".toast-body").count() == 0  # nothing covers the buttons


def test_the_download_keeps_depth_and_alpha(page, page_models, tmp_path, rng):
    image = rng.integers(0, 65536, (20, 24, 4), dtype=np.uint16)
    choose(page, write(tmp_path / "deep.png", image))
    page.get_by_role("radio", name="Other").check()
    page.get_by_label("Times").fill("2.5")
    open_more_options(page)
    page.get_by_label("Format of the download").click()
    page.get_by_role("option", name="TIFF").click()
    page.get_by_label("Keep the image's colours").check()
    page.get_by_label("number input for Strength").fill("0.5")
    page.click("#go")
    wait_for_result(page, "deep_x2.5.tif")
    result = read(download(page, tmp_path))
    assert (result.shape, result.dtype) == ((50, 60, 4), np.uint16)
    options = {"alpha": ALPHA, "color": "keep", "strength": 0.5}
    np.testing.assert_array_equal(result, expected(page_models, image, 2.5, **options))


def test_several_images_are_listed_and_downloaded_together(page, page_models, photo, tmp_path):
    small = write(tmp_path / "small.png", read(photo)[:10])
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    choose(page, photo, small, broken)
    page.locator("#list .error", has_text="broken.png: cannot be read as an image").wait_for()
    assert page.locator("#browse").is_visible()  # more images can be added
    page.locator("#size label", has_text="2×").click()
    page.click("#go")
    wait_for_status(page, "2 of 2 images are done.")
    with zipfile.ZipFile(download(page, tmp_path, "#all")) as archive:
        assert archive.namelist() == ["photo_x2.png", "small_x2.png"]
        archive.extractall(tmp_path / "all")
    for path in (photo, small):
        result = read(tmp_path / "all" / f"{path.stem}_x2.png")
        wanted = expected(page_models, read(path), 2, alpha=ALPHA)
        np.testing.assert_array_equal(result, wanted)
    single = download(page, tmp_path, "#list li:has-text('small.png') .link")
    assert single.name == "small_x2.png"
    row = page.locator("#list li", has_text="photo.png")
    row.get_by_label("Remove photo.png").click()
    row.wait_for(state="detached")
    assert page.locator("#all").is_hidden()


def test_images_can_be_dropped_pasted_and_chosen_as_samples(page, photo):
    content = list(photo.read_bytes())
    script = """([content, kind, name]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(content)], name, {type: 'image/png'}));
        const init = {bubbles: true, cancelable: true, clipboardData: transfer};
        document.body.dispatchEvent(kind === 'paste' ? new ClipboardEvent(kind, init)
            : new DragEvent(kind, {...init, dataTransfer: transfer}));
    }"""
    for kind in ("paste", "drop"):
        page.evaluate(script, [content, kind, f"{kind}.png"])
        wait_for_status(page, f"{kind}.png: 24×20 pixels")
    page.get_by_title("Try it with this image: cat").click()
    wait_for_status(page, "cat.png: 226×150 pixels")
    assert page.locator("#list li").count() == 3


def test_the_camera_takes_an_image(server, page):
    page.context.grant_permissions(["camera"], origin=server)
    page.click("#camera")
    page.locator("#take-photo:enabled").click()
    wait_for_status(page, re.compile(r"^camera\.png: .*pixels"))


def test_a_lossy_jpeg_gets_a_hint_to_a_suitable_network(page, tmp_path, rng):
    image = Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))
    image.save(tmp_path / "good.jpg", quality=95)
    image.save(tmp_path / "bad.jpg", quality=40)
    choose(page, tmp_path / "good.jpg", tmp_path / "bad.jpg")
    wait_for_status(page, "bad.jpg: 24×20 pixels")
    hints = page.locator(".hint:visible")
    assert hints.count() == 1
    assert "a quality of about 40." in hints.inner_text()
    hints.get_by_role("button").click()
    open_more_options(page)
    chosen = "document.querySelector('[aria-label=Network]')?.value"
    page.wait_for_function(f"{chosen}?.startsWith('lite-x4-real (')")
    assert page.get_by_label("range slider for Faithful").is_enabled()  # with its PSNR network


def test_users_can_upload_their_own_weight_files(page, page_models, photo, tmp_path):
    choose(page, photo)
    open_more_options(page)
    press_and_choose(page, "#own", page_models["x2"])
    page.wait_for_function("document.querySelector('[aria-label=Network]').value.includes('x2.s')")
    page.get_by_label("2×").and_(page.locator(":checked")).wait_for()  # the scale of the network
    page.click("#go")  # the previous PSNR network is no longer chosen
    wait_for_result(page, "photo_x2.png")
    upscaler = Upscaler.load(page_models["x2"])
    np.testing.assert_array_equal(read(download(page, tmp_path)), upscaler(read(photo)))
    press_and_choose(page, "#own-psnr", page_models["psnr"])
    partner = "document.querySelector('[aria-label=\"PSNR network\"]').value"
    page.wait_for_function(f"{partner}.includes('psnr.s')")
    page.click("#go")
    wait_for_status(page, "only networks of one architecture can be interpolated")


class Hostile:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_unusable_weight_files_are_refused_with_a_message(page, tmp_path):
    marker, hostile, text = (tmp_path / name for name in ("ran", "hostile.pth", "notes.txt"))
    hostile.write_bytes(pickle.dumps({"params": Hostile(marker)}))
    text.write_text("no network")
    markup, large = tmp_path / "markup.npz", tmp_path / "large.npz"
    np.savez(markup, **{"<img src=x>": np.zeros(1)})
    np.savez(large, a=np.zeros(300_000))
    open_more_options(page)
    for path, message in (
        (hostile, "hostile.pth: cannot be read as a torch file: its pickle asks for posix.mkdir"),
        (text, "notes.txt: is not a weight file; accepted are .pth, .pt, .ckpt"),
        (markup, "<img src=x>"),  # shown as text, not as HTML
        (large, "large.npz: has 2.4 megabytes, and this app takes up to 2"),
    ):
        press_and_choose(page, "#own", path)
        wait_for_status(page, message)
    assert not marker.exists()


def test_unusable_images_and_failed_downloads_are_reported(page, photo, tmp_path):
    large, text = tmp_path / "large.png", tmp_path / "text.png"
    choose(page, write(large, np.zeros((700, 700, 3), np.uint8)))
    wait_for_status(page, "large.png: has 0.49 megapixels, and this app takes up to 0.4")
    text.write_text("no image")
    choose(page, text)
    wait_for_status(page, "text.png: cannot be read as an image: not a known format")
    choose(page, photo)
    wait_for_status(page, "photo.png: 24×20 pixels")
    open_more_options(page)
    page.get_by_label("Network", exact=True).click()
    page.get_by_role("option", name="esrgan-x4 (").click()
    partner = "document.querySelector('[aria-label=\"PSNR network\"]').value"
    page.wait_for_function(
        f"{partner} == 'none'"
    )  # that of the previous network is no longer chosen
    page.locator("#go").press("Enter")
    wait_for_status(page, re.compile("could not be downloaded: no connection"))


def request(server, path, method="GET", body=None, **headers):
    """Sends a request that the page never makes; returns (status, headers, body)."""
    connection = http.client.HTTPConnection(server.split("/")[2], timeout=SECONDS)
    with closing(connection):
        connection.request(method, path, body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def test_other_hosts_origins_and_routes_are_refused(server):
    assert request(server, "/")[0] == 200
    assert request(server, "/", Host="evil.example")[0] == 403
    for path in ("/gradio_api/queue/join", "/images?name=a.png", "/weights?name=a.pth"):
        assert request(server, path, "POST", Origin="http://evil.example")[0] == 403
    assert (
        request(server, "/gradio_api/queue/join", "POST")[0] == 422
    )  # accepted, but it has no body
    for path in ("/monitoring", "/monitoring/summary", "/gradio_api/file=https://example.org"):
        assert request(server, path)[0] == 404, path
    assert "default-src 'self'" in request(server, "/")[1]["content-security-policy"]


def test_the_server_does_not_reveal_paths_of_the_machine(server, page_models, tmp_path_factory):
    places = [tmp_path_factory.getbasetemp(), page_models["gan"].parent, sys.prefix, Path.home()]
    places += [Path(command.__file__).parent, Path.cwd()]
    for path in ("/config", "/", "/gradio_api/info"):
        status, _, body = request(server, path)
        assert status == 200
        for place in places:
            assert str(place) not in body.decode(), (path, place)
        assert not re.search(r'"/(tmp|home|root|usr|opt|var)/', body.decode()), path


def test_files_are_served_only_to_the_browser_that_made_them(server, page, photo):
    choose(page, photo)
    page.click("#go")
    wait_for_result(page, "photo_x4.png")
    urls = [page.locator("#download").get_attribute("href")]
    urls += page.evaluate("[...document.querySelectorAll('.content img')].map((i) => i.src)")
    urls.append("results.zip?key=" + urls[0].split("/")[1])
    urls = [url if url.startswith("http") else f"{server}{url}" for url in urls]
    other = page.context.browser.new_context()
    other.new_page().goto(server)
    assert len(urls) >= 4
    for url in urls:
        assert page.request.get(url).status == 200, url
        assert other.request.get(url).status == 404, url
        assert request(server, "/" + url.removeprefix(server))[0] == 404, url
    key = urls[0].split("/")[-2]
    other.request.delete(f"{server}/images?key={key}")  # other browsers cannot delete it either
    assert page.request.get(urls[0]).status == 200
    other.close()


def test_an_image_of_another_browser_is_not_upscaled(server, browser, page, photo):
    cookie = next(c["value"] for c in browser.cookies() if c["name"] == COOKIE)
    mine = {"Cookie": f"{COOKIE}={cookie}"}
    status, _, body = request(server, "/images?name=photo.png", "POST", photo.read_bytes(), **mine)
    key = json.loads(body)["key"]
    assert status == 200
    other = browser.browser.new_context()
    foreign = opened(server, other)
    foreign.route(
        "**/queue/join*",
        lambda route: route.continue_(
            post_data=route.request.post_data.replace('"keys":[]', f'"keys":["{key}"]')
        ),
    )
    foreign.click("#go")
    wait_for_status(foreign, "there is no such file")
    other.close()
    assert request(server, "/images?name=a.png", "POST", b"")[0] == 403  # without a cookie


def test_every_control_has_a_name_and_a_focus_outline(page, photo):
    choose(page, photo)
    open_more_options(page)
    names = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, textarea, a")]
            .filter(e => e.checkVisibility() && !(e.labels?.length || e.ariaLabel ||
                e.innerText?.trim() || e.title))
            .map(e => e.outerHTML)"""
    )
    assert names == []
    page.locator("h1").click()
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        about = page.evaluate(
            """() => {
                const e = document.activeElement;
                const shown = e.id === 'split' ? document.querySelector('#line span')
                    : e.closest('label:has(input:focus-visible), .wrap:focus-within') ?? e;
                const wide = (x) => parseFloat(getComputedStyle(x).outlineWidth) >= 2 &&
                    getComputedStyle(x).outlineStyle === 'solid';
                return [e.id || e.ariaLabel || e.innerText || e.tagName, e === document.body ||
                    e.disabled || wide(e) || wide(shown)];
            }"""
        )
        assert about[1], about[0]
        seen.add(about[0])
    assert {"browse", "camera", "go", "own", "zoom-in"} <= seen


@pytest.mark.parametrize("width", [1280, 375])
def test_the_page_fits_its_window(page, width):
    page.set_viewport_size({"width": width, "height": 667})
    box = page.locator("#go").bounding_box()
    assert box["y"] + box["height"] <= 667  # on the first screen of a phone
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    open_more_options(page)
    page.get_by_label("Network", exact=True).click()
    page.get_by_role("option", name="realesrgan-x4plus-anime").click()
    arrow = page.locator("#model .icon-wrap").bounding_box()
    text = page.evaluate(
        """() => {
            const field = document.querySelector('#model input'), style = getComputedStyle(field);
            return field.getBoundingClientRect().right - parseFloat(style.paddingRight);
        }"""
    )
    assert text <= arrow["x"]  # the text does not reach under the arrow
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_zoom_moves_both_images_and_the_split_clips_one(page, photo):
    choose(page, photo)
    page.click("#go")
    wait_for_result(page, "photo_x4.png")
    transforms = "[...document.querySelectorAll('.content')].map((c) => c.style.transform)"
    fit = page.evaluate(transforms)
    page.click("#zoom-in")
    zoomed = page.evaluate(transforms)
    assert fit[0] == fit[1] != zoomed[0] == zoomed[1]
    page.click("#zoom-one")
    assert page.locator("#zoom").inner_text() == "100 %"
    page.click("#zoom-fit")
    assert page.evaluate(transforms) == fit
    page.locator("#split").focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    assert "60%" in page.evaluate("document.querySelector('#after').style.clipPath")


def test_progress_is_shown_and_work_can_be_stopped(page, photo, tmp_path, rng):
    # So large that it takes until it is stopped.
    slow = write(tmp_path / "slow.png", rng.integers(0, 256, (600, 600, 3), dtype=np.uint8))
    computing = re.compile(r"of 5\.76 megapixels")
    choose(page, slow)
    wait_for_status(page, "slow.png: 600×600 pixels")
    open_more_options(page)
    page.get_by_label("Tiles").click()
    page.get_by_role("option", name="64 pixels").click()
    page.click("#go")
    wait_for_status(page, computing)
    page.locator("#bar:visible").wait_for()
    page.locator("#after img.part").first.wait_for()  # finished tiles over the bicubic enlargement
    assert page.locator("#tag-before").inner_text() == "Before (bicubic)"
    page.click("#stop")
    wait_for_status(page, "Stopped.")
    page.click("#go")
    wait_for_status(page, computing)
    page.get_by_label("Remove slow.png").click()  # stops its upscaling
    choose(page, photo)
    page.get_by_label("Average of eight versions").check()
    page.locator("#go:visible").wait_for()
    page.click("#go")
    wait_for_result(page, "photo_x4.png")
