"""Writes small DICOM radiographs for tests, with pydicom alone; nothing in them is of a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)


def radiograph(pixels: np.ndarray, bits: int = 12, **elements: Any) -> FileDataset:
    """A DX film FOR PRESENTATION, frontal, MONOCHROME2, without any transformation of its values.

    Args:
        pixels: Whole numbers (rows, columns); negative ones make the file a signed one.
        bits: Stored; 8 or fewer are allocated one byte.
        **elements: Keyword -> value, over those that are set here; None leaves the element out.
    """
    signed = bool((pixels < 0).any())
    allocated = 8 if bits <= 8 else 16
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["film"])
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    facts: dict[str, Any] = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": generate_uid(entropy_srcs=["study"]),
        "SeriesInstanceUID": generate_uid(entropy_srcs=["series"]),
        "Modality": "DX",
        "PresentationIntentType": "FOR PRESENTATION",
        "ViewPosition": "PA",
        "ImagerPixelSpacing": [0.139, 0.139],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": allocated,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(signed),
        "PixelData": pixels.astype(f"<{'i' if signed else 'u'}{allocated // 8}").tobytes(),
    }
    for name, value in (facts | elements).items():
        if value is not None:
            setattr(dataset, name, value)
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OB" if allocated == 8 else "OW"
    return dataset


def saved(dataset: FileDataset, path: Path) -> Path:
    """The file, written as it is, odd or not."""
    pydicom.dcmwrite(path, dataset, enforce_file_format=False)
    return path


def lookup(entries: np.ndarray, first: int = 0, bits: int = 16) -> Dataset:
    """An item of a LUT sequence: entries (n,), the value that the first is for, the bits of an entry as said."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 2**16, first, bits])
    item.add_new("LUTData", "US", [int(entry) for entry in entries])
    return item


def ramp(bits: int, rows: int = 64) -> np.ndarray:
    """Every level (or an even choice of 4,096 of them) from 0 to the highest of so many bits, (rows, n / rows)."""
    return np.linspace(0, 2**bits - 1, min(2**bits, 4096)).round().astype(np.int64).reshape(rows, -1)


CR = ComputedRadiographyImageStorage
