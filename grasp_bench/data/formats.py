"""Which files are pictures: told by their content, as Pillow recognises it, and never by their names alone."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import BinaryIO, Literal

from PIL import Image, UnidentifiedImageError

FIRST = ("PNG", "JPEG", "TIFF", "GIF", "BMP", "PPM", "WEBP")  # most files are of these, so they are tried first
DRAWN = frozenset(["EPS", "WMF"])
"""Pictures that only other programs draw: not read, and never passed to those programs."""
OTHER = frozenset(["BUFR", "GRIB", "HDF5", "MPEG"])
"""What Pillow recognises and cannot decode, and what is no picture."""
NOT_READ = frozenset([".dcm", ".dicom", ".nii", ".svg", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".npy", ".pdf"])
"""Endings of pictures that would be missed if they were passed over like a text file."""
UNKNOWN = "is in no image format that is read, or in a variant of one that is not"
"""What is said of a file that Pillow does not recognise, or recognises and cannot decode, as some TIFFs."""
Kind = Literal["read", "not read", "no picture"]
DICOM = (128, b"DICM")  # what stands where in a DICOM file, whatever its name


@cache
def read_formats() -> tuple[str, ...]:
    """Return Pillow's names of the formats that are read: all that it recognises and decodes by itself."""
    Image.init()
    return (*FIRST, *sorted(set(Image.ID) - DRAWN - OTHER - set(FIRST)))


@cache
def read_endings() -> frozenset[str]:
    """Return the endings of files that claim to be in these formats; one that is not is damaged, and no other file."""
    formats = {*read_formats(), "MPO"}  # a JPEG with another behind it
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in formats)


def open_picture(file: BinaryIO) -> Image.Image:
    """Open a picture of a format that is read, as :func:`PIL.Image.open` does."""
    return Image.open(file, formats=read_formats())


def kind_of(path: Path) -> Kind:
    """Return whether a file that does not claim to be a picture is one that is read, one that is not, or another."""
    with path.open("rb") as file:
        try:
            with open_picture(file):
                return "read"
        except UnidentifiedImageError:
            pass
        except Exception:  # Pillow's plugins raise nearly anything on damaged headers
            return "not read"
        at, magic = DICOM
        file.seek(at)
        if path.suffix.lower() in NOT_READ or file.read(len(magic)) == magic:
            return "not read"
        file.seek(0)
        try:
            with Image.open(file, formats=sorted(DRAWN)):
                return "not read"
        except Exception:  # likewise
            return "no picture"
