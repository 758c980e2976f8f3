"""Image files as arrays: what a model may see of a PNG, JPEG, TIFF, BMP or WebP file, or the reason why it may not."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from quatrain.core.errors import BadDataError, UserError, require

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

# uint8 or uint16; (H, W) grey or (H, W, 3) red, green, blue.
ImageArray = NDArray[np.uint8 | np.uint16]
# 8192 x 8192: beyond radiographs and area cameras. A PNG of 109 KB can hold 900 million pixels.
MAX_PIXELS = 1 << 26
MAX_BYTES = 1 << 29
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

_FORMATS = "PNG, JPEG, TIFF, BMP or WebP"
_EXTRA = "quatrain-core[vision]"
# Pillow's modes: what is grey and what is colour without losing or inventing anything.
_GREY_8, _GREY_16 = ("1", "L"), ("I;16", "I;16L", "I;16B", "I;16N")
# EXIF 2.32, section 4.6.4 A: tag 0x0112; 1 is upright.
_ORIENTATION_TAG = 0x0112
# TIFF 6.0, section 15.
_TILE_TAGS = (322, 323)


class ImageError(BadDataError):
    """An image file that is not read: its text says what it is, what was expected, and what to do."""


@dataclass(frozen=True)
class ReadImage:
    """What became of one file: its pixels, or the reason why there are none."""

    path: Path
    pixels: ImageArray | None
    reason: str | None


def read_image(
    source: Path | str | bytes,
    *,
    channels: Literal[1, 3] | None = None,
    background: int | None = None,
    first_frame: bool = False,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
) -> ImageArray:
    """Return the upright image in a file or in its bytes: uint8 or uint16, (H, W) or (H, W, 3).

    Bits stay as they are, and grey stays grey: `channels` 1 takes the luma of colours (ITU-R
    BT.601), 3 repeats grey. A palette becomes its colours, black and white 0 and 255. Pixels that
    one sees through are laid on a `background` of this grey, and refused without one; an image of
    several frames is refused unless `first_frame`. Size and frames are checked before a pixel is
    decoded. Colour profiles are not applied.

    Raises ImageError for anything else: no regular file, no image, damaged, cut off, CMYK, LAB,
    floating point, colours of 16 bits (of which Pillow would drop half).
    """
    name = "the image" if isinstance(source, bytes) else str(source)
    content = source if isinstance(source, bytes) else _content(Path(source), max_bytes)
    if not content:
        raise ImageError(f"{name} is empty; copy it again from where it was taken")
    opened = _opened(content, name)
    _require_size(opened, name, max_pixels)
    if not first_frame and getattr(opened, "n_frames", 1) > 1:
        raise ImageError(
            f"{name} holds {getattr(opened, 'n_frames', 1)} frames, expected one image; split it, "
            "or ask for the first frame"
        )
    return _upright(_with_channels(_decoded(opened, name, background), channels), _orientation(opened))


def read_images(
    folder: Path,
    *,
    channels: Literal[1, 3] | None = None,
    background: int | None = None,
    first_frame: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[ReadImage]:
    """Yield every image file in a folder and below, in the order of their paths; a bad one beside good ones is told.

    Files are known by their SUFFIXES, in any case; hidden files and folders are left out. Raises
    UserError if the folder cannot be listed.
    """
    for path in image_files(folder):
        try:
            pixels = read_image(
                path, channels=channels, background=background, first_frame=first_frame, max_pixels=max_pixels
            )
        except ImageError as error:
            yield ReadImage(path, None, str(error))
        else:
            yield ReadImage(path, pixels, None)


def image_files(folder: Path) -> list[Path]:
    """Return the image files in a folder and below, in the order of their paths; raises UserError for no folder."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; name one that holds images ({', '.join(SUFFIXES)})")
    found = [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.is_dir()]
    shown = [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    return sorted(shown, key=lambda path: path.relative_to(folder).as_posix())


def _content(path: Path, max_bytes: int) -> bytes:
    try:
        # Without O_NONBLOCK a named pipe would be waited for.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise ImageError(f"cannot open {path}: {error.strerror}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ImageError(f"{path} is not a regular file; name an image file")
    with os.fdopen(descriptor, "rb") as stream:
        if status.st_size > max_bytes:
            raise ImageError(f"{path} takes {status.st_size} bytes, at most {max_bytes} are read; store it compressed")
        try:
            return stream.read(max_bytes)
        except OSError as error:
            raise ImageError(f"cannot read {path}: {error.strerror}") from error


def _opened(content: bytes, name: str) -> ImageFile:
    """Return the image with its header read; its class is called itself, as Image.open warns by a limit of its own."""
    require("PIL", package=_EXTRA)
    kind = _kind(content)
    if kind is None:
        raise ImageError(f"{name} is no image: expected {_FORMATS}, it begins with {content[:8]!r}")
    try:
        if kind == "PNG":
            # Decoding skips the check sums that say whether the pixels are those that were stored.
            _opener(kind)(BytesIO(content)).verify()
        return _opener(kind)(BytesIO(content))
    except Exception as error:
        raise _damaged(name, kind, error) from error


def _kind(content: bytes) -> str | None:
    starts = {
        "PNG": (b"\x89PNG\r\n\x1a\n",),
        "JPEG": (b"\xff\xd8\xff",),
        "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        "BMP": (b"BM",),
    }
    for kind, signatures in starts.items():
        if content.startswith(signatures):
            return kind
    return "WebP" if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else None


def _opener(kind: str) -> Callable[[BytesIO], ImageFile]:
    from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

    return {
        "PNG": PngImagePlugin.PngImageFile,
        "JPEG": JpegImagePlugin.JpegImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
        "WebP": WebPImagePlugin.WebPImageFile,
    }[kind]


def _require_size(image: ImageFile, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"{name} is {width} x {height} pixels, at most {max_pixels} in all are decoded; reduce it, or raise the cap"
        )
    tags = getattr(image, "tag_v2", {})
    tile_width, tile_height = (int(tags.get(tag, 0)) for tag in _TILE_TAGS)
    if tile_width * tile_height > max_pixels:
        raise ImageError(f"{name} has tiles of {tile_width} x {tile_height} pixels, at most {max_pixels} are decoded")


def _decoded(image: ImageFile, name: str, background: int | None) -> ImageArray:
    mode = image.mode
    # Pillow reads colours of 16 bits as 8 without a word; the raw mode of the file's tiles says so.
    deep = any(";16" in str(tile[3]) for tile in image.tile) and mode not in _GREY_16
    if deep:
        raise ImageError(f"{name} has colours of 16 bits, expected 8; convert it, or store one grey channel of 16 bits")
    known = (*_GREY_8, *_GREY_16, "RGB", "P", "YCbCr", "LA", "RGBA", "PA", "La", "RGBa")
    if mode not in known:
        raise ImageError(f"{name} is in {mode}, expected grey of 8 or 16 bits or RGB; convert it to one of them")
    try:
        image.load()
        if mode in _GREY_16:
            return np.asarray(image).astype(np.uint16)
        if image.has_transparency_data:
            return _flat(np.asarray(image.convert("RGBA")), name, background, is_grey=mode in {"1", "L", "LA", "La"})
        return np.array(image.convert("L" if mode in _GREY_8 else "RGB"))
    except ImageError:
        raise
    except Exception as error:
        raise _damaged(name, image.format or "image", error) from error


def _flat(rgba: NDArray[np.uint8], name: str, background: int | None, *, is_grey: bool) -> NDArray[np.uint8]:
    colours, alpha = rgba[..., :3], rgba[..., 3:]
    if (alpha != 255).any():  # noqa: PLR2004 - the largest of 8 bits
        if background is None:
            share = float((alpha != 255).mean())  # noqa: PLR2004 - the largest of 8 bits
            raise ImageError(f"{name} is transparent in {share:.1%} of its pixels; flatten it, or name a background")
        opaque = alpha.astype(np.float32) / 255
        colours = np.rint(colours * opaque + background * (1 - opaque)).astype(np.uint8)
    return np.ascontiguousarray(colours[..., 0] if is_grey else colours)


def _with_channels(pixels: ImageArray, channels: Literal[1, 3] | None) -> ImageArray:
    if channels == 3 and pixels.ndim == 2:  # noqa: PLR2004 - colours, and a grey image's axes
        return np.repeat(pixels[..., None], 3, axis=2)  # (H, W, 3)
    if channels == 1 and pixels.ndim == 3:  # noqa: PLR2004 - a colour image's axes
        from PIL import Image

        return np.array(Image.fromarray(pixels).convert("L"))  # (H, W)
    return pixels


def _orientation(image: ImageFile) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        # Notes that cannot be read say nothing about the pixels.
        return 1
    return value if isinstance(value, int) else 1


def _upright(pixels: ImageArray, orientation: int) -> ImageArray:
    """Return the image as it was seen: orientation 5 to 8 swap the axes, and either axis may run backwards."""
    if orientation in {5, 6, 7, 8}:
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _damaged(name: str, kind: str, error: Exception) -> ImageError:
    return ImageError(f"{name} is damaged, cut off or without pixels: its {kind} cannot be decoded ({error})")
