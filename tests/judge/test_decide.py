from datetime import UTC, datetime, timedelta

import pytest

from guardrail.judge import Findings, decide, gather, nearest_works
from guardrail.records import (
    BitsLimit,
    CheckFailed,
    CopyMatch,
    CountLimit,
    Decision,
    Disposition,
    ExactMatch,
    GeometryMatch,
    HashMatch,
    Limits,
    Neighbour,
    PixelMatch,
    Point,
    SemanticMatch,
    Signal,
    SimilarityLimit,
    Unproved,
    Work,
)
from guardrail.settings import Policy

NOW = datetime(2026, 11, 22, tzinfo=UTC)
LIMITS = Limits(
    pdq=BitsLimit(flag_within_bits=48, block_within_bits=31),
    phash=BitsLimit(flag_within_bits=8),
    copy=SimilarityLimit(flag_above=0.7, block_above=0.9),
    clip=SimilarityLimit(flag_above=0.8),
    correlation=SimilarityLimit(flag_above=0.85, block_above=0.9),
    pdq_quality_at_least=50,
)
FOX = Work(work_id="fox", title="Fox", creator="Åsa", bank="animals")
LICENSED = FOX.model_copy(update={"work_id": "owl", "disposition": Disposition.CREDIT, "licence": "by agreement"})
GENERIC = FOX.model_copy(update={"work_id": "sky", "disposition": Disposition.IGNORE, "bank": "generic"})


def verdict_on(*evidence, policy=None, limits=LIMITS, neighbours=()):
    about = Findings("images[0]", "a" * 64, tuple(evidence), neighbours, limits, "b" * 64, NOW)
    return decide(about, policy or Policy.shipped())


def copy(work=FOX, similarity=0.95):
    return CopyMatch(work=work, similarity=similarity)


def test_nothing_near_is_accepted():
    verdict = verdict_on()
    assert verdict.decision is Decision.ACCEPT
    assert verdict.explanation == "Accepted: nothing protected is near."


@pytest.mark.parametrize(
    ("evidence", "decision"),
    [
        (ExactMatch(work=FOX, signal=Signal.BYTES), Decision.BLOCK),
        (ExactMatch(work=FOX, signal=Signal.PIXELS), Decision.BLOCK),
        (HashMatch(work=FOX, signal=Signal.PDQ, distance_bits=31), Decision.BLOCK),
        (HashMatch(work=FOX, signal=Signal.PDQ, distance_bits=32), Decision.FLAG),
        (HashMatch(work=FOX, signal=Signal.PHASH, distance_bits=0), Decision.FLAG),
        (copy(similarity=0.9), Decision.BLOCK),
        (copy(similarity=0.89), Decision.FLAG),
        (PixelMatch(work=FOX, similarity=0.9), Decision.BLOCK),
        (PixelMatch(work=FOX, similarity=0.86), Decision.FLAG),
        (SemanticMatch(work=FOX, similarity=1.0), Decision.FLAG),
        (CheckFailed(check="read_file", image="a", error="cut"), Decision.BLOCK),
        (CheckFailed(check="find_evidence:x", image="a", error="crash"), Decision.BLOCK),
        (CheckFailed(check="pdq_quality", image="a", error="flat"), Decision.FLAG),
    ],
)
def test_each_evidence_has_its_decision(evidence, decision):
    assert verdict_on(evidence).decision is decision


def test_most_severe_opinion_wins_whatever_the_order():
    mild, severe = copy(similarity=0.75), ExactMatch(work=FOX, signal=Signal.BYTES)
    assert verdict_on(mild, severe).rule == verdict_on(severe, mild).rule == "exact copy of a work"


def test_of_equally_severe_opinions_the_earlier_rule_speaks():
    proof = PixelMatch(work=FOX, similarity=0.99)
    assert verdict_on(copy(), proof).rule == verdict_on(proof, copy()).rule == "pixels nearly those of a work"


def test_failed_check_without_any_rule_blocks():
    policy = Policy.model_validate({"rules": [{"name": "only exact", "evidence": "exact_match", "decision": "flag"}]})
    assert verdict_on(CheckFailed(check="x", image="a", error="e"), policy=policy).decision is Decision.BLOCK


@pytest.mark.parametrize(
    "evidence",
    [
        ExactMatch(work=FOX, signal=Signal.PIXELS),
        copy(similarity=0.95),
        HashMatch(work=FOX, signal=Signal.PDQ, distance_bits=31),
    ],
)
def test_copy_that_no_rule_covers_is_blocked(evidence):
    policy = Policy.model_validate({"rules": [{"name": "r", "evidence": "check_failed", "decision": "block"}]})
    assert verdict_on(evidence, policy=policy).decision is Decision.BLOCK
    assert verdict_on(copy(similarity=0.75), policy=policy).decision is Decision.ACCEPT


@pytest.mark.parametrize(
    "said",
    [
        {"rules": []},
        {"rules": [{"name": "r", "evidence": "exact_match", "decision": "accept"}]},
        {"rules": [{"name": "r", "evidence": "hash_match", "signal": "pixel", "decision": "block"}]},
        {"rules": [{"name": "r", "evidence": "hash_match", "decision": "block"}], "banks": {"animals": []}},
    ],
)
def test_policy_that_lets_copies_through_unsaid_is_refused(said):
    with pytest.raises(ValueError, match=r"rule|at least 1"):
        Policy.model_validate(said)


def test_policy_that_accepts_failures_is_refused():
    with pytest.raises(ValueError, match="could not be checked"):
        Policy.model_validate({"rules": [{"name": "r", "evidence": "check_failed", "decision": "accept"}]})


def test_bank_rules_take_the_place_of_the_general_ones():
    strict = {"name": "strict bank", "evidence": "copy_match", "decision": "block"}
    policy = Policy.shipped().model_copy(update={"banks": {"animals": Policy(rules=[strict]).rules}})
    assert verdict_on(copy(similarity=0.75), policy=policy).rule == "strict bank"
    other = FOX.model_copy(update={"bank": "plants"})
    assert verdict_on(copy(other, 0.75), policy=policy).decision is Decision.FLAG


def test_licensed_work_passes_with_credit():
    verdict = verdict_on(copy(LICENSED))
    assert verdict.decision is Decision.ACCEPT
    assert [credit.work_id for credit in verdict.credits] == ["owl"]
    assert verdict.rule == "licensed work, credited"


def test_licensed_work_explains_a_farther_flag_but_never_a_block():
    assert verdict_on(copy(LICENSED, 0.95), copy(FOX, 0.8)).decision is Decision.ACCEPT
    assert verdict_on(copy(LICENSED, 0.95), copy(FOX, 0.94)).decision is Decision.BLOCK
    assert verdict_on(copy(LICENSED, 0.75), copy(FOX, 0.8)).decision is Decision.FLAG


def test_blocked_image_carries_no_credit():
    verdict = verdict_on(copy(LICENSED), ExactMatch(work=FOX, signal=Signal.BYTES))
    assert verdict.credits == ()


def test_generic_picture_suppresses_what_is_no_nearer_by_the_same_signal():
    assert verdict_on(copy(GENERIC, 0.95), copy(FOX, 0.95)).decision is Decision.ACCEPT
    assert verdict_on(copy(GENERIC, 0.95), copy(FOX, 0.96)).decision is Decision.BLOCK
    near_hash = HashMatch(work=FOX, signal=Signal.PDQ, distance_bits=10)
    assert verdict_on(copy(GENERIC, 0.99), near_hash).decision is Decision.BLOCK
    assert (
        verdict_on(HashMatch(work=GENERIC, signal=Signal.PDQ, distance_bits=10), near_hash).decision is Decision.ACCEPT
    )


def test_what_one_part_shows_is_not_explained_by_what_another_part_shows():
    limits = PROVING.model_copy(update={"tile": SimilarityLimit(flag_above=0.7, block_above=0.9)})

    def tile(work, similarity):
        return CopyMatch(work=work, similarity=similarity, signal=Signal.TILE)

    assert verdict_on(tile(FOX, 0.8), tile(GENERIC, 0.99), limits=limits).decision is Decision.FLAG
    assert verdict_on(region(31), region(90, work=GENERIC), limits=limits).decision is Decision.BLOCK
    assert verdict_on(region(31), region(90, work=LICENSED), limits=limits).decision is Decision.BLOCK


def test_exact_copy_is_never_explained_away():
    exact = ExactMatch(work=FOX, signal=Signal.PIXELS)
    assert verdict_on(ExactMatch(work=GENERIC, signal=Signal.PIXELS), exact).decision is Decision.BLOCK


def test_low_quality_is_excused_only_by_clearly_generic_imagery():
    poor = CheckFailed(check="pdq_quality", image="a", error="flat")
    assert verdict_on(poor, copy(GENERIC, 0.95)).decision is Decision.ACCEPT
    assert verdict_on(poor, copy(GENERIC, 0.75)).decision is Decision.FLAG
    assert verdict_on(poor, copy(GENERIC, 0.95), copy(FOX, 0.97)).decision is Decision.FLAG
    assert verdict_on(CheckFailed(check="read", image="a", error="e"), copy(GENERIC, 0.99)).decision is Decision.BLOCK


def test_blank_image_is_held_not_called_a_copy_of_a_blank_work():
    poor = CheckFailed(check="pdq_quality", image="a", error="flat")
    assert verdict_on(poor, copy(FOX, 1.0)).decision is Decision.FLAG
    assert verdict_on(poor, copy(FOX, 1.0), PixelMatch(work=FOX, similarity=1.0)).decision is Decision.BLOCK
    assert verdict_on(poor, ExactMatch(work=FOX, signal=Signal.PIXELS)).decision is Decision.BLOCK


def test_dates_are_honoured_at_judgement():
    past, future = NOW - timedelta(days=1), NOW + timedelta(days=1)
    assert verdict_on(copy(FOX.model_copy(update={"expires_at": past}))).decision is Decision.ACCEPT
    assert verdict_on(copy(FOX.model_copy(update={"expires_at": future}))).decision is Decision.BLOCK
    assert verdict_on(copy(LICENSED.model_copy(update={"opted_out_at": past}))).decision is Decision.BLOCK
    assert verdict_on(copy(LICENSED.model_copy(update={"opted_out_at": future}))).decision is Decision.ACCEPT
    assert verdict_on(copy(LICENSED.model_copy(update={"expires_at": past}))).decision is Decision.BLOCK


def test_explanation_names_work_measure_limit_and_that_it_is_uncalibrated():
    said = verdict_on(HashMatch(work=FOX, signal=Signal.PDQ, distance_bits=12, view="rotate_90")).explanation
    assert said == (
        "Blocked: perceptual hash of a copy; pdq is 12 bits (limit 31, uncalibrated) from 'Fox' by Åsa "
        "(bank animals), seen as rotate_90."
    )


# --- gathering -------------------------------------------------------------------------------------------------


def near(signal, value, work=FOX):
    bits = signal in (Signal.PDQ, Signal.PHASH, Signal.BYTES, Signal.PIXELS)
    measure = {"distance_bits": value} if bits else {"similarity": value}
    return Neighbour(work=work, row=0, signal=signal, **measure)


@pytest.mark.parametrize(
    ("neighbour", "is_evidence"),
    [
        (near(Signal.PDQ, 47), True),
        (near(Signal.PDQ, 48), True),
        (near(Signal.PDQ, 49), False),
        (near(Signal.PHASH, 8), True),
        (near(Signal.PHASH, 9), False),
        (near(Signal.COPY, 0.71), True),
        (near(Signal.COPY, 0.7), True),
        (near(Signal.COPY, 0.69), False),
        (near(Signal.CLIP, 0.8), True),
        (near(Signal.CLIP, 0.79), False),
        (near(Signal.BYTES, 0), True),
    ],
)
def test_evidence_begins_at_the_flag_limit(neighbour, is_evidence):
    assert bool(gather("a", (neighbour,), 100, LIMITS)) is is_evidence


def test_hash_of_a_poor_image_is_a_failed_check_and_no_evidence():
    for quality, kinds in ((49, ["check_failed"]), (50, ["hash_match"]), (51, ["hash_match"])):
        assert [found.kind for found in gather("a", (near(Signal.PDQ, 0),), quality, LIMITS)] == kinds


def test_nearest_lists_each_work_once_strongest_first():
    other = FOX.model_copy(update={"work_id": "owl"})
    found = nearest_works((near(Signal.COPY, 0.5), near(Signal.PDQ, 10), near(Signal.COPY, 0.6, other)), LIMITS, 5)
    assert [(one.work.work_id, one.signal) for one in found] == [("fox", Signal.PDQ), ("owl", Signal.COPY)]
    assert len(nearest_works((near(Signal.COPY, 0.5), near(Signal.COPY, 0.6, other)), LIMITS, 1)) == 1


# --- proof -----------------------------------------------------------------------------------------------------

PROVING = LIMITS.model_copy(update={"geometry": CountLimit(flag_at_least=8, block_at_least=15), "tile_l2_within": 0.15})
CORNERS = tuple(Point(x=x, y=y) for x, y in ((0, 0), (1, 0), (1, 1), (0, 1)))


def region(inliers, tile_l2=0.05, work=FOX):
    return GeometryMatch(work=work, inliers=inliers, overlap=0.63, image_corners=CORNERS, tile_l2=tile_l2)


def unproved(work=FOX):
    return Unproved(work=work, inliers=0, keypoints=120)


def proved_verdict(*evidence, policy=None):
    return verdict_on(*evidence, policy=policy, limits=PROVING)


def test_work_that_decided_is_listed_first():
    owl = FOX.model_copy(update={"work_id": "owl", "title": "Owl"})
    nearer = (near(Signal.COPY, 0.6), near(Signal.COPY, 0.1, owl))
    verdict = verdict_on(region(8, work=owl), limits=PROVING, neighbours=nearer)
    assert (verdict.decision, [one.work.work_id for one in verdict.nearest]) == (Decision.FLAG, ["owl", "fox"])


@pytest.mark.parametrize(
    ("inliers", "tile_l2", "decision"),
    [
        (7, 0.05, Decision.ACCEPT),
        (8, 0.05, Decision.FLAG),
        (14, 0.05, Decision.FLAG),
        (15, 0.05, Decision.BLOCK),
        (15, 0.15, Decision.BLOCK),
        (15, 0.151, Decision.FLAG),
        (15, None, Decision.BLOCK),
        (400, 0.5, Decision.FLAG),
    ],
)
def test_geometry_counts_points_and_flags_a_series(inliers, tile_l2, decision):
    assert proved_verdict(region(inliers, tile_l2)).decision is decision


@pytest.mark.parametrize(
    "flagged",
    [
        copy(similarity=0.75),
        HashMatch(work=FOX, signal=Signal.PDQ, distance_bits=40),
        PixelMatch(work=FOX, similarity=0.86),
    ],
)
def test_geometry_raises_a_flag_to_a_block(flagged):
    assert proved_verdict(flagged).decision is Decision.FLAG
    assert proved_verdict(flagged, region(14)).decision is Decision.FLAG
    verdict = proved_verdict(flagged, region(15))
    assert (verdict.decision, verdict.rule) == (Decision.BLOCK, "the same region as in a work")


@pytest.mark.parametrize("signal", [Signal.COPY, Signal.TILE])
def test_copy_that_a_closer_look_does_not_confirm_is_flagged(signal):
    limits = PROVING.model_copy(update={"tile": PROVING.copy_})
    likeness = CopyMatch(work=FOX, signal=signal, similarity=0.95)
    assert verdict_on(likeness, limits=limits).decision is Decision.BLOCK
    verdict = verdict_on(likeness, unproved(), limits=limits)
    assert verdict.decision is Decision.FLAG
    assert verdict.explanation == (
        f"Flagged: copy descriptor near a work; {signal} similarity 0.950 (limit 0.700, uncalibrated) with 'Fox' by "
        "Åsa (bank animals), but a closer look does not confirm it."
    )
    assert unproved() in verdict.evidence


@pytest.mark.parametrize(
    "proof",
    [
        ExactMatch(work=FOX, signal=Signal.PIXELS),
        HashMatch(work=FOX, signal=Signal.PDQ, distance_bits=31),
        PixelMatch(work=FOX, similarity=0.9, tile_l2=0.15),
        region(15),
    ],
)
def test_any_proof_keeps_the_block(proof):
    assert proved_verdict(copy(), unproved(), proof).decision is Decision.BLOCK


@pytest.mark.parametrize(
    "no_proof",
    [
        HashMatch(work=FOX, signal=Signal.PDQ, distance_bits=32),
        PixelMatch(work=FOX, similarity=0.89),
        region(14),
        region(15, work=FOX.model_copy(update={"work_id": "owl"}), tile_l2=0.3),
    ],
)
def test_what_is_no_proof_keeps_no_block(no_proof):
    assert proved_verdict(copy(), unproved(), no_proof).decision is Decision.FLAG


def test_look_at_another_work_lowers_nothing():
    other = FOX.model_copy(update={"work_id": "owl"})
    assert proved_verdict(copy(), unproved(other)).decision is Decision.BLOCK
    assert proved_verdict(copy(), unproved(FOX.model_copy(update={"bank": "plants"}))).decision is Decision.BLOCK


def test_proof_that_failed_lowers_nothing():
    crash = CheckFailed(check="find_evidence:geometry_proof", image="a", error="crash")
    assert proved_verdict(copy(), crash).decision is Decision.BLOCK
    flag_crashes = {"name": "crashes", "evidence": "check_failed", "decision": "flag"}
    lax = Policy.model_validate({"rules": [flag_crashes, *Policy.shipped().model_dump()["rules"]]})
    assert proved_verdict(copy(), crash, policy=lax).rule == "copy descriptor of a copy"


def test_proof_that_was_not_available_lowers_nothing():
    assert proved_verdict(copy()).decision is Decision.BLOCK
    assert proved_verdict(copy(), PixelMatch(work=FOX, similarity=0.86, tile_l2=0.4)).decision is Decision.BLOCK


@pytest.mark.parametrize(
    ("tile_l2", "decision"), [(0.15, Decision.BLOCK), (0.151, Decision.FLAG), (None, Decision.BLOCK)]
)
def test_pixels_of_a_series_are_flagged(tile_l2, decision):
    series = PixelMatch(work=FOX, similarity=0.95, tile_l2=tile_l2)
    assert proved_verdict(series).decision is decision
    assert verdict_on(series).decision is Decision.BLOCK  # where no limit for tiles is known
    assert proved_verdict(series, region(15)).decision is Decision.BLOCK


def test_copy_whose_region_differs_in_a_part_is_flagged():
    assert proved_verdict(copy(), region(60, tile_l2=0.4)).decision is Decision.FLAG
    assert proved_verdict(copy(), region(60, tile_l2=0.1)).decision is Decision.BLOCK


@pytest.mark.parametrize("flags", [[], [{"name": "likeness", "evidence": "copy_match", "decision": "accept"}]])
def test_lowered_block_is_flagged_whatever_the_policy_says_of_flags(flags):
    blocks = {"name": "copies", "evidence": "copy_match", "reaching": "block", "decision": "block"}
    policy = Policy.model_validate({"rules": [blocks, *flags]})
    assert proved_verdict(copy(), policy=policy).decision is Decision.BLOCK
    verdict = proved_verdict(copy(), unproved(), policy=policy)
    assert (verdict.decision, verdict.rule) == (Decision.FLAG, "likeness that a closer look does not confirm")


def test_strict_bank_may_block_what_is_lowered():
    strict = {"name": "strict bank", "evidence": "copy_match", "decision": "block"}
    policy = Policy.shipped().model_copy(update={"banks": {"animals": Policy(rules=[strict]).rules}})
    assert proved_verdict(copy(), unproved(), policy=policy).decision is Decision.BLOCK


def test_closer_look_alone_asks_for_nothing():
    assert proved_verdict(unproved()).decision is Decision.ACCEPT


def test_region_explains_itself():
    assert proved_verdict(region(41)).explanation == (
        "Blocked: the same region as in a work; 41 matching points (limit 15, uncalibrated) cover 63% of 'Fox' by Åsa "
        "(bank animals)."
    )
    assert proved_verdict(region(41, 0.4)).explanation.endswith("(bank animals), but a part of the picture differs.")


def test_work_of_which_a_copy_was_proved_is_listed_first():
    owl = FOX.model_copy(update={"work_id": "owl"})
    neighbours = (near(Signal.COPY, 0.8), near(Signal.COPY, 0.4, owl))
    about = Findings("a", "a" * 64, (copy(similarity=0.8), region(20, work=owl)), neighbours, PROVING, "b" * 64, NOW)
    assert [one.work.work_id for one in decide(about, Policy.shipped()).nearest] == ["owl", "fox"]
