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

COOKIE = "esrgan_jax"  # a browser's; its files are known by it
LOCAL = ("localhost", "127.0.0.1", "::1")
EVERYWHERE = ("0.0.0.0", "::", "")  # listens at all addresses of the machine

# What the page asks for; the rest of Gradio (monitoring, proxy, files by their paths, …) is off.
PAGES = (
    *("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"),
    *(f"/gradio_api/{name}" for name in ("info", "theme.css", "app_id", "startup-events")),
    *(f"/gradio_api/{name}" for name in ("queue/join", "queue/data", "cancel", "reset")),
    "/gradio_api/run/predict",
    *("/images", "/weights", "/results.zip"),
)
FOLDERS = ("/assets/", "/static/", "/svelte/", "/gradio_api/heartbeat/", "/files/", "/samples/")
POLICY = {
    # The browser itself asks nobody else, and other sites cannot put the page into theirs.
    "content-security-policy": "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; "
    "frame-ancestors 'self'; base-uri 'self'; form-action 'self'; object-src 'none'",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True)
class Hosts:
    """The names that the server goes by.

    Attributes:
        names: In lower case; of addresses without brackets.
        addresses: Whether every IP address is one. A site of others cannot have an address for
            its name, so only names have to be known.
    """

    names: frozenset[str]
    addresses: bool = False

    def __contains__(self, name: str) -> bool:
        return name in self.names or (self.addresses and _is_address(name))


def known_hosts(host: str, allowed: Iterable[str] = ()) -> Hosts:
    """The names that a server at `host` goes by, and those that its user allows.

    Args:
        host: What it listens at: a name, an address, or one of EVERYWHERE.
        allowed: Further names, such as that of a proxy in front of it.
    """
    names = {*LOCAL, *map(_name, (host, *allowed))}
    if _name(host) not in LOCAL:
        machine = socket.gethostname().lower()
        names |= {machine, machine.partition(".")[0], f"{machine.partition('.')[0]}.local"}
    return Hosts(frozenset(names - {""}), _name(host) in EVERYWHERE)


def _name(host: str) -> str:
    """The name or address of a Host header, of a netloc or of --host, without its port."""
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


def refusal(method: str, path: str, headers: Headers, hosts: Hosts) -> tuple[int, str] | None:
    """(status, sentence) of a request that is not answered, None for one that is."""
    names = headers.getlist("host")
    if len(names) != 1 or _name(names[0]) not in hosts:
        return 403, (
            f"{', '.join(names)[:200]}: is no name of this server; "
            "start the app with --allow_host, if it is one"
        )
    navigates = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    foreign = origin is not None and _authority(origin) != names[0].strip().lower()
    if foreign or (site not in ("none", "same-origin") and not navigates):
        return 403, "only the page itself may ask for this, and not another site"
    if path not in PAGES and not path.startswith(FOLDERS):
        return 404, "there is no such page"
    return None


def _authority(origin: str) -> str:
    """Host and port of an origin, without the port where the Host header has none either."""
    try:
        parts = urlsplit(origin.strip().lower())
        port = parts.port
    except ValueError:
        return ""
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.netloc.removesuffix(f":{port}") if port == default else parts.netloc


def browser_of(headers: Headers) -> str:
    """What a browser's cookie says who it is; "" where it has none."""
    for line in headers.getlist("cookie"):
        try:
            morsel = SimpleCookie(line).get(COOKIE)
        except CookieError:
            continue
        if morsel is not None and len(morsel.value) >= 32:
            return morsel.value
    return ""


class Guard:
    """ASGI middleware: refuses requests of others, and gives every browser its cookie.

    Args:
        app: What answers.
        hosts: The names that the server goes by.
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
        if problem := refusal(scope["method"], scope["path"], headers, self.hosts):
            await PlainTextResponse(problem[1], problem[0])(scope, receive, send)
            return
        new = "" if browser_of(headers) else secrets.token_urlsafe(32)

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer.update(POLICY)
                if new and scope["path"] == "/":
                    cookie = f"{COOKIE}={new}; Path=/; HttpOnly; SameSite=Lax"
                    answer.append("set-cookie", cookie)
            await send(message)

        await self.app(scope, receive, sent)
