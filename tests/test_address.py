"""Which addresses the page can listen on, and the errors for those it cannot."""

import socket

import pytest

from esrgan_jax.app import command
from esrgan_jax.app.address import check_address
from esrgan_jax.errors import InputError, RunError


@pytest.fixture
def used_port():
    """Yields a port of 127.0.0.1 that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_addresses_of_this_machine_are_accepted():
    for host in ("127.0.0.1", "0.0.0.0", "localhost", "127.0.0.2"):
        assert check_address(host, None) == host


def test_ipv6_addresses_are_returned_in_brackets():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert check_address("::1", None) == check_address("[::1]", None) == "[::1]"


@pytest.mark.parametrize("port", [0, -1, 65536, 99999])
def test_ports_out_of_range_are_refused(port):
    with pytest.raises(InputError, match=f"--port={port}: ports are numbers from 1 to 65535"):
        command.main([f"--port={port}"])


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("no.such.host.invalid", "no such host; use 127"),
        ("", "no such host"),
        ("a" * 70, "no such host"),
        ("300.1.2.3", "no such host"),
        ("192.0.2.1", "is not an address of this machine"),  # reserved for documentation
        ("[2001:db8::1]", "is not an address of this machine|no such host"),
    ],
)
def test_hosts_other_than_this_machine_are_refused(host, message):
    with pytest.raises(InputError, match=message) as raised:
        command.main([f"--host={host}"])
    assert str(raised.value).startswith(f"--host={host}: ")


def test_a_port_in_use_is_refused(used_port):
    with pytest.raises(RunError, match=f"--port={used_port}: is in use; leave it out"):
        command.main([f"--port={used_port}"])


def test_a_port_without_permission_is_refused(monkeypatch):
    def bind(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", bind)
    with pytest.raises(RunError, match="--port=80: needs more rights than this user has"):
        command.main(["--port=80"])
