from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydicom.pixels import get_decoder

from fake_mammograms import draw_film, write_dicom, write_table
from lit_dist.datamodules import MammographyDataModule
from lit_dist.datamodules.mammography.dicom import read_dicom, read_header
from lit_dist.utils.extras import MissingExtraError
from real_data import real_folder

LIMIT = 10**7


def spread(greys: np.ndarray) -> np.ndarray:
    """What a decoder should give: the greys over all of 16 bits."""
    low, high = float(greys.min()), float(greys.max())
    return np.rint((greys - low) * 65535 / (high - low))


def decoded(film: np.ndarray, compressed: bool = False, **tags: Any) -> np.ndarray:
    return read_dicom(write_dicom(Path("film.dcm"), film, compressed, **tags).read_bytes(), LIMIT)


def jpeg_lossless(film: np.ndarray) -> bytes:
    """A file in JPEG lossless, process 14, first-order prediction, as GDCM writes it."""
    import gdcm

    write_dicom(Path("plain.dcm"), film)
    reader = gdcm.ImageReader()
    reader.SetFileName("plain.dcm")
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName("lossless.dcm")
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return Path("lossless.dcm").read_bytes()


def test_plain_rle_and_jpeg_lossless_give_the_same_greys() -> None:
    film = draw_film(1)
    expected = spread(film)
    assert (decoded(film) == expected).all()
    assert (decoded(film, compressed=True) == expected).all()
    content = jpeg_lossless(film)
    assert b"1.2.840.10008.1.2.4.70" in content
    assert (read_dicom(content, LIMIT) == expected).all()


def test_rle_is_decoded_by_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pydicom.pixels.decoders.rle._rle_decode_frame", None)  # pydicom's own, which is slow
    assert (decoded(draw_film(1), compressed=True) == spread(draw_film(1))).all()


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_without_the_extra_no_film_is_left_out_as_if_it_were_damaged(
    on_error: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_dicom(write_table(tmp_path, films=8) / "films/3.png", draw_film(1))
    columns = {"image_column": "file", "label_column": "finding", "patient_column": "person"}
    data = MammographyDataModule(tmp_path, **columns, sites=1, cache_dir=tmp_path / "cache", on_error=on_error)
    monkeypatch.setattr("lit_dist.utils.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'DICOM, which needs .*pip install "lit_dist\[dicom\]"'):
        data.prepare_data()


def test_a_missing_decoder_is_no_fault_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = get_decoder("1.2.840.10008.1.2.4.70")
    monkeypatch.setattr(decoder, "_available", {})  # as where pydicom is alone
    monkeypatch.setattr(decoder, "_unavailable", {"gdcm": ("gdcm>=3.0.10",)})
    with pytest.raises(MissingExtraError, match=r"lit_dist\[dicom\]"):
        read_dicom(jpeg_lossless(draw_film(1)), LIMIT)


def test_monochrome1_is_inverted() -> None:
    film = draw_film(2)
    assert (decoded(film, PhotometricInterpretation="MONOCHROME1") == 65535 - spread(film)).all()


def test_a_window_cuts_the_greys_and_a_slope_comes_first() -> None:
    film = np.arange(0, 1000, dtype=np.uint16).reshape(20, 50)
    seen = decoded(film, WindowCenter=501, WindowWidth=201, RescaleSlope=2, RescaleIntercept=0)
    values = 2.0 * film
    expected = np.clip((values - 500.5) / 200 + 0.5, 0, 1)  # DICOM PS3.3, C.11.2.1.2
    assert np.abs(seen - 65535 * expected).max() <= 1


@pytest.mark.parametrize(
    "tags", [{}, {"WindowCenter": 30_000, "WindowWidth": 40_000}, {"RescaleSlope": 3, "RescaleIntercept": -9}]
)
def test_a_film_is_shown_part_by_part(tags: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    film = draw_film(3) + np.arange(9600, step=100, dtype=np.uint16)[:, None]  # no two rows have the same black
    whole = decoded(film, **tags)
    monkeypatch.setattr("lit_dist.datamodules.mammography.dicom._BLOCK", 7 * film.shape[1] + 1)
    assert len(film) % 7
    assert (decoded(film, **tags) == whole).all()
    assert len(np.unique(whole)) > 50


def test_an_empty_window_is_none() -> None:
    film = draw_film(3)
    assert (decoded(film, WindowCenter="", WindowWidth="") == spread(film)).all()


def test_signed_and_12_bit_values() -> None:
    film = (draw_film(4) >> 4).astype(np.uint16)
    assert (decoded(film, BitsStored=12, HighBit=11) == spread(film)).all()
    signed = film.astype(np.int16) - 1000
    assert (decoded(signed, PixelRepresentation=1) == spread(signed)).all()


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"PixelData": b""}, "cannot be decoded|no pixels|number of bytes|expected"),
        ({"NumberOfFrames": 60}, "60 images in one file"),
        ({"Rows": 200}, "pixel data|bytes"),
        ({"BitsAllocated": 7}, "."),
    ],
)
def test_files_that_lack_something_are_refused(tags: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        decoded(draw_film(5), **tags)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [133, 140, 300, 600, 5000])
@pytest.mark.parametrize("compressed", [False, True])
def test_truncated_files_are_refused(keep: int, compressed: bool) -> None:
    content = write_dicom(Path("film.dcm"), draw_film(6), compressed).read_bytes()
    with pytest.raises(ValueError, match=r"\w+"):
        read_dicom(content[:keep], LIMIT)


def test_a_deflated_file_is_refused_before_it_grows() -> None:
    from pydicom import dcmread
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    dataset = dcmread(write_dicom(Path("film.dcm"), draw_film(7)))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    dataset.save_as("deflated.dcm")
    with pytest.raises(ValueError, match="deflated as a whole"):
        read_dicom(Path("deflated.dcm").read_bytes(), LIMIT)
    with pytest.raises(ValueError, match=r"deflated\.dcm .*deflated as a whole"):
        read_header(Path("deflated.dcm"))


def test_a_stream_of_another_size_than_its_header_says_is_refused() -> None:
    content = bytearray(jpeg_lossless(draw_film(8)))
    place = content.index(b"\xff\xc3", content.index(b"\xff\xd8\xff"))
    content[place + 5 : place + 9] = b"\xff\xff\xff\xff"
    with pytest.raises(ValueError, match="said to have 72 x 96 pixels, but holds 65535 x 65535"):
        read_dicom(bytes(content), LIMIT)


def test_the_header_gives_the_series_however_long_its_uid_is() -> None:
    from pydicom import config

    with config.disable_value_validation():
        write_dicom(Path("film.dcm"), draw_film(9), SeriesInstanceUID="1." * 50 + "x")
    header = read_header(Path("film.dcm"))
    assert (header.series, header.rows, header.columns) == ("1." * 50 + "x", 96, 72)
    Path("text.dcm").write_text("no DICOM")
    with pytest.raises(ValueError, match=r"text\.dcm cannot be read as DICOM"):
        read_header(Path("text.dcm"))


def test_a_real_film_is_that_of_its_reduced_copy() -> None:
    folder = real_folder("mammo_cbis_dicom")
    film = read_dicom((folder / "1-282.dcm").read_bytes(), 10**8)
    assert film.shape == (4688, 2592)
    small = cv2.imread(str(folder / "png16_quarter" / "Mass-Test_P_00820_RIGHT_CC.png"), cv2.IMREAD_UNCHANGED)
    again = cv2.resize(film, small.shape[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(again.astype(int) - small).mean() < 100
    assert read_header(folder / "1-282.dcm").series.endswith("250494629811387716326401222903538266699")
