"""A model is loaded whole and safely, or refused in one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from medgemma_visualizer.errors import InputError, VisualizerError
from medgemma_visualizer.models.loading import demo_folder, load_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_folder(), tmp_path / "model"))


def test_a_folder_loads_by_the_same_code_as_the_demo(demo: Any, folder: Path) -> None:
    loaded = load_model(folder, device="cpu")
    assert loaded.name == "model"
    assert loaded.revision == demo.revision
    assert type(loaded.hf) is type(demo.hf)


def test_a_copy_of_the_embedded_model_is_known_as_such(folder: Path) -> None:
    assert load_model(folder, device="cpu").is_demo
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "changed": True}))
    assert not load_model(folder, device="cpu").is_demo


def test_a_loaded_model_is_in_eval_mode_without_parameter_gradients(demo: Any) -> None:
    assert not demo.hf.training
    assert not any(p.requires_grad for p in demo.hf.parameters())
    assert demo.dtype is torch.float32


def test_stop_tokens_are_the_chat_templates_own(demo: Any) -> None:
    assert demo.tokenizer.convert_tokens_to_ids("<end_of_turn>") in demo.stop_ids


def test_spellings_of_yes_and_no_are_found_in_the_vocabulary(demo: Any) -> None:
    for ids, word in ((demo.yes_ids, "yes"), (demo.no_ids, "no")):
        assert ids
        assert {demo.tokenizer.decode([i]).strip().casefold() for i in ids} == {word}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("demoo", "Did you mean 'demo'"),
        ("./nowhere", "does not exist"),
        ("/nowhere/at/all", "does not exist"),
        ("", "Unknown model"),
        (" ", "Unknown model"),
    ],
)
def test_a_name_that_is_no_model_is_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_model(name)


def test_a_file_is_not_a_model(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"x")
    with pytest.raises(InputError, match="is a file"):
        load_model(file)


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        load_model(tmp_path)


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no \*\.safetensors"):
        load_model(folder)


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="pickled"):
        load_model(folder)


def test_another_architecture_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["LlavaForConditionalGeneration"]}))
    with pytest.raises(InputError, match=r"LlavaForConditionalGeneration.*not supported"):
        load_model(folder)


def test_a_truncated_weight_file_is_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:10_000])
    with pytest.raises(InputError, match="cannot be read"):
        load_model(folder, device="cpu")


def test_a_checkpoint_that_lacks_weights_is_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    dropped = next(name for name in weights if "language_model" in name and "q_proj" in name)
    del weights[dropped]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(VisualizerError, match="would be random"):
        load_model(folder, device="cpu")


def test_a_hub_model_without_a_network_tells_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="give its folder, or use 'demo'"):
        load_model("nobody/never-existed-4b", device="cpu")


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        ("GatedRepoError", "is gated. Accept its terms"),
        ("RepositoryNotFoundError", "not a model that the hub knows"),
        ("RevisionNotFoundError", "no such revision"),
        ("LocalEntryNotFoundError", "hub cannot be reached"),
        ("DiskFull", "cannot be loaded .*free disk space"),
    ],
)
def test_what_the_hub_refuses_is_told_by_its_cause(cause: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("see nobody/v401-4b") from type(cause, (Exception,), {})("first cause")

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", refuse)
    with pytest.raises(InputError, match=message):
        load_model("nobody/v401-4b", device="cpu")


def test_the_architecture_of_a_hub_model_is_looked_at_before_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    config = type("Config", (), {"architectures": ["LlamaForCausalLM"]})
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", lambda *arguments, **options: config)
    with pytest.raises(InputError, match=r"LlamaForCausalLM.*not supported"):
        load_model("nobody/text-only", device="cpu")


def test_a_folder_without_a_tokenizer_or_stop_token_is_refused(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    config.pop("eos_token_id", None)
    config["text_config"].pop("eos_token_id", None)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="no chat template"):
        load_model(folder, device="cpu")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"cannot be read|no tokenizer"):
        load_model(folder, device="cpu")
