"""Named tables that feed the command line's choices, the page's menus and the contract tests.

Knows names and how to miss one politely; knows nothing about what it stores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from medgemma_visualizer.errors import unknown_name

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A read-only mapping from name to entry, in order of registration.

    Args:
        kind: What an entry is, in the singular; used in error messages.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Adds an entry; a name can be given only once."""
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered twice.")
        self._entries[name] = entry
        return entry

    def register(self, name: str) -> Callable[[T], T]:
        """The decorator form of `add`."""
        return lambda entry: self.add(name, entry)

    def __getitem__(self, name: str) -> T:
        """The entry of that name.

        Raises:
            InputError: No such name; the message offers the closest one.
        """
        try:
            return self._entries[name]
        except (KeyError, TypeError):  # a list in a name's place cannot even be looked up
            raise unknown_name(self.kind, name, self._entries) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
