"""Files of every bad kind become pictures with a failure that names them; good ones of every mode are read."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from guardrail.intake import pictures_from, read_picture

RED = (200, 10, 20)


def saved(path, image, **options):
    image.save(path, **options)
    return path


def failure_of(path, **options):
    picture = read_picture(path, **options)
    assert picture.pixels is None
    assert picture.failure.image == str(path)
    return picture.failure.error


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I;16", "I"]
)
def test_every_mode_is_read_as_rgb(mode):
    image = (
        Image.new("RGB", (5, 3), "white").convert("L")
        if mode in ("1", "L", "LA", "I;16", "I")
        else Image.new("RGB", (5, 3), "white")
    )
    if mode in ("I;16", "I"):
        image = Image.fromarray(np.full((3, 5), 65535, np.uint16)).convert(mode)
    else:
        image = image.convert(mode) if mode != "LAB" else Image.new("LAB", (5, 3), (255, 128, 128))
    (picture,) = pictures_from(image).pictures
    assert tuple(picture.pixels.shape) == (3, 3, 5)
    assert picture.pixels.min() > 250


def test_16_bit_files_are_scaled_not_clipped(tmp_path):
    ramp = np.arange(0, 65536, 256, dtype=np.uint16)[None].repeat(4, 0)
    picture = read_picture(saved(tmp_path / "a.png", Image.fromarray(ramp)))
    assert picture.pixels[0, 0].tolist() == list(range(256))


def test_transparency_is_laid_on_white(tmp_path):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((0, 0), (*RED, 255))
    picture = read_picture(saved(tmp_path / "a.png", image))
    assert picture.pixels[:, 0, 0].tolist() == list(RED)
    assert picture.pixels[:, 1, 1].tolist() == [255, 255, 255]


def test_palette_with_a_transparent_colour_is_laid_on_white(tmp_path):
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, *RED])
    image.putpixel((0, 0), 1)
    picture = read_picture(saved(tmp_path / "a.png", image, transparency=0))
    assert picture.pixels[:, 0, 0].tolist() == list(RED)
    assert picture.pixels[:, 1, 1].tolist() == [255, 255, 255]


def test_orientation_is_applied_as_a_viewer_does(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = read_picture(saved(tmp_path / "a.jpg", Image.new("RGB", (8, 4)), exif=exif))
    assert tuple(picture.pixels.shape) == (3, 8, 4)


def test_one_pixel_and_non_ascii_name(tmp_path):
    picture = read_picture(saved(tmp_path / "räv 狐.png", Image.new("RGB", (1, 1), RED)))
    assert picture.pixels.flatten().tolist() == list(RED)
    assert picture.file_sha256


def test_truncated_file(tmp_path):
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, "JPEG")
    path = tmp_path / "cut.jpg"
    path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    assert "truncated" in failure_of(path)


def test_text_named_png(tmp_path):
    path = tmp_path / "text.png"
    path.write_text("hello")
    assert "no picture of a format" in failure_of(path)


def test_empty_file_folder_and_missing_file(tmp_path):
    (tmp_path / "empty.png").touch()
    assert failure_of(tmp_path / "empty.png") == "an empty file"
    assert failure_of(tmp_path) == "a folder"
    assert "No such file" in failure_of(tmp_path / "absent.png")


def test_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert failure_of(tmp_path / "pipe.png") == "not a regular file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(tmp_path):
    path = saved(tmp_path / "a.png", Image.new("RGB", (2, 2)))
    path.chmod(0)
    assert "Permission" in failure_of(path)


def test_permission_error_is_a_failure(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", Image.new("RGB", (2, 2)))

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(path), "read_bytes", refuse)
    assert "Permission denied" in failure_of(path)


@pytest.mark.parametrize(("ending", "frames"), [("gif", 3), ("png", 2), ("webp", 2), ("tiff", 2)])
def test_animation_is_refused_because_later_frames_would_go_unseen(tmp_path, ending, frames):
    images = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")[:frames]]
    path = saved(tmp_path / f"a.{ending}", images[0], save_all=True, append_images=images[1:])
    assert f"{frames} frames" in failure_of(path)


def bomb(path, side):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )
    return path


def test_decompression_bomb_is_never_decoded(tmp_path):
    assert "a decompression bomb" in failure_of(bomb(tmp_path / "bomb.png", 60_000))
    assert "10000x10000 pixels, more than 64000000" in failure_of(bomb(tmp_path / "smaller.png", 10_000))
    assert "more than 50" in failure_of(saved(tmp_path / "a.png", Image.new("L", (10, 10))), largest_px=50)


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_no_setting_lets_more_pixels_in_than_pillow_takes_for_safe(tmp_path, side):
    failure = failure_of(bomb(tmp_path / "bomb.png", side), largest_px=10**12)
    assert str(Image.MAX_IMAGE_PIXELS) in failure
    assert "DOS attack" not in failure


def test_a_picture_that_is_too_large_is_refused_in_our_words_alone(tmp_path, recwarn):
    failure = failure_of(bomb(tmp_path / "bomb.png", 10_000))
    assert "Image size" not in failure
    assert not recwarn.list


def test_float_pixels_of_unknown_range_are_refused(tmp_path):
    assert "mode F" in failure_of(saved(tmp_path / "a.tiff", Image.new("F", (4, 4), 0.5)))


def test_decoder_that_crashes_is_a_failure(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", Image.new("RGB", (2, 2)))

    def crash(*args):
        raise RuntimeError("decoder bug")

    monkeypatch.setattr("guardrail.intake.files.from_pillow", crash)
    assert failure_of(path) == "RuntimeError: decoder bug"


def test_formats_that_start_other_programs_are_not_decoded(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    assert "no picture of a format" in failure_of(path)


def test_name_that_is_not_text_is_shown_and_read(tmp_path):
    path = tmp_path / os.fsdecode(b"b\xff.png")
    Image.new("RGB", (4, 4)).save(path, format="PNG")
    assert read_picture(path).name.endswith("b\\xff.png")
    path.write_bytes(b"text")
    assert read_picture(path).failure.image.endswith("b\\xff.png")


def test_endless_side_is_never_hashed(tmp_path):
    assert "longer than" in failure_of(saved(tmp_path / "a.png", Image.new("1", (40_000, 5))))
