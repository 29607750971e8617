"""Where the page can listen, and the sentences where it cannot."""

import socket

import pytest

from esrgan_jax.app import command
from esrgan_jax.app.address import check_address
from esrgan_jax.errors import InputError, RunError


@pytest.fixture
def taken():
    """A port of 127.0.0.1 that somebody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_addresses_of_this_machine():
    for host in ("127.0.0.1", "0.0.0.0", "localhost", "127.0.0.2"):
        assert check_address(host, None) == host


def test_ipv6_comes_in_brackets():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert check_address("::1", None) == check_address("[::1]", None) == "[::1]"


@pytest.mark.parametrize("port", [0, -1, 65536, 99999])
def test_ports_that_there_are_not(port):
    with pytest.raises(InputError, match=f"--port={port}: ports are numbers from 1 to 65535"):
        command.main([f"--port={port}"])


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("no.such.host.invalid", "no such host; use 127"),
        ("", "no such host"),
        ("a" * 70, "no such host"),
        ("300.1.2.3", "no such host"),
        ("192.0.2.1", "is not an address of this machine"),  # reserved for documents
        ("[2001:db8::1]", "is not an address of this machine|no such host"),
    ],
)
def test_hosts_that_are_not_this_machine(host, message):
    with pytest.raises(InputError, match=message) as raised:
        command.main([f"--host={host}"])
    assert str(raised.value).startswith(f"--host={host}: ")


def test_a_port_in_use(taken):
    with pytest.raises(RunError, match=f"--port={taken}: is in use; leave it out"):
        command.main([f"--port={taken}"])


def test_a_port_for_others(monkeypatch):
    def bind(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", bind)
    with pytest.raises(RunError, match="--port=80: needs more rights than this user has"):
        command.main(["--port=80"])
