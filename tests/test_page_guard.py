"""Tests of which requests the page's server answers and which it refuses."""

import socket

import pytest
from starlette.datastructures import Headers

from esrgan_jax.app import guard

LOCAL = guard.known_hosts("127.0.0.1")


def status(path="/", method="GET", hosts=LOCAL, host="127.0.0.1:7860", **headers):
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    problem = guard.refused_request(method, path, Headers({"host": host, **given}), hosts)
    return problem[0] if problem else 200


@pytest.mark.parametrize(
    "host", ["127.0.0.1:7860", "localhost:7860", "LOCALHOST", "localhost.:1", "[::1]:7860"]
)
def test_names_of_this_machine_are_allowed(host):
    assert status(host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:7860", "127.0.0.1.evil.example", "10.1.2.3:7860", ""),
        *("localhost.evil.example", "evil.example:7860@127.0.0.1", "[::1].evil.example", "[::2]:1"),
    ],
)
def test_a_foreign_host_is_refused(host):
    assert status(host=host) == 403


def test_a_missing_or_repeated_host_header_is_refused():
    for pairs in ([], [(b"host", b"localhost"), (b"host", b"evil.example")]):
        problem = guard.refused_request("GET", "/", Headers(raw=pairs), LOCAL)
        assert problem is not None
        assert problem[0] == 403


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "::", "[::]"])
def test_a_server_on_all_addresses_allows_every_address_and_the_machines_name(everywhere):
    hosts = guard.known_hosts(everywhere, ["gpu.example.org:443"])
    machine = socket.gethostname()
    for host in (machine, f"{machine}:7860", "10.1.2.3:7860", "[fe80::1]:7860", "GPU.example.org"):
        assert status(hosts=hosts, host=host) == 200, host
    assert status(hosts=hosts, host="evil.example:7860") == 403


def test_a_server_on_one_address_allows_only_that_address():
    hosts = guard.known_hosts("192.168.7.5")
    assert status(hosts=hosts, host="192.168.7.5:7860") == 200
    assert status(hosts=hosts, host="192.168.7.6:7860") == 403


def test_other_sites_can_neither_post_nor_read():
    post = {"path": "/gradio_api/queue/join", "method": "POST"}
    assert status(**post) == 200  # a program, which sends no origin
    assert status(**post, origin="http://127.0.0.1:7860") == 200
    proxied = {"hosts": guard.known_hosts("127.0.0.1", ["pics.example"]), "host": "pics.example"}
    assert status(**post, **proxied, origin="https://pics.example:443") == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:8000", "http://[", "https://x"):
        assert status(**post, origin=origin) == 403, origin
        assert status("/config", origin=origin) == 403, origin
    cross = {"sec_fetch_site": "cross-site"}
    assert status("/files/1/a.png", **cross, sec_fetch_mode="no-cors") == 403
    assert status("/files/1/a.png", sec_fetch_site="same-site", sec_fetch_mode="no-cors") == 403
    assert status("/", **cross, sec_fetch_mode="navigate") == 200  # a link to the page
    assert status(**post, **cross, sec_fetch_mode="navigate") == 403  # a form


@pytest.mark.parametrize(
    "path",
    [
        *("/monitoring", "/monitoring/summary", "/monitoring/x/dashboard", "/login", "/config/"),
        *("/gradio_api/file=https://example.org", "/gradio_api/proxy=https://example.org", "/docs"),
        *("/gradio_api/file/etc/passwd", "/gradio_api/vibe-code", "/gradio_api/user"),
        *("/gradio_api/component_server", "/openapi.json"),
    ],
)
def test_endpoints_that_the_page_does_not_need_are_disabled(path):
    assert status(path) == 404
    assert status(path, method="POST") == 404


def test_a_browser_is_identified_by_its_cookie():
    token = "a" * 43
    assert guard.browser_of(Headers({"cookie": f"theme=dark; {guard.COOKIE}={token}"})) == token
    for line in ("", "theme=dark", f"{guard.COOKIE}=short", "=;=,\x00"):
        assert guard.browser_of(Headers({"cookie": line})) == ""
