"""Every map is named by the method that made it, checked before it is shown, or replaced by the reasons why not."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import medgemma_visualizer as mv
from medgemma_visualizer.errors import InputError, UnavailableError
from medgemma_visualizer.heatmaps import METHODS, explain_all, explain_reading
from medgemma_visualizer.heatmaps import explain as explain_function
from medgemma_visualizer.heatmaps.methods import Method, RawMap
from medgemma_visualizer.heatmaps.probing import windows
from medgemma_visualizer.models.trace import attention_kind
from medgemma_visualizer.records import Heatmap
from medgemma_visualizer.settings import METHOD_PRIORITY


def _plant(monkeypatch: pytest.MonkeyPatch, values: Any, signed: bool = False) -> None:
    entry = Method("Planted", "scoring", "0 forwards", True, signed, "none", lambda reading, aim: RawMap(values))
    monkeypatch.setitem(METHODS._entries, "planted", entry)


def test_cross_attention_is_the_mean_over_heads_of_row_p_minus_1_in_the_last_layer(reading: Any) -> None:
    ids = reading.ids()
    kinds = (ids == reading.model.image_token_id).long()[None]
    with attention_kind(reading.model, "eager"), torch.no_grad():
        out = reading.model.hf(
            input_ids=ids[None], pixel_values=reading.pixel_values, token_type_ids=kinds, output_attentions=True
        )
    row = out.attentions[-1][0, :, len(ids) - 1, list(reading.prompt.image_positions)].mean(0)
    heatmap = explain_reading(reading, "cross_attention")
    np.testing.assert_allclose(heatmap.map, row.reshape(16, 16).numpy(), atol=1e-6)
    assert heatmap.layers == (reading.model.n_layers - 1,)


def test_layers_and_heads_can_be_chosen(reading: Any) -> None:
    heads = [explain_reading(reading, "cross_attention", layers=[1], heads=[h]).map for h in range(4)]
    joined = explain_reading(reading, "cross_attention", layers=[1]).map
    np.testing.assert_allclose(np.mean(heads, axis=0), joined, atol=1e-7)
    with pytest.raises(InputError, match="no head 9: the model has 4"):
        explain_reading(reading, "cross_attention", heads=[9])


def test_attention_sinks_can_be_emptied(reading: Any) -> None:
    layers = list(range(reading.model.n_layers))
    plain = explain_reading(reading, "cross_attention", layers=layers)
    cut = explain_reading(reading, "cross_attention", layers=layers, sinks=1.5)
    emptied = (cut.map == 0) & (plain.map > 0)
    assert emptied.sum() == cut.extras["sinks"] > 0
    np.testing.assert_allclose(cut.map[~emptied], plain.map[~emptied], atol=1e-7)
    kept = explain_reading(reading, "cross_attention", layers=layers, sinks=1e9)
    np.testing.assert_allclose(kept.map, plain.map, atol=1e-7)
    with pytest.raises(InputError, match="above 1"):
        explain_reading(reading, "cross_attention", sinks=1.0)


def test_an_unknown_method_offers_the_closest(reading: Any) -> None:
    with pytest.raises(InputError, match="Did you mean 'cross_attention'"):
        explain_reading(reading, "cross_atention")


@pytest.mark.parametrize("method", [None, 3, "", ["relevance"], "uniform"])
def test_a_method_that_is_none_is_refused(reading: Any, method: Any) -> None:
    with pytest.raises(InputError, match=r"Unknown method .*Known: activation_norm"):
        explain_reading(reading, method)


def test_an_unknown_option_is_named(reading: Any) -> None:
    with pytest.raises(InputError, match="does not take these options: colour"):
        explain_reading(reading, "cross_attention", colour=1)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros((16, 16)), "same value, 0, in every cell"),
        (np.full((16, 16), 1 / 256), "in every cell"),
        (np.full((16, 16), np.nan), "not finite"),
        (np.ones((4, 4)), r"shape \(4, 4\)"),
        (-np.arange(256.0).reshape(16, 16), "negative values although"),
    ],
)
def test_a_map_that_explains_nothing_is_an_error_with_the_reason(
    reading: Any, monkeypatch: pytest.MonkeyPatch, values: np.ndarray, reason: str
) -> None:
    _plant(monkeypatch, values)
    with pytest.raises(UnavailableError, match=reason):
        explain_reading(reading, "planted")


def test_a_signed_map_without_anything_in_favour_is_an_error(reading: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _plant(monkeypatch, -1 - np.arange(256.0).reshape(16, 16), signed=True)
    with pytest.raises(UnavailableError, match="only against it"):
        explain_reading(reading, "planted")


def test_auto_records_every_failure_and_names_the_method_used(reading: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _plant(monkeypatch, np.zeros((16, 16)))
    monkeypatch.setattr(import_module("medgemma_visualizer.heatmaps.explain"), "AUTO", ("planted", "cross_attention"))
    heatmap = explain_reading(reading, "auto")
    assert heatmap.method == "cross_attention"
    assert heatmap.requested == "auto"
    assert "in every cell" in heatmap.fallbacks["planted"]


def test_auto_never_takes_a_slip_of_the_pen_for_a_failure(reading: Any) -> None:
    with pytest.raises(InputError, match="does not take these options: colour"):
        explain_reading(reading, "auto", colour=1)
    with pytest.raises(InputError, match="no vision layer 99"):
        explain_reading(reading, "auto", layer=99)
    with pytest.raises(InputError, match="one number for each"):
        explain_reading(reading, "auto", lambda logits: logits.sum())


def test_auto_gives_each_method_the_options_that_it_takes(reading: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("medgemma_visualizer.heatmaps.explain")
    monkeypatch.setattr(module, "AUTO", ("hires_cam", "cross_attention"))
    heatmap = explain_reading(reading, "auto", layers=[0], layer=5)  # the last vision layer, where HiResCAM vanishes
    assert (heatmap.method, heatmap.layers) == ("cross_attention", (0,))
    assert "normalisation follows" in heatmap.fallbacks["hires_cam"]
    assert heatmap.extras["left_out"] == ["layer"]
    assert "left_out" not in explain_reading(reading, "cross_attention", layers=[0]).extras


def test_one_method_that_does_not_fit_leaves_the_others_on_the_sheet(reading: Any) -> None:
    entry = replace(METHODS["occlusion"], compute=lambda reading, aim, *, window=99: windows(reading.model.grid, 99, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS._entries, "occlusion", entry)
        found = explain_all(reading, None, ["occlusion", "token_gradient"])
        assert "does not fit the grid" in found["occlusion"].fallbacks["occlusion"]
        assert found["token_gradient"].available
        with pytest.raises(InputError, match="does not fit the grid"):
            explain_all(reading, None, ["occlusion", "token_gradient"], window=98)


def test_the_sheets_options_reach_the_methods_that_take_them(reading: Any) -> None:
    found = explain_all(reading, None, ["cross_attention", "token_gradient"], layers=[0, 1], heads=[2])
    assert (found["cross_attention"].layers, found["cross_attention"].heads) == ((0, 1), (2,))
    with pytest.raises(InputError, match="does not take these options: colour"):
        explain_all(reading, None, ["cross_attention", "token_gradient", "smoothgrad"], colour=1)


@pytest.mark.parametrize(
    "options", [{"reduce": "median"}, {"layers": 1}, {"layers": []}, {"heads": "0,1"}, {"sinks": "x"}]
)
def test_an_option_that_is_none_is_refused_with_what_there_is(reading: Any, options: Any) -> None:
    with pytest.raises(InputError, match=r"Known: max, mean|a list of whole numbers|a number or None"):
        explain_reading(reading, "cross_attention", **options)


@pytest.mark.parametrize("options", [{"layers": [0, 0]}, {"layers": [0, -3]}, {"heads": [1, 2, 1]}])
def test_a_layer_or_head_that_stands_twice_is_refused(small_reading: Any, options: Any) -> None:
    for method in ("cross_attention", "attention_knockout"):
        if options.keys() <= set(METHODS[method].options):
            with pytest.raises(InputError, match="name one twice"):
                explain_reading(small_reading, method, **options)


def test_numbers_of_numpy_are_numbers(small_reading: Any, tmp_path: Path) -> None:
    heatmap = explain_reading(small_reading, "activation_norm", layer=np.int64(0))
    assert heatmap.layers == (0,)
    assert Heatmap.load(heatmap.save(tmp_path / "heatmap.npz")).extras == {"layer": 0}


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_noise_cannot_start_from_is_refused(small_reading: Any, seed: int) -> None:
    with pytest.raises(InputError, match=f"seed is {seed}"):
        explain_reading(small_reading, "smoothgrad", seed=seed)


def test_smoothgrad_refuses_options_that_its_base_does_not_take(reading: Any) -> None:
    with pytest.raises(InputError, match="'token_gradient' does not take these options: colour"):
        explain_reading(reading, "smoothgrad", colour=1)


def test_where_every_method_fails_there_is_no_map_but_the_reasons(
    reading: Any, cases: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _plant(monkeypatch, np.zeros((16, 16)))
    monkeypatch.setattr(import_module("medgemma_visualizer.heatmaps.explain"), "AUTO", ("planted",))
    heatmap = explain_reading(reading, "auto")
    assert not heatmap.available
    assert heatmap.method == "uniform"
    assert heatmap.grid is None
    with pytest.raises(InputError, match="No explanation is available"):
        mv.score(heatmap, cases[0])


def test_auto_follows_the_methods_priority() -> None:
    from medgemma_visualizer.heatmaps.explain import AUTO

    assert (*AUTO, "uniform") == METHOD_PRIORITY
    assert all(name in METHODS for name in AUTO)


def test_a_heatmap_is_saved_whole_and_read_back(reading: Any, tmp_path: Path) -> None:
    heatmap = explain_reading(reading, "token_gradient")
    again = Heatmap.load(heatmap.save(tmp_path / "heatmap.npz"))
    np.testing.assert_array_equal(again.map, heatmap.map)
    np.testing.assert_array_equal(again.signed, heatmap.signed)
    assert again.about() == Heatmap.load(again.save(tmp_path / "again.npz")).about()
    assert again.target == heatmap.target
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.npz", "heatmap.npz"]


def test_the_six_lines_of_the_readme_work(demo: Any, cases: Any, tmp_path: Path) -> None:
    heatmap = explain_function(demo, cases[0], method="cross_attention")
    assert "inside_body_ratio" in str(mv.score(heatmap, cases[0]))
    mv.draw(heatmap, cases[0]).save(tmp_path / "where_it_looked.png")
