"""Mammograms in DICOM files, decoded with pydicom, which is imported when the first one is read."""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lit_dist.utils.extras import MissingExtraError, need

if TYPE_CHECKING:
    from pydicom import Dataset

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_HEADER_WITHIN = 4096  # bytes of the pixels' element in which a compressed stream begins
_NEEDED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "PhotometricInterpretation")
_FRAME_SIZES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA, 0xCB, 0xF7}  # JPEG's and JPEG-LS's markers that give a size

_BLOCK = 2**16  # pixels that are shown at once


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its pixels.

    Attributes:
        series: The UID of its series; empty if there is none.
        rows: Its height.
        columns: Its width.
    """

    series: str
    rows: int
    columns: int


def is_dicom(content: bytes) -> bool:
    """Whether a file begins as DICOM files do."""
    return content[128:132] == b"DICM"


def read_header(path: Path) -> Header:
    """Read a file up to its pixels; ValueError if it is not a DICOM file, or damaged; ImportError without pydicom."""
    need("dicom", f"{path} is DICOM, which")
    from pydicom import dcmread
    from pydicom.filereader import read_file_meta_info

    try:
        _refuse_deflated(str(read_file_meta_info(path).get("TransferSyntaxUID")).encode())
        dataset = dcmread(path, stop_before_pixels=True)
        series = dataset.get_item("SeriesInstanceUID")  # as it was written: a UID may be longer than allowed
        value: Any = getattr(series, "value", None) or ""
        text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
        return Header(text.strip("\0 "), int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0))
    except Exception as error:
        raise ValueError(f"{path} cannot be read as DICOM: {_reason(error)}") from None


def read_dicom(content: bytes, most_pixels: int) -> NDArray[np.uint16]:
    """Decode the one image of a file: rescaled and windowed as the file says, bright where tissue is dense.

    Args:
        content: The file's bytes.
        most_pixels: A file that says it has more is refused before it is decoded.

    Returns:
        Greyscale, uint16, (height, width), over all of 16 bits.

    Raises:
        MissingExtraError: If pydicom, or the decoder that the file takes, is not installed.
        ValueError: If the file is damaged, lacks what is needed to show it, or holds something else than one grey
            image.
    """
    need("dicom", "an image is DICOM, which")
    from pydicom import dcmread

    try:
        _refuse_deflated(content)
        dataset = dcmread(io.BytesIO(content))
        _check(dataset, most_pixels)
        stored = dataset.pixel_array
        if stored.ndim != 2:
            raise ValueError(f"its pixels have the shape {stored.shape}, not that of one grey image")
        low, high = _range(stored, dataset)
        if not np.isfinite([low, high]).all():
            raise ValueError("its greys are not all numbers; its slope, window or lookup table is damaged")
    except ValueError as error:
        raise ValueError(_reason(error)) from None
    except Exception as error:  # pydicom and the decoders raise whatever damaged bytes lead them to
        if "missing dependencies" in str(error):  # pydicom is there, by itself
            raise MissingExtraError("dicom", "an image is compressed DICOM, which") from None
        raise ValueError(f"it cannot be decoded: {_reason(error)}") from None
    result = np.empty(stored.shape, np.uint16)
    for rows in _blocks(stored):
        greys = (_shown(stored[rows], dataset) - low) * (65535 / max(high - low, 1e-9))
        result[rows] = np.rint(65535 - greys if dataset.PhotometricInterpretation == "MONOCHROME1" else greys)
    return result


def _refuse_deflated(content: bytes) -> None:
    """Refuse a file that pydicom would inflate whole, whatever size comes out."""
    if _DEFLATED in content:
        raise ValueError("it is deflated as a whole, so that its size is not known; save it without that")


def _check(dataset: "Dataset", most_pixels: int) -> None:
    missing = [name for name in _NEEDED if dataset.get(name) is None]
    if missing or "PixelData" not in dataset:
        raise ValueError(f"it has no {', '.join(missing) or 'pixels'}")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise ValueError(f"it has {frames} images in one file; a film is one")
    if (
        dataset.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2")
        or dataset.get("SamplesPerPixel", 1) != 1
    ):
        raise ValueError(f"it is not grey, but {dataset.PhotometricInterpretation}")
    if not 0 < rows * columns <= most_pixels:
        raise ValueError(f"it is said to have {columns} x {rows} pixels, more than any film has")
    _check_stream(dataset, rows, columns)


def _check_stream(dataset: "Dataset", rows: int, columns: int) -> None:
    """Refuse a compressed image of another size than the file says: a decoder would make room for it."""
    size = _stream_size(dataset.PixelData) if dataset.file_meta.TransferSyntaxUID.is_compressed else None
    if size is not None and size != (rows, columns):
        raise ValueError(f"it is said to have {columns} x {rows} pixels, but holds {size[1]} x {size[0]}")


def _stream_size(data: bytes) -> tuple[int, int] | None:
    """The height and width in the header of a JPEG, JPEG-LS or JPEG 2000 stream; None if there is no such header."""
    start = data.find(b"\xff\x4f\xff\x51")
    if 0 <= start < _HEADER_WITHIN and len(data) >= start + 24:
        right, bottom, left, top = struct.unpack(">4I", data[start + 8 : start + 24])
        return bottom - top, right - left
    start = data.find(b"\xff\xd8\xff")
    place = start + 2
    while 0 <= start < _HEADER_WITHIN and place + 9 <= len(data) and data[place] == 0xFF:
        if data[place + 1] in _FRAME_SIZES:
            height, width = struct.unpack(">HH", data[place + 5 : place + 9])
            return height, width
        place += 2 + int(struct.unpack(">H", data[place + 2 : place + 4])[0])
    return None


def _range(stored: NDArray[Any], dataset: "Dataset") -> tuple[float, float]:
    """The least and the greatest grey that is shown; NaN if one is."""
    ends = [(greys.min(), greys.max()) for greys in (_shown(stored[rows], dataset) for rows in _blocks(stored))]
    return float(np.min(ends)), float(np.max(ends))


def _blocks(stored: NDArray[Any]) -> Iterator[slice]:
    """Some rows after others: as floats a whole film has a hundred megabytes, and its parts stay close to the core."""
    step = max(1, _BLOCK // stored.shape[1])
    return (slice(start, start + step) for start in range(0, len(stored), step))


def _shown(stored: NDArray[Any], dataset: "Dataset") -> NDArray[np.float64]:
    """The greys that stored values stand for, each by itself."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    greys = apply_modality_lut(stored, dataset)
    if dataset.get("WindowCenter") is not None or "VOILUTSequence" in dataset:
        greys = apply_voi_lut(greys, dataset)
    return np.asarray(greys, dtype=np.float64)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
