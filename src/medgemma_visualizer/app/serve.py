"""Opens the page: where it listens, who is let in, what may lie on the disk and for how long.

Knows addresses, passwords and the private folder of a start; knows nothing about what the page shows. The server asks
nothing of other machines. What may be asked of it is for `doors` to say.
"""

from __future__ import annotations

import getpass
import logging
import os
import shutil
import signal
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgemma_visualizer.app.doors import is_loopback, middleware
from medgemma_visualizer.app.uploads import swept
from medgemma_visualizer.errors import InputError

if TYPE_CHECKING:
    from medgemma_visualizer.data.questions import QuestionSet
    from medgemma_visualizer.models.adapter import Model

HOST, PORT = "127.0.0.1", 7860
#: Ports tried after the wanted one.
NEXT_PORTS = 20
#: Largest upload, as Gradio writes it: a radiograph as DICOM has 10 to 40 MB.
MAX_UPLOAD = "100mb"
#: Sessions kept in memory; the one not seen for longest goes first.
MAX_SESSIONS = 200
#: Seconds between two looks for a signal to end.
LOOK_S = 0.2
PROMPT = "prompt"

#: Read by libraries when they are loaded: no message home, no share, no history, no second server. Gradio keeps times
#: of ten thousand events, and makes a table of them at each event's end, for a page that is not shown here.
SILENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_ANALYTICS_MAX_EVENTS": "1",
    "GRADIO_ANALYTICS_CACHE_FREQUENCY": "1000000000",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_SHARE": "False",
    "GRADIO_SSR_MODE": "False",
    "GRADIO_MCP_SERVER": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
Credentials = list[tuple[str, str]]


@dataclass(frozen=True)
class Opened:
    """A page that can be visited.

    Attributes:
        url: Where.
        folder: Holds what visitors upload, until it has been read; wiped at the end.
        moved: Why it is not at the port that was asked for; "" where it is.
        demo: The `gr.Blocks`.
    """

    url: str
    folder: Path
    moved: str
    demo: Any


def serve(
    model: Model,
    host: str = HOST,
    port: int = PORT,
    auth: str | Credentials | None = None,
    *,
    cases: QuestionSet | None = None,
    others: Sequence[Model] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Opens the page and keeps it open until it is stopped (Ctrl-C or SIGTERM); then nothing is left on the disk.

    Args:
        host, port, auth, cases, others: As in `opened`.
        say: Told where the page is.

    Raises:
        InputError: As in `opened`.
    """
    # Stopping is heard before anything lies on the disk: the page answers before `opened` comes back.
    with _stopping() as stopped, opened(model, host, port, auth, cases=cases, others=others) as page:
        for said in (open_to_read(auth), page.moved):
            if said:
                say(said)
        say(f"Open {page.url} in a browser. Stop with Ctrl-C.")
        while not stopped():
            time.sleep(LOOK_S)


@contextmanager
def opened(
    model: Model,
    host: str = HOST,
    port: int = PORT,
    auth: str | Credentials | None = None,
    *,
    cases: QuestionSet | None = None,
    others: Sequence[Model] = (),
) -> Iterator[Opened]:
    """The page is open inside the block.

    Args:
        model: Whom visitors ask.
        host: An address of this machine. Any but a loopback address lets others in and needs `auth`.
        port: The next free one is taken where it is taken; 0 takes any.
        auth: A file with a line "user:password" for each who may enter, or "prompt" to type one in. Never the password
            itself, which every user of the machine could read in the list of processes. Or what `admitted` made of it.
        cases: What the menus offer; the embedded ones where None.
        others: The same model on other devices; visitors are spread over all.

    Raises:
        InputError: The host is not this machine's, is open to others without `auth`, or no port is free; the file of
            passwords cannot be used.
    """
    let_in = admitted(host, auth)
    free_port(host, port)  # what cannot be is refused before the page is built
    with _private_folder() as folder, swept(folder):
        demo, place = _launched([model, *others], cases, host, port, let_in, folder)
        try:
            moved = f"Port {port} is taken; the page is at port {place} instead." if port not in (0, place) else ""
            yield Opened(_url(host, place), folder, moved, demo)
        finally:
            _close(demo)


def _close(demo: Any) -> None:
    """Stops the server; lines that visitors still hold open are cut after a second, and that is no error."""
    log = logging.getLogger("uvicorn.error")
    level = log.level
    demo.server.config.timeout_graceful_shutdown = 1
    log.setLevel(logging.CRITICAL)
    try:
        demo.close(verbose=False)
    finally:
        log.setLevel(level)


def admitted(host: str, auth: str | Credentials | None) -> Credentials | None:
    """Who may enter, None for everybody on this machine; to be asked before a model is loaded.

    Raises:
        InputError: The host is open to others and nobody is named, or the file of passwords cannot be used.
    """
    if not auth and not is_loopback(host):  # an empty list lets everybody in, too
        raise InputError(
            f"--host {host!r} lets other machines in, and what they ask may be of patients. Add --auth FILE with lines "
            f"'user:password', or --auth prompt; or leave --host out."
        )
    return credentials(auth) if isinstance(auth, str) else auth


def credentials(auth: str) -> Credentials:
    """Users and passwords from a file, or from the keyboard for "prompt".

    Raises:
        InputError: The file cannot be read or holds a line that is none; no keyboard; an empty password.
    """
    return [_prompted()] if auth == PROMPT else _from_file(Path(auth))


def open_to_read(auth: str | Credentials | None) -> str:
    """A warning where other users of this machine can read the file of passwords; "" where they cannot.

    POSIX systems only: elsewhere a file's mode does not tell.
    """
    if os.name != "posix" or not isinstance(auth, str) or auth == PROMPT:
        return ""
    if not Path(auth).stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        return ""
    return f"Other users of this machine can read the passwords in {auth!r}: chmod 600 makes them yours alone."


def _prompted() -> tuple[str, str]:
    if not sys.stdin.isatty():
        raise InputError("--auth prompt needs a terminal to type at. Give a file with lines 'user:password' instead.")
    user = input("User: ").strip()
    password = getpass.getpass("Password: ")
    if not user or not password:
        raise InputError("A user and a password are needed, and one of them was empty. Start again.")
    return user, password


def _from_file(path: Path) -> Credentials:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"--auth {str(path)!r} is not text in UTF-8. Give lines 'user:password'.") from error
    except OSError as error:
        raise InputError(
            f"--auth {str(path)!r} cannot be read ({error.strerror}). Give a file with lines 'user:password', or "
            "'prompt'."
        ) from error
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            user, colon, password = line.strip().partition(":")
            if not (user and colon and password):
                raise InputError(f"Line {number} of --auth {str(path)!r} is not 'user:password'. Correct it.")
            found.append((user, password))
    if not found:
        raise InputError(f"--auth {str(path)!r} names nobody. Add a line 'user:password'.")
    return found


def free_port(host: str, port: int) -> int:
    """The port, or the next one that nobody listens at; any free one for 0.

    Raises:
        InputError: The host is no address of this machine, or all ports tried are taken.
    """
    reason: OSError | None = None
    for wanted in range(port, min(port + NEXT_PORTS + 1, 65536)) if port else (0,):
        try:
            family = socket.getaddrinfo(host, wanted, type=socket.SOCK_STREAM)[0][0]
            with socket.socket(family, socket.SOCK_STREAM) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind((host, wanted))
                return int(tried.getsockname()[1])
        except socket.gaierror as error:
            raise InputError(f"--host {host!r} is no address. Use 127.0.0.1, or 0.0.0.0 with --auth.") from error
        except OSError as error:
            reason = error
    said = "" if reason is None else f" ({reason.strerror})"
    raise InputError(
        f"Nothing can listen at {host!r}, ports {port} to {port + NEXT_PORTS}{said}. Choose another --port."
    )


def _url(host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/"


@contextmanager
def _private_folder() -> Iterator[Path]:
    """A folder that only this user may enter, where Gradio puts uploads; gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="medgemma-visualizer-"))  # 0o700
    before = {name: os.environ.get(name) for name in ("GRADIO_TEMP_DIR", *SILENT)}
    os.environ.update(SILENT | {"GRADIO_TEMP_DIR": str(folder)})
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _launched(
    models: Sequence[Model],
    cases: QuestionSet | None,
    host: str,
    port: int,
    auth: Credentials | None,
    folder: Path,
) -> tuple[Any, int]:
    """Builds the page and starts its server at the port, or the next free one; gives both."""
    from medgemma_visualizer.app import style  # these load Gradio, after `SILENT` is set
    from medgemma_visualizer.app.build import build
    from medgemma_visualizer.app.desk import Desk
    from medgemma_visualizer.app.memory import keep_few_heaps

    keep_few_heaps()
    desk, *others = map(Desk, models)
    demo = build(desk, cases, others)
    demo.queue(default_concurrency_limit=None, api_open=False)
    place = free_port(host, port)  # now: building took a while, in which another page may have been opened
    demo.launch(
        server_name=host,
        server_port=place,
        auth=auth,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        inbrowser=False,
        show_error=False,
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        footer_links=[],
        max_file_size=MAX_UPLOAD,
        state_session_capacity=MAX_SESSIONS,
        theme=style.theme(),
        css=style.CSS,
        head=style.HEAD,
        app_kwargs={
            "middleware": middleware(open_to_all=auth is None, uploads=folder),
            **dict.fromkeys(("docs_url", "redoc_url", "openapi_url")),
        },
    )
    return demo, place


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Says whether SIGTERM, Ctrl-C or the end of its terminal came; what those did before is given back.

    To be asked now and then, not waited for: the system may let any thread take a signal, and Python's handler then
    waits until the main thread is awake. Nor may the handler take a lock that the thread it interrupts may hold.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    numbers = [signal.SIGTERM, signal.SIGINT]
    if os.name == "posix" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # ignored under nohup
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in numbers}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            with suppress(TypeError):  # a handler that was not set from Python
                signal.signal(number, handler)
