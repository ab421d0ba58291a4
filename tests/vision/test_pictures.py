"""Picture files: what is read, how it looks then, and what is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from course_lib.errors import CourseError
from course_lib.models.drivers.arguments import InputError
from course_lib.vision import open_picture
from course_lib.vision.pictures import as_picture, as_pictures

LEFT_RED = Image.new("RGB", (40, 20), "blue")
LEFT_RED.paste("red", (0, 0, 20, 20))


def pixel(picture, x, y):
    return tuple(int(value) for value in np.asarray(picture)[y, x])


def saved(tmp_path, picture, name="picture.png", **options):
    picture.save(tmp_path / name, **options)
    return open_picture(tmp_path / name)


def test_a_picture_is_rgb(tmp_path):
    for mode in ("RGB", "L", "1", "P"):
        picture = saved(tmp_path, LEFT_RED.convert(mode))
        assert picture.mode == "RGB" and picture.size == (40, 20)
    assert pixel(saved(tmp_path, LEFT_RED), 0, 0) == (255, 0, 0)
    assert saved(tmp_path, Image.new("RGB", (1, 1))).size == (1, 1)


def test_a_picture_is_turned_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it right by 90 degrees
    picture = saved(tmp_path, LEFT_RED, "picture.jpg", exif=exif)
    assert picture.size == (20, 40)
    assert pixel(picture, 10, 5)[0] > 200 > pixel(picture, 10, 35)[0]  # what was left is above


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_are_white(mode, tmp_path):
    picture = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (0, 0, 2, 4))
    if mode == "P":
        indexed = Image.new("P", (4, 4), 1)
        indexed.putpalette([0, 0, 0, 9, 9, 9])
        indexed.paste(0, (0, 0, 2, 4))
        picture = saved(tmp_path, indexed, transparency=1)
    else:
        picture = saved(tmp_path, picture.convert(mode))
    assert pixel(picture, 0, 0) == (0, 0, 0) and pixel(picture, 3, 0) == (255, 255, 255)


def test_cmyk_and_grey_values_of_16_bits_become_rgb(tmp_path):
    cmyk = saved(tmp_path, Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "picture.jpg")
    assert pixel(cmyk, 0, 0)[0] > 150 > 100 > pixel(cmyk, 0, 0)[1]
    grey = np.array([[0, 257, 65535, 25700]], dtype=np.uint16)
    wide = saved(tmp_path, Image.fromarray(grey))
    assert np.asarray(wide)[0, :, 0].tolist() == [0, 1, 255, 100]


def test_what_is_no_picture_or_cut_off_is_refused(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(whole.getvalue()[:-400])
    for name, message in (
        ("text.png", r"text\.png is not a picture: it has 5 bytes and begins with b'hello'"),
        ("empty.png", "it has 0 bytes"),
        ("cut.jpg", r"cut\.jpg cannot be read: .*truncated"),
        ("absent.png", "does not exist"),
        (".", "is a folder"),
    ):
        with pytest.raises(CourseError, match=message):
            open_picture(tmp_path / name)


def test_postscript_is_not_given_to_a_program(tmp_path):
    LEFT_RED.save(tmp_path / "picture.eps")
    with pytest.raises(CourseError, match=r"eps is not a picture: .*read are PNG, JPEG"):
        open_picture(tmp_path / "picture.eps")


def test_a_picture_of_pillow_that_is_cut_off_is_refused(tmp_path):
    LEFT_RED.save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:60])
    with Image.open(tmp_path / "cut.png") as lazy, pytest.raises(CourseError, match="image cannot be read"):
        as_picture(lazy)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_grey_values_of_32_bits_up_to_255_stay(dtype):
    assert pixel(as_picture(Image.fromarray(np.array([[0, 200]], dtype))), 1, 0) == (200, 200, 200)
    assert pixel(as_picture(Image.fromarray(np.array([[0, 25700]], dtype))), 1, 0) == (100, 100, 100)


@pytest.mark.parametrize("values", [[0, 65_536], [-1, 7], [0, np.nan], [0, np.inf]])
def test_grey_values_beyond_16_bits_are_refused(values):
    with pytest.raises(CourseError, match=r"values from .* read are 0 to 65,535"):
        as_picture(Image.fromarray(np.array([values], np.float32)))


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_a_file_with_several_pictures_is_refused(suffix, tmp_path):
    path = tmp_path / f"several.{suffix}"
    LEFT_RED.save(path, save_all=True, append_images=[Image.new("RGB", LEFT_RED.size)])
    with pytest.raises(CourseError, match=r"holds several pictures.*\n.*PIL\.Image\.open") as caught:
        open_picture(path)
    with Image.open(path) as chosen:
        chosen.seek(1)
        assert pixel(as_picture(chosen), 0, 0) == (0, 0, 0), caught.value.fix


def test_the_preview_in_a_photo_is_no_second_picture(tmp_path):
    LEFT_RED.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[LEFT_RED.resize((8, 4))])
    assert open_picture(tmp_path / "phone.jpg").size == (40, 20)


def png_of_zeros(width, height):
    """A PNG of one colour, made by hand: Pillow would hold all of its pixels."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header, packer = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0), zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8_001, 20_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side, tmp_path):
    content = png_of_zeros(side, side)
    (tmp_path / "bomb.png").write_bytes(content)
    assert len(content) < 500_000
    with pytest.raises(CourseError, match=r"bomb\.png .*pixels") as caught:
        open_picture(tmp_path / "bomb.png")
    assert caught.value.fix == "make it smaller first"


def test_only_pictures_and_paths_are_pictures(tmp_path):
    assert [picture.size for picture in as_pictures([LEFT_RED, LEFT_RED.convert("L")])] == [(40, 20)] * 2
    for value, fix in ((np.zeros((4, 4, 3)), "fromarray"), (b"png", "BytesIO"), (None, "open_picture")):
        with pytest.raises(InputError, match=f"where a picture is expected\n.*{fix}"):
            as_picture(value)
        with pytest.raises(InputError, match="where the path of a picture is expected"):
            open_picture(value)
    for value in ("picture.png", b"png"):
        with pytest.raises(InputError, match="a list of pictures"):
            as_pictures(value)
    LEFT_RED.save(tmp_path / "closed.png")
    with Image.open(tmp_path / "closed.png") as closed:
        pass
    for value in (closed, LEFT_RED.convert("LA").convert("La")):
        with pytest.raises(CourseError, match="image cannot be read"):
            as_picture(value)


def test_what_is_no_path_of_a_file_is_refused():
    for path, message in (("https://example.com/a.png", "is an address"), ("a" * 5000, "too long")):
        with pytest.raises(CourseError, match=message):
            open_picture(path)
