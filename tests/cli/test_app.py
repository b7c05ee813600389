"""`app` refuses what cannot be opened before any weights are loaded. The page itself: tests/app and tests/browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medgemma_visualizer import verbs
from medgemma_visualizer.app import serve
from tests.cli.conftest import Call


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--host", "0.0.0.0"), "Add --auth FILE"),
        (("--host", "192.0.2.7"), "lets other machines in"),
        (("--auth", "no-such-file"), "no-such-file"),
        (("--gpu", "1", "--device", "cpu"), "contradict"),
        (("--device", "cpu,cuda:77"), "'cuda:77' is not on this machine"),
        (("--cases", "no-such-set"), "no-such-set"),
        (("--port", "70000"), "65535"),
    ],
)
def test_what_cannot_be_opened_is_refused_before_a_model_is_loaded(
    call: Call, unloadable: None, options: tuple[str, ...], complaint: str
) -> None:
    done = call("app", *options)
    assert done.code == 2
    assert complaint in done.err
    assert done.err.count("\n") == 1


def test_the_page_gets_model_cases_and_who_may_enter(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(verbs, "load_model", lambda name, **how: given.update(name=name, **how) or "the model")
    monkeypatch.setattr(serve, "serve", lambda *told, cases, others, say: given.update(told=told, cases=cases))
    file = tmp_path / "let-in"
    file.write_text("ann:secret\n", encoding="utf-8")
    done = call("app", "--host", "0.0.0.0", "--auth", str(file), "--port", "0", "--gpu", "2", "--min-memory", "15")
    assert done.code == 0, done.err
    assert given["told"] == ("the model", "0.0.0.0", 0, [("ann", "secret")])
    assert (given["name"], given["device"], given["min_free_gb"]) == ("demo", "cuda:2", 15)
    assert len(given["cases"]) > 100


def test_a_file_of_passwords_that_others_can_read_is_warned_of_and_the_page_opens(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(verbs, "load_model", lambda name, **how: "the model")
    monkeypatch.setattr(serve, "serve", lambda *told, **rest: None)
    file = tmp_path / "let-in"
    file.write_text("ann:secret\n", encoding="utf-8")
    file.chmod(0o644)
    told = call("app", "--auth", str(file))
    assert (told.code, told.out.startswith("Warning"), "secret" in told.out) == (0, True, False)
    file.chmod(0o600)
    assert "Warning" not in call("app", "--auth", str(file)).out


def test_a_model_is_loaded_on_each_device(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(verbs, "load_model", lambda name, **how: how["device"])
    monkeypatch.setattr(serve, "serve", lambda *told, others, **rest: given.update(first=told[0], others=others))
    for device, places in (("cpu,cpu", ["cpu", "cpu"]), ("auto", ["auto"]), ("cpu, cpu,cpu", ["cpu"] * 3)):
        done = call("app", "--device", device)
        assert done.code == 0, done.err
        assert [given["first"], *given["others"]] == places
