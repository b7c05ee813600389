"""What is asked of the page by HTTP: whom it answers, what it refuses, which headers its answers have.

Knows requests, before Gradio sees them; knows nothing about what the page shows, nor where it listens.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

#: What the browser may load: this server's own files, and data inside the page.
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' data: blob:; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; connect-src 'self' data: "
    "blob:; frame-ancestors 'none'; form-action 'self'; base-uri 'self'; object-src 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
_ADDED = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

#: Ways of Gradio's that the page does not need: they hand out files, ask other machines, or write to the disk.
CLOSED = tuple(f"/gradio_api/{way}" for way in ("file", "proxy", "deep_link", "process_recording", "component_server"))

#: Where files are sent to, the only thing asked that is no JSON.
UPLOAD = "/gradio_api/upload"
#: Bytes of JSON that anything asked may have: questions and settings, never a film.
MAX_ASKED = 4 * 2**20


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Headers:
    """Adds `HEADERS` to every answer of an application."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        fixed = scope.get("path", "").startswith(("/assets/", "/static/"))  # the page's own scripts may be kept

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]} | ({b"cache-control"} if fixed else set())
                message["headers"] = [*message["headers"], *((n, v) for n, v in _ADDED if n not in there)]
            await send(message)

        await self.app(scope, receive, sending)


class Doors:
    """Refuses `CLOSED`, what another site's page asks, and, where no password does, whoever names another machine.

    Gradio lets every site's page ask with a visitor's cookie, and read the answers, unless it is asked as localhost. A
    page can also have its own name lead to this machine (DNS rebinding); the name stays in the request. An upload's
    address would serve it to everybody who has that address.
    """

    def __init__(self, app: Any, open_to_all: bool) -> None:
        self.app, self.open_to_all = app, open_to_all

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        refused = self._refused(scope) if scope["type"] == "http" else None
        await (_plain(*refused) if refused else self.app)(scope, receive, send)

    def _refused(self, scope: Any) -> tuple[str, int] | None:
        """Why a request is not let in, and the status that says so."""
        if scope["path"].startswith(CLOSED):
            return "The page does not need this address, so it is closed.", 404
        if self.open_to_all and not is_loopback(_named(scope)):
            return "This page is for its own machine: open it at 127.0.0.1, or use --auth.", 403
        if _from_another_site(scope):
            return "Only this page itself may ask here; a proxy before it passes Host on.", 403
        return None


class OwnFiles:
    """Refuses whatever names a file that was not sent here: Gradio would fetch it from the address that it gives.

    Args:
        app: What is asked where nothing is refused.
        uploads: The folder where files lie that were sent here.
    """

    def __init__(self, app: Any, uploads: Path) -> None:
        self.app, self.uploads = app, uploads.resolve()  # as Gradio names it

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        app = self.app
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] != UPLOAD:
            asked = await _body(receive)
            if asked is None:
                app = _plain("Nothing that the page asks is as large, so it was not read.", 413)
            elif not _names_only(asked, self.uploads, _host(scope)):
                app = _plain("A file must be sent to this page itself: choose it there.", 400)
            else:
                receive = _again(asked, receive)
        await app(scope, receive, send)


def middleware(open_to_all: bool, uploads: Path) -> list[Any]:
    """All of them, the first one asked first.

    Args:
        open_to_all: Whether no password is asked for.
        uploads: As of `OwnFiles`.
    """
    from starlette.middleware import Middleware

    return [Middleware(Headers), Middleware(Doors, open_to_all=open_to_all), Middleware(OwnFiles, uploads=uploads)]


def _plain(said: str, status: int) -> Any:
    """An application that answers everything with a sentence."""
    from starlette.responses import PlainTextResponse

    return PlainTextResponse(said, status)


def _named(scope: Any) -> str:
    """The machine that a request names, without its port; "" where it names none."""
    try:
        return urlsplit(f"//{_host(scope)}").hostname or ""
    except ValueError:
        return ""


def _host(scope: Any) -> str:
    """What a request names, with the port where it has one."""
    return str(dict(scope["headers"]).get(b"host", b"").decode("latin-1"))


def _from_another_site(scope: Any) -> bool:
    """Whether the page that asks came from elsewhere, which browsers tell."""
    told = dict(scope["headers"])
    return b"origin" in told and told[b"origin"].partition(b"://")[2] != told.get(b"host")


async def _body(receive: Any) -> bytes | None:
    """All that is sent with a request; None where it is more than `MAX_ASKED`, or who sends it has left."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] == "http.disconnect" or len(body) > MAX_ASKED:
            return None
        more = message.get("more_body", False)
    return body


def _again(body: bytes, receive: Any) -> Any:
    """A `receive` that gives what has been read, then what comes after it."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receiving() -> Any:
        return waiting.pop() if waiting else await receive()

    return receiving


def _names_only(asked: bytes, uploads: Path, host: str) -> bool:
    """Whether every file that is named was sent here. What is no JSON names none, and Gradio refuses it.

    Args:
        asked: As it was sent.
        host: How the request names this page.
    """
    try:
        told = json.loads(asked)  # as Gradio reads it, whatever the request says that it is
    except RecursionError:
        return False
    except ValueError:
        return True
    return all(_was_sent(file, uploads, host) for file in _files(told))


def _files(told: Any) -> Iterator[dict[str, Any]]:
    """Everything, however deep, that Gradio could take for a file."""
    waiting = [told]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if "path" in one:
                yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _was_sent(file: dict[str, Any], uploads: Path, host: str) -> bool:
    """Whether a file lies in the folder of uploads, and its address, where it has one, is this page's."""
    path, url = file["path"], file.get("url")
    if not isinstance(path, str) or uploads not in Path(os.path.abspath(path)).parents:
        return False
    try:
        return url is None or (isinstance(url, str) and urlsplit(url).netloc in ("", host))
    except ValueError:
        return False
