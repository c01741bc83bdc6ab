import io
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from guardrail.carriers import Picture
from guardrail.judge import Findings, decide
from guardrail.plugins import build_plugins, call_guards, evidence_of
from guardrail.records import (
    BitsLimit,
    CheckFailed,
    CopyMatch,
    CountLimit,
    Decision,
    Disposition,
    GeometryMatch,
    Limits,
    Neighbour,
    Signal,
    SimilarityLimit,
    Unproved,
    Work,
)
from guardrail.settings import Policy, Settings
from guardrail_hooks import geometry_proof

LIMITS = Limits(
    copy=SimilarityLimit(flag_above=0.7, block_above=0.9),
    pdq=BitsLimit(flag_within_bits=64),
    geometry=CountLimit(flag_at_least=8, block_at_least=15),
)


def painted(seed, size=(256, 256)):
    chance = np.random.default_rng(seed)
    picture = Image.new("RGB", size, "grey")
    pen = ImageDraw.Draw(picture)
    for _ in range(90):
        (x, y), (w, h) = chance.integers(0, size), chance.integers(6, 48, 2)
        colour = tuple(map(int, chance.integers(0, 256, 3)))
        draw = (pen.ellipse, pen.rectangle)[int(chance.integers(2))]
        draw((int(x), int(y), int(x + w), int(y + h)), fill=colour)
    return picture.filter(ImageFilter.GaussianBlur(0.8))


class Index:
    """An index of some pictures, as far as proof needs one."""

    def __init__(self, *pictures, snapshot="s"):
        self.pictures = pictures
        self.header = SimpleNamespace(snapshot=snapshot)
        self.asked = []

    def preview(self, row):
        self.asked.append(row)
        small = self.pictures[row].copy()
        small.thumbnail((192, 192))
        file = io.BytesIO()
        small.save(file, "JPEG", quality=85)
        return file.getvalue()


@pytest.fixture(autouse=True)
def _fresh_memory(monkeypatch):
    monkeypatch.setattr(geometry_proof, "_memory", geometry_proof._Memory(4))


def near(row=0, similarity=0.95, signal=Signal.COPY, **said):
    measure = {"distance_bits": int(similarity)} if signal in (Signal.PDQ, Signal.BYTES) else {"similarity": similarity}
    return Neighbour(work=Work(work_id=f"work-{row}"), row=row, signal=signal, **measure, **said)


def find(image, index, *neighbours, proof="near", limits=LIMITS):
    pixels = torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1)
    settings = SimpleNamespace(proof=proof)
    return geometry_proof.find_evidence(Picture("a", pixels), neighbours or (near(),), index, limits, settings)


@pytest.mark.parametrize(
    "edit",
    [
        lambda work: work.crop((40, 40, 200, 200)).resize((512, 512)),
        lambda work: work.rotate(20, fillcolor="white"),
        lambda work: ImageOps.mirror(work),
        lambda work: ImageOps.mirror(work).rotate(90),
        lambda work: work.resize((512, 280)),
        lambda work: ImageOps.grayscale(work),
    ],
    ids=["crop", "turn", "mirror", "mirror and turn", "squash", "grey"],
)
def test_hook_find_evidence_proves_an_edited_copy(edit):
    work = painted(1)
    (match,) = find(edit(work), Index(work))
    assert isinstance(match, GeometryMatch)
    assert LIMITS.geometry.reached(match.inliers) is Decision.BLOCK
    assert match.tile_l2 < 0.15


def test_work_pasted_into_another_picture_is_proved_and_located():
    work, image = painted(1), painted(2, (400, 400))
    image.paste(work.resize((200, 200)), (180, 40))
    (match,) = find(image, Index(work))
    assert match.inliers >= 15
    assert (match.image_corners[0].x, match.image_corners[0].y) == pytest.approx((0.45, 0.1), abs=0.02)
    assert (match.image_corners[2].x, match.image_corners[2].y) == pytest.approx((0.95, 0.6), abs=0.02)
    assert 0.4 < match.overlap <= 1


def test_other_picture_in_the_same_style_is_unproved():
    (answer,) = find(painted(2), Index(painted(1)))
    assert isinstance(answer, Unproved)
    assert answer.keypoints >= 60


def test_only_what_the_descriptor_calls_a_copy_is_unproved():
    assert find(painted(2), Index(painted(1)), near(similarity=0.89)) == []
    assert find(painted(2), Index(painted(1)), near(similarity=20, signal=Signal.PDQ)) == []


@pytest.mark.parametrize("flat_one", ["image", "work"])
def test_flat_pictures_are_neither_proved_nor_unproved(flat_one):
    flat = Image.new("RGB", (256, 256), "white")
    ImageDraw.Draw(flat).rectangle((80, 80, 180, 180), fill="red")
    image, work = (flat, painted(1)) if flat_one == "image" else (painted(1), flat)
    assert find(image, Index(work)) == []


def test_near_looks_only_at_works_that_reach_a_limit_or_nearly():
    index = Index(painted(1), painted(1))
    assert find(painted(1), index, near(0, 0.59), near(1, 0.5)) == []
    assert index.asked == []
    assert [match.work.work_id for match in find(painted(1), index, near(0, 0.61), near(1, 0.5))] == ["work-0"]
    found = find(painted(1), index, near(0, 0.59), near(1, 0.5), proof="always")
    assert [match.work.work_id for match in found] == ["work-0", "work-1"]


def test_generic_works_take_no_protected_ones_place():
    index = Index(*[painted(seed) for seed in range(5)])
    generic = [near(row, 0.99) for row in range(4)]
    generic = [
        one.model_copy(update={"work": one.work.model_copy(update={"disposition": Disposition.IGNORE})})
        for one in generic
    ]
    found = find(painted(4), index, *generic, near(4, 0.72))
    assert index.asked[0] == 4
    assert "work-4" in {match.work.work_id for match in found}


def test_never_looks_at_nothing():
    index = Index(painted(1))
    assert find(painted(1), index, proof="never") == []
    assert find(painted(1), index, limits=LIMITS.model_copy(update={"geometry": CountLimit()})) == []
    assert index.asked == []


def test_at_most_three_works_nearest_first_and_each_once():
    index = Index(*[painted(seed) for seed in range(1, 6)])
    many = [near(row, 0.95 - row / 10) for row in range(5)] + [near(4, 20, Signal.PDQ), near(0, 30, Signal.PDQ)]
    find(painted(9), index, *many)
    assert index.asked == [0, 4, 1]


def test_exact_copies_need_no_proof():
    index = Index(painted(1))
    assert find(painted(1), index, near(signal=Signal.BYTES, similarity=0), near()) == []


def test_features_are_made_once_for_each_row_and_snapshot():
    one, rebuilt = Index(painted(1)), Index(painted(2), snapshot="t")
    for _ in range(3):
        assert isinstance(find(painted(1), one)[0], GeometryMatch)
    assert one.asked == [0]
    assert isinstance(find(painted(1), rebuilt)[0], Unproved)


def test_memory_is_bounded():
    index = Index(*[painted(seed) for seed in range(1, 7)])
    for row in range(6):
        geometry_proof._memory.of(index, row)
    assert len(geometry_proof._memory) == 4
    geometry_proof._memory.of(index, 5)
    geometry_proof._memory.of(index, 0)
    assert index.asked == [0, 1, 2, 3, 4, 5, 0]


def test_preview_that_cannot_be_read_is_an_error():
    index = Index(painted(1))
    index.preview = lambda row: b"cut"
    with pytest.raises(OSError, match="cannot identify"):
        find(painted(1), index)


def test_settings_name_the_ways_to_prove():
    assert Settings().proof == "near"
    assert Settings(proof="always").proof == "always"


def test_crash_of_proof_is_a_failed_check_and_lowers_nothing():
    index = Index(painted(1))
    index.preview = lambda row: b"cut"
    pixels = torch.from_numpy(np.asarray(painted(2)).copy()).permute(2, 0, 1)
    given = {"picture": Picture("a", pixels), "neighbours": (near(),), "index": index, "limits": LIMITS}
    hooks = build_plugins()
    answers = [
        answer
        for answer in call_guards(hooks, "find_evidence", context=None, settings=Settings(), **given)
        if answer.plugin == "geometry_proof"
    ]
    (failed,) = [found for answer in answers for found in evidence_of(answer, "a")]
    assert isinstance(failed, CheckFailed)
    likeness = CopyMatch(work=near().work, similarity=0.95)
    about = Findings("a", "0" * 64, (likeness, failed), (near(),), LIMITS, "1" * 64, datetime.now(UTC))
    assert decide(about, Policy.shipped()).decision is Decision.BLOCK
    rules = [{"name": "crash", "evidence": "check_failed", "decision": "flag"}, *Policy.shipped().rules]
    assert decide(about, Policy.model_validate({"rules": rules})).rule == "copy descriptor of a copy"
