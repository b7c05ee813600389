"""Which device and which number format to compute with.

Knows what torch and NVML report about memory; parses no program's print and never changes a device's settings.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import logging
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import torch

from medgemma_visualizer.errors import InputError, unknown_name
from medgemma_visualizer.settings import MODEL_CONFIG

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "fp32": torch.float32, "bfloat16": torch.bfloat16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Gpu:
    """One CUDA device as torch numbers it.

    Attributes:
        index: torch's number.
        name: The card's name.
        free_gb: Free memory in GiB.
        total_gb: All memory in GiB.
    """

    index: int
    name: str
    free_gb: float
    total_gb: float


def gpus() -> list[Gpu]:
    """Every CUDA device that torch may use, with its free memory; empty without CUDA."""
    if not torch.cuda.is_available():
        return []
    return [_gpu(index) for index in range(torch.cuda.device_count())]


def _gpu(index: int) -> Gpu:
    properties = torch.cuda.get_device_properties(index)
    free, total = _memory(index, str(properties.uuid))
    return Gpu(index, properties.name, free / 2**30, total / 2**30)


def _memory(index: int, uuid: str) -> tuple[int, int]:
    """Free and total bytes: by NVML where it is installed (costs no context on the card), else by torch."""
    if importlib.util.find_spec("pynvml") is None:
        return torch.cuda.mem_get_info(index)
    import pynvml

    try:
        pynvml.nvmlInit()
        info = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"))
        return int(info.free), int(info.total)
    except (
        pynvml.NVMLError
    ) as error:  # slices of a card have ids of their own; torch can tell their memory all the same
        logger.info("NVML does not answer for GPU %d (%s); torch is asked instead.", index, error)
        return torch.cuda.mem_get_info(index)


def select_best_gpu(min_free_gb: float = MODEL_CONFIG["min_free_gb"]) -> int | None:
    """Index of the CUDA device with the most free memory, or None where none has `min_free_gb` GiB free."""
    found = sorted(gpus(), key=lambda gpu: gpu.free_gb, reverse=True)
    if found and found[0].free_gb < min_free_gb:
        logger.warning(
            "The freest GPU (%d, %s) has %.1f GiB free, %.1f are asked for; it is not used.",
            found[0].index,
            found[0].name,
            found[0].free_gb,
            min_free_gb,
        )
    return found[0].index if found and found[0].free_gb >= min_free_gb else None


def choose_device(device: str = "auto", min_free_gb: float = MODEL_CONFIG["min_free_gb"]) -> torch.device:
    """The device to compute on.

    Args:
        device: "auto" (the freest CUDA device with enough memory, else Apple's MPS, else the CPU), "cpu", "mps", "cuda"
            (the freest) or "cuda:0", "cuda:1", ….
        min_free_gb: GiB that "auto" demands of a CUDA device.

    Raises:
        InputError: No such device here; the message names those there are.
    """
    if device == "auto":
        best = select_best_gpu(min_free_gb)
        if best is not None:
            return torch.device("cuda", best)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    known = available_devices()
    if device == "cuda" and "cuda:0" in known:
        return torch.device("cuda", max(gpus(), key=lambda gpu: gpu.free_gb).index)
    if device in known:
        return torch.device(device)
    if re.fullmatch(r"cuda(:\d+)?|mps", device):
        raise InputError(f"Device {device!r} is not on this machine. Use one of: auto, {', '.join(known)}.")
    raise unknown_name("device", device, ["auto", *known, "cuda", "mps"])


def choose_devices(devices: str = "auto", min_free_gb: float = MODEL_CONFIG["min_free_gb"]) -> list[torch.device]:
    """The devices to compute on, a model on each.

    Args:
        devices: "all" (every CUDA device with enough memory, else as "auto"), or names as of `choose_device`, with
            commas between them.
        min_free_gb: GiB that "all" and "auto" demand of a CUDA device.

    Raises:
        InputError: No such device here, or a GPU that is named twice.
    """
    if devices == "all":
        found = [torch.device("cuda", gpu.index) for gpu in gpus() if gpu.free_gb >= min_free_gb]
        return found or [choose_device("auto", min_free_gb)]
    found = [choose_device(name.strip(), min_free_gb) for name in devices.split(",")]
    twice = [str(device) for n, device in enumerate(found) if device.type != "cpu" and device in found[:n]]
    if twice:
        raise InputError(
            f"Device {twice[0]!r} is named twice in {devices!r}. One model on a GPU is enough; name it once."
        )
    return found


@contextmanager
def on_device(device: torch.device) -> Iterator[None]:
    """A CUDA device is this thread's current one inside the block; elsewhere nothing is done.

    Kernels that are launched, captured or waited for without a word on which device belong to the current one, which
    is the first where nobody said otherwise.
    """
    if device.type != "cuda":
        yield
        return
    with torch.cuda.device(device):
        yield


def stay_on(device: torch.device) -> None:
    """The same for good, for a thread that works on one device only."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def trim_memory() -> None:
    """Hands pages that the C library keeps of what was freed back to the system; elsewhere than under glibc nothing.

    What is made in one thread and freed in another is kept by glibc: without this a long run, or a server with
    visitors, grows without holding anything.
    """
    if is_glibc():
        ctypes.CDLL(None).malloc_trim(0)


@lru_cache(maxsize=1)  # it is read off Python's own file
def is_glibc() -> bool:
    """Whether the C library is GNU's."""
    return platform.libc_ver()[0] == "glibc"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is how a device, or this machine, says that its memory is full."""
    full = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return full or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def cleanup_memory() -> None:
    """Gives back what nobody holds any more, and logs what CUDA still holds; starts no CUDA context of its own."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        held, kept = torch.cuda.memory_allocated() / 2**30, torch.cuda.memory_reserved() / 2**30
        logger.info("CUDA memory: %.1f GiB allocated, %.1f GiB reserved.", held, kept)


def available_devices() -> list[str]:
    """Names that `choose_device` accepts here, "auto" left out."""
    names = [f"cuda:{gpu}" for gpu in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)]
    return [*names, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


#: Bytes that this process may take of a CUDA device, where somebody has said so.
_LIMITS: dict[int, int] = {}


def limit_memory(device: torch.device, gib: float) -> None:
    """Lets this process take no more than so many GiB of a GPU, weights included, as if the card were smaller.

    Raises:
        InputError: No GPU, or no size.
    """
    if not gib > 0:
        raise InputError(f"max_memory is {gib!r}; give the GiB that the model may take, such as 20.")
    if device.type != "cuda":
        raise InputError(f"max_memory bounds a GPU's memory, and the model goes to {device}. Leave it out.")
    index = device.index if device.index is not None else torch.cuda.current_device()
    total = torch.cuda.get_device_properties(index).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, gib * 2**30 / total), index)
    _LIMITS[index] = int(gib * 2**30)


def free_bytes(device: torch.device) -> int | None:
    """Bytes that this process may still take of a CUDA device; None elsewhere, where nobody counts them."""
    if device.type != "cuda":
        return None
    index = device.index if device.index is not None else torch.cuda.current_device()
    held = torch.cuda.memory_allocated(index)
    free = torch.cuda.mem_get_info(index)[0] + torch.cuda.memory_reserved(index) - held
    return max(0, min(free, _LIMITS.get(index, 2**62) - held))


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """bfloat16 on a GPU and float32 elsewhere for "auto"; float16 is refused.

    Raises:
        InputError: Unknown or unsuitable number format.
    """
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype in ("float16", "fp16", "half"):
        raise InputError(
            "float16 is refused: activations of Gemma 3 exceed its largest number (65,504) and turn into "
            "not-a-number. Use 'bfloat16' or 'float32'."
        )
    if dtype not in DTYPES:
        raise unknown_name("number format", dtype, ["auto", *DTYPES])
    return DTYPES[dtype]
