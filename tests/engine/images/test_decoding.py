"""Every kind of file that a folder of pictures holds, and every way in which one can be broken."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from open_clip import image_transform
from PIL import Image
from transformers import CLIPImageProcessor

from engine.images import BrokenImage, decode, thumbnail
from engine.images.decoding import MAX_PIXELS

RED, BLUE = (220, 20, 30), (10, 40, 200)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def two_halves(mode: str = "RGB") -> Image.Image:
    """Left red, right blue: 8 x 4."""
    image = Image.new("RGB", (8, 4), RED)
    image.paste(BLUE, (4, 0, 8, 4))
    return image.convert(mode)


def close(image: Image.Image, xy: tuple[int, int], colour: tuple[int, int, int], within: int = 12) -> bool:
    return bool(np.abs(np.array(image.getpixel(xy)) - np.array(colour)).max() <= within)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "GIF"])
def test_reads_the_allowed_formats(kind: str) -> None:
    lossless = {"quality": 100} if kind in ("JPEG", "WEBP") else {}
    image = decode(encoded(two_halves(), kind, **lossless))
    assert image.mode == "RGB" and image.size == (8, 4)
    assert close(image, (0, 0), RED, 40) and close(image, (7, 3), BLUE, 40)


@pytest.mark.parametrize("kind", ["ICO", "PDF", "EPS"])
def test_refuses_other_formats(kind: str) -> None:
    with pytest.raises(BrokenImage, match="not an image of a known format"):
        decode(encoded(two_halves().resize((16, 16)), kind), "x.jpg")


@pytest.mark.parametrize("mode", ["P", "L", "1", "CMYK", "LA", "RGBA"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"
    image = decode(encoded(two_halves(mode), kind))
    expected = two_halves(mode).convert("RGB")
    assert image.mode == "RGB" and np.array_equal(np.array(image), np.array(expected))


def test_transparency_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    clear.putpixel((1, 0), (*RED, 255))
    image = decode(encoded(clear, "PNG"))
    assert image.getpixel((0, 0)) == (255, 255, 255) and image.getpixel((1, 0)) == RED


def test_a_transparent_palette_colour_is_white() -> None:
    palette = two_halves().quantize(4)
    image = decode(encoded(palette, "GIF", transparency=palette.getpixel((0, 0))))
    assert image.getpixel((0, 0)) == (255, 255, 255) and close(image, (7, 0), BLUE)


def see_through(mode: str) -> bytes:
    """A PNG whose left half is transparent."""
    if mode == "palette":
        palette = two_halves().quantize(4)
        return encoded(palette, "PNG", transparency=palette.getpixel((0, 0)))
    if mode == "one colour":
        return encoded(two_halves(), "PNG", transparency=RED)
    clear = two_halves("RGBA")
    clear.paste((*RED, 0), (0, 0, 4, 4))
    return encoded(clear.convert(mode), "PNG")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "palette", "one colour"])
def test_transparency_is_white_or_uncovered_as_encoders_own_processors_have_it(mode: str) -> None:
    data, both = see_through(mode), ("white", "uncovered")
    white, uncovered = (decode(data, transparency=one) for one in both)
    assert white.getpixel((0, 0)) == (255, 255, 255) and close(white, (7, 0), uncovered.getpixel((7, 0)))
    assert close(uncovered, (0, 0), (81,) * 3 if mode == "LA" else RED) and uncovered.mode == "RGB"
    stored = Image.open(BytesIO(data))
    np.testing.assert_array_equal(uncovered, stored.convert("RGB"))

    of_open_clip = image_transform(4, is_train=False)
    np.testing.assert_array_equal(of_open_clip(uncovered), of_open_clip(stored))
    of_transformers = CLIPImageProcessor(size={"shortest_edge": 4}, crop_size={"height": 4, "width": 8})
    theirs, *ours = (of_transformers(one, return_tensors="np")["pixel_values"] for one in (stored, white, uncovered))
    assert [np.array_equal(theirs, one) for one in ours] in ([True, False], [False, True]), "it depends on the release"


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_keep_their_high_byte(kind: str) -> None:
    levels = np.array([[0, 0x1234, 0x8000, 0xFFFF]], np.uint16)
    stored = Image.fromarray(levels.astype(np.int32) if kind == "PPM" else levels)
    image = decode(encoded(stored, kind))
    assert np.array_equal(np.array(image)[0, :, 0], [0, 0x12, 0x80, 0xFF])


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), RED), Image.new("RGB", (4, 4), BLUE)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert close(decode(data), (0, 0), RED)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    """The eight orientations of EXIF 2.3, tag 0x0112, each undone by what the standard says it means."""
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }[orientation]
    stored = Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 9, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(encoded(stored, "PNG", exif=exif))
    expected = stored if undo is None else stored.transpose(undo)
    assert np.array_equal(np.array(image), np.array(expected))


def test_damaged_exif_does_not_lose_the_image() -> None:
    data = encoded(two_halves(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert decode(data).size == (8, 4)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_truncated_data_is_broken(kind: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    data = encoded(noise, kind)
    with pytest.raises(BrokenImage) as caught:
        decode(data[: len(data) // 2], "half.img")
    assert caught.value.path == "half.img" and "0x" not in caught.value.reason


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(20)])
def test_junk_is_broken_for_the_same_reason_each_time(data: bytes) -> None:
    reasons = set()
    for _ in range(2):
        with pytest.raises(BrokenImage) as caught:
            decode(data)
        reasons.add(caught.value.reason)
    assert len(reasons) == 1 and reasons != {""}


def test_a_decompression_bomb_is_refused_before_it_is_unpacked() -> None:
    side = int(MAX_PIXELS**0.5) + 1
    bomb = encoded(Image.new("1", (side, side)), "PNG")
    assert len(bomb) < 100_000
    with pytest.raises(BrokenImage, match="pixels"):
        decode(bomb)


def test_nor_does_pillow_say_so_in_its_words() -> None:
    bomb = b"P6 30000 30000 255\n"
    with pytest.raises(BrokenImage) as caught:
        decode(bomb)
    assert caught.value.reason == f"it has far more pixels than the {MAX_PIXELS:,} allowed"


def test_a_strip_is_refused() -> None:
    with pytest.raises(BrokenImage, match="narrow"):
        decode(encoded(Image.new("RGB", (1, 500)), "PNG"))


def test_thumbnail_keeps_proportions_and_the_original() -> None:
    image = Image.new("RGB", (200, 100))
    assert thumbnail(image, 50).size == (50, 25) and image.size == (200, 100)


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def in_scans(count: int, side: int = 8000) -> bytes:
    """A progressive JPEG whose last scan comes ``count`` times more, each of little more than no bytes."""
    data = encoded(Image.new("RGB", (side, side), RED), "JPEG", progressive=True)
    return data[:-2] + data[data.rfind(b"\xff\xda") : -2] * count + data[-2:]


BLOWN_UP = {  # such a file of 20 MB took Pillow seconds to minutes
    "scans": lambda: in_scans(40),
    "segments": lambda: (data := encoded(two_halves(), "JPEG"))[:2] + b"\xff\xe9\0\2" * 15_000 + data[2:],
    "fill bytes": lambda: (data := encoded(two_halves(), "JPEG"))[:2] + b"\xff" * 30_000 + data[2:],
    "chunks": lambda: (data := encoded(two_halves(), "PNG"))[:33] + chunk(b"prVt") * 15_000 + data[33:],
    "header": lambda: b"P6 " + b" " * 30_000 + b"8 8 255 " + bytes(192),
    "comment in the header": lambda: b"P6\n#" + b"a" * 30_000,
    "comments": lambda: b"P3 8 8 255 " + b"#a\n" * 5_000 + b"0 " * 192,
    "boxes": lambda: b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 \0\0\0\0jp2 " + b"\0\0\0\x08abcd" * 30_000,
}


@pytest.mark.parametrize("kind", BLOWN_UP)
def test_a_small_picture_made_slow_to_read_is_broken(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.images.decoding.MAX_READS", 20_000)
    with pytest.raises(BrokenImage, match="than any picture needs"):
        decode(BLOWN_UP[kind]())


def test_pictures_in_many_scans_and_pieces_are_read() -> None:
    assert decode(in_scans(90, 1000)).size == (1000, 1000)
    data = encoded(Image.new("RGB", (64, 64)), "PNG")
    assert decode(data[:33] + chunk(b"IDAT") * 10_000 + data[33:]).size == (64, 64)  # 80 MB in chunks of libpng
