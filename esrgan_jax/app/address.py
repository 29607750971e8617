"""Checks the address that the page is served at: the host must be this machine."""

import errno
import socket

from esrgan_jax.errors import InputError, RunError


def check_address(host: str, port: int | None) -> str:
    """The host as Gradio takes it: an IPv6 address in brackets.

    Args:
        host: An address or a name of this machine, with or without brackets.
        port: None for any.

    Raises:
        InputError: There is no such host or port, or the host is another machine.
        RunError: The port is taken or not for this user.
    """
    if port is not None and not 0 < port < 65536:
        raise InputError(f"--port={port}: ports are numbers from 1 to 65535")
    name = host.removeprefix("[").removesuffix("]")
    try:
        if not name:  # which would be any
            raise OSError("it is empty")
        family, *_, address = socket.getaddrinfo(name, port or 0, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"--host={host}: no such host. Take 127.0.0.1 for this machine alone, or 0.0.0.0 for "
            "all who reach it"
        ) from error
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise RunError(f"--port={port}: is in use; leave it out, or name another") from error
        if error.errno == errno.EACCES:
            raise RunError(
                f"--port={port}: needs more rights than this user has; take one above 1023"
            ) from error
        raise InputError(f"--host={host}: is no address of this machine") from error
    return f"[{name}]" if family == socket.AF_INET6 and ":" in name else name
