"""What one visitor has asked, chosen and been told. Lives in the server's memory for as long as the page is open.

Knows cases, results and settings; knows nothing about components. No visitor's session is reachable from another's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from medgemma_visualizer.app import words
from medgemma_visualizer.app.desk import Cancelled, Desk, Job, Progress
from medgemma_visualizer.errors import InputError

if TYPE_CHECKING:
    from medgemma_visualizer.app.actions.analysis import Found
    from medgemma_visualizer.app.viewer import Film
    from medgemma_visualizer.models.adapter import Model
    from medgemma_visualizer.records import Case, Heatmap
    from medgemma_visualizer.runs import Built
    from medgemma_visualizer.verbs import Analysis

T = TypeVar("T")

#: How many settings can be undone.
MOST_UNDONE = 50


class Superseded(Cancelled):
    """The visitor asked for another analysis meanwhile, which says itself what became of it."""


@dataclass(frozen=True)
class Settings:
    """What a visitor can choose and take back.

    Attributes:
        method: A name of `METHODS`; None for the recommended one.
        target: What the map explains; None for yes against no, or the answer.
        preset: A key of `actions.analysis.PRESETS`.
        look: How the film is shown, as pairs of a control of the viewer and its value ("opacity", "grid", …).
    """

    method: str | None = None
    target: str | None = None
    preset: str = "quick"
    look: tuple[tuple[str, Any], ...] = ()


@dataclass
class Session:
    """One visitor's own state.

    Attributes:
        case: What is asked now; its truth and region are known only for an untouched stored pair.
        settings: What is chosen now.
        analysis: The answer, map and scores of `case`; None until it has been asked.
        heatmaps: Maps of single words, by (kind, method, number): kinds as in `actions.tokens`.
        film: The film of `case`, prepared for the viewer.
        stored: What the menu of cases says; its truth is shown only while nothing about it is edited.
        upload: A visitor's own picture, in place of the stored one; without a question of its own.
        turning: A stored case that was chosen and has not been answered yet; what is shown is the one before.
        pins: "A" and "B" -> what a press of Analyse came to, kept to compare.
        edits: The film as edited so far, each with what the model said of it; the last is the present one.
        results: What the other tabs found about `case`, by their own keys; gone with the next case.
        measured: A league that this visitor had measured; kept with the next case, as it is of the model.
        job: Long work in progress.
        past, future: Settings that can be taken back, and those that were.
        number: Of the current case; another one after each analysis.
        request: Of the last analysis that was asked for, answered or not.
        turns: Of the settings; another one each time they were taken back or brought again.
        tab: The visible tab.
    """

    case: Case | None = None
    settings: Settings = field(default_factory=Settings)
    analysis: Analysis | None = None
    heatmaps: dict[tuple[str, str, int], Heatmap] = field(default_factory=dict)
    film: Film | None = None
    stored: Case | None = None
    upload: Case | None = None
    turning: Case | None = None
    pins: dict[str, Found] = field(default_factory=dict)
    edits: list[Analysis] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    measured: Built | None = None
    job: Job | None = None
    past: list[Settings] = field(default_factory=list)
    future: list[Settings] = field(default_factory=list)
    number: int = 0
    request: int = 0
    turns: int = 0
    tab: str = "analysis"

    def took(self, analysis: Analysis) -> None:
        """Another analysis is the current one: whatever was found about the one before is gone."""
        self.stop()
        self.case, self.analysis = analysis.case, analysis
        self.heatmaps, self.results, self.edits, self.film = {}, {}, [], None
        self.turning = None
        self.number += 1

    def forget(self) -> None:
        """Nothing is analysed any more: another film is there, and has not been asked."""
        self.stop()
        self.requests()
        self.case = self.analysis = self.film = None
        self.heatmaps, self.results, self.edits = {}, {}, []
        self.number += 1

    def current(self) -> Analysis:
        """The analysis that everything else is asked about.

        Raises:
            InputError: There is none yet.
        """
        if self.analysis is None:
            raise InputError(words.NOTHING_ANALYSED)
        return self.analysis

    def requests(self, turning: Case | None = None) -> int:
        """Another analysis is asked for: what those before it find belongs nowhere from now on.

        Args:
            turning: The stored case that it turns to; None where it is about the film that is shown.

        Returns:
            Its number.
        """
        self.turning = turning
        self.request += 1
        return self.request

    def still(self, request: int) -> None:
        """Goes on only while no later analysis has been asked for.

        Raises:
            Superseded: One has.
        """
        if request != self.request:
            raise Superseded

    def begin(self) -> Job:
        """New long work; what still runs is called off, so that a visitor has one piece of it at a time."""
        self.stop()
        self.job = Job()
        return self.job

    def asks(self, desk: Desk, work: Callable[[Model], T], *, changes_weights: bool = False) -> Iterator[Progress | T]:
        """Does long work for this visitor; gives its progress, at last what it came to, which may be kept.

        Args:
            desk, work, changes_weights: As of `Desk.long`.

        Raises:
            Cancelled: The visitor called it off, or meanwhile turned to something else.
        """
        job = self.begin()
        for step in desk.long(work, job, changes_weights=changes_weights):
            if isinstance(step, Progress):
                yield step
            else:
                self.ends(job)
                yield step.value

    def ends(self, job: Job) -> None:
        """Long work has its result, which is to be kept.

        Raises:
            Cancelled: Meanwhile the visitor turned to something else, so that the result belongs nowhere.
        """
        if self.job is not job:
            raise Cancelled

    def stop(self) -> None:
        """Calls long work off, if there is any."""
        if self.job is not None:
            self.job.cancel()
        self.job = None

    def choose(self, settings: Settings) -> None:
        """Other settings; the ones before can be taken back."""
        if settings != self.settings:
            self.past = [*self.past, self.settings][-MOST_UNDONE:]
            self.future, self.settings = [], settings

    def undo(self) -> Settings:
        """The settings before; those of now where there are none."""
        if self.past:
            self.future.append(self.settings)
            self.settings = self.past.pop()
        return self.settings

    def redo(self) -> Settings:
        """The settings that were taken back last; those of now where there are none."""
        if self.future:
            self.past.append(self.settings)
            self.settings = self.future.pop()
        return self.settings
