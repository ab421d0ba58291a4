"""Open pictures as upright RGB; reject files that are no pictures, truncated, or too large."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from course_lib.errors import CourseError
from course_lib.models.drivers.arguments import InputError
from course_lib.names import existing_path

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 64_000_000  # 8,000 x 8,000: 192 MB as RGB; a file of 50 kB may claim more
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")  # others start programs, such as Ghostscript
WIDE_MODES = ("I;16", "I;16B", "I;16L", "I", "F")  # grey with more than 8 bits
PATH_FIX = "give the path of a picture"
Pictures = "Image | str | Path | Iterable[Image | str | Path]"


def open_picture(path: Path | str) -> Image:
    """Return the picture in a file as RGB: turned as its EXIF says, transparent parts white.

    Raises CourseError for a missing file, one that is no picture or is cut off, several pictures in one file
    (an animation, or the pages of a scan), and more than 64 million pixels, before they are decoded.
    """
    import PIL.Image

    if not isinstance(path, str | Path):
        raise _no_picture(path, "path", "the path of a picture")
    if "://" in str(path):
        raise CourseError(f"{path} is an address, and open_picture reads files", "download the picture first")
    try:
        path = existing_path(Path(path))
        is_file = path.is_file()
    except OSError as error:  # a name that is too long
        raise CourseError(f"{path!s:.60} cannot be read: {error.strerror}", PATH_FIX) from error
    if not is_file:
        what = f"{path} is a folder" if path.is_dir() else f"{path} does not exist"
        raise CourseError(what, PATH_FIX)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # the limit is our own
            with PIL.Image.open(path, formats=FORMATS) as picture:
                _check_size(picture.size, path.name)
                # An MPO file is a photo with its preview.
                if getattr(picture, "is_animated", False) and picture.format != "MPO":
                    what = f"{path.name} holds several pictures, and one is read"
                    raise CourseError(
                        what, f'PIL.Image.open("{path}")  # the first; seek(1) goes to the next'
                    )
                picture.load()
                return as_rgb(picture)
    except PIL.Image.DecompressionBombError:
        what = f"{path.name} claims more than {2 * (PIL.Image.MAX_IMAGE_PIXELS or 0):,} pixels"
        raise CourseError(what, "make it smaller first") from None
    except PIL.UnidentifiedImageError:
        start = path.read_bytes()[:8] if path.stat().st_size else b""
        what = f"{path.name} is not a picture: it has {path.stat().st_size:,} bytes and begins with {start!r}"
        raise CourseError(f"{what}; read are {', '.join(FORMATS)}", "save it as PNG or JPEG") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise CourseError(f"{path.name} cannot be read: {error}", "get the file again") from error


def as_rgb(picture: Image) -> Image:
    """The picture as RGB with 8 bits: turned as its EXIF says, transparent parts white.

    Grey values of 16 bits are divided by 257. Raises CourseError for grey values that are outside 0 to 65,535
    or no numbers.
    """
    import PIL.Image
    import PIL.ImageOps

    turned = PIL.ImageOps.exif_transpose(picture)
    if turned.mode in WIDE_MODES:
        return _eight_bits(turned).convert("RGB")
    if turned.has_transparency_data:
        opaque = PIL.Image.new("RGBA", turned.size, "white")
        return PIL.Image.alpha_composite(opaque, turned.convert("RGBA")).convert("RGB")
    return turned.convert("RGB")


def as_pictures(pictures: Any, name: str = "images") -> list[Image]:
    """A list of pictures or paths as RGB pictures. Raises InputError for anything else."""
    if (
        isinstance(pictures, str | Path | bytes)
        or not isinstance(pictures, Iterable)
        or isinstance(pictures, Mapping)
    ):
        raise InputError(
            f"{name} is {pictures!r:.60}, where a list of pictures is expected", "give [picture]"
        )
    return [as_picture(picture, f"{name}[{i}]") for i, picture in enumerate(pictures)]


def as_picture(picture: Any, name: str = "image") -> Image:
    """A picture, or the path of one, as RGB. Raises InputError for anything else."""
    import PIL.Image

    if isinstance(picture, str | Path):
        return open_picture(picture)
    if not isinstance(picture, PIL.Image.Image):
        raise _no_picture(picture, name, "a picture")
    _check_size(picture.size, name)
    try:
        return as_rgb(picture)
    except (OSError, SyntaxError, EOFError) as error:  # Pillow reads a file's pixels only now
        raise CourseError(f"{name} cannot be read: {error}", "get the file again") from error
    except (ValueError, AssertionError) as error:  # a mode such as La; a closed file
        what = f"{name} cannot be read: {str(error) or 'its file is closed'}"
        raise CourseError(what, 'open_picture("./picture.png")') from error


def _no_picture(value: Any, name: str, expected: str) -> InputError:
    """The error for a value that is neither a picture nor a path. Its fix makes one of the value."""
    shown = " ".join(repr(value).split())[:60]
    fix = 'open_picture("./picture.png")'
    if hasattr(value, "shape"):
        fix = "PIL.Image.fromarray(array)"
    elif isinstance(value, bytes):
        fix = "PIL.Image.open(io.BytesIO(content))"
    return InputError(f"{name} is {shown} (type {type(value).__name__}), where {expected} is expected", fix)


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        what = f"{name} has {width:,} x {height:,} pixels, more than {MAX_PIXELS:,} in all"
        raise CourseError(what, "make it smaller first")
    if not width or not height:
        raise CourseError(f"{name} has {width} x {height} pixels", "give a picture with pixels")


def _eight_bits(picture: Image) -> Image:
    """Return a grey picture of 16 or 32 bits with 8 bits: values from 0 to 65,535 are divided by 257.

    With 32 bits, values up to 255 stay as they are, and fractions up to 1 are multiplied by 255.
    """
    import numpy as np
    import PIL.Image

    values = np.asarray(picture).astype(np.float64)
    if not ((values >= 0) & (values <= 65_535)).all():  # NaN is not
        what = f"a grey picture has values from {values.min():g} to {values.max():g}; read are 0 to 65,535"
        raise CourseError(what, "PIL.Image.fromarray(array)  # of type uint8, 0 black and 255 white")
    if picture.mode == "F" and values.max(initial=0) <= 1:
        values = values * 255
    elif picture.mode.startswith("I;16") or values.max(initial=0) > 255:
        values = values / 257
    return PIL.Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8))
