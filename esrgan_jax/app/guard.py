"""Decides which HTTP requests the page's server answers."""

import ipaddress
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "esrgan_jax"  # identifies a browser, which may fetch its own files only
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
EVERYWHERE = ("0.0.0.0", "::", "")  # listens at all addresses of the machine

# What the page requests. The rest of Gradio (monitoring, proxy, files by path, …) is off.
PAGES = (
    *("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"),
    *(f"/gradio_api/{name}" for name in ("info", "theme.css", "app_id", "startup-events")),
    *(f"/gradio_api/{name}" for name in ("queue/join", "queue/data", "cancel", "reset")),
    "/gradio_api/run/predict",
    *("/images", "/weights", "/results.zip"),
)
FOLDERS = ("/assets/", "/static/", "/svelte/", "/gradio_api/heartbeat/", "/files/", "/samples/")
POLICY = {
    # The browser requests nothing from other sites, and they cannot embed the page.
    "content-security-policy": "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; "
    "frame-ancestors 'self'; base-uri 'self'; form-action 'self'; object-src 'none'",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True)
class Hosts:
    """The host names that the server accepts.

    Attributes:
        names: Names in lower case and addresses without brackets.
        addresses: Whether every IP address is accepted. Another site can point its name at this
            server, but cannot be named by an address, so only names have to be checked.
    """

    names: frozenset[str]
    addresses: bool = False

    def __contains__(self, name: str) -> bool:
        return name in self.names or (self.addresses and _is_address(name))


def known_hosts(host: str, allowed: Iterable[str] = ()) -> Hosts:
    """Returns the names of a server at `host`, with those that the user allows.

    Args:
        host: Where it listens: a name, an address, or one of EVERYWHERE.
        allowed: Further names, such as that of a proxy in front of it.
    """
    names = {*LOCAL_NAMES, *map(_name, (host, *allowed))}
    if _name(host) not in LOCAL_NAMES:
        machine = socket.gethostname().lower()
        names |= {machine, machine.partition(".")[0], f"{machine.partition('.')[0]}.local"}
    return Hosts(frozenset(names - {""}), _name(host) in EVERYWHERE)


def _name(host: str) -> str:
    """Returns the name or address in a Host header, a netloc or --host, without the port."""
    host = host.strip().lower()
    if host.startswith("["):
        name, _, port = host[1:].partition("]")
        return name if port[:1] in ("", ":") else host
    if host.count(":") > 1:  # an IPv6 address as --host has it
        return host
    return host.partition(":")[0].removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def refused_request(
    method: str, path: str, headers: Headers, hosts: Hosts
) -> tuple[int, str] | None:
    """Returns the (status, message) of a request that is refused; None for an accepted one."""
    names = headers.getlist("host")
    if len(names) != 1 or _name(names[0]) not in hosts:
        return 403, (
            f"{', '.join(names)[:200]}: is not a name of this server; "
            "if it should be, start the app with --allow_host"
        )
    navigates = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    foreign = origin is not None and _authority(origin) != names[0].strip().lower()
    if foreign or (site not in ("none", "same-origin") and not navigates):
        return 403, "only the page itself may request this, not another site"
    if path not in PAGES and not path.startswith(FOLDERS):
        return 404, "there is no such page"
    return None


def _authority(origin: str) -> str:
    """Returns the host and port of an origin, without the port if it is the default one."""
    try:
        parts = urlsplit(origin.strip().lower())
        port = parts.port
    except ValueError:
        return ""
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.netloc.removesuffix(f":{port}") if port == default else parts.netloc


def browser_of(headers: Headers) -> str:
    """Returns the id in a browser's cookie, or "" without one."""
    for line in headers.getlist("cookie"):
        try:
            morsel = SimpleCookie(line).get(COOKIE)
        except CookieError:
            continue
        if morsel is not None and len(morsel.value) >= 32:
            return morsel.value
    return ""


class Guard:
    """ASGI middleware that refuses foreign requests and gives every browser a cookie.

    Args:
        app: The application behind it.
        hosts: The names that the server accepts.
    """

    def __init__(self, app: ASGIApp, hosts: Hosts):
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # the page needs no web sockets
        headers = Headers(scope=scope)
        if problem := refused_request(scope["method"], scope["path"], headers, self.hosts):
            await PlainTextResponse(problem[1], problem[0])(scope, receive, send)
            return
        new = "" if browser_of(headers) else secrets.token_urlsafe(32)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer.update(POLICY)
                if new and scope["path"] == "/":
                    cookie = f"{COOKIE}={new}; Path=/; HttpOnly; SameSite=Lax"
                    answer.append("set-cookie", cookie)
            await send(message)

        await self.app(scope, receive, send_with_headers)
