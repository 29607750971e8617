"""Tests of the zoo with a local server: downloads, failures, names and the table."""

import hashlib
import io
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jax
import numpy as np
import pytest

from esrgan_jax import progress
from esrgan_jax.app.networks import Networks
from esrgan_jax.checkpoint import load_generator, save_generator
from esrgan_jax.errors import InputError, RunError
from esrgan_jax.interop import download, zoo
from esrgan_jax.interpolation import interpolate_params, load_blend
from esrgan_jax.models import RRDBNet

CONTENT = bytes(range(256)) * 20  # 5120 bytes
SPDX = ("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause")
GENERATORS = [name for name, weights in zoo.ZOO.items() if weights.kind == "generator"]
METRICS = ["alexnet", "lpips-alex", "niqe"]


class Server(ThreadingHTTPServer):
    """Serves one file at every path; the path's last part chooses a failure."""

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.requests, self.gate = content, 0, lambda: None
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def url(self, failure="none"):
        return f"http://127.0.0.1:{self.server_address[1]}/{failure}"

    def stop(self):
        self.closing.set()
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        server, failure = self.server, self.path.rpartition("/")[2]
        server.requests += 1
        server.gate()
        if failure == "missing":
            self.send_error(404)
            return
        body = b"\n<!DOCTYPE html><html>Too large to scan" if failure == "page" else server.content
        self.send_response(200)
        if failure != "unannounced":
            self.send_header("Content-Length", str(len(body) + 1000 * (failure == "broken")))
        self.end_headers()
        half = len(body) // 2
        self.wfile.write(body[:half])
        if failure == "stalled":
            server.closing.wait(5)
            return
        self.wfile.write(body[half:])

    def log_message(self, *args):
        pass


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv(zoo.CACHE_VARIABLE, str(folder))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder


@pytest.fixture
def server(cache):
    server = Server(CONTENT)
    yield server
    server.stop()


@pytest.fixture
def publish(monkeypatch):
    """A function that replaces the URL and hash of a name by those of a server's file."""

    def publish(server, name="esrgan-x4", failure="none", **fields):
        sha256 = hashlib.sha256(server.content).hexdigest()
        given = {"url": server.url(failure), "sha256": sha256, "file": f"{name}.pth", **fields}
        monkeypatch.setitem(zoo.ZOO, name, zoo.ZOO[name]._replace(**given))
        return given["url"]

    return publish


def files_in(cache):
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*"))


def failed_fetch(cache, url, reason):
    """Checks and returns the message of a failed download, which has the URL, reason and path."""
    with pytest.raises(RunError) as failure:
        zoo.fetch("esrgan-x4")
    message = str(failure.value)
    assert message.startswith(f"esrgan-x4: {url} ")
    assert re.search(reason, message)
    assert message.endswith(f" put it at {cache / 'esrgan-x4.pth'}")
    assert "\n" not in message
    return message


# Downloads.


def test_a_file_is_downloaded_once_and_then_used_offline(server, cache, publish, capsys):
    url = publish(server)
    path = zoo.fetch("esrgan-x4")
    assert path == cache / "esrgan-x4.pth"
    assert path.read_bytes() == CONTENT
    assert files_in(cache) == ["esrgan-x4.pth"]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"esrgan-x4: downloading {url} to {path}"
    assert lines[1].startswith("esrgan-x4: 0/0 megabytes, ")  # the last progress line
    assert lines[2:] == ["esrgan-x4: sha256 verified, licence Apache-2.0"]

    server.stop()
    assert zoo.fetch("esrgan-x4") == path
    assert server.requests == 1
    assert capsys.readouterr().err == ""


def test_downloaded_files_follow_the_umask(server, cache, publish):
    publish(server)
    umask = os.umask(0o022)
    try:
        assert zoo.fetch("esrgan-x4").stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(umask)


def test_a_published_prefix_of_the_hash_is_checked_and_reported(server, cache, publish, capsys):
    digest = hashlib.sha256(CONTENT).hexdigest()
    publish(server, sha256=digest[:8])
    assert zoo.fetch("esrgan-x4").read_bytes() == CONTENT
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("esrgan-x4: verified by the 8 digits of its sha256 that are published")

    zoo.weights_path("esrgan-x4").unlink()
    wrong = digest[:7] + ("0" if digest[7] != "0" else "1")
    url = publish(server, sha256=wrong)
    failed_fetch(cache, url, f"sent another file .*sha256 {digest}, expected {wrong}")
    assert files_in(cache) == []


def test_a_file_put_into_the_cache_by_hand_is_used(cache, server, publish):
    publish(server)
    server.stop()
    cache.mkdir()
    (cache / "esrgan-x4.pth").write_bytes(CONTENT)
    assert zoo.fetch("esrgan-x4") == cache / "esrgan-x4.pth"


def test_a_changed_file_is_downloaded_again_with_a_note(cache, server, publish, capsys):
    publish(server)
    path = zoo.fetch("esrgan-x4")
    path.write_bytes(CONTENT[:-1] + b"x")  # with the same size
    capsys.readouterr()
    assert zoo.fetch("esrgan-x4").read_bytes() == CONTENT
    assert server.requests == 2
    note = capsys.readouterr().err.splitlines()[0]
    assert note.startswith(f"{path}: is not esrgan-x4 as published")
    assert note.endswith("downloaded again")


def test_a_repacked_file_is_used_if_its_hash_matches(cache, server, publish, capsys):
    tensors = b"the same tensors"
    repacked = ("repacked.npz", hashlib.sha256(tensors).hexdigest())
    publish(server, "alexnet", repacked=repacked)
    cache.mkdir()
    (cache / "repacked.npz").write_bytes(tensors)
    assert re.search(r"^alexnet .* yes$", zoo.zoo_table(), re.MULTILINE)
    cache.chmod(0o555)
    assert zoo.fetch("alexnet") == cache / "repacked.npz"
    assert capsys.readouterr().err == ""
    assert server.requests == 0

    cache.chmod(0o755)
    (cache / "repacked.npz").write_bytes(b"others")
    assert zoo.fetch("alexnet") == cache / "alexnet.pth"
    note = capsys.readouterr().err.splitlines()[0]
    assert note.startswith(f"{cache / 'repacked.npz'}: is not alexnet as published (its sha256 is ")
    assert note.endswith(f"expected {repacked[1]}); it is ignored")
    assert (cache / "repacked.npz").read_bytes() == b"others"


@pytest.mark.parametrize("name", METRICS)
def test_files_of_metrics_are_found_offline(shared_data, monkeypatch, name):
    monkeypatch.setenv(zoo.CACHE_VARIABLE, str(shared_data / "metrics"))
    monkeypatch.setattr(zoo, "download", None)
    assert zoo.fetch(name).parent == shared_data / "metrics"


def test_simultaneous_downloads_do_not_disturb_each_other(cache, server, publish):
    publish(server)
    server.gate = threading.Barrier(2, timeout=5).wait  # serves none before both have asked
    paths = []
    threads = [threading.Thread(target=lambda: paths.append(zoo.fetch("esrgan-x4"))) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == [cache / "esrgan-x4.pth"] * 2
    assert server.requests == 2
    assert paths[0].read_bytes() == CONTENT
    assert files_in(cache) == ["esrgan-x4.pth"]


def test_the_cache_folder_is_the_users_or_that_of_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(zoo.CACHE_VARIABLE, raising=False)
    assert zoo.cache_folder().name == "esrgan_jax"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(zoo.CACHE_VARIABLE, "~/weights")
    assert zoo.cache_folder() == tmp_path / "weights"


# Progress.


@pytest.mark.parametrize("failure", ["none", "unannounced"])
def test_progress_is_printed_as_lines_without_a_terminal(
    cache, server, publish, monkeypatch, capsys, failure
):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(download, "MEGABYTE", 1024)
    publish(server, failure=failure, size=5120)
    zoo.fetch("esrgan-x4")
    counts = re.findall(r"esrgan-x4: (\d/\d) megabytes, \d", capsys.readouterr().err)
    assert counts[:5] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    assert set(counts[5:]) == {"5/5"}


def test_progress_is_shown_as_a_bar_on_a_terminal(cache, server, publish, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(download, "MEGABYTE", 1000)
    publish(server)
    zoo.fetch("esrgan-x4")
    last = next(s for s in reversed(re.split(r"[\r\n]", terminal.getvalue())) if "|" in s)
    assert last.startswith("esrgan-x4: 100%")
    assert "5/5 [" in last


# Failures.


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ("broken", "could not be downloaded: the connection broke before the end of the file"),
        ("missing", "could not be downloaded: the server answered 404 Not Found"),
        ("stalled", r"could not be downloaded: the server sent nothing for 0\.2 s"),
        ("page", "sent a web page instead of the file, so open it in a browser"),
    ],
)
def test_a_failed_download_leaves_no_file(cache, server, publish, monkeypatch, failure, reason):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    failed_fetch(cache, publish(server, failure=failure), reason)
    assert files_in(cache) == []


def test_a_refused_connection_is_reported(cache, server, publish):
    url = publish(server)
    server.stop()
    failed_fetch(cache, url, r"could not be downloaded: no connection \(Connection refused\)")
    assert files_in(cache) == []


def test_an_unknown_host_is_reported(cache, server, publish, monkeypatch):
    def unknown(*args, **kwargs):
        raise OSError(-2, "Name or service not known")

    url = publish(server)
    monkeypatch.setattr("socket.getaddrinfo", unknown)
    failed_fetch(cache, url, r"no connection \(Name or service not known\)")


def test_a_file_with_another_hash_is_refused(cache, server, publish):
    expected = hashlib.sha256(b"another").hexdigest()
    message = failed_fetch(cache, publish(server, sha256=expected), "sent another file")
    assert f"5,120 bytes of sha256 {hashlib.sha256(CONTENT).hexdigest()}" in message
    assert f"expected {expected})" in message
    assert files_in(cache) == []


def test_a_changed_file_is_kept_if_the_download_fails(cache, server, publish, capsys):
    url = publish(server)
    server.stop()
    cache.mkdir()
    (cache / "esrgan-x4.pth").write_bytes(b"mine")
    failed_fetch(cache, url, "no connection")
    assert "is not esrgan-x4 as published" in capsys.readouterr().err
    assert files_in(cache) == ["esrgan-x4.pth"]
    assert (cache / "esrgan-x4.pth").read_bytes() == b"mine"


def test_an_interrupted_download_leaves_no_file(cache, server, publish, monkeypatch):
    def interrupt(self, count):
        assert files_in(cache)[1:]  # a file is being written
        raise KeyboardInterrupt

    publish(server)
    monkeypatch.setattr(download._Bar, "update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        zoo.fetch("esrgan-x4")
    assert files_in(cache) == []


def test_a_cache_that_cannot_be_written_is_reported(cache, server, publish, monkeypatch, tmp_path):
    publish(server)
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv(zoo.CACHE_VARIABLE, str(tmp_path / "file" / "below"))
    with pytest.raises(RunError, match=r"file/below/.*: the cache cannot be used: Not a directory"):
        zoo.fetch("esrgan-x4")
    assert server.requests == 0


def test_a_folder_in_place_of_the_file_is_reported(cache, server, publish):
    publish(server)
    (cache / "esrgan-x4.pth").mkdir(parents=True)
    with pytest.raises(RunError, match=r"esrgan-x4\.pth: the cache cannot be used: Is a directory"):
        zoo.fetch("esrgan-x4")


# Names in place of paths.


def test_generators_are_loaded_and_blended_by_name(cache, publish, random_generator, rng, tmp_path):
    fields, params, _ = random_generator(rng)
    trees = {"esrgan-x4": params, "esrgan-psnr-x4": jax.tree.map(lambda leaf: leaf / 2, params)}
    for name, params in trees.items():
        file = tmp_path / "generator.pth"
        save_generator(file, RRDBNet(**fields), {"params": params})
        server = Server(file.read_bytes())
        publish(server, name)
        module, variables = load_generator(name)
        server.stop()
        assert (module.scale, module.num_blocks) == (4, 2)
        jax.tree.map(np.testing.assert_array_equal, variables["params"], params)
    _, blend = load_blend("esrgan-psnr-x4", "esrgan-x4", 0.8)
    expected = interpolate_params(trees["esrgan-psnr-x4"], trees["esrgan-x4"], 0.8)
    jax.tree.map(np.testing.assert_array_equal, blend["params"], expected)


def test_an_existing_path_takes_precedence_over_a_name(cache, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("esrgan-x4").mkdir()
    assert zoo.resolve("esrgan-x4") == Path("esrgan-x4")
    with pytest.raises(InputError, match="holds no checkpoint"):
        load_generator("esrgan-x4")


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("esrgan_x4", "esrgan-x4"),
        ("RealESRGAN_x4plus.pth", "realesrgan-x4plus"),
        ("RealESRGAN_x4plus_anime_6B.pth", "realesrgan-x4plus-anime"),
        ("weights/BSRGAN-x4", "bsrgan-x4"),
        ("workdir/gan", None),
        ("photo.png", None),
    ],
)
def test_an_unknown_name_is_refused_with_a_suggestion(cache, name, suggestion):
    with pytest.raises(InputError) as failure:
        load_generator(name)
    message = str(failure.value)
    assert message.startswith(f"{name}: no such file or directory, expected a generator: ")
    listed = message.partition("name of the zoo: ")[2].partition(". Did you mean")[0]
    assert listed.split(", ") == GENERATORS
    assert message.partition(" Did you mean ")[2] == (f"{suggestion}?" if suggestion else "")


def test_weights_of_another_kind_are_refused(cache):
    with pytest.raises(InputError, match=r"vgg19: is a VGG .*, expected a generator: .*esrgan-x4"):
        load_generator("vgg19")
    with pytest.raises(InputError, match=r"esrgan-x4: is a generator, expected a VGG .* vgg19"):
        zoo.resolve("esrgan-x4", "vgg")
    with pytest.raises(InputError, match=r"niqe: is part of a metric, expected a generator: "):
        load_generator("niqe")
    with pytest.raises(InputError, match=r"vgg-19: no such .*, expected a VGG .* mean vgg19\?"):
        zoo.resolve("vgg-19", "vgg")


def test_a_vgg_network_is_found_by_name(cache, server, publish):
    publish(server, "vgg19")
    assert zoo.resolve("vgg19", "vgg").read_bytes() == CONTENT


# The command and the table.


def test_the_command_downloads_and_prints_the_path(cache, server, publish, capsys):
    publish(server)
    zoo.main(["esrgan-x4"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(cache / "esrgan-x4.pth")
    assert lines[1].split() == ["licence", "Apache-2.0"]
    assert lines[2].endswith("arXiv:1809.00219")


def test_all_names_are_checked_before_a_download(cache, server, publish):
    publish(server)
    with pytest.raises(InputError, match=r"esrgan-x5: is not in the zoo, .* mean esrgan-x4\?"):
        zoo.main(["esrgan-x4", "esrgan-x5"])
    assert server.requests == 0


def test_the_command_lists_the_zoo(cache):
    cache.mkdir()
    (cache / "BSRGAN.pth").write_bytes(b"")
    done = subprocess.run(
        [sys.executable, "-m", "esrgan_jax.interop.zoo"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    rows = {line.split()[0]: line for line in lines[1 : 1 + len(zoo.ZOO)]}
    assert list(rows) == list(zoo.ZOO)
    assert [name for name, row in rows.items() if row.endswith("  yes")] == ["bsrgan-x4"]
    assert re.search(r" 2x +67 +BSD-3-Clause +xinntao ", rows["realesrgan-x2plus"])
    assert re.search(r" - +<1 +BSD-2-Clause +richzhang ", rows["lpips-alex"])
    assert all(len(line) <= 100 for line in lines[: 1 + len(rows)])
    assert str(cache) in lines[-1]


def test_importing_the_zoo_loads_no_large_libraries():
    code = (
        "import sys, esrgan_jax.interop.zoo; "
        "sys.exit(str({'pooch', 'requests', 'jax', 'numpy'} & {*sys.modules} or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""


@pytest.mark.parametrize("name", zoo.ZOO)
def test_every_entry_is_well_formed(cache, name):
    weights = zoo.ZOO[name]
    assert weights.licence in SPDX
    assert re.search(r" 20[12]\d, (arXiv:\d{4}\.\d{4,5}|doi:10\.\S+)$", weights.citation)
    assert weights.kind in zoo.WEIGHT_KINDS
    assert (weights.scale > 0) == (weights.kind == "generator")
    if not weights.url:
        assert zoo.weights_path(name).is_file()
        return
    assert weights.url.startswith("https://")
    assert re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}", weights.sha256)
    assert zoo.weights_path(name).suffix in (".pth", ".npz")
    if weights.repacked:
        assert re.fullmatch(r"[0-9a-f]{64}", weights.repacked[1])
    assert zoo.weights_path(name).parent == cache
    # The weights are float32, and the container adds little.
    assert weights.size == 0 or 0 <= weights.size - 4 * weights.parameters < 300_000
    # A file name that contains the first digits of the hash agrees with it.
    published = re.search(r"-([0-9a-f]{8})\.pth$", zoo.weights_path(name).name)
    assert published is None or weights.sha256.startswith(published[1])


def test_no_two_names_share_a_file(cache):
    published = [(zoo.weights_path(name).name, w.sha256) for name, w in zoo.ZOO.items() if w.url]
    repacked = [weights.repacked for weights in zoo.ZOO.values() if weights.repacked]
    for column in zip(*published, *repacked, strict=True):
        assert len(set(column)) == len(column)


def test_metrics_are_not_offered_as_models(cache):
    assert [name for name, weights in zoo.ZOO.items() if weights.kind == "metric"] == METRICS
    offered = [model for _, model in Networks([]).choices({})]
    assert not set(offered) & {*METRICS, "vgg19"}
