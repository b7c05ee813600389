"""Where the films of a question set lie: in a folder, found by name; or in a root that knows its films.

Knows names of files; opens none. What a root knows of a film (patient, study, view, split) comes along.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from medgemma_visualizer.data.photo import SUFFIXES
from medgemma_visualizer.data.tables import UnusableRow

NOT_FOUND, NOT_NAMED = "image file not found", "no image named"


@dataclass(frozen=True, slots=True)
class Film:
    """A file, and what is known of it without opening it.

    Attributes:
        path: The file.
        key: Its name among the films of its root, wherever the root lies; "" where it has none but the row's.
        patient: Where known; so are the following.
        view: "PA", "AP", "LATERAL", …
        split: "train", "validate" or "test".
    """

    path: Path
    key: str = ""
    patient: str | None = None
    view: str | None = None
    split: str | None = None


class Films(Protocol):
    """Finds films."""

    def film(self, image: str, study: str) -> Film:
        """The film that a row means.

        Args:
            image: As the row writes it, with forward slashes; "" where it names none.
            study: As the row writes it; "" where it names none.

        Raises:
            UnusableRow: There is none, with the reason.
        """
        ...


class FolderFilms:
    """Films of a folder: by the path in the row, then by the end of that path, then by the name with any suffix.

    A file to which several names lead only by their last parts belongs to none of them.

    Args:
        names: Every name that rows write.
        folder: Where to look.
        within: Names of folders below it in which the set keeps its films.
    """

    def __init__(self, names: Iterable[str], folder: Path, within: Sequence[str] = ()) -> None:
        folders = [folder, *(folder / name for name in within)]
        found = {name: path for name in dict.fromkeys(names) if (path := _first_there(name, folders)) is not None}
        claims = Counter(found.values())
        self._films = {
            name: Film(path)
            for name, path in found.items()
            if claims[path] == 1 or any(path == place / name for place in folders)
        }

    def film(self, image: str, study: str) -> Film:
        """See `Films`; a study alone finds nothing here."""
        if image not in self._films:
            raise UnusableRow(NOT_FOUND if image else NOT_NAMED)
        return self._films[image]


def _first_there(name: str, folders: Sequence[Path]) -> Path | None:
    return next((path for folder in folders if (path := _film(name, folder)) is not None), None)


def _film(name: str, folder: Path) -> Path | None:
    """The path as written, then ever shorter tails of it under the folder, then these with any suffix."""
    parts = Path(name).parts
    tails = [folder.joinpath(*parts[first:]) for first in range(len(parts))]
    suffixed = [tail.with_name(f"{tail.name}{suffix}") for tail in tails for suffix in SUFFIXES]
    try:
        return next((path for path in (*tails, *suffixed) if path.is_file()), None)
    except OSError:  # a name that no file system takes
        return None
