"""From a name to a model ready to be asked: the embedded demo, a folder, or a checkpoint of the hub.

One path for all three. Never runs code from a checkpoint, never unpickles, never leaves a weight random in silence.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import torch
from safetensors import SafetensorError

from medgemma_visualizer.errors import InputError, UnavailableError, VisualizerError, unknown_name
from medgemma_visualizer.models import gemma3, lean  # noqa: F401  (gemma3 registers its family)
from medgemma_visualizer.models.adapter import FAMILIES, Family, Model
from medgemma_visualizer.models.devices import (
    check_limit,
    choose_device,
    choose_dtype,
    how_to_take_a_gpu,
    is_gib,
    limited_memory,
)
from medgemma_visualizer.models.sizes import QUANTIZERS, Size, size_of, smaller
from medgemma_visualizer.settings import MODEL_CONFIG

#: Names that a person may type, with what each needs.
KNOWN_MODELS = {
    "demo": "embedded, simulated films only",
    "google/medgemma-4b-it": "gated: accept its terms on the hub first; about 9 GB",
    "google/medgemma-1.5-4b-it": "gated: accept its terms on the hub first; about 9 GB",
    "google/medgemma-27b-it": "gated: accept its terms on the hub first; about 55 GB",
    "google/gemma-3-4b-it": "gated: accept its terms on the hub first; about 9 GB",
}

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def demo_folder() -> Path:
    """Folder of the embedded model."""
    return Path(str(files("medgemma_visualizer"))) / "data" / "demo" / "model"


def load_model(
    source: str | Path = "demo",
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    min_free_gb: float | None = None,
    revision: str | None = None,
    fast: bool = True,
    max_memory: float | None = None,
    quantize: str | None = None,
) -> Model:
    """Loads a vision-language model.

    Args:
        source: "demo", a hub id such as "google/medgemma-4b-it", or a folder saved by transformers.
        device: As in `devices.choose_device`.
        dtype: "auto", "bfloat16" or "float32", or torch's own.
        min_free_gb: GiB that "auto" demands of a GPU; as `enough_free` says where None.
        revision: Commit or tag of a hub checkpoint.
        fast: On a CUDA device the decoder runs as `models.lean` and `models.graphs` write it, with the same results up
            to rounding; False, or MEDGEMMA_VISUALIZER_FAST=0 in the environment, leaves it to transformers.
        max_memory: GiB of the GPU that this process may take, weights and work together; what it was before where
            None, at first all. It stays the process's limit on that card until another load names one; a load that
            fails leaves none behind.
        quantize: "8bit" or "4bit" weights by bitsandbytes on a GPU. Answers and maps are then another model's, as its
            revision says; its decoder is left to transformers, and its weights cannot be drawn anew.

    Raises:
        InputError: Unknown model, device or number format; a folder without weights, with pickled weights or with
            another architecture; a gated or unreachable checkpoint. Each message tells the next step.
        VisualizerError: The checkpoint lacks weights that the model needs.
    """
    source = str(source)
    is_demo = source == "demo"
    where = demo_folder() if is_demo else Path(source).expanduser()
    local = bool(source.strip()) and where.is_dir()
    if not local:
        _refuse_unknown(source)
    family = _check_folder(where) if local else None
    floor = enough_free(source, min_free_gb, dtype=dtype, max_memory=max_memory, quantize=quantize)
    target = choose_device(device, floor)
    number = choose_dtype(dtype, target)
    how = _quantizer(quantize, target, number)
    size = size_of(where if local else None, source)
    if max_memory is not None:
        check_limit(target, max_memory)
        _refuse_too_large(size, source, max_memory, number, quantize)
    try:
        with limited_memory(target, max_memory), _quietly(is_demo or not sys.stderr.isatty()):
            hf, processor = _load(str(where) if local else source, local, target, number, revision, **how)
    except torch.OutOfMemoryError:
        ways = smaller(size, number, quantize)
        raise VisualizerError(
            f"The weights of {source!r} do not fit into the free memory of {target}. Free some, choose another device, "
            f"or {f'load them smaller: {ways}' if ways else 'take a smaller model'}."
        ) from None
    family = family or _family(hf.config.architectures, source)
    hf.requires_grad_(False).eval()
    revision = _digest(where) if local else str(getattr(hf.config, "_commit_hash", "") or revision or "")
    name = source if is_demo or not local else where.resolve().name
    is_demo = is_demo or (local and revision == _digest(demo_folder()))  # a copy of it knows no more than it does
    quick = fast and target.type == "cuda" and os.environ.get("MEDGEMMA_VISUALIZER_FAST", "1") != "0"
    loaded = Model(name, revision, hf, processor, family, is_demo, library_versions(), quick)
    if quantize is not None:
        loaded = _packed(loaded, quantize)
    return replace(loaded, fast=quick and lean.is_usual(loaded))


#: GiB that work takes beside the weights, to be free where nothing else says how much must be.
WORK_GIB = 2.0


def enough_free(
    source: str,
    min_free_gb: float | None = None,
    *,
    dtype: str | torch.dtype = "auto",
    max_memory: float | None = None,
    quantize: str | None = None,
) -> float:
    """GiB that "auto" demands of a GPU for this model, where nobody said how many: 15, and 1 for the embedded model.

    Where somebody said how much the model may take or that its weights are made smaller: what the weights then take and
    two more, and never more than it may take.

    Raises:
        InputError: Something else than a number; an unknown number format or quantisation.
    """
    if min_free_gb is not None:
        if not is_gib(min_free_gb):
            raise InputError(f"min_free_gb is {min_free_gb!r}; give the GiB that must be free as a number, such as 10.")
        return min_free_gb
    floor: float = 1.0 if source == "demo" else MODEL_CONFIG["min_free_gb"]
    if quantize is not None:
        _refuse_unknown_quantizer(quantize)
    elif max_memory is None:
        return floor
    folder = Path(source).expanduser()
    size = size_of(folder if folder.is_dir() else None, source) if source != "demo" else None
    if size is not None:
        floor = size.gib(choose_dtype(dtype, torch.device("cuda")), quantize) + WORK_GIB
    return min(floor, max_memory) if is_gib(max_memory) else floor


def _packed(model: Model, quantize: str) -> Model:
    """The model, known as another one than that of its files: no league and no run of theirs is its own."""
    # It says so at every product of matrices, thousands of lines an answer; what it casts is quantised next.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    versions = {**model.versions, "bitsandbytes": version("bitsandbytes")}
    return replace(model, revision=f"{model.revision}+{quantize}", versions=versions)


def _quantizer(name: str | None, device: torch.device, number: torch.dtype) -> dict[str, Any]:
    """What transformers' loader must be told to make weights smaller; nothing where nobody asked.

    Raises:
        InputError: No such quantisation, or no GPU.
        UnavailableError: The package that does it is not installed.
    """
    if name is None:
        return {}
    _refuse_unknown_quantizer(name)
    if device.type != "cuda":
        raise InputError(
            f"quantize={name!r} needs a CUDA GPU, and the model goes to {device}. {how_to_take_a_gpu()} Or leave "
            "quantize out."
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UnavailableError(
            f"quantize={name!r} needs the package bitsandbytes, which is not installed. "
            "Run `pip install bitsandbytes`, or leave it out."
        )
    from transformers import BitsAndBytesConfig

    how = {"load_in_8bit": True} if name == "8bit" else {"load_in_4bit": True, "bnb_4bit_compute_dtype": number}
    return {"quantization_config": BitsAndBytesConfig(**how)}


def _refuse_unknown_quantizer(name: object) -> None:
    if not isinstance(name, str) or name not in QUANTIZERS:
        meant = next((known for known in QUANTIZERS if known[0] in str(name)), None)
        raise unknown_name("quantisation", name, QUANTIZERS, meant)


def _refuse_too_large(size: Size | None, source: str, gib: float, number: torch.dtype, quantize: str | None) -> None:
    """Refuses weights that alone exceed the limit, before any is read; nothing where nobody knows how large they are.

    Raises:
        InputError: They do; the message says how large they are, and which way of loading them would fit.
    """
    needed = 0.0 if size is None else size.gib(number, quantize)
    if needed > gib:
        ways = smaller(size, number, quantize, gib)
        raise InputError(
            f"The weights of {source!r} take about {needed:.2f} GiB and max_memory allows {gib:g}. Allow more, or "
            f"{f'load them smaller: {ways}' if ways else 'take a smaller model'}."
        )


def model_of(hf: Any, processor: Any) -> Model:
    """A model that transformers has loaded already, as everything else here wants it.

    It is put into eval mode and its parameters lose their gradients, as `load_model` does; nothing else is changed. The
    revision stays empty: weights in memory need not be those of any file, so no league table counts for them.

    Args:
        hf: A transformers model of a supported architecture, whole on one device, in float32 or bfloat16.
        processor: Its processor, with tokenizer, image processor and chat template.

    Raises:
        InputError: Something else, or a model or processor that cannot be asked; the message says what is missing.
    """
    from transformers import PreTrainedModel

    if not isinstance(hf, PreTrainedModel):
        raise InputError(f"A {type(hf).__name__} is no model; give what load_model returns, or a transformers model.")
    source = str(hf.name_or_path or type(hf).__name__)
    family = _family([type(hf).__name__], source)
    _check_processor(processor, source)
    _check_stop(hf, source)
    devices = sorted({str(each.device) for each in hf.parameters()})
    if len(devices) > 1:
        raise InputError(f"{source!r} is spread over {', '.join(devices)}; load it on one device.")
    choose_dtype(str(hf.dtype).removeprefix("torch."), hf.device)
    hf.requires_grad_(False).eval()
    folder = Path(source)
    is_demo = (folder / "config.json").is_file() and _digest(folder) == _digest(demo_folder())
    name = "demo" if is_demo else folder.name if folder.is_dir() else source
    return Model(name, "", hf, processor, family, is_demo, library_versions())


def library_versions() -> dict[str, str]:
    """Versions of what results depend on; Gemma 3's image masks changed between releases of transformers."""
    names = ("medgemma-visualizer", "torch", "transformers", "tokenizers", "numpy", "pillow")
    return {name: version(name) for name in names}


def _refuse_unknown(source: str) -> None:
    """Lets only hub ids through."""
    path = Path(source).expanduser()
    if path.is_file():
        raise InputError(f"Model {source!r} is a file. Give the folder that holds config.json and *.safetensors.")
    if source.startswith((".", "/", "~")) or source.count(os.sep) > 1:
        raise InputError(f"Model folder {source!r} does not exist. Check the path, or use 'demo'.")
    if not _HUB_ID.fullmatch(source):
        raise unknown_name("model", source, KNOWN_MODELS)


def _check_folder(folder: Path) -> Family:
    """The family that the folder's config names, once its weights are known to be there and safe to read."""
    config = folder / "config.json"
    if not config.is_file():
        raise InputError(f"Model folder {str(folder)!r} has no config.json. Give a folder saved by transformers.")
    try:
        architectures = json.loads(config.read_text(encoding="utf-8")).get("architectures")
    except (ValueError, AttributeError):
        raise InputError(f"{str(config)!r} is not valid JSON. Download or save the model again.") from None
    family = _family(architectures, str(folder))
    if not any(folder.glob("*.safetensors")):
        pickled = next((p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in folder.glob(pattern)), None)
        if pickled:
            raise InputError(
                f"Model folder {str(folder)!r} holds pickled weights ({pickled}), which can run code when opened. "
                "Convert them to safetensors first."
            )
        raise InputError(f"Model folder {str(folder)!r} holds no *.safetensors. Download its weights first.")
    return family


def _family(architectures: list[str] | None, source: str) -> Family:
    name = (architectures or ["none"])[0]
    if name not in FAMILIES:
        raise InputError(
            f"Model {source!r} has the architecture {name}, which is not supported. Supported: {', '.join(FAMILIES)}."
        )
    return FAMILIES[name]


def _load(
    source: str, local: bool, device: torch.device, dtype: torch.dtype, revision: str | None, **how: Any
) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": local, "revision": revision or "main"}
    try:
        if not local:  # before gigabytes are fetched
            _family(AutoConfig.from_pretrained(source, **options).architectures, source)
        processor = AutoProcessor.from_pretrained(source, **options)
        _check_processor(processor, source)
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            source,
            dtype=dtype,
            device_map={"": device},
            use_safetensors=True,
            attn_implementation="sdpa",
            output_loading_info=True,
            **how,
            **options,
        )
    except InputError:
        raise
    except (OSError, ValueError, AttributeError, SafetensorError) as error:
        raise InputError(_explain(source, local, error)) from error
    hf, info = loaded
    _check_stop(hf, source)
    _refuse_random_weights(source, info)
    return hf, processor


@contextmanager
def _quietly(quiet: bool) -> Iterator[None]:
    """Without the progress bars and warnings of the loading libraries, which are as they were afterwards.

    Bars are for people who wait for gigabytes; in a file or beside a model of ten megabytes they are noise.
    """
    if not quiet:
        yield
        return
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
    from transformers.utils import logging

    bars, hub_bars, level = logging.is_progress_bar_enabled(), not are_progress_bars_disabled(), logging.get_verbosity()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        try:
            yield
        finally:
            logging.set_verbosity(level)
            if bars:
                logging.enable_progress_bar()  # of the hub, too
            if not hub_bars:
                disable_progress_bars()


def _check_processor(processor: Any, source: str) -> None:
    """A processor without tokenizer, picture part or chat template would fail later, in words of the library."""
    parts = {"tokenizer": "tokenizer", "image_processor": "image processor", "chat_template": "chat template"}
    missing = [name for part, name in parts.items() if not getattr(processor, part, None)]
    if missing:
        raise InputError(f"{source!r} has no {' and no '.join(missing)}. Download or save it with its processor.")


def _check_stop(hf: Any, source: str) -> None:
    if not hf.generation_config.eos_token_id:
        raise InputError(
            f"{source!r} names no stop token (generation_config.json); its answers would never end. Add it."
        )


def _refuse_random_weights(source: str, info: Mapping[str, Any]) -> None:
    missing = sorted(info["missing_keys"]) + sorted(str(key[0]) for key in info["mismatched_keys"])
    if missing:
        raise VisualizerError(
            f"The checkpoint {source!r} lacks {len(missing)} weights ({', '.join(missing[:3])}, …); they would be "
            "random. Download or save the model again."
        )


def _explain(source: str, local: bool, error: Exception) -> str:
    """One sentence and a next step for what the loading library says in many."""
    text = " ".join(str(error).split())
    if local:
        return f"Model folder {source!r} cannot be read ({text[:200]}). Download or save the model again."
    causes = _types_behind(error)
    if "GatedRepoError" in causes:
        return (
            f"{source!r} is gated. Accept its terms on its hub page, then run `hf auth login` and try again; "
            "or use 'demo', which needs nothing."
        )
    if "RepositoryNotFoundError" in causes or "is not a valid model identifier" in text:
        return f"{source!r} is not a model that the hub knows or shows to you. Check the name, or use 'demo'."
    if "RevisionNotFoundError" in causes:
        return f"{source!r} has no such revision. Check revision=, or leave it out."
    if not causes & _UNREACHABLE:
        return f"{source!r} cannot be loaded ({text[:200]}). Check the name and the free disk space, or use 'demo'."
    return (
        f"{source!r} is not on this machine and the hub cannot be reached. Download it where there is a network "
        "and give its folder, or use 'demo'."
    )


#: Classes of the hub client that say that there was no way to ask.
_UNREACHABLE = {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectError", "ConnectionError", "ConnectTimeout"}


def _types_behind(error: BaseException | None) -> set[str]:
    """Names of the classes of an error and of all that caused it."""
    found: set[str] = set()
    while error is not None:
        found |= {each.__name__ for each in type(error).__mro__}
        error = error.__cause__ or error.__context__
    return found


def _digest(folder: Path) -> str:
    """Sixteen hex digits over the config and the weight files' names, sizes and first and last megabyte."""
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for file in sorted(folder.glob("*.safetensors")):
        digest.update(f"{file.name}:{file.stat().st_size}".encode())
        with file.open("rb") as data:
            digest.update(data.read(2**20))
            data.seek(max(0, file.stat().st_size - 2**20))
            digest.update(data.read())
    return digest.hexdigest()[:16]
