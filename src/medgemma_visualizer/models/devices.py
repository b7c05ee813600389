"""Which device and which number format to compute with.

Knows what torch and NVML report about memory; parses no program's print and never changes a device's settings.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import logging
import math
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from numbers import Real
from typing import TypeGuard

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
        capability: Compute capability, such as "9.0".
    """

    index: int
    name: str
    free_gb: float
    total_gb: float
    capability: str = ""

    @property
    def room(self) -> str:
        """How full it is."""
        return f"{self.free_gb:.1f} of {self.total_gb:.1f} GiB free"

    @property
    def told(self) -> str:
        """Which card it is, and how full."""
        return f"GPU {self.index} ({self.name}) has {self.room}"


def gpus() -> list[Gpu]:
    """Every CUDA device that torch may use, with its free memory; empty without CUDA."""
    if not torch.cuda.is_available():
        return []
    return [_gpu(index) for index in range(torch.cuda.device_count())]


def _gpu(index: int) -> Gpu:
    properties = torch.cuda.get_device_properties(index)
    free, total = _memory(index, str(properties.uuid))
    capability = f"{properties.major}.{properties.minor}"
    return Gpu(index, properties.name, free / 2**30, total / 2**30, capability)


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


def no_cuda() -> str | None:
    """Why torch has no CUDA device here, and what to do about it; None where it has one."""
    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is a build without CUDA; pytorch.org says how to install one with it"
    return (
        f"torch {torch.__version__} sees no driver or no card; `nvidia-smi` says whether the system does, and "
        "CUDA_VISIBLE_DEVICES may hide it"
    )


def how_to_take_a_gpu() -> str:
    """For who is told that a model goes elsewhere: the freest card and what takes it, or why there is none."""
    found = gpus()
    if not found:
        return f"{no_cuda() or 'No GPU is here'}."
    return f"{max(found, key=lambda gpu: gpu.free_gb).told}: --device cuda (device='cuda') takes it."


#: What takes a card that has less free than is asked for.
_TAKES_IT = "--device cuda or --min-memory N takes it (device='cuda', min_free_gb=N)."


def cuda_facts() -> dict[str, str]:
    """What GPUs are used through: each with its version, or what is without it."""
    cuda = torch.version.cuda or torch.version.hip
    return {
        "CUDA": "; ".join(part for part in (cuda and f"torch is built for {cuda}", no_cuda()) if part),
        "triton": _version("triton") or "not installed: a GPU computes without this package's own kernels",
        "bitsandbytes": _version("bitsandbytes") or "not installed: --quantize needs it",
        "NVML": _version("nvidia-ml-py") or _version("pynvml") or "not installed: torch is asked for free memory",
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def select_best_gpu(min_free_gb: float = MODEL_CONFIG["min_free_gb"]) -> int | None:
    """Index of the CUDA device with the most free memory, or None where none has `min_free_gb` GiB free."""
    found = sorted(gpus(), key=lambda gpu: gpu.free_gb, reverse=True)
    if found and found[0].free_gb < min_free_gb:
        logger.warning("%s, %.1f are asked for; it is not used. %s", found[0].told, min_free_gb, _TAKES_IT)
    return found[0].index if found and found[0].free_gb >= min_free_gb else None


def choose_device(
    device: str | torch.device = "auto", min_free_gb: float = MODEL_CONFIG["min_free_gb"]
) -> torch.device:
    """The device to compute on.

    Args:
        device: "auto" (the freest CUDA device with enough memory, else Apple's MPS, else the CPU), "cpu", "mps", "cuda"
            (the freest) or "cuda:0", "cuda:1", …; or torch's own.
        min_free_gb: GiB that "auto" demands of a CUDA device.

    Raises:
        InputError: No such device here; the message names those there are.
    """
    device = _name_of(device)
    if device == "auto":
        best = select_best_gpu(min_free_gb)
        return _without_cuda() if best is None else torch.device("cuda", best)
    known = available_devices()
    if device == "cuda" and "cuda:0" in known:
        return torch.device("cuda", max(gpus(), key=lambda gpu: gpu.free_gb).index)
    if device in known:
        return torch.device(device)
    if re.fullmatch(r"cuda(:\d+)?|mps", device):
        reason = no_cuda() if device.startswith("cuda") else None
        why = f": {reason}" if reason else ""
        raise InputError(f"Device {device!r} is not on this machine{why}. Use one of: auto, {', '.join(known)}.")
    gpu = re.fullmatch(r"gpu:?(\d*)", device.lower())
    meant = (f"cuda:{gpu[1]}" if gpu[1] else "cuda") if gpu else None
    raise unknown_name("device", device, ["auto", *known, "cuda", "mps"], meant)


def _name_of(device: object) -> str:
    if isinstance(device, str | torch.device):
        return str(device)
    example = f"cuda:{device}" if type(device) is int else "auto"
    raise InputError(f"device={device!r} names no device. Give a name, such as {example!r}, or a torch.device.")


def _without_cuda() -> torch.device:
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_devices(devices: str = "auto", min_free_gb: float = MODEL_CONFIG["min_free_gb"]) -> list[torch.device]:
    """The devices to compute on, a model on each.

    Args:
        devices: "all" (every CUDA device with enough memory, else as "auto"; what is left out is warned of), or names
            as of `choose_device`, with commas between them.
        min_free_gb: GiB that "all" and "auto" demand of a CUDA device.

    Raises:
        InputError: No such device here, or a GPU that is named twice.
    """
    if devices == "all":
        return _all_with(min_free_gb)
    found = [choose_device(name.strip(), min_free_gb) for name in devices.split(",")]
    twice = [str(device) for n, device in enumerate(found) if device.type != "cpu" and device in found[:n]]
    if twice:
        raise InputError(
            f"Device {twice[0]!r} is named twice in {devices!r}. One model on a GPU is enough; name it once."
        )
    return found


def _all_with(min_free_gb: float) -> list[torch.device]:
    """Every CUDA device with so much free; else the device that "auto" then takes, which is said."""
    cards = gpus()
    for gpu in cards:
        if gpu.free_gb < min_free_gb:
            logger.warning(
                "%s, %.1f are asked for; it is left out. --min-memory N (min_free_gb=N) takes it.",
                gpu.told,
                min_free_gb,
            )
    found = [torch.device("cuda", gpu.index) for gpu in cards if gpu.free_gb >= min_free_gb]
    if found:
        return found
    other = _without_cuda()
    logger.warning("'all' finds no GPU%s. One model computes on %s.", _why(bool(cards)), other)
    return [other]


def _why(too_full: bool) -> str:
    reason = None if too_full else no_cuda()
    return " with room" if too_full else f" ({reason})" if reason else ""


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


def is_gib(value: object) -> TypeGuard[float]:
    """Whether this is a size: a finite number that is not negative."""
    return not isinstance(value, bool) and isinstance(value, Real) and 0 <= float(value) < math.inf


def check_limit(device: torch.device, gib: float) -> None:
    """Refuses a limit that cannot be kept.

    Raises:
        InputError: No GPU, or no size.
    """
    if not is_gib(gib) or gib == 0:
        raise InputError(f"max_memory is {gib!r}; give the GiB that the model may take as a number, such as 20.")
    if device.type != "cuda":
        raise InputError(
            f"max_memory bounds a GPU's memory, and the model goes to {device}. {how_to_take_a_gpu()} Or leave "
            "max_memory out."
        )


def limit_memory(device: torch.device, gib: float) -> None:
    """Lets this process take no more than so many GiB of a GPU, weights included, as if the card were smaller.

    It holds for all that the process does there, other models included, until another limit is set.

    Raises:
        InputError: No GPU, or no size.
    """
    check_limit(device, gib)
    index = _index(device)
    total = torch.cuda.get_device_properties(index).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, gib * 2**30 / total), index)
    _LIMITS[index] = int(gib * 2**30)


@contextmanager
def limited_memory(device: torch.device, gib: float | None) -> Iterator[None]:
    """The limit holds from here on; where the block fails, what held before does. None sets none."""
    if gib is None:
        yield
        return
    check_limit(device, gib)
    before = _LIMITS.get(_index(device))
    limit_memory(device, gib)
    try:
        yield
    except BaseException:
        if before is None:
            torch.cuda.set_per_process_memory_fraction(1.0, _index(device))
            del _LIMITS[_index(device)]
        else:
            limit_memory(device, before / 2**30)
        raise


def _index(device: torch.device) -> int:
    return device.index if device.index is not None else torch.cuda.current_device()


def free_bytes(device: torch.device) -> int | None:
    """Bytes that this process may still take of a CUDA device; None elsewhere, where nobody counts them."""
    if device.type != "cuda":
        return None
    index = _index(device)
    held = torch.cuda.memory_allocated(index)
    free = torch.cuda.mem_get_info(index)[0] + torch.cuda.memory_reserved(index) - held
    return max(0, min(free, _LIMITS.get(index, 2**62) - held))


def choose_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """bfloat16 on a GPU and float32 elsewhere for "auto"; float16 is refused. A name, or torch's own.

    Raises:
        InputError: Unknown or unsuitable number format.
    """
    name = _number_of(dtype)
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name in ("float16", "fp16", "half"):
        raise InputError(
            "float16 is refused: activations of Gemma 3 exceed its largest number (65,504) and turn into "
            "not-a-number. Use 'bfloat16' or 'float32'."
        )
    if packed := re.fullmatch(r"u?int([48])|([48])-?bit|nf(4)", name):
        bits = next(filter(None, packed.groups()))
        raise InputError(
            f"{name!r} is no number format to compute in: use 'bfloat16' or 'float32'. For weights in {bits} bits add "
            f"--quantize {bits}bit (quantize='{bits}bit')."
        )
    if name not in DTYPES:
        raise unknown_name("number format", name, ["auto", *DTYPES])
    return DTYPES[name]


def _number_of(dtype: object) -> str:
    if isinstance(dtype, str | torch.dtype):
        return str(dtype).removeprefix("torch.")
    raise InputError(f"dtype={dtype!r} names no number format. Give 'auto', 'bfloat16' or 'float32'.")
