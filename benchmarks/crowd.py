"""Many visitors at one page, over HTTP as a browser speaks it: what `app.py` and the tests let loose on a server.

Knows Gradio's queue (join, then listen until the event is done) and who is triggered by whom; finds components by the
ids that the page gives them. Draws nothing and runs no script, so what a listener in the browser would do is not seen.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
from gradio_client.utils import apply_diff

T = TypeVar("T")

API = "gradio_api"
#: Seconds that a visitor waits for an event.
PATIENCE = 600.0


class Refused(Exception):
    """The server did not do what was asked."""


@dataclass
class Caller:
    """One visitor: their own session, and the value of every component as their browser would hold it.

    Attributes:
        url: The page.
        values: Component -> what it holds.
        seconds: (what was asked, how long it took), in order.
    """

    url: str
    values: dict[int, Any] = field(default_factory=dict)
    seconds: list[tuple[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.session = secrets.token_hex(8)
        self._http = httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False)
        config = self._http.get("config").raise_for_status().json()
        self._events = {event["id"]: event for event in config["dependencies"]}
        self._named = {c["props"].get("elem_id"): c["id"] for c in config["components"] if c["props"].get("elem_id")}
        self._names = {number: name for name, number in self._named.items()}
        self._props = {c["id"]: c["props"] for c in config["components"]}
        self.values = {number: props.get("value") for number, props in self._props.items()}
        # The server forgets a visitor when this stream ends, as it ends with a browser's tab.
        beat = self._http.build_request("GET", f"{API}/heartbeat/{self.session}")
        self._heartbeat = self._http.send(beat, stream=True)

    def leave(self) -> None:
        """Closes the page."""
        self._heartbeat.close()
        self._http.close()

    def opens(self) -> dict[str, Any]:
        """What happens when the page is opened; returns what changed, by the components' names."""
        return self._clocked("open", [event for event in self._events.values() if _triggered(event, None, "load")])

    def puts(self, name: str, value: Any) -> None:
        """Types or chooses something, without a listener's reaction."""
        self.values[self._named[name]] = value

    def does(self, name: str, kind: str = "click", event_data: Any = None) -> dict[str, Any]:
        """Clicks, selects, …; returns what changed, by the components' names.

        Raises:
            Refused: Nothing listens, or a listener failed.
        """
        found = [event for event in self._events.values() if _triggered(event, self._named[name], kind)]
        if not found:
            raise Refused(f"Nothing listens to {kind!r} of {name!r}.")
        return self._clocked(name, found, event_data)

    def choices(self, name: str) -> list[tuple[str, Any]]:
        """(label, value) of everything that a menu offers."""
        return [(label, value) for label, value in self._props[self._named[name]]["choices"]]

    def shows(self, name: str) -> Any:
        """What a component holds."""
        return self.values[self._named[name]]

    def _clocked(self, what: str, events: Sequence[dict[str, Any]], event_data: Any = None) -> dict[str, Any]:
        start = time.perf_counter()
        changed: dict[int, Any] = {}
        for event in events:
            self._run(event, event_data, changed)
        self.seconds.append((what, time.perf_counter() - start))
        return {self._names[number]: value for number, value in changed.items() if number in self._names}

    def _run(self, event: dict[str, Any], event_data: Any, changed: dict[int, Any]) -> None:
        """One event, what it changes, and whatever follows from that."""
        new: dict[int, Any] = {}
        if event["backend_fn"]:
            for shown in self._asked(event, event_data):
                for number, value in zip(event["outputs"], shown, strict=True):
                    if not _is_update(value):
                        new[number] = value
                    elif "value" in value:
                        new[number] = value["value"]
        moved = {number for number, value in new.items() if value != self.values.get(number)}
        self.values.update(new)
        changed.update(new)
        for other in self._events.values():
            after = other.get("trigger_after") == event["id"]
            if after or any(_triggered(other, number, "change") for number in moved):
                self._run(other, None, changed)

    def _asked(self, event: dict[str, Any], event_data: Any) -> Iterator[list[Any]]:
        """Joins the queue and listens until the event is done; gives its outputs at each step.

        Raises:
            Refused: The handler failed.
        """
        target = event["targets"][0][0] if event["targets"] else None
        body = {
            "data": [self.values.get(number) for number in event["inputs"]],
            "event_data": event_data,
            "fn_index": event["id"],
            "trigger_id": target,
            "session_hash": self.session,
        }
        number = self._http.post(f"{API}/queue/join", json=body).raise_for_status().json()["event_id"]
        shown: list[Any] = []
        for message in self._messages():
            if message.get("event_id") != number:
                continue
            output = message.get("output") or {}
            if message["msg"] == "process_generating":
                given = output["data"]  # whole at the first step, then what differs from the step before
                shown = [apply_diff(*pair) for pair in zip(shown, given, strict=True)] if shown else given
                yield shown
            if message["msg"] == "process_completed":
                if not message["success"]:
                    raise Refused(f"{self._names.get(target, target)}: {output.get('error')}")
                if output.get("data"):
                    yield output["data"]
                return
        raise Refused("The server ended the stream before the event was done.")

    def _messages(self) -> Iterator[dict[str, Any]]:
        with self._http.stream("GET", f"{API}/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    yield json.loads(line[5:])


def _triggered(event: dict[str, Any], component: int | None, kind: str) -> bool:
    """Whether this happens on `kind` of a component; of any, where None."""
    return any(kind == what and component in (None, number) for number, what in event["targets"])


def _is_update(value: Any) -> bool:
    return isinstance(value, dict) and value.get("__type__") == "update"


@contextlib.contextmanager
def calling(url: str) -> Iterator[Caller]:
    """A visitor, who leaves at the end."""
    caller = Caller(url)
    try:
        yield caller
    finally:
        caller.leave()


def crowd(count: int, visit: Callable[[int], T]) -> list[T]:
    """So many visits at the same time, each on a thread of its own; the first error is raised after all have ended."""
    with ThreadPoolExecutor(count) as pool:
        return [done.result() for done in [pool.submit(visit, number) for number in range(count)]]
