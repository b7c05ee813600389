"""A server of the page in a process of its own, with every address that it asks for written down.

Run as a script it is that process; `served` starts it. The interpreter's audit events see each connection and each
look-up of a name, whichever library makes it.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Audit events of Python that name another machine, and where in their arguments it stands.
ASKING = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
    "socket.gethostbyaddr": 0,
}
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
START_S, STOP_S = 240.0, 60.0
#: What the server prints once the page answers.
OPEN = re.compile(r"^Open (http://\S+) in a browser", re.MULTILINE)


@dataclass(frozen=True)
class Server:
    """A running page.

    Attributes:
        url: Where it is.
        process: Runs it.
        temporary: Where everything that it puts on the disk lies.
        asked: Holds a line of JSON for each address asked for, [event, address].
        printed: What it printed.
    """

    url: str
    process: subprocess.Popen[bytes]
    temporary: Path
    asked: Path
    printed: Path

    def addresses(self) -> list[tuple[str, str]]:
        """(event, address) of everything asked for so far."""
        return [tuple(json.loads(line)) for line in self.asked.read_text().splitlines()]

    def private(self) -> list[Path]:
        """The folder of this start, for uploads; none once it has been stopped."""
        return sorted(self.temporary.glob("medgemma-visualizer-*"))

    def files(self) -> list[str]:
        """Files with anything in them that lie in its temporary folder now (Gradio leaves an empty one an upload)."""
        found = [p for p in self.temporary.rglob("*") if p.is_file() and p.stat().st_size]
        return sorted(str(p.relative_to(self.temporary)) for p in found)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stops it as a person would; returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(STOP_S)


@contextmanager
def served(folder: Path, *options: str) -> Iterator[Server]:
    """The page on the embedded model, at a port that it finds itself, its temporary files below `folder`."""
    temporary, asked, printed = folder / "temporary", folder / "asked", folder / "printed"
    temporary.mkdir(parents=True)
    asked.touch()
    surroundings = {**os.environ, "TMPDIR": str(temporary), "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, __file__, str(asked), "app", "--port", "0", *options]
    with printed.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=surroundings)
    try:
        yield Server(_address(process, printed), process, temporary, asked, printed)
    except BaseException as error:
        if said := _where(process, printed):
            error.add_note(said)
        raise
    finally:
        _ended(process, printed)


def _ended(process: subprocess.Popen[bytes], printed: Path) -> None:
    """Stops the server if it still runs.

    Raises:
        RuntimeError: It did not stop when it was asked to, and was killed.
    """
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        said = _where(process, printed)
        process.kill()
        process.wait()
        raise RuntimeError(f"The server did not stop within {STOP_S:.0f} s.\n{said}") from None


def _where(process: subprocess.Popen[bytes], printed: Path) -> str:
    """Where every thread of a running server is now, and all that it printed; "" once it has ended."""
    if process.poll() is not None:
        return ""
    process.send_signal(signal.SIGUSR1)  # heard even by a process whose threads wait for each other
    time.sleep(1)
    return printed.read_text(errors="replace")


def _address(process: subprocess.Popen[bytes], printed: Path) -> str:
    """Where the page is, as the server says once it answers."""
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if found := OPEN.search(printed.read_text()):
            return found[1]
        if process.poll() is not None:
            raise RuntimeError(f"The server ended at its start:\n{printed.read_text()}")
        time.sleep(0.1)
    raise RuntimeError(f"The server did not open the page within {START_S:.0f} s:\n{printed.read_text()}")


def watch(asked: str) -> None:
    """Writes every address asked for from now on into a file. Cannot be undone within the process."""
    place = os.open(asked, os.O_WRONLY | os.O_APPEND)

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event in ASKING:
            address = given[ASKING[event]]
            text = address[0] if isinstance(address, tuple) and address else address
            os.write(place, (json.dumps([event, _text(text)]) + "\n").encode())

    sys.addaudithook(hook)


def _text(address: object) -> str:
    return address.decode(errors="replace") if isinstance(address, bytes) else str(address)


if __name__ == "__main__":
    tempfile.tempdir = None
    faulthandler.register(signal.SIGUSR1)
    watch(sys.argv[1])
    from medgemma_visualizer.cli import main

    main(sys.argv[2:])
