"""Files that were sent to the page and that nobody asked about: they go after some minutes, not only at the end.

Knows a folder and how old its files are. A film that is asked about is removed where it is read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Seconds that a file may wait for what its visitor says of it, which a browser says at once; and between two looks.
AGE_S, LOOK_S = 300.0, 60.0


@contextmanager
def swept(folder: Path) -> Iterator[None]:
    """Inside the block the folder is looked through now and then."""
    over = threading.Event()
    looking = threading.Thread(target=_look, args=(folder, over), name="uploads", daemon=True)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()


def _look(folder: Path, over: threading.Event) -> None:
    while not over.wait(LOOK_S):
        sweep(folder, time.time() - AGE_S)


def sweep(folder: Path, before: float) -> None:
    """Removes files that nobody has written to since a time, and folders that this leaves empty.

    Args:
        before: Seconds since the epoch. A file that is still arriving is written to.
    """
    for file in [path for path in folder.rglob("*") if not path.is_dir()]:
        with suppress(FileNotFoundError):  # it has just been read, which removes it
            if file.lstat().st_mtime < before:
                file.unlink()
                _remove_empty(file.parent, folder)


def _remove_empty(inner: Path, folder: Path) -> None:
    with suppress(OSError):  # another file is there, or arrives
        if inner != folder:
            inner.rmdir()
