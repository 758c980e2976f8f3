"""Image files: what is read comes out bit for bit, and what cannot be read is told before it costs anything."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from quatrain.core.errors import ExitCode, UserError
from quatrain.core.images import ImageError, image_files, read_image, read_images

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (13, 17)).astype(np.uint8)
COLOUR = RNG.integers(0, 256, (13, 17, 3)).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (13, 17)).astype(np.uint16)
SMOOTH = np.rint(np.add.outer(np.linspace(0, 120, 64), np.linspace(0, 120, 48))).astype(np.uint8)


def encoded(pixels: np.ndarray | Image.Image, kind: str, **options: Any) -> bytes:
    """Return the bytes of an image file."""
    stream = BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(width: int, height: int, *, depth: int = 8, colour: int = 0, rows: bytes = b"") -> bytes:
    """Return a PNG written by hand: its header says the size, whatever the rows hold."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    body = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


LOSSLESS = [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("BMP", {}), ("WebP", {"lossless": True})]


@pytest.mark.parametrize(
    ("pixels", "kind", "options"),
    [
        (pixels, kind, options)
        for pixels in (GREY, COLOUR, DEEP)
        for kind, options in LOSSLESS
        # The others hold 8 bits.
        if pixels is not DEEP or kind in {"PNG", "TIFF"}
    ],
)
def test_lossless_files_give_the_pixels_that_were_stored(
    pixels: np.ndarray, kind: str, options: dict[str, Any], tmp_path: Path
) -> None:
    """A path and the bytes give the same array, as grey or colour and as deep as it was."""
    content = encoded(pixels, kind, **options)
    # WebP has no grey.
    expected = np.repeat(pixels[..., None], 3, axis=2) if kind == "WebP" and pixels.ndim == 2 else pixels
    path = tmp_path / "image"
    path.write_bytes(content)
    for read in (read_image(content), read_image(path), read_image(str(path))):
        assert read.dtype == pixels.dtype
        assert read.flags.c_contiguous
        assert read.flags.writeable
        np.testing.assert_array_equal(read, expected)


def test_sixteen_bit_tiff_of_the_other_byte_order_is_the_same() -> None:
    """Samples come in the machine's order."""
    little = encoded(DEEP, "TIFF")
    big = encoded(Image.frombytes("I;16B", DEEP.shape[::-1], DEEP.astype(">u2").tobytes()), "TIFF")
    assert little[:2] == b"II"
    np.testing.assert_array_equal(read_image(big), read_image(little))


def test_jpeg_is_near_what_was_stored() -> None:
    """A lossy file of a smooth image moves it by few levels."""
    read = read_image(encoded(SMOOTH, "JPEG", quality=95))
    assert read.shape == SMOOTH.shape
    assert np.abs(read.astype(int) - SMOOTH).max() <= 3


def test_black_and_white_is_0_and_255() -> None:
    """One bit per pixel becomes a whole level."""
    bits = GREY > 127
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(bits), "PNG")), np.uint8(bits) * np.uint8(255))


def test_palette_becomes_its_colours() -> None:
    """Numbers of a palette are no levels of grey."""
    image = Image.fromarray(GREY % 4, mode=None).convert("L")
    image = image.convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    palette = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [100, 110, 120]], dtype=np.uint8)
    np.testing.assert_array_equal(read_image(encoded(image, "PNG")), palette[np.asarray(image)])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WebP"])
def test_an_opaque_alpha_is_dropped(kind: str) -> None:
    """Many programs write an alpha that hides nothing."""
    rgba = np.concatenate([COLOUR, np.full((13, 17, 1), 255, np.uint8)], axis=2)
    options = {"lossless": True} if kind == "WebP" else {}
    np.testing.assert_array_equal(read_image(encoded(rgba, kind, **options)), COLOUR)


def test_transparent_pixels_need_a_background() -> None:
    """What one sees through has no colour of its own."""
    rgba = np.concatenate([COLOUR, np.full((13, 17, 1), 255, np.uint8)], axis=2)
    rgba[0, 0, 3], rgba[0, 1, 3] = 0, 51
    content = encoded(rgba, "PNG")
    with pytest.raises(ImageError, match=r"transparent in 0\.9% of its pixels; flatten it"):
        read_image(content)
    read = read_image(content, background=200)
    assert read[0, 0].tolist() == [200, 200, 200]
    np.testing.assert_array_equal(read[0, 1], np.rint(COLOUR[0, 1] * 0.2 + 200 * 0.8))
    np.testing.assert_array_equal(read[1:], COLOUR[1:])


def test_grey_with_alpha_stays_grey() -> None:
    """Two channels are grey and its opacity."""
    both = np.stack([GREY, np.full_like(GREY, 255)], axis=2)
    np.testing.assert_array_equal(read_image(encoded(Image.fromarray(both, mode=None), "PNG")), GREY)


def test_a_transparent_palette_needs_a_background() -> None:
    """A palette may hold a colour that is none."""
    image = Image.fromarray(GREY % 2 * np.uint8(255)).convert("P")
    content = encoded(image, "PNG", transparency=int(np.asarray(image)[0, 0]))
    with pytest.raises(ImageError, match="transparent"):
        read_image(content)
    assert (read_image(content, background=7) == 7).any()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("pixels", [GREY, COLOUR, DEEP], ids=["grey", "colour", "16 bits"])
def test_orientation_is_applied(orientation: int, pixels: np.ndarray) -> None:
    """Pillow's own transposition is the oracle, on an image of two unlike sides."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(pixels, "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(content))))
    np.testing.assert_array_equal(read_image(content), expected)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "WebP"])
def test_orientation_is_read_in_every_format(kind: str) -> None:
    """A photograph taken upright is stored lying."""
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_image(encoded(COLOUR, kind, exif=exif)).shape == (17, 13, 3)


def test_channels_can_be_asked_for() -> None:
    """Grey is repeated, colours become the luma that Pillow computes."""
    np.testing.assert_array_equal(read_image(encoded(GREY, "PNG"), channels=3), np.stack([GREY] * 3, axis=2))
    np.testing.assert_array_equal(read_image(encoded(DEEP, "PNG"), channels=3), np.stack([DEEP] * 3, axis=2))
    luma = read_image(encoded(COLOUR, "PNG"), channels=1)
    np.testing.assert_allclose(luma, COLOUR @ np.array([0.299, 0.587, 0.114]), atol=0.51)


def test_nine_hundred_megapixels_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    """Some 100 KB of file; in a process that may take 1 GB, as decoding takes .9 GB and the interpreter the rest."""
    rows = zlib.compressobj(9)
    line = b"\0" * 30_001
    packed = b"".join(rows.compress(line) for _ in range(30_000)) + rows.flush()
    content = png(30_000, 30_000).replace(
        struct.pack(">I", len(zlib.compress(b"", 9))) + b"IDAT" + zlib.compress(b"", 9)
        + struct.pack(">I", zlib.crc32(b"IDAT" + zlib.compress(b"", 9))),
        struct.pack(">I", len(packed)) + b"IDAT" + packed + struct.pack(">I", zlib.crc32(b"IDAT" + packed)),
    )  # fmt: skip
    assert 500_000 < len(content) < 1_000_000
    path = tmp_path / "bomb.png"
    path.write_bytes(content)
    code = (
        "import resource, sys\n"
        "from quatrain.core.images import ImageError, read_image\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "try:\n    read_image(sys.argv[1])\n"
        "except ImageError as error:\n    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert "is 30000 x 30000 pixels, at most 67108864 in all are decoded" in ran.stdout


@pytest.mark.parametrize("cap", [GREY.size - 1, GREY.size])
def test_the_cap_is_what_it_says(cap: int) -> None:
    """An image of as many pixels as the cap is read, one of one more is not."""
    content = encoded(GREY, "PNG")
    if cap < GREY.size:
        with pytest.raises(ImageError, match="17 x 13 pixels, at most 220"):
            read_image(content, max_pixels=cap)
    else:
        assert read_image(content, max_pixels=cap).shape == GREY.shape


def test_a_raised_cap_is_not_undercut_by_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's limit is one for the whole process; this one is the caller's."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read_image(encoded(GREY, "PNG")).shape == GREY.shape


def test_tiles_beyond_the_cap_are_refused() -> None:
    """A small image in one huge tile is decoded as the tile."""
    # Width, height, bits, LZW, black is zero, samples, tile width and height, where its 4 bytes are and their number.
    tags = {256: 8, 257: 8, 258: 8, 259: 5, 262: 1, 277: 1, 322: 60_000, 323: 60_000, 324: 134, 325: 4}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    content = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4 + 4)
    with pytest.raises(ImageError, match="has tiles of 60000 x 60000 pixels, at most 67108864 are decoded"):
        read_image(content)


def test_frames_beyond_the_first_are_refused() -> None:
    """Which of several frames would be the image is not for the reader to guess."""
    frames = [Image.fromarray(GREY), Image.fromarray(GREY[::-1].copy())]
    for kind in ("TIFF", "PNG"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        with pytest.raises(ImageError, match="holds 2 frames, expected one image; split it"):
            read_image(content)
        np.testing.assert_array_equal(read_image(content, first_frame=True), GREY)
    content = encoded(Image.fromarray(COLOUR), "WebP", save_all=True, lossless=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="holds 2 frames"):
        read_image(content)
    np.testing.assert_array_equal(read_image(content, first_frame=True), COLOUR)


def test_modes_that_are_neither_grey_nor_rgb_are_refused() -> None:
    """Converting them would invent colours, or drop bits."""
    cmyk = Image.fromarray(COLOUR).convert("CMYK")
    for kind in ("JPEG", "TIFF"):
        with pytest.raises(ImageError, match="is in CMYK, expected grey of 8 or 16 bits or RGB; convert it"):
            read_image(encoded(cmyk, kind))
    with pytest.raises(ImageError, match="is in F, expected grey"):
        read_image(encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"))
    with pytest.raises(ImageError, match="is in LAB, expected grey"):
        read_image(encoded(Image.frombytes("LAB", (17, 13), COLOUR.tobytes()), "TIFF"))


@pytest.mark.parametrize(("colour", "n_channels"), [(2, 3), (6, 4), (4, 2)])
def test_colours_of_16_bits_are_not_halved_in_silence(colour: int, n_channels: int) -> None:
    """Pillow reads them as 8 bits without a word."""
    row = b"\0" + bytes(2 * n_channels * 3)
    with pytest.raises(ImageError, match="colours of 16 bits, expected 8"):
        read_image(png(3, 2, depth=16, colour=colour, rows=row * 2))


@pytest.mark.parametrize(
    "content", [b"not an image at all", b"GIF89a" + bytes(20), b"%PDF-1.7", b"\x89PN", b"P5 1 1 255 a"]
)
def test_what_is_no_image_is_told(content: bytes) -> None:
    """The formats are named, and how the file begins."""
    with pytest.raises(ImageError, match="is no image: expected PNG, JPEG, TIFF, BMP or WebP, it begins with b"):
        read_image(content)


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    """Empty, missing, a folder, a pipe that would be waited for, too large."""
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError, match=r"empty\.png is empty"):
        read_image(tmp_path / "empty.png")
    with pytest.raises(ImageError, match="is empty"):
        read_image(b"")
    with pytest.raises(ImageError, match=r"cannot open .*: No such file"):
        read_image(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="not a regular file"):
        read_image(tmp_path / "pipe.png")
    (tmp_path / "large.png").write_bytes(encoded(GREY, "PNG"))
    with pytest.raises(ImageError, match="at most 10 are read"):
        read_image(tmp_path / "large.png", max_bytes=10)


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (0, 0)])
def test_an_image_without_pixels_is_refused(width: int, height: int) -> None:
    """A side of nothing is no image."""
    with pytest.raises(ImageError, match="without pixels"):
        read_image(png(width, height))


@pytest.mark.parametrize("pixels", [SMOOTH, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WebP"])
def test_a_file_cut_anywhere_is_refused_or_whole(kind: str, pixels: np.ndarray) -> None:
    """Half an image is never passed on as one."""
    content = encoded(pixels, kind)
    whole = read_image(content)
    n_refused = 0
    cuts = range(len(content)) if len(content) < 400 else np.linspace(0, len(content) - 1, 200).astype(int)
    for cut in cuts:
        try:
            read = read_image(content[:cut])
        except ImageError:
            n_refused += 1
        else:
            np.testing.assert_array_equal(read, whole)
    assert n_refused >= 0.9 * len(cuts)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WebP"])
def test_damaged_bytes_never_raise_anything_else(kind: str) -> None:
    """Whatever a bit flip makes of a file, the caller gets an image or an ImageError."""
    content = encoded(COLOUR, kind)
    for position in np.linspace(0, len(content) - 1, 150).astype(int):
        damaged = bytearray(content)
        damaged[position] ^= int(RNG.integers(1, 256))
        try:
            read = read_image(bytes(damaged), max_pixels=1 << 20)
        except ImageError:
            continue
        assert read.ndim in {2, 3}


def test_png_pixels_that_were_changed_are_refused() -> None:
    """The check sum of a chunk is looked at, though decoding goes without it."""
    content = bytearray(encoded(GREY, "PNG", compress_level=0))
    content[content.index(b"IDAT") + 60] ^= 1
    with pytest.raises(ImageError, match="damaged"):
        read_image(bytes(content))


def test_folder_gives_every_file_in_one_order_and_tells_the_bad(tmp_path: Path) -> None:
    """Good files beside a bad one are read; other files, hidden ones and folders with an image's name are left."""
    for name in ("b.png", "a/z.PNG", "a/c.Jpeg", "c.tiff"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded(GREY, {"c.Jpeg": "JPEG", "c.tiff": "TIFF"}.get(Path(name).name, "PNG")))
    (tmp_path / "bad.png").write_bytes(b"no")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_bytes(encoded(GREY, "PNG"))
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.png").write_bytes(encoded(GREY, "PNG"))
    (tmp_path / "folder.png").mkdir()
    found = list(read_images(tmp_path))
    names = [item.path.relative_to(tmp_path).as_posix() for item in found]
    assert names == ["a/c.Jpeg", "a/z.PNG", "b.png", "bad.png", "c.tiff"]
    assert [path.name for path in image_files(tmp_path)] == [Path(name).name for name in names]
    for item in found:
        is_bad = item.path.name == "bad.png"
        assert (item.pixels is None) == is_bad
        assert (item.reason is not None) == is_bad
    assert "is no image" in (found[3].reason or "")


def test_no_folder_is_told(tmp_path: Path) -> None:
    """A file is not a folder of images."""
    with pytest.raises(UserError, match="is not a folder; name one that holds images"):
        list(read_images(tmp_path / "none"))


def test_a_bad_image_is_bad_data() -> None:
    """Cron reads exit code 65."""
    assert ImageError("x").exit_code == ExitCode.BAD_DATA


def test_importing_the_reader_imports_neither_pillow_nor_torch() -> None:
    """The scoring path pays for what it reads."""
    code = "import sys, quatrain.core.images; sys.exit(bool({'PIL', 'torch', 'sklearn'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
