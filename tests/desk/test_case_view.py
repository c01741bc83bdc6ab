"""What a case shows: each work with rights, signals and place in the image; the run in words; failed checks."""

import io
import json
import math
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from guardrail.desk.web.case_pictures import difference, drawn_on, laid_work
from guardrail.desk.web.case_places import Placement, frame_share, placed
from guardrail.desk.web.case_plot import Measuring, Scale, draw_plot, no_nearer
from guardrail.desk.web.case_rights import changed_words, rights_facts, standing_of
from guardrail.desk.web.case_view import Basis, case_view
from guardrail.records import (
    VIEWS,
    Adapter,
    BitsLimit,
    Calibration,
    CheckFailed,
    CopyMatch,
    CountLimit,
    Decision,
    Disposition,
    ExactMatch,
    GenerationContext,
    GeometryMatch,
    HashMatch,
    Histogram,
    InputMatch,
    InputPicture,
    Limits,
    MemorisationSign,
    Neighbour,
    Point,
    Region,
    RemedyTried,
    Signal,
    SignalLimits,
    SignUnavailable,
    SimilarityLimit,
    Unproved,
    Verdict,
    Work,
)

AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
LIMITS = Limits(
    calibration="a" * 64,
    pdq=BitsLimit(flag_within_bits=64, block_within_bits=31),
    copy=SimilarityLimit(flag_above=0.5, block_above=0.8),
    clip=SimilarityLimit(flag_above=0.9),
    geometry=CountLimit(flag_at_least=8, block_at_least=15),
    tile_l2_within=0.15,
)
SIGNALS = (Signal.GEOMETRY, Signal.COPY, Signal.PDQ, Signal.CLIP)
FOX = Work(work_id="fox", bank="zoo", title="A red fox", creator="Ada Field", rights_holder="Field Ltd", licence="none")
OWL = Work(work_id="owl", bank="zoo", title="Owl")
FRAME = (Point(x=0.25, y=0.0), Point(x=0.75, y=0.0), Point(x=0.75, y=1.0), Point(x=0.25, y=1.0))


@dataclass
class Details:
    """What `case_view` needs of a case."""

    verdict: Verdict
    context: GenerationContext | None = None


def _verdict(*evidence, nearest=(), calibration="a" * 64, **rest):
    return Verdict(
        image="images[0]",
        pixels_sha256="0" * 64,
        at=AT,
        decision=Decision.FLAG,
        rule="perceptual hash near a work",
        explanation="Flagged.",
        evidence=evidence,
        nearest=nearest,
        index_snapshot="1" * 64,
        policy_sha256="2" * 64,
        calibration=calibration,
        **rest,
    )


def _view(*evidence, context=None, basis=None, remedies=(), **rest):
    basis = basis or Basis(LIMITS, None, {("zoo", "fox"): FOX, ("zoo", "owl"): OWL}, SIGNALS)
    return case_view(Details(_verdict(*evidence, **rest), context), basis, AT, remedies)


def _signal(view, name, number=1):
    return next(one for one in view.works[number - 1].signals if one.signal == name)


def _calibrated(**kept):
    drawn = Calibration.model_construct(
        id="a" * 64, signals=tuple(SignalLimits(signal=signal, pictures=10, **said) for signal, said in kept.items())
    )
    return Basis(LIMITS, drawn, {("zoo", "fox"): FOX}, SIGNALS)


# --- signals -----------------------------------------------------------------------------------------------------


def test_each_signal_says_value_limits_and_what_it_reaches():
    view = _view(
        HashMatch(work=FOX, signal=Signal.PDQ, distance_bits=40, view="flip_left_right"),
        CopyMatch(work=FOX, similarity=0.91),
    )
    pdq, copy, geometry = (_signal(view, name) for name in ("pdq", "copy", "geometry"))
    assert (pdq.value, pdq.flag, pdq.block, pdq.reaches) == (40, 64, 31, "flag")
    assert "mirrored" in pdq.note
    assert (copy.value_text, copy.reaches) == ("0.910", "block")
    assert (geometry.value, geometry.value_text, geometry.reaches) == (None, "not within the flag limit", "accept")
    assert view.works[0].reaches == "block"


def test_the_limit_of_a_bank_is_the_one_shown():
    from guardrail.records import BankLimit

    limits = LIMITS.model_copy(update={"banks": (BankLimit(bank="zoo", signal=Signal.COPY, limit=0.95),)})
    view = _view(CopyMatch(work=FOX, similarity=0.7), basis=Basis(limits, None, {}, SIGNALS))
    assert _signal(view, "copy").flag == 0.95
    assert _signal(view, "copy").reaches == "accept"


def test_works_are_numbered_nearest_first_and_each_once():
    near = tuple(
        Neighbour(work=work, row=row, signal=Signal.COPY, similarity=value)
        for row, (work, value) in enumerate([(OWL, 0.9), (FOX, 0.4)])
    )
    view = _view(HashMatch(work=FOX, signal=Signal.PDQ, distance_bits=60), nearest=near)
    assert [(one.number, one.work_id) for one in view.works] == [(1, "owl"), (2, "fox")]
    assert _signal(view, "copy", 2).value == 0.4


def test_exact_match_stands_first_and_has_no_plot():
    view = _view(ExactMatch(work=FOX, signal=Signal.PIXELS), HashMatch(work=FOX, signal=Signal.PDQ, distance_bits=0))
    first = view.works[0].signals[0]
    assert (first.signal, first.value_text, first.plot) == ("pixels", "the same", "")
    assert _signal(view, "pdq").reaches == "block"


def test_unproved_likeness_is_told_as_doubt():
    view = _view(CopyMatch(work=FOX, similarity=0.9), Unproved(work=FOX, inliers=2, keypoints=120))
    assert "found no region" in view.works[0].doubts[0]


def test_tile_that_differs_is_told():
    frame = {"image_corners": FRAME, "inliers": 40, "overlap": 0.8}
    assert "differs" in _signal(_view(GeometryMatch(work=FOX, tile_l2=0.3, **frame)), "geometry").note
    assert "agrees" in _signal(_view(GeometryMatch(work=FOX, tile_l2=0.1, **frame)), "geometry").note


def test_place_counts_clean_pictures_and_copies_farther_than_the_value():
    background = Histogram(low=0.0, high=0.5, counts=(90, 0, 0, 0, 9), far=1)
    copies = Histogram(low=0.5, high=1.0, counts=(1, 0, 0, 0, 9))
    basis = _calibrated(**{Signal.COPY: {"background": background, "copies": copies}})
    near = _signal(_view(CopyMatch(work=FOX, similarity=0.85), basis=basis), "copy").place
    assert "100 of 100 clean pictures" in near
    assert "1 of 10 edited copies" in near
    tie = _signal(_view(CopyMatch(work=FOX, similarity=0.5), basis=basis), "copy").place
    assert "0 of 10 edited copies" in tie


def test_place_of_bits_counts_from_the_far_side():
    histogram = Histogram(low=20, high=120, counts=(1, 0, 0, 0, 0, 0, 0, 0, 0, 9), far=5)
    assert no_nearer(histogram, 64, Scale(256, 0, whole=True)) == (14, 15)
    assert no_nearer(histogram, 10, Scale(256, 0, whole=True)) == (15, 15)
    assert no_nearer(histogram, 25, Scale(256, 0, whole=True))[0] == 14, "a bin that holds the value is not farther"


def test_without_kept_distributions_that_is_said():
    assert "never calibrated" in _signal(_view(CopyMatch(work=FOX, similarity=0.6)), "copy").place
    assert (
        "kept no distribution"
        in _signal(_view(CopyMatch(work=FOX, similarity=0.6), basis=_calibrated(copy={})), "copy").place
    )


def test_signal_that_kept_its_shipped_limits_says_why():
    assert (
        "too few clean pictures"
        in _signal(_view(CopyMatch(work=FOX, similarity=0.6), basis=_calibrated()), "copy").place
    )


def test_calibration_that_is_no_longer_in_force_is_told():
    view = _view(calibration="b" * 64)
    assert not view.calibration.in_force
    assert "other limits are in force" in view.calibration.words
    assert _view(calibration="uncalibrated").calibration.uncalibrated
    assert _view(calibration=f"{'a' * 64}, stale").calibration.stale


# --- plots -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-1.0, 0.31, 0.999, 1.0, None])
def test_plot_is_well_formed_and_within_its_frame(value):
    histogram = Histogram(low=-0.2, high=0.4, counts=tuple(range(48)), far=3)
    measuring = Measuring('a "title" <script>', Scale(-1, 1, whole=False), value, 0.5, 0.8, histogram, histogram)
    svg = ElementTree.fromstring(str(draw_plot(measuring)))
    space = "{http://www.w3.org/2000/svg}"
    assert svg.find(f"{space}title").text == 'a "title" <script>'
    assert svg.find(f"{space}script") is None
    assert (svg.find(f"{space}path[@class='plot-value']") is None) == (value is None)
    for words in svg.iter(f"{space}text"):
        x, length = float(words.get("x")), 5.6 * len(words.text)
        left = x - length if words.get("text-anchor") == "end" else x
        assert left >= -1
        assert left + length <= 361, words.text


@pytest.mark.parametrize(
    ("scale", "value", "flag", "block"),
    [(Scale(256, 0, whole=True, unit="bits"), 0, 64, 31), (Scale(0, math.inf, whole=True, unit="points"), 4000, 8, 15)],
)
def test_nearer_lies_farther_right(scale, value, flag, block):
    svg = ElementTree.fromstring(str(draw_plot(Measuring("t", scale, value, flag, block))))
    places = [
        float(path.get("d")[1:].split()[0])
        for path in svg.iter("{http://www.w3.org/2000/svg}path")
        if path.get("stroke") and path.get("class") != "plot-axis"
    ]
    assert places == sorted(places), "flag, then block, then the value"
    assert places[0] < places[1] < places[2]


def test_plot_without_anything_to_draw_is_still_a_plot():
    assert "far" in draw_plot(Measuring("t", Scale(0, math.inf, whole=True), None, None, None))


def test_same_measurement_is_the_same_drawing():
    measuring = Measuring(
        "t", Scale(-1, 1, whole=False), 1 / 3, 0.5, None, Histogram(low=0, high=1 / 7, counts=(1, 2, 3))
    )
    assert draw_plot(measuring) == draw_plot(replace(measuring))
    assert "style=" not in draw_plot(measuring)


# --- where the work lies -----------------------------------------------------------------------------------------


def _drawing():
    """A picture without symmetry, 40 x 24."""
    pixels = np.random.default_rng(4).integers(0, 255, (3, 5, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    return Image.fromarray(pixels)


def _file(picture):
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize("view", VIEWS)
def test_work_is_turned_back_onto_an_image_that_matched_in_a_view(view):
    """An image that, turned by a view as Pillow turns, is the work."""
    work = _drawing()
    undo = {"rotate_90": "rotate_270", "rotate_270": "rotate_90"}.get(view, view)
    image = work if view == "identity" else work.transpose(getattr(Image.Transpose, undo.upper()))
    placement = placed((HashMatch(work=FOX, signal=Signal.PDQ, distance_bits=3, view=view),), ())
    laid = laid_work(_file(work), placement, image.size)
    apart = Image.open(io.BytesIO(difference(_file(image), laid)))
    assert apart.size == image.size
    assert np.asarray(apart.convert("RGB"))[2:-2, 2:-2].mean() < 3, "but for the seams of the blocks"


def test_geometry_lays_the_frame_where_its_corners_say():
    match = GeometryMatch(work=FOX, inliers=30, overlap=0.7, image_corners=FRAME)
    placement = placed((match, CopyMatch(work=FOX, similarity=0.9)), ())
    assert placement.source == "geometry"
    onto = np.reshape(placement.to_image, (3, 3))
    for corner, (x, y) in zip(FRAME, [(0, 0), (1, 0), (1, 1), (0, 1)], strict=True):
        u, v, w = onto @ [x, y, 1]
        assert (u / w, v / w) == pytest.approx((corner.x, corner.y))
    assert (placement.share_of_work, placement.share_of_image) == pytest.approx((1.0, 0.5))


def test_tile_of_the_work_lies_over_the_whole_image():
    tile = CopyMatch(
        work=FOX, signal=Signal.TILE, similarity=0.9, work_region=Region(left=0.4, top=0, width=0.6, height=0.6)
    )
    placement = placed((tile,), ())
    onto = np.reshape(placement.to_image, (3, 3))
    assert onto @ [0.4, 0, 1] == pytest.approx([0, 0, 1])
    assert onto @ [1.0, 0.6, 1] == pytest.approx([1, 1, 1])
    assert placement.share_of_work == pytest.approx(0.36)


@pytest.mark.parametrize(
    ("corners", "of_work", "of_image"),
    [
        (((0, 0), (1, 0), (1, 1), (0, 1)), 1, 1),
        (((-1, 0), (1, 0), (1, 1), (-1, 1)), 0.5, 1),
        (((-1, -1), (2, -1), (2, 2), (-1, 2)), 1 / 9, 1),
        (((2, 2), (3, 2), (3, 3), (2, 3)), 0, 0),
        (((0.5, -0.5), (1.5, 0.5), (0.5, 1.5), (-0.5, 0.5)), 0.5, 1),
        (((0.5, 0.5), (0.5, 0.5), (0.5, 0.5), (0.5, 0.5)), 0, 0),
    ],
)
def test_share_of_a_frame_in_the_image(corners, of_work, of_image):
    assert frame_share(corners) == pytest.approx((of_work, of_image))


def test_share_of_a_frame_agrees_with_counted_pixels():
    corners = ((-0.2, 0.1), (0.8, -0.3), (1.3, 0.9), (0.1, 1.2))
    side, reach = 400, 2.0
    places = (np.stack(np.meshgrid(*[(np.arange(side) + 0.5) / side * 2 * reach - reach] * 2), -1)).reshape(-1, 2)
    inside = np.ones(len(places), bool)
    for here, there in zip(corners, (*corners[1:], corners[0]), strict=True):
        edge, from_here = np.subtract(there, here), places - here
        inside &= edge[0] * from_here[:, 1] - edge[1] * from_here[:, 0] >= 0
    seen = inside & (places >= 0).all(1) & (places <= 1).all(1)
    assert frame_share(corners)[0] == pytest.approx(seen.sum() / inside.sum(), abs=0.01)


def test_degenerate_frame_falls_back_to_the_view():
    flat = tuple(Point(x=0.5, y=0.5) for _ in range(4))
    assert placed((GeometryMatch(work=FOX, inliers=30, overlap=0.7, image_corners=flat),), ()).source == "none"


def test_regions_are_polygons_of_both_pictures():
    tile = CopyMatch(
        work=FOX, signal=Signal.TILE, similarity=0.8, region=Region(left=0.5, top=0.5, width=0.5, height=0.5)
    )
    match = GeometryMatch(work=FOX, inliers=30, overlap=0.7, image_corners=FRAME, work_hull=FRAME[:3])
    geometry, part = _view(tile, match).works[0].regions
    assert (geometry.kind, len(geometry.image), len(geometry.work)) == ("geometry", 4, 3)
    assert part.image == ((0.5, 0.5), (1.0, 0.5), (1.0, 1.0), (0.5, 1.0))
    assert part.work == ((0, 0), (1, 0), (1, 1), (0, 1))


def test_outline_is_drawn_where_it_lies():
    drawn = Image.open(
        io.BytesIO(drawn_on(_file(Image.new("RGB", (90, 90))), [((0, 0), (0.5, 0), (0.5, 0.5), (0, 0.5))]))
    )
    pixels = np.asarray(drawn).astype(int)
    assert drawn.size == (900, 900)
    assert pixels[300, 450].sum() > 0
    assert pixels[300, 300].sum() == 0
    assert pixels[700, 700].sum() == 0


def test_laid_work_is_clear_beside_the_frame():
    placement = Placement((0.5, 0, 0, 0, 1, 0, 0, 0, 1), "geometry", "")
    laid = np.asarray(Image.open(io.BytesIO(laid_work(_file(_drawing()), placement, (80, 40)))))
    assert laid[20, 10, 3] == 255
    assert laid[20, 60, 3] == 0


# --- rights ------------------------------------------------------------------------------------------------------


def _fact(work, label, at=AT):
    return next(one for one in rights_facts(work, at) if one.label == label)


def test_rights_say_what_is_not_known():
    assert _fact(OWL, "rights holder").text == "not stated in the index"
    assert _fact(OWL, "opt-out").text == "none entered"


@pytest.mark.parametrize(("days", "words"), [(-1, "opted out on 2026-11-21"), (1, "takes effect on 2026-11-23")])
def test_opt_out_is_dated_and_alarming(days, words):
    fact = _fact(OWL.model_copy(update={"opted_out_at": AT + timedelta(days=days)}), "opt-out")
    assert words in fact.text
    assert fact.alarming


def test_licence_that_ended_protects_again():
    licensed = OWL.model_copy(update={"disposition": Disposition.CREDIT, "expires_at": AT - timedelta(days=1)})
    assert _fact(licensed, "expiry").alarming
    assert "licence ended on 2026-11-21" in _fact(licensed, "expiry").text
    assert standing_of(licensed, AT) == "protected"
    assert standing_of(licensed, AT - timedelta(days=2)) == "licensed"
    assert standing_of(OWL.model_copy(update={"expires_at": AT}), AT) == "expired"


def test_duplicates_in_training_are_told():
    assert "12 near-duplicates" in _fact(OWL.model_copy(update={"multiplicity": 12}), "in the training data").text


def test_change_since_the_verdict_is_told():
    assert changed_words(FOX, FOX) == ""
    assert "licence" in changed_words(FOX, FOX.model_copy(update={"licence": "CC0"}))
    assert "withdrawn" in changed_words(FOX, None)
    assert "adapter" in changed_words(FOX, None, elsewhere=True)


def test_facts_are_those_of_now():
    freed = FOX.model_copy(update={"disposition": Disposition.IGNORE})
    view = _view(CopyMatch(work=FOX, similarity=0.9), basis=Basis(LIMITS, None, {("zoo", "fox"): freed}, SIGNALS))
    assert view.works[0].standing_word == "generic"
    assert "what a match means" in view.works[0].changed


# --- the run -----------------------------------------------------------------------------------------------------


def _context(**said):
    return GenerationContext(pipeline="StableDiffusionPipeline", at=AT, **said)


def test_run_of_a_file_is_not_invented():
    assert _view().run is None
    run = _view(run_id="r1").run
    assert run is not None
    assert run.facts[0].text == "not known"


def test_what_could_not_be_read_is_told_apart_from_what_is_not_there():
    run = _view(context=_context(unread=("seed: the generator was a list",))).run
    said = {fact.label: fact.text for fact in run.facts}
    assert said["seed"] == "could not be read"
    assert "not known" in said["model"]


@pytest.mark.parametrize(("strength", "words"), [(0.2, "most of the input"), (0.5, "shapes"), (0.9, "little")])
def test_strength_is_explained(strength, words):
    run = _view(context=_context(strength=strength)).run
    assert words in next(fact.text for fact in run.facts if fact.label == "strength")


def test_adapter_that_only_bears_a_name_alarms():
    known = Adapter(name="style", weight=0.8, sha256="3" * 64, known_as="style", trained_on=40)
    doubted = known.model_copy(update={"doubted": True})
    good, bad = _view(context=_context(adapters=(known, doubted))).run.adapters
    assert (good.weight, good.trained_on, good.alarming) == ("0.8", "40 images", False)
    assert bad.alarming
    assert "only bears the name" in bad.known


def test_signs_say_value_limits_and_meaning():
    high = MemorisationSign(
        sign="noise_magnitude", value=2.5, unit="ratio", reaches=Decision.BLOCK, flag_above=1.0, block_above=2.0
    )
    dumb = MemorisationSign(sign="update_norm", value=1.0)
    gone = SignUnavailable(sign="early_match", reason="the pipeline has no VAE")
    one, two, three = _view(high, dumb, gone).run.signs
    assert (one.value_text, one.reaches) == ("2.5 ratio", "block")
    assert "flag 1, block 2" in one.limits_text
    assert "no limit was fitted" in two.text
    assert (three.reaches, three.text) == ("unavailable", "the pipeline has no VAE")


def test_image_that_repeats_the_users_input_says_so():
    context = _context(inputs=(InputPicture(name="image", role="init", pixels_sha256="4" * 64),), strength=0.3)
    found = InputMatch(input="image", role="init", signal=Signal.PDQ, distance_bits=8, works=(FOX,))
    run = _view(found, context=context, input_repeated="image").run
    texts = " ".join(fact.text for fact in run.inputs)
    assert "8 bits by pdq" in texts
    assert "A red fox" in texts
    assert "need not have memorised" in texts
    assert "does not repeat" in " ".join(fact.text for fact in _view(context=context).run.inputs)


def test_remedies_are_told():
    tried = RemedyTried(remedy="fresh_seed", images=("a",), before=(Decision.BLOCK,), after=(Decision.FLAG,))
    unfit = RemedyTried(remedy="prompt_noise", images=("a",), before=(Decision.BLOCK,), unfit="there is no prompt")
    lost = RemedyTried(remedy="any", images=("a",), before=(Decision.BLOCK,), failed="out of memory")
    said = _view(context=_context(), remedies=(tried, unfit, lost)).run.remedies
    assert said == (
        "another seed: tried, then flag",
        "noise on the prompt: did not fit, there is no prompt",
        "any remedy: tried, and the outcome could not be judged: out of memory",
    )


def test_failed_check_is_told_in_words():
    failed = _view(CheckFailed(check="pdq_quality", image="images[0]", error="PDQ quality 3 of 100")).failed
    assert failed == ("the perceptual hash could not be checked: PDQ quality 3 of 100",)


def test_attribution_that_was_not_estimated_says_so():
    assert _view().owes.outcome.startswith("Not estimated")


def test_view_is_json():
    match = GeometryMatch(work=FOX, inliers=30, overlap=0.7, image_corners=FRAME, work_hull=FRAME)
    document = json.loads(json.dumps(asdict(_view(match, context=_context(prompts={"prompt": "a fox"})))))
    assert document["works"][0]["regions"][0]["image"][0] == [0.25, 0.0]
    assert document["run"]["prompts"] == [{"label": "prompt", "text": "a fox", "alarming": False}]


def test_hostile_texts_stay_text():
    bad = FOX.model_copy(update={"title": "<script>alert(1)</script>", "licence": '"><img src=x onerror=alert(1)>'})
    view = _view(CopyMatch(work=bad, similarity=0.9), basis=Basis(LIMITS, None, {}, SIGNALS))
    assert view.works[0].title == "<script>alert(1)</script>", "escaping is the template's, text is not altered"
    assert all("<script" not in one.plot for one in view.works[0].signals)
