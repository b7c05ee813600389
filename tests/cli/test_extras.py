"""What `analyze` draws beyond its four files, when asked to."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medgemma_visualizer.cli import main
from medgemma_visualizer.cli.output import named_values
from medgemma_visualizer.errors import InputError
from medgemma_visualizer.heatmaps import METHODS


def _run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as done:
        main(["analyze", *arguments])
    assert done.value.code in (0, None)


def test_every_token_gets_a_map_on_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run("--question", "What does this radiograph show?", "--tokens", "--method", "relevance", "--out", str(tmp_path))
    page = (tmp_path / "tokens.html").read_text(encoding="utf-8")
    assert page.count("<figure id=") > 5
    assert "tokens.html" in capsys.readouterr().out


def test_every_method_is_on_the_sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cheap = {name: METHODS[name] for name in ("cross_attention", "token_gradient", "hires_cam", "tam")}
    monkeypatch.setattr(METHODS, "_entries", cheap)
    seen: list[str] = []

    def draw_all(heatmaps: dict[str, Any], case: Any, **style: Any) -> Any:
        seen.extend(heatmaps)
        return original(heatmaps, case, **style)

    from medgemma_visualizer import verbs

    original = verbs.draw_all
    monkeypatch.setattr(verbs, "draw_all", draw_all)
    _run("--method", "token_gradient", "--all-methods", "--out", str(tmp_path))
    assert seen == list(cheap)
    assert (tmp_path / "methods.png").exists()


def test_a_sheet_of_an_earlier_run_does_not_stay(tmp_path: Path) -> None:
    (tmp_path / "methods.png").write_bytes(b"old")
    (tmp_path / "tokens.html").write_bytes(b"old")
    _run("--out", str(tmp_path))
    assert not (tmp_path / "methods.png").exists()
    assert not (tmp_path / "tokens.html").exists()


def test_layers_and_heads_reach_the_tokens_and_the_sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import medgemma_visualizer.heatmaps as room
    from medgemma_visualizer import verbs

    monkeypatch.setattr(METHODS, "_entries", {name: METHODS[name] for name in ("cross_attention", "token_gradient")})
    seen: list[Any] = []
    monkeypatch.setattr(room, "explain_all", _noting(seen, room.explain_all))
    monkeypatch.setattr(verbs, "token_maps", _noting(seen, verbs.token_maps))
    options = ("--layers", "0,1", "--heads", "2", "--option", "sinks=5")
    _run("--method", "cross_attention", *options, "--all-methods", "--tokens", "--out", str(tmp_path))
    assert seen == [{"layers": [0, 1], "heads": [2], "sinks": 5}] * 2


def test_options_of_a_wrappers_base_reach_the_tokens_and_the_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medgemma_visualizer import verbs

    monkeypatch.setattr(METHODS, "_entries", {name: METHODS[name] for name in ("smoothgrad", "token_gradient")})
    seen: list[Any] = []
    monkeypatch.setattr(verbs, "token_maps", _noting(seen, verbs.token_maps))
    monkeypatch.setattr(verbs, "draw_all", _noting_maps(seen, verbs.draw_all))
    options = ("--option", "samples=1", "--option", "baseline=zero")
    _run("--method", "smoothgrad", *options, "--all-methods", "--tokens", "--out", str(tmp_path))
    sheet, tokens = seen
    assert tokens == {"samples": 1, "baseline": "zero"}
    main_map = np.array(json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["heatmap"]["grid"])
    np.testing.assert_array_equal(sheet["smoothgrad"].grid, main_map)


def _noting_maps(seen: list[Any], function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda heatmaps, *rest, **style: (seen.append(heatmaps), function(heatmaps, *rest, **style))[1]


def test_auto_says_which_options_its_method_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    explaining = import_module("medgemma_visualizer.heatmaps.explain")
    monkeypatch.setattr(explaining, "AUTO", ("hires_cam", "cross_attention"))  # HiResCAM vanishes in the last layer
    _run("--method", "auto", "--option", "layer=-1", "--words", "--out", str(tmp_path))
    assert "Left out  layer: no option of cross_attention" in capsys.readouterr().out
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert result["heatmap"]["extras"]["left_out"] == ["layer"]
    assert result["words"]["requested"] == "cross_attention"


def test_a_number_that_is_not_known_stands_in_the_result_as_none(tmp_path: Path) -> None:
    _run("--method", "shapley", "--option", "orders=2", "--out", str(tmp_path))
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert result["heatmap"]["extras"]["standard_error"] is None


def _noting(seen: list[Any], function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments, **options: (seen.append(options), function(*arguments, **options))[1]


def test_any_option_of_a_method_can_be_given(tmp_path: Path) -> None:
    _run("--method", "hires_cam", "--option", "layer=-2", "--out", str(tmp_path))
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert result["heatmap"]["extras"] == {"layer": -2}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("layer=-2", -2),
        ("space=pixels", "pixels"),
        ("layers=[0,1]", [0, 1]),
        ("x=__import__('os')", "__import__('os')"),
    ],
)
def test_a_value_is_read_as_a_literal_and_never_run(text: str, value: Any) -> None:
    assert list(named_values([text]).values()) == [value]


@pytest.mark.parametrize("text", ["layer", "=3", "a b=3", "1a=2"])
def test_an_option_without_name_or_value_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="name=value"):
        named_values([text])


def test_a_sheet_without_a_known_region_shows_scores_with_chance(demo: Any, cases: Any) -> None:
    from medgemma_visualizer import verbs

    case = cases[0].asking("What does this radiograph show?")
    heatmap = verbs.explain(demo, case, method="token_gradient")
    body = np.ones((512, 512), bool)
    caption = verbs._caption(heatmap, case, body)
    assert caption.startswith("in body 1.00 (1.00) · spread 0.")
    assert "(1.00) · " in caption
    assert verbs._caption(heatmap, cases[0], body).startswith(("hit · mass", "miss · mass"))
