"""The file behind an input picture: given back only with credentials, and only if it shows what the call was given."""

import io
import logging
import os

import numpy as np
import pytest
import torch
from PIL import Image

from guardrail.act import load_signing, make_development_keys, sdk
from guardrail.act.manifest_store import manifest_store
from guardrail.intake.credentials import LARGEST_PARENT_BYTES, file_behind, open_input
from guardrail.intake.values import pictures_from

KINDS = {"image/png": ("PNG", ".png"), "image/jpeg": ("JPEG", ".jpg"), "image/webp": ("WEBP", ".webp")}
MANIFEST = {
    "claim_generator_info": [{"name": "a test", "version": "1"}],
    "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [{"action": "c2pa.created"}]}, "created": True}],
}


def picture(mode="RGB", seed=0):
    shape = (24, 16, 4 if mode == "RGBA" else 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


def encoded(image, mime, **said):
    buffer = io.BytesIO()
    image.save(buffer, KINDS[mime][0], **said)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def signing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("anybody") / "keys"
    make_development_keys(folder)
    return load_signing(folder)


@pytest.fixture
def signed_file(signing, tmp_path):
    def make(mime="image/png", image=None, **said):
        path = tmp_path / f"input{KINDS[mime][1]}"
        path.write_bytes(sdk.embed(encoded(image or picture(), mime, **said), mime, MANIFEST, signing))
        return path

    return make


def copied(image):
    """What the guard copies of an input picture before the call."""
    return pictures_from(image).pictures[0].pixels


def behind(value, image=None):
    return file_behind(value, copied(value if image is None else image), manifest_store)


@pytest.mark.parametrize("mime", KINDS)
def test_whole_file_behind_an_opened_picture_is_given_back(signed_file, mime):
    path = signed_file(mime)
    found = behind(Image.open(path))
    assert (found.content, found.mime, found.strength) == (path.read_bytes(), mime, None)


def test_path_given_as_text_is_looked_at_too(signed_file):
    path = signed_file()
    assert behind(str(path), Image.open(path)).content == path.read_bytes()


@pytest.mark.parametrize("orientation", [1, 6])
def test_picture_read_for_a_pipeline_still_names_its_file(signed_file, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = signed_file("image/jpeg", exif=exif)
    given = open_input(path)
    assert given.mode == "RGB"
    assert given.size == ((16, 24) if orientation == 1 else (24, 16))
    assert behind(given).content == path.read_bytes()


def test_relative_name_holds_after_the_folder_was_changed(signed_file, tmp_path, monkeypatch):
    path = signed_file()
    monkeypatch.chdir(tmp_path)
    given = open_input(path.name)
    monkeypatch.chdir("/")
    assert behind(given) is not None


def test_transparent_picture_is_known_laid_on_white_and_with_transparency_dropped(signed_file):
    path = signed_file(image=picture("RGBA"))
    dropped = open_input(path)
    assert behind(Image.open(path)) is not None
    assert behind(dropped) is not None
    assert not torch.equal(copied(Image.open(path)), copied(dropped))


def test_picture_that_forgot_its_file_has_none(signed_file):
    assert behind(Image.open(signed_file()).convert("RGB").copy()) is None


def test_changed_picture_is_not_the_one_in_its_file(signed_file, caplog):
    given = open_input(signed_file())
    given.putpixel((0, 0), (1, 2, 3))
    with caplog.at_level(logging.INFO, "guardrail.intake"):
        assert behind(given) is None
    assert "not the one in it" in caplog.text


def test_file_replaced_since_it_was_opened_is_not_taken_for_its_parent(signed_file):
    given = open_input(signed_file())
    signed_file(image=picture(seed=5))
    assert behind(given) is None


def test_file_without_credentials_is_none(tmp_path):
    picture().save(tmp_path / "plain.png")
    assert behind(open_input(tmp_path / "plain.png")) is None


def test_type_is_told_by_content_not_by_name(signed_file, tmp_path):
    path = signed_file("image/webp").rename(tmp_path / "input.png")
    assert behind(open_input(path)).mime == "image/webp"


def test_other_types_are_none(tmp_path):
    picture().save(tmp_path / "input.bmp")
    assert behind(open_input(tmp_path / "input.bmp")) is None


@pytest.mark.parametrize("over_by", [0, 1])
def test_file_is_taken_up_to_the_largest_size(signed_file, monkeypatch, over_by):
    path = signed_file()
    given = open_input(path)
    monkeypatch.setattr("guardrail.intake.credentials.LARGEST_PARENT_BYTES", path.stat().st_size - over_by)
    assert (behind(given) is None) == bool(over_by)


def test_largest_size_is_64_mib():
    assert LARGEST_PARENT_BYTES == 64 * 2**20


@pytest.mark.parametrize("name", ["", "no/such/file.png", "https://example.org/a.png", "a\0b", "."])
def test_names_that_lead_to_no_file_are_none(name):
    given = picture()
    given.filename = name
    assert behind(given) is None


def test_pipe_is_not_waited_on(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    given = picture()
    given.filename = str(tmp_path / "pipe.png")
    assert behind(given) is None


def test_store_that_cannot_be_read_is_logged_and_none(signed_file, caplog):
    path = signed_file()

    def broken(content, mime):
        raise ValueError("cut short")

    assert file_behind(open_input(path), copied(open_input(path)), broken) is None
    assert "cut short" in caplog.text


def test_broken_file_is_logged_and_none(signed_file, caplog):
    path = signed_file()
    given = open_input(path)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"IDAT") + 8])
    assert behind(given) is None
    assert "cannot be kept" in caplog.text


def test_more_pixels_than_allowed_are_not_decoded(signed_file, caplog):
    path = signed_file()
    assert file_behind(open_input(path), copied(open_input(path)), manifest_store, largest_px=24 * 16 - 1) is None
    assert "more than 383" in caplog.text
