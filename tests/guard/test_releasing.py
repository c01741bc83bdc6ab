"""From an accepted image to its file: marked, encoded once, judged as it leaves, signed, recorded, put in place."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from guardrail import act
from guardrail.act import load_anchors, verify_file
from guardrail.carriers import Marked
from guardrail.errors import MemoryUnwritable, ReleaseFailed
from guardrail.fingerprint import pixels_digest
from guardrail.hookspecs import hookimpl
from guardrail.intake import open_input
from guardrail.records import VerifyOutcome, Watermark, WatermarkFound
from guardrail.testing import FakePipeline

PAYLOAD = "5a"
MIMES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}


class LowBits:
    """A mark for tests: the lowest bit of every value is 1."""

    def __init__(self, found=True, makes=None):
        self.found, self.makes, self.asked = found, makes, []

    @hookimpl
    def watermark_image(self, pixels, settings):
        if settings.watermark.name != "low_bits":
            return None
        made = pixels | 1 if self.makes is None else self.makes(pixels)
        return Marked(made, Watermark(algorithm="test.low_bits", payload=PAYLOAD, bits=8, bits_found=0))

    @hookimpl
    def find_watermark(self, pixels):
        self.asked.append(pixels)
        present = self.found and bool((pixels & 1).all())
        return WatermarkFound(algorithm="test.low_bits", present=present, bits=8, bits_found=8 if present else 0)


def marking(make_guard, plugin=None, **said):
    return make_guard(plugin or LowBits(), watermark={"name": "low_bits", **said})


def kinds(guard):
    return [row.kind for row in guard.memory.rows()]


def pixels_in(path):
    return np.asarray(Image.open(path).convert("RGB"))


def digest_of(path):
    import torch

    return pixels_digest(torch.from_numpy(pixels_in(path).copy()).permute(2, 0, 1))


def last_release(guard):
    return [row.content for row in guard.memory.rows() if row.kind == "release"][-1]["release"]


@pytest.mark.parametrize(("mime", "ending"), MIMES.items())
def test_what_leaves_is_just_what_was_judged(make_guard, world, pictures, tmp_path, mime, ending):
    guard = make_guard(provenance={"mime": mime})
    (path,) = guard.check(pictures["new"]).save(tmp_path / "out")
    assert path.suffix == ending
    assert verify_file(path, load_anchors(world.keys)).outcome is VerifyOutcome.OURS
    release = last_release(guard)
    judged = {
        row.content["verdict"]["verdict_id"]: row.content["verdict"]
        for row in guard.memory.rows()
        if row.kind == "verdict"
    }
    assert judged[release["verdict_id"]]["pixels_sha256"] == release["pixels_sha256"] == digest_of(path)
    assert len(judged) == (1 if mime == "image/png" else 2)  # compression changes pixels, so they are judged again


def test_a_lossless_file_is_not_judged_twice(guard, pictures, tmp_path):
    guard.check(pictures["new"]).save(tmp_path / "out")
    assert kinds(guard) == ["verdict", "intent", "release"]


def test_the_second_verdict_names_the_first(make_guard, pictures, tmp_path):
    guard = marking(make_guard)
    report = guard.check(pictures["new"])
    report.save(tmp_path / "out")
    verdicts = [row.content["verdict"] for row in guard.memory.rows() if row.kind == "verdict"]
    assert [one["earlier_verdict_id"] for one in verdicts] == [None, report.verdicts[0].verdict_id]
    assert last_release(guard)["verdict_id"] == verdicts[1]["verdict_id"]


def test_a_marked_image_leaves_with_its_mark_declared(make_guard, world, pictures, tmp_path):
    guard = marking(make_guard)
    (path,) = guard.check(pictures["new"]).save(tmp_path / "out")
    assert (pixels_in(path) & 1).all()
    assert last_release(guard)["watermark"] == {
        "algorithm": "test.low_bits",
        "payload": PAYLOAD,
        "bits": 8,
        "bits_found": 8,
        "registered": False,
        "binding": "",
    }
    assert b"c2pa.watermarked.unbound" in path.read_bytes()


def test_an_image_that_its_mark_turns_into_a_copy_stays_in(make_guard, pictures, tmp_path):
    fox = np.asarray(pictures["fox"])
    guard = marking(make_guard, LowBits(found=True, makes=lambda pixels: fox | 1))
    report = guard.check(pictures["new"])
    with pytest.raises(ReleaseFailed, match="judged block"):
        report.save(tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    decided = [row.content["verdict"]["decision"] for row in guard.memory.rows() if row.kind == "verdict"]
    assert decided == ["accept", "block"]
    assert kinds(guard)[-1] == "verdict"  # nothing was even begun


def test_a_mark_that_cannot_be_found_again_keeps_the_image_in(make_guard, pictures, tmp_path):
    guard = marking(make_guard, LowBits(found=False))
    with pytest.raises(ReleaseFailed, match="cannot be found again"):
        guard.check(pictures["new"]).save(tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_mark_that_compression_takes_away_keeps_the_image_in(make_guard, pictures, tmp_path):
    plugin = LowBits()
    guard = make_guard(plugin, watermark={"name": "low_bits"}, provenance={"mime": "image/jpeg"})
    with pytest.raises(ReleaseFailed, match="cannot be found again"):
        guard.check(pictures["new"]).save(tmp_path / "out")


def test_where_the_settings_say_so_an_image_without_its_mark_leaves_and_claims_none(make_guard, pictures, tmp_path):
    guard = marking(make_guard, LowBits(found=False), when_lost="unmarked")
    (path,) = guard.check(pictures["new"]).save(tmp_path / "out")
    assert np.array_equal(pixels_in(path), np.asarray(pictures["new"]))
    assert b"watermarked" not in path.read_bytes()
    assert last_release(guard)["watermark"] is None


def test_a_mark_that_no_plugin_puts_in_keeps_the_image_in(make_guard, pictures, tmp_path):
    guard = make_guard(watermark={"name": "nobody_knows"})
    with pytest.raises(ReleaseFailed, match="nobody_knows"):
        guard.check(pictures["new"]).save(tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("hook", ["watermark_image", "find_watermark"])
def test_a_mark_that_crashes_keeps_the_image_in(make_guard, pictures, tmp_path, hook):
    def crash(pixels):
        raise RuntimeError("bug")

    class CannotFind(LowBits):
        @hookimpl
        def find_watermark(self, pixels):
            crash(pixels)

    guard = marking(make_guard, LowBits(makes=crash) if hook == "watermark_image" else CannotFind())
    with pytest.raises(ReleaseFailed, match="bug"):
        guard.check(pictures["new"]).save(tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_mark_that_changes_the_size_keeps_the_image_in(make_guard, pictures, tmp_path):
    guard = marking(make_guard, LowBits(makes=lambda pixels: pixels[:-1]))
    with pytest.raises(ReleaseFailed, match=r"\(95, 96, 3\)"):
        guard.check(pictures["new"]).save(tmp_path / "out")


def test_a_plugin_cannot_write_to_the_judged_pixels(make_guard, pictures, tmp_path):
    class Scribbles(LowBits):
        @hookimpl
        def watermark_image(self, pixels):
            pixels[:] = 0

    guard = make_guard(Scribbles(), watermark={"name": "low_bits"})
    report = guard.check(pictures["new"])
    with pytest.raises(ReleaseFailed, match="no plugin"):
        report.save(tmp_path / "out")
    guard.settings = guard.settings.model_copy(update={"watermark": type(guard.settings.watermark)()})
    assert report.pictures[0].pixels.float().mean() > 1


def fail(*args, **kwargs):
    raise ReleaseFailed("images[0]", "injected")


@pytest.mark.parametrize("step", ["claims", "sign", "describe", "record", "write"])
def test_whatever_step_fails_nothing_leaves_and_the_ledger_says_so(guard, pictures, tmp_path, monkeypatch, step):
    report = guard.check(pictures["new"])

    def refuse(*args, **kwargs):
        raise MemoryUnwritable("memory", "injected")

    if step == "claims":
        monkeypatch.setattr("guardrail.plugins.claims_of", fail)
    elif step == "record":
        monkeypatch.setattr(guard.memory, "record_release", refuse)
    else:
        name = {"sign": "sign", "describe": "describe_release", "write": "write_release"}[step]
        monkeypatch.setattr(act, name, fail, raising=False)
    with pytest.raises((ReleaseFailed, MemoryUnwritable), match="injected"):
        report.save(tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    expected = ["verdict", "intent", "withdrawal"]
    if step == "write":
        expected.insert(2, "release")
    assert kinds(guard) == expected
    assert not guard.memory.reconcile()  # nothing is left unfinished


def test_without_an_intent_in_the_ledger_nothing_is_signed(guard, pictures, tmp_path, monkeypatch):
    report = guard.check(pictures["new"])

    def refuse(*args, **kwargs):
        raise MemoryUnwritable("memory", "injected")

    def never(*args, **kwargs):
        raise AssertionError("signed all the same")

    monkeypatch.setattr(guard.memory, "record_intent", refuse)
    monkeypatch.setattr(act, "sign", never, raising=False)
    with pytest.raises(MemoryUnwritable):
        report.save(tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_withdrawal_that_cannot_be_entered_hides_no_error(guard, pictures, tmp_path, monkeypatch, caplog):
    report = guard.check(pictures["new"])

    def refuse(*args, **kwargs):
        raise MemoryUnwritable("memory", "disk full")

    monkeypatch.setattr(act, "sign", fail, raising=False)
    monkeypatch.setattr(guard.memory, "record_withdrawal", refuse)
    with pytest.raises(ReleaseFailed, match="injected"):
        report.save(tmp_path / "out")
    assert "not in the ledger yet" in caplog.text


def test_a_plugin_that_quotes_a_prompt_when_it_crashes_does_not_bring_it_into_the_ledger(
    make_guard, pictures, tmp_path
):
    class Quotes:
        @hookimpl
        def describe_output(self, verdict):
            raise RuntimeError("cannot describe 'a secret prompt'")

    guard = make_guard(Quotes())
    with pytest.raises(ReleaseFailed, match="secret prompt"):
        guard.check(pictures["new"]).save(tmp_path / "out")
    rows = "".join(str(row.content) for row in guard.memory.rows())
    assert "secret prompt" not in rows
    assert "ReleaseFailed from RuntimeError" in rows


def test_a_file_already_in_place_stays_released_when_that_cannot_be_noted(
    guard, pictures, tmp_path, monkeypatch, caplog
):
    def refuse(*args, **kwargs):
        raise MemoryUnwritable("memory", "disk full")

    with monkeypatch.context() as patch:
        patch.setattr(guard.memory, "record_done", refuse)
        (path,) = guard.check(pictures["new"]).save(tmp_path / "out")
    assert path.exists()
    assert kinds(guard) == ["verdict", "intent", "release"]
    assert "not noted as finished" in caplog.text


def test_pixels_that_were_changed_after_judging_do_not_leave(guard, pictures, tmp_path):
    report = guard.check(pictures["new"])
    report.pictures[0].pixels[:] = 0
    with pytest.raises(ReleaseFailed, match="judged were"):
        report.save(tmp_path / "out")
    assert kinds(guard) == ["verdict"]


def test_a_verdict_that_does_not_accept_cannot_be_released_by_hand(guard, world, pictures, tmp_path):
    report = guard.check([pictures["new"], pictures["fox"]])
    blocked = report.verdicts[1]
    swapped = replace(report, verdicts=(blocked.model_copy(update={"image": "images[0]"}), blocked))
    assert swapped.save(tmp_path / "out") == [None, None]
    signing = guard.ready_to_release(tmp_path / "out")
    with pytest.raises(ReleaseFailed, match="only accepted images leave"):
        guard._releasing.release(swapped.accepted(0), tmp_path / "out" / "a.png", signing, overwrite=False)


def test_metadata_of_an_input_file_never_leaves(guard, tmp_path, pictures):
    from PIL.PngImagePlugin import PngInfo

    said = PngInfo()
    said.add_text("parameters", "a secret prompt")
    buffer = io.BytesIO()
    pictures["new"].save(buffer, "PNG", pnginfo=said)
    (tmp_path / "in.png").write_bytes(buffer.getvalue())
    (path,) = guard.check(tmp_path / "in.png").save(tmp_path / "out")
    assert b"secret" not in path.read_bytes()


# --- files with credentials of their own -------------------------------------------------------------------------


class Painter(FakePipeline):
    """A pipeline from image to image."""

    def __init__(self, made):
        super().__init__([[made]])

    def __call__(self, image, strength=0.5, return_dict=True):
        return super().__call__(return_dict=return_dict)


def actions_in(path, world):
    from guardrail.act import sdk

    mime = {ending: mime for mime, ending in MIMES.items()}[path.suffix]
    reading = sdk.read(path.read_bytes(), mime, load_anchors(world.keys))
    assert reading.state == "Trusted"
    return [one["action"] for one in reading.assertions["c2pa.actions.v2"]["actions"]], reading


@pytest.mark.parametrize("mime", MIMES)
def test_credentials_of_the_picture_a_run_starts_from_are_kept(make_guard, world, pictures, tmp_path, mime):
    guard = make_guard(provenance={"mime": mime})
    (before,) = guard.check(drawn := pictures["new"]).save(tmp_path / "before")
    made = Image.fromarray(255 - np.asarray(drawn)).rotate(90)
    pipe = guard.wrap(Painter(made))
    (after,) = pipe(image=open_input(before), strength=0.5).guard.save(tmp_path / "after")
    actions, reading = actions_in(after, world)
    assert actions == ["c2pa.opened", "c2pa.edited"]
    assert reading.ingredients[0]["relationship"] == "parentOf"
    assert verify_file(after, load_anchors(world.keys)).outcome is VerifyOutcome.OURS


def test_a_picture_without_credentials_is_no_ingredient(guard, world, pictures, tmp_path):
    pictures["new"].save(tmp_path / "in.png")
    pipe = guard.wrap(Painter(Image.fromarray(255 - np.asarray(pictures["new"])).rotate(90)))
    (after,) = pipe(image=open_input(tmp_path / "in.png"), strength=0.5).guard.save(tmp_path / "after")
    actions, reading = actions_in(after, world)
    assert actions == ["c2pa.created"]
    assert not reading.ingredients


def test_a_checked_file_keeps_its_own_credentials(guard, world, pictures, tmp_path):
    (before,) = guard.check(pictures["new"]).save(tmp_path / "before")
    (after,) = guard.check(before).save(tmp_path / "after")
    actions, reading = actions_in(after, world)
    assert actions == ["c2pa.opened", "c2pa.transcoded"]
    assert len(reading.ingredients) == 1
