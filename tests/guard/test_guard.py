"""The flow: what is judged how, what leaves, what is remembered, and that every failure keeps images in."""

import copy
import pickle
import shutil
import threading
import time
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from PIL import Image

from guardrail.act import verify_file
from guardrail.carriers import ImageBatch
from guardrail.errors import (
    ImageBlocked,
    IndexMismatch,
    IndexMissing,
    KeysMissing,
    MemoryUnwritable,
    OutputNotUnderstood,
    PipelineNotWrappable,
    PluginFault,
    ReleaseFailed,
    SettingsInvalid,
)
from guardrail.guard import Guard
from guardrail.hookspecs import hookimpl
from guardrail.index import FolderIndex
from guardrail.index.store.create import create_store
from guardrail.records import Decision, PixelMatch
from guardrail.settings import Settings
from guardrail.testing import FakeEmbedder, FakePipeline, FakePlugin

ACCEPT, FLAG, BLOCK = Decision


def decisions(report):
    return [verdict.decision for verdict in report.verdicts]


def same(image, other):
    return np.array_equal(np.asarray(image.convert("RGB")), np.asarray(other.convert("RGB")))


# --- judging ---------------------------------------------------------------------------------------------------


def test_each_picture_gets_its_decision_in_order(guard, pictures):
    names = ["fox", "owl", "sky", "near fox", "new", "flat"]
    report = guard.check([pictures[name] for name in names])
    assert decisions(report) == [BLOCK, ACCEPT, ACCEPT, FLAG, ACCEPT, FLAG]
    assert [credit.work_id for credit in report.verdicts[1].credits] == ["owl"]


@pytest.mark.parametrize("edit", ["mirror", "turn", "tint", "darker"])
def test_edited_copy_is_blocked_by_hash_or_proof(guard, pictures, edit):
    fox = pictures["fox"]
    array = np.asarray(fox, np.float64)
    edited = {
        "mirror": fox.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "turn": fox.transpose(Image.Transpose.ROTATE_90),
        "tint": Image.fromarray((array * 0.8 + np.array([40, 0, 20])).round().astype(np.uint8)),
        "darker": Image.fromarray((array * 0.5).round().astype(np.uint8)),
    }[edit]
    (verdict,) = guard.check(edited).verdicts
    assert verdict.decision is BLOCK
    assert verdict.nearest[0].work.work_id == "fox"


def test_verdict_names_what_it_rests_on(guard, pictures):
    (verdict,) = guard.check(pictures["fox"]).verdicts
    assert verdict.index_snapshot == guard.index.header.snapshot
    assert verdict.policy_sha256 == guard.settings.policy.sha256
    assert verdict.calibration == "uncalibrated"
    assert verdict.timings.fingerprint_ms > 0


def test_bad_file_blocks_alone_and_is_named(guard, pictures, tmp_path):
    bad, good = tmp_path / "bad.png", tmp_path / "good.png"
    bad.write_text("text")
    pictures["new"].save(good)
    report = guard.check([bad, good])
    assert decisions(report) == [BLOCK, ACCEPT]
    assert str(bad) in report.verdicts[0].explanation


def test_no_images_no_verdicts(guard):
    assert guard.check([]).verdicts == ()
    assert guard.memory.verify()[0] == 0


# --- around a pipeline -----------------------------------------------------------------------------------------


def test_wrapped_pipeline_stays_what_it_was(guard, pictures, tmp_path):
    pipe = FakePipeline([[pictures["new"]]])
    wrapped = guard.wrap(pipe)
    assert wrapped is pipe
    assert isinstance(pipe, FakePipeline)
    assert type(pipe).__name__ == "FakePipeline"
    assert type(pipe).__module__ == FakePipeline.__module__
    assert type(pipe).__call__.__wrapped__ is FakePipeline.__call__
    assert guard.wrap(pipe) is pipe
    pipe.to("cpu")
    pipe.save_pretrained(tmp_path / "saved")
    assert FakePipeline.load_config(tmp_path / "saved")["_class_name"] == "FakePipeline"
    assert type(guard.unwrap(pipe)) is FakePipeline
    assert type(guard.unwrap(pipe)) is FakePipeline


def test_only_callables_under_one_guard_are_wrapped(guard, make_guard, pictures):
    with pytest.raises(PipelineNotWrappable, match="cannot be called"):
        guard.wrap("a pipeline")
    pipe = guard.wrap(FakePipeline([[pictures["new"]]]))
    with pytest.raises(PipelineNotWrappable, match="another guard"):
        make_guard().wrap(pipe)


@pytest.mark.parametrize("output_type", ["pil", "np", "pt", "nested", "latent"])
@pytest.mark.parametrize("return_dict", [True, False])
def test_blocked_image_never_reaches_the_caller(guard, pictures, output_type, return_dict):
    made = [pictures["new"], pictures["fox"]]
    plain = FakePipeline([made])(output_type=output_type, return_dict=return_dict)
    output = guard.wrap(FakePipeline([made]))(output_type=output_type, return_dict=return_dict)
    assert type(output) is type(plain)
    found = guard.check(output[0])
    assert torch.equal(found.pictures[0].pixels, guard.check(made[0]).pictures[0].pixels)
    assert found.verdicts[1].nearest[0].work.work_id != "fox" or found.verdicts[1].decision is ACCEPT
    assert found.pictures[1].pixels.float().std() > 1, "a card is never plain black"
    assert decisions(guard.last_report) == [ACCEPT, BLOCK]


def test_accepted_output_is_bit_identical(guard, pictures):
    made = [pictures["new"], pictures["owl"]]
    output = guard.wrap(FakePipeline([made]))()
    assert all(one.tobytes() == other.tobytes() for one, other in zip(output.images, made, strict=True))
    array = guard.wrap(FakePipeline([made]))(output_type="np").images
    assert np.array_equal(array, FakePipeline([made])(output_type="np").images)


def test_report_rides_on_the_output(guard, pictures):
    output = guard.wrap(FakePipeline([[pictures["new"]]]))("a fox", generator=torch.Generator().manual_seed(5))
    assert decisions(output.guard) == [ACCEPT]
    assert list(output.keys()) == ["images"]
    context = output.guard.context
    assert (context.pipeline, context.seed, context.prompts) == ("FakePipeline", 5, {"prompt": "a fox"})


def test_flagged_image_is_held_and_waits_with_its_picture(guard, pictures):
    output = guard.wrap(FakePipeline([[pictures["near fox"]]]))()
    assert not same(output.images[0], pictures["near fox"])
    (case,) = guard.memory.open_cases()
    import io

    assert same(Image.open(io.BytesIO(guard.memory.pictures.get(case.picture_sha256))), pictures["near fox"])


def test_flagged_image_is_returned_where_the_settings_say_so(make_guard, pictures):
    output = make_guard(on_flag="return").wrap(FakePipeline([[pictures["near fox"], pictures["fox"]]]))()
    assert same(output.images[0], pictures["near fox"])
    assert not same(output.images[1], pictures["fox"])


def test_raise_releases_nothing(make_guard, pictures):
    pipe = make_guard(on_block="raise").wrap(FakePipeline([[pictures["new"], pictures["fox"]]]))
    with pytest.raises(ImageBlocked, match=r"images\[1\]"):
        pipe()


def test_regenerate_fills_only_the_blocked_place(make_guard, pictures):
    guard = make_guard(on_block="regenerate")
    first, second = [pictures["new"], pictures["fox"]], [pictures["elk"], pictures["owl"]]
    pipe = guard.wrap(FakePipeline([first, second]))
    output = pipe(generator=torch.Generator().manual_seed(5))
    assert same(output.images[0], pictures["new"])
    assert same(output.images[1], pictures["owl"])
    assert decisions(output.guard) == [ACCEPT, ACCEPT]
    assert [verdict.decision for verdict in output.guard.attempts] == [BLOCK]
    assert pipe.calls[1]["generator"].initial_seed() != 5


def test_regenerate_gives_up_and_replaces(make_guard, pictures):
    guard = make_guard(on_block="regenerate", regenerate_at_most=2)
    pipe = guard.wrap(FakePipeline([[pictures["fox"]]]))
    output = pipe()
    assert len(pipe.calls) == 3
    assert not same(output.images[0], pictures["fox"])
    assert [row.kind for row in guard.memory.rows()].count("verdict") == 3
    assert guard.memory.verify()[0] == 3 + len(output.guard.remedies)


def test_pipeline_that_reuses_its_buffer_cannot_change_what_was_handed_out(make_guard, pictures):
    class Reuses(FakePipeline):
        buffer = np.zeros((2, 96, 96, 3), np.float32)

        def __call__(self, generator=None):
            self.buffer[:] = super().__call__(output_type="np").images
            return ImagePipelineOutput(images=self.buffer)

    guard = make_guard(on_block="regenerate", regenerate_at_most=1)
    pipe = guard.wrap(Reuses([[pictures["new"], pictures["fox"]], [pictures["fox"], pictures["owl"]]]))
    images = pipe().images
    expected = np.stack([np.asarray(pictures[name]) for name in ("new", "owl")])
    assert np.array_equal((images * 255).round().astype(np.uint8), expected)


def test_withheld_pixels_are_in_no_report_and_no_traceback(make_guard, pictures):
    made = [pictures["new"], pictures["fox"], pictures["near fox"]]
    guard = make_guard()
    report = guard.wrap(FakePipeline([made]))().guard
    assert [picture is None for picture in report.pictures] == [False, True, True]
    assert [picture is None for picture in guard.check(made).pictures] == [False, True, True]
    with pytest.raises(ImageBlocked) as caught:
        make_guard(on_block="raise").wrap(FakePipeline([made]))()
    frames = []
    at = caught.value.__traceback__
    while at is not None:
        frames.append(at.tb_frame)
        at = at.tb_next
    inner = [
        frame
        for frame in frames
        if frame.f_code.co_filename.endswith("guard.py") and "tests" not in frame.f_code.co_filename
    ]
    assert inner
    assert not any(
        hasattr(value, "images") or hasattr(value, "pixels") for frame in inner for value in frame.f_locals.values()
    )


def test_colours_hidden_under_transparency_are_judged(guard, pictures):
    fox = pictures["fox"].copy()
    fox.putalpha(Image.new("L", fox.size, 3))
    (verdict,) = guard.check(fox).verdicts
    assert verdict.decision is BLOCK
    assert "without the transparency" in verdict.explanation
    assert verdict.image == "images"
    drawing = pictures["new"].convert("RGBA")
    drawing.putalpha(Image.new("L", fox.size, 255))
    assert decisions(guard.check(drawing)) == [ACCEPT]


def test_picture_seen_on_black_is_judged(guard, pictures):
    honest = np.asarray(pictures["new"], np.float64) * 0.4 + 150
    fox = np.asarray(pictures["fox"], np.float64) * 60 / 255
    opacity = 1 - (honest - fox).mean(-1, keepdims=True) / 255
    colour = np.clip(fox / opacity, 0, 255)
    image = Image.fromarray(np.dstack([colour, opacity * 255]).round().astype(np.uint8), "RGBA")
    assert decisions(guard.check(image)) == [BLOCK]


def test_two_pictures_of_one_name_never_share_a_verdict(guard, pictures, tmp_path):
    hidden = pictures["fox"].copy()
    hidden.putalpha(Image.new("L", hidden.size, 3))
    clean = pictures["new"].copy()
    clean.putalpha(Image.new("L", clean.size, 250))
    hidden.save(tmp_path / "images[1]", format="PNG")
    monkey = [str(tmp_path / "images[1]"), clean]
    assert decisions(guard.check(monkey)) == [BLOCK, ACCEPT]
    assert decisions(guard.check([monkey[0], monkey[0], clean])) == [BLOCK, BLOCK, ACCEPT]

    class Twice(FakePipeline):
        def __call__(self):
            return ImagePipelineOutput(images=[{1: pictures["fox"], "1": pictures["new"]}])

    with pytest.raises(OutputNotUnderstood, match="two pictures"):
        guard.wrap(Twice())()


def test_regenerated_picture_of_another_type_is_not_put_in(make_guard, pictures):
    class Changes(FakePipeline):
        def __call__(self, generator=None):
            output = super().__call__(output_type="np")
            return (
                ImagePipelineOutput(images=(output.images * 255).astype(np.uint8)) if len(self.calls) == 1 else output
            )

    guard = make_guard(on_block="regenerate", regenerate_at_most=1)
    output = guard.wrap(Changes([[pictures["fox"]], [pictures["new"]]]))()
    assert output.images.dtype == np.uint8
    assert decisions(output.guard) == [BLOCK]


def test_flat_colours_under_transparency_are_no_reason_to_hold(guard, pictures):
    shape = Image.new("RGBA", (96, 96), (0, 0, 0, 0))
    shape.putalpha(pictures["new"].convert("L"))
    assert decisions(guard.check(shape)) == [ACCEPT]


def test_report_belongs_to_its_own_thread(guard, pictures):
    seen = {}

    def work(name, picture):
        guard.wrap(FakePipeline([[picture]]))(return_dict=False)
        time.sleep(0.05)
        seen[name] = guard.last_report.verdicts[0].decision

    threads = [threading.Thread(target=work, args=(name, pictures[name])) for name in ("fox", "new", "elk", "owl")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"fox": BLOCK, "new": ACCEPT, "elk": BLOCK, "owl": ACCEPT}


def test_unread_image_is_withheld_whatever_the_policy_says(make_guard, pictures):
    lenient = {"rules": [{"name": "shrug", "evidence": "check_failed", "decision": "flag"}]}

    class Spoiled(FakePipeline):
        def __call__(self, **options):
            output = super().__call__(output_type="np")
            output.images[:] = np.nan
            return output

    output = make_guard(on_flag="return", policy=lenient).wrap(Spoiled([[pictures["new"]]]))()
    assert np.isfinite(output.images).all()


def test_limits_in_the_settings_change_only_what_they_say(make_guard, guard):
    said = make_guard(limits={"pdq": {"block_within_bits": 20}}).limits
    assert said.pdq.block_within_bits == 20
    assert said.pdq.flag_within_bits == guard.limits.pdq.flag_within_bits
    assert said.copy_ == guard.limits.copy_
    assert said.pdq_quality_at_least == guard.limits.pdq_quality_at_least
    assert said.calibration == "uncalibrated, overridden"


def test_fixed_latents_are_not_tried_again(make_guard, pictures):
    pipe = make_guard(on_block="regenerate").wrap(FakePipeline([[pictures["fox"]]]))
    pipe(latents=torch.zeros(1))
    assert len(pipe.calls) == 1


def test_nan_output_is_blocked_not_a_black_picture(guard, pictures):
    class Spoiled(FakePipeline):
        def __call__(self, **options):
            output = super().__call__(output_type="np")
            output.images[0, 3, 3] = np.nan
            return output

    output = guard.wrap(Spoiled([[pictures["new"], pictures["new"]]]))()
    assert decisions(output.guard) == [BLOCK, ACCEPT]
    assert np.isfinite(output.images).all()


def test_output_without_pictures_is_not_released(guard):
    class Speaks(FakePipeline):
        def __call__(self):
            return {"audio": 1}

    with pytest.raises(OutputNotUnderstood):
        guard.wrap(Speaks())()


def test_empty_output_is_handed_on(guard):
    assert guard.wrap(FakePipeline([[]]))().images == []


def test_copies_of_a_wrapped_pipeline_are_guarded(guard, pictures):
    pipe = guard.wrap(FakePipeline([[pictures["fox"]]]))
    for other in (copy.copy(pipe), copy.deepcopy(pipe)):
        assert isinstance(other, DiffusionPipeline)
        assert not same(other().images[0], pictures["fox"])


def test_unpickled_pipeline_is_guarded(make_guard, pictures, world):
    guard = make_guard(FakeNothing())
    pipe = pickle.loads(pickle.dumps(guard.wrap(FakePipeline([[pictures["fox"]]]))))
    assert not same(pipe().images[0], pictures["fox"])
    from guardrail.intake import guard_of

    guard_of(pipe).memory.close()


class FakeNothing:
    """A plugin without a hook."""


# --- releasing -------------------------------------------------------------------------------------------------


def test_only_accepted_images_are_saved_signed_and_in_the_ledger(guard, pictures, world, tmp_path):
    report = guard.check([pictures["fox"], pictures["owl"], pictures["near fox"], pictures["new"]])
    paths = report.save(tmp_path / "out")
    assert [path is not None for path in paths] == [False, True, False, True]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert [name[:11] for name in names] == ["image-0001-", "image-0003-"]
    anchors = [(world.keys / "root.pem").read_bytes()]
    assert {str(verify_file(path, anchors).outcome) for path in paths if path} == {"ours"}
    assert [row.kind for row in guard.memory.rows()] == ["verdict"] * 4 + ["intent", "release"] * 2


def test_saved_pixels_are_the_judged_ones_whatever_the_caller_did(guard, pictures, tmp_path):
    output = guard.wrap(FakePipeline([[pictures["new"].copy()]]))()
    output.images[0].paste(pictures["fox"])
    (path,) = output.guard.save(tmp_path / "out")
    with Image.open(path) as saved:
        assert same(saved, pictures["new"])


def test_prompt_is_in_no_released_byte(guard, pictures, tmp_path):
    output = guard.wrap(FakePipeline([[pictures["new"]]]))("canary prompt 4711")
    (path,) = output.guard.save(tmp_path / "out")
    assert b"canary" not in path.read_bytes()


def test_pixels_changed_after_the_verdict_are_never_signed(make_guard, pictures, tmp_path):
    class Scribbles:
        @hookimpl
        def find_evidence(self, picture):
            picture.pixels.zero_()

    report = make_guard(Scribbles()).check(pictures["new"])
    with pytest.raises(ReleaseFailed, match="judged were"):
        report.save(tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    "names", [["../a", "b"], ["a/b", "c"], ["a"], ["a", "A"], ["", "b"], ["a\0", "b"], ["..", "b"]]
)
def test_bad_file_names_release_nothing(guard, pictures, tmp_path, names):
    report = guard.check([pictures["new"], pictures["owl"]])
    with pytest.raises(ReleaseFailed):
        report.save(tmp_path / "out", names=names)
    assert not list(tmp_path.rglob("*.png"))
    assert [row.kind for row in guard.memory.rows()] == ["verdict"] * 2


def test_existing_file_is_not_overwritten_unless_asked(guard, pictures, tmp_path):
    report = guard.check(pictures["new"])
    (path,) = report.save(tmp_path / "out")
    before = path.read_bytes()
    with pytest.raises(ReleaseFailed):
        report.save(tmp_path / "out")
    assert path.read_bytes() == before
    report.save(tmp_path / "out", overwrite=True)
    kinds = [row.kind for row in guard.memory.rows()]
    assert kinds == ["verdict", *["intent", "release"] * 2, "withdrawal", "intent", "release"]


def test_saving_in_a_loop_never_meets_its_own_files(guard, pictures, tmp_path):
    pipe = guard.wrap(FakePipeline([[pictures["new"]]]))
    for _ in range(3):
        pipe().guard.save(tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_one_file_that_cannot_be_written_does_not_stop_the_others(guard, pictures, tmp_path):
    report = guard.check([pictures["new"], pictures["owl"], pictures["fox"]])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_text("mine")
    failures = {}
    paths = report.save(tmp_path / "out", names=["a", "b", "c"], failures=failures)
    assert paths == [None, tmp_path / "out" / "b.png", None]
    assert list(failures) == [0]
    assert (tmp_path / "out" / "a.png").read_text() == "mine"


def test_without_keys_nothing_is_released(make_guard, pictures, tmp_path):
    report = make_guard(keys=tmp_path / "none").check(pictures["new"])
    with pytest.raises(KeysMissing, match="keys init"):
        report.save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- failing closed --------------------------------------------------------------------------------------------


def test_unwritable_ledger_releases_nothing(guard, pictures, monkeypatch, tmp_path):
    pipe = guard.wrap(FakePipeline([[pictures["new"]]]))
    report = guard.check(pictures["new"])

    def refuse(*_, **__):
        raise MemoryUnwritable("memory", "disk full")

    monkeypatch.setattr(guard.memory, "record_verdicts", refuse)
    monkeypatch.setattr(guard.memory, "record_release", refuse)
    with pytest.raises(MemoryUnwritable):
        pipe()
    with pytest.raises(MemoryUnwritable):
        report.save(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_missing_index_stops_the_build(tmp_path):
    with pytest.raises(SettingsInvalid, match="no index is named"):
        Guard(settings=Settings(home=tmp_path))
    with pytest.raises(IndexMissing):
        Guard(tmp_path / "nowhere", Settings(home=tmp_path))
    with pytest.raises(IndexMissing, match="no backend"):
        Guard("attic://nowhere", Settings(home=tmp_path))


def test_index_of_another_embedder_is_refused(world, tmp_path):
    other = FakePlugin(FakeEmbedder(weights="others"))
    with pytest.raises(IndexMismatch, match="fake"):
        Guard(world.index, Settings(home=tmp_path, device="cpu"), plugins=[other])


def test_guard_that_is_open_refuses_an_index_that_was_rebuilt_with_another_embedder(world, tmp_path, pictures):
    shutil.copytree(world.index, tmp_path / "index")
    guard = Guard(tmp_path / "index", Settings(home=tmp_path, device="cpu"), plugins=[FakePlugin()])
    guard.check(pictures["new"])
    state = FolderIndex(tmp_path / "index").pinned().state
    other = {"copy": state.header.embedders["copy"].model_copy(update={"weights_sha256": "f" * 64})}
    header = state.header.model_copy(update={"embedders": other, "built_at": datetime.now(UTC)})
    create_store(tmp_path / "index", header, [batch for _, batch in state.batches()], overwrite=True)
    with pytest.raises(IndexMismatch, match="ffffffffffff"):
        guard.check(pictures["new"])


def test_works_that_come_and_go_count_for_a_guard_that_is_open(world, tmp_path, pictures):
    shutil.copytree(world.index, tmp_path / "index")
    guard = Guard(tmp_path / "index", Settings(home=tmp_path, device="cpu"), plugins=[FakePlugin()])
    index = FolderIndex(tmp_path / "index")
    kept = index.kept([(work.bank, work.work_id) for work in index.works])
    snapshots = []
    keys = [(work.bank, work.work_id) for work in kept.works]
    for change in (lambda: None, lambda: index.withdraw(keys), lambda: index.put(kept)):
        change()
        verdict = guard.check(pictures["fox"]).verdicts[0]
        snapshots.append(verdict.index_snapshot)
        assert verdict.index_snapshot == index.header.snapshot
        assert bool(verdict.nearest) == bool(index.header.works)
    assert len(set(snapshots)) == 3


def test_search_that_crashes_lets_nothing_out(guard, pictures, monkeypatch):
    def crash(*args):
        raise RuntimeError("index backend is gone")

    monkeypatch.setattr("guardrail.index.PinnedIndex.search", crash)
    with pytest.raises(RuntimeError, match="gone"):
        guard.wrap(FakePipeline([[pictures["new"]]]))()


def test_embedder_that_fails_blocks_only_its_picture(world, tmp_path, pictures):
    class Picky(FakeEmbedder):
        def embed(self, images):
            if any(image.float().std() < 1 for image in images):
                raise RuntimeError("CUDA out of memory")
            return super().embed(images)

    guard = Guard(world.index, Settings(home=tmp_path, device="cpu"), plugins=[FakePlugin(Picky())])
    report = guard.check([pictures["flat"], pictures["new"]])
    assert decisions(report) == [BLOCK, ACCEPT]
    assert "out of memory" in report.verdicts[0].explanation
    guard.memory.close()


def test_embedder_that_returns_nan_blocks(world, tmp_path, pictures):
    class Broken(FakeEmbedder):
        def embed(self, images):
            return super().embed(images) * np.nan

    guard = Guard(world.index, Settings(home=tmp_path, device="cpu"), plugins=[FakePlugin(Broken())])
    assert decisions(guard.check(pictures["new"])) == [BLOCK]
    guard.memory.close()


class Evidence:
    """A plugin whose answer is given."""

    def __init__(self, answer):
        self.answer = answer

    @hookimpl
    def find_evidence(self, picture):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize("answer", [RuntimeError("bug"), ["text"], [None], 7, False, {}, np.zeros(2)])
def test_evidence_plugin_that_crashes_or_babbles_blocks(make_guard, pictures, answer):
    (verdict,) = make_guard(Evidence(answer)).check(pictures["new"]).verdicts
    assert verdict.decision is BLOCK
    assert "find_evidence:Evidence" in verdict.explanation


def test_crashed_plugin_loses_no_other_answer(make_guard, pictures):
    (verdict,) = make_guard(Evidence(RuntimeError("bug"))).check(pictures["fox"]).verdicts
    assert {found.kind for found in verdict.evidence} >= {"exact_match", "pixel_match", "check_failed"}


def test_evidence_of_a_plugin_is_judged(make_guard, guard, pictures):
    work = guard.index.works[0]
    plugin = Evidence([PixelMatch(work=work, similarity=1.0)])
    assert decisions(make_guard(plugin).check(pictures["new"])) == [BLOCK]


def test_replacement_that_crashes_or_has_another_size_still_withholds(make_guard, pictures):
    class Draws:
        @hookimpl
        def replace_image(self, size_px, verdict):
            return Image.new("RGB", (1, 1))

    class Crashes:
        @hookimpl
        def replace_image(self, size_px, verdict):
            raise RuntimeError("no ink")

    for plugin in (Draws(), Crashes()):
        output = make_guard(plugin).wrap(FakePipeline([[pictures["fox"]]]))()
        assert output.images[0].size == pictures["fox"].size
        assert not same(output.images[0], pictures["fox"])


def test_own_card_comes_before_the_shipped_one(make_guard, pictures):
    class Pink:
        @hookimpl
        def replace_image(self, size_px, verdict):
            return Image.new("RGB", size_px, "pink")

    output = make_guard(Pink()).wrap(FakePipeline([[pictures["fox"]]]))()
    assert same(output.images[0], Image.new("RGB", (96, 96), "pink"))


@pytest.mark.parametrize("hook", ["describe_output", "provide_signer"])
def test_release_plugin_that_crashes_withholds_the_file(make_guard, pictures, tmp_path, hook):
    class Crashes:
        @hookimpl
        def describe_output(self, verdict):
            if hook == "describe_output":
                raise RuntimeError("bug")

        @hookimpl
        def provide_signer(self, settings):
            if hook == "provide_signer":
                raise RuntimeError("bug")

    report = make_guard(Crashes()).check(pictures["new"])
    with pytest.raises(ReleaseFailed):
        report.save(tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_two_plugins_with_one_label_withhold_the_file(make_guard, pictures, tmp_path):
    from guardrail.act import VERDICT_LABEL

    class Copies:
        @hookimpl
        def describe_output(self, verdict):
            return {VERDICT_LABEL: {"decision": "accept"}}

    with pytest.raises(ReleaseFailed, match="two plugins"):
        make_guard(Copies()).check(pictures["new"]).save(tmp_path / "out")


def test_observer_that_crashes_changes_nothing(make_guard, pictures, tmp_path, caplog):
    class Crashes:
        @hookimpl
        def verdict_reached(self, verdict):
            raise RuntimeError("bug in observer")

        @hookimpl
        def output_released(self, release):
            raise RuntimeError("bug in observer")

    (path,) = make_guard(Crashes()).check(pictures["new"]).save(tmp_path / "out")
    assert path.exists()
    assert caplog.text.count("bug in observer") == 2


def test_plugin_faults_stop_the_build(make_guard):
    class Unknown:
        @hookimpl
        def find_evidense(self, picture):
            return []

    class Twice:
        @hookimpl
        def register_embedders(self):
            return {"mini": None}

    class Crashes:
        @hookimpl
        def register_index_backends(self):
            raise RuntimeError("bug")

    for plugin in (Unknown(), Twice(), Crashes()):
        with pytest.raises(PluginFault, match=type(plugin).__name__):
            make_guard(plugin)


def test_more_rows_than_pictures_is_never_matched_up_wrongly(guard, pictures, monkeypatch):
    real = guard.fingerprint
    monkeypatch.setattr(guard, "fingerprint", lambda batch: real(ImageBatch(batch.pictures[:1])))
    with pytest.raises((IndexError, ValueError)):
        guard.check([pictures["new"], pictures["fox"]])
