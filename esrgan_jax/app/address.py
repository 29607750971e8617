"""Checks the address that the page is served at: the host must be this machine."""

import errno
import socket

from esrgan_jax.errors import InputError, RunError


def check_address(host: str, port: int | None) -> str:
    """Returns the host as Gradio takes it: an IPv6 address in brackets.

    Args:
        host: An address or a name of this machine, with or without brackets.
        port: 1 to 65535; None if any port will do.

    Raises:
        InputError: The host or port does not exist, or the host is another machine.
        RunError: The port is in use or needs more rights.
    """
    if port is not None and not 0 < port < 65536:
        raise InputError(f"--port={port}: ports are numbers from 1 to 65535")
    name = host.removeprefix("[").removesuffix("]")
    try:
        if not name:  # would mean all addresses
            raise OSError("it is empty")
        family, *_, address = socket.getaddrinfo(name, port or 0, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"--host={host}: no such host; use 127.0.0.1 for this machine only, or 0.0.0.0 for "
            "everybody who can reach it"
        ) from error
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise RunError(f"--port={port}: is in use; leave it out, or choose another") from error
        if error.errno == errno.EACCES:
            raise RunError(
                f"--port={port}: needs more rights than this user has; choose one above 1023"
            ) from error
        raise InputError(f"--host={host}: is not an address of this machine") from error
    return f"[{name}]" if family == socket.AF_INET6 and ":" in name else name
