"""The case page: what it shows, who may decide, what follows, and what stays veiled."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from guardrail.desk.web.case_words import QUESTIONS, age_words, reasons_of
from guardrail.desk.web.thumbnails import Thumbnails, small_picture, veiled_picture
from guardrail.memory import AuditFilter
from guardrail.records import Adapter, GenerationContext
from guardrail.records.review import ReviewAnswers

SEEDS = {"fox": 1, "elk": 4}  # of the works in conftest.py
WITHHOLD = {"outcome": "withhold", "reasons": ["expression_copied"], "note": "too near"}
BAD = '"><script>alert(1)</script>'


def drawing(seed, side=96):
    """A picture as the works of the index are drawn."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def near(work, other):
    """A picture that the guard flags as near a work; each `other` makes another one."""
    mixed = 0.6 * np.asarray(drawing(SEEDS[work]), float) + 0.4 * np.asarray(drawing(other), float)
    return Image.fromarray(mixed.round().astype(np.uint8))


def noted(desk, actor):
    """The actions in the audit of an organisation, oldest first."""
    return [one.action for one in reversed(desk.memory.audit.page(actor, AuditFilter()))]


def make_sensitive(desk, case):
    """Mark a case's image, as whoever opens cases may."""
    from sqlalchemy import update

    from guardrail.memory import Case

    with desk.memory._database.writing() as (session, _):
        session.execute(update(Case).where(Case.case_id == case).values(sensitive=True))


def picture_of(answer):
    return Image.open(io.BytesIO(answer.content))


# --- what it shows -----------------------------------------------------------------------------------------


def test_case_shows_pictures_signals_rights_and_run(client_as, open_case):
    context = GenerationContext(
        pipeline="SomePipeline", model_id="lab/painter", seed=7, adapters=(Adapter(name="flat-style", weight=0.8),)
    )
    case = open_case(context=context)
    page = client_as("reviewer").get(f"/cases/{case}").text
    for wanted in ("lab/painter", "flat-style", "by agreement", "perceptual hash (PDQ)", "Flagged:", "Not estimated"):
        assert wanted in page, wanted
    assert f'data-image="/cases/{case}/picture"' in page
    assert re.search(r'data-placement="\[[-0-9., e]+\]"', page)
    assert page.count("<svg") > 3  # a plot for each signal


def test_questions_are_asked_in_their_order(client_as, open_case):
    page = client_as("reviewer").get(f"/cases/{open_case()}").text
    places = [page.index(f'name="{question.name}"') for question in QUESTIONS]
    assert places == sorted(places)
    assert page.index('name="reasons"') > places[-1]
    assert page.index('name="outcome"') > page.index('name="reasons"')


def test_hostile_texts_are_shown_as_text(client_as, open_case):
    context = GenerationContext(pipeline=BAD, model_id=BAD, prompts={"prompt": BAD}, adapters=(Adapter(name=BAD),))
    case = open_case(context=context)
    reviewer = client_as("reviewer")
    page = reviewer.get(f"/cases/{case}", params={"bank": BAD, "past": BAD, "work_number": BAD}).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_unknown_case_and_other_organisations_case_are_the_same(client_as, open_case):
    case = open_case()
    stranger = client_as("admin", "another")
    for address in ("", "/picture", "/thumbnail", "/works/1/picture"):
        assert stranger.get(f"/cases/{case}{address}").status_code == 404
        assert stranger.get(f"/cases/{case + 77}{address}").status_code == 404
    assert stranger.post(f"/cases/{case}/decisions", data=WITHHOLD).status_code == 404
    assert stranger.post(f"/cases/{case}/lease").status_code == 404
    assert stranger.post(f"/cases/{case}/appeal", data={"note": "x"}).status_code == 404


# --- deciding ----------------------------------------------------------------------------------------------


def test_deciding_opens_the_next_case_and_tells_what_was_decided(client_as, open_case, desk):
    first, second = open_case(picture=near("fox", 50)), open_case(picture=near("elk", 51))
    reviewer = client_as("reviewer")
    reviewer.get(f"/cases/{first}")
    answer = reviewer.post(f"/cases/{first}/decisions", data={**WITHHOLD, "queue": "bank=animals"})
    assert answer.status_code == 303
    assert answer.headers["location"] == f"/cases/{second}?bank=animals&past={first}"
    page = reviewer.get(answer.headers["location"]).text
    assert f"Decided case {first}: withheld." in page
    undo = re.search(r'action="(/decisions/[0-9a-f]{32}/undo)"', page)[1]
    assert desk.memory.reviews.case(reviewer.actor, first).row.outcome == "withhold"
    assert reviewer.post(undo).headers["location"] == f"/cases/{first}"
    assert desk.memory.reviews.case(reviewer.actor, first).row.state == "open"


def test_one_decision_serves_those_alike_that_were_ticked(client_as, open_case, desk):
    one, other = near("fox", 50), near("fox", 50)
    other.putpixel((3, 3), (255, 0, 0))
    cases = [open_case(picture=one), open_case(picture=other)]
    reviewer = client_as("reviewer")
    page = reviewer.get(f"/cases/{cases[0]}").text
    also = re.search(r'name="also" value="(\d+:\d+)"', page)[1]
    assert also.startswith(f"{cases[1]}:")
    revision = re.search(r'name="revision" value="(\d+)"', page)[1]
    sent = {**WITHHOLD, "revision": revision, "also": also}
    assert reviewer.post(f"/cases/{cases[0]}/decisions", data=sent).headers["location"] == "/queue"
    states = {desk.memory.reviews.case(reviewer.actor, case).row.state for case in cases}
    assert states == {"decided"}
    assert "Decided 2 cases: withheld." in reviewer.get("/queue").text


def test_reasons_follow_from_answers_where_none_is_ticked(client_as, open_case, desk):
    case, reviewer = open_case(), client_as("reviewer")
    sent = {"outcome": "withhold", "copied": "expression", "how_much": "whole", "transformed": "no"}
    assert reviewer.post(f"/cases/{case}/decisions", data=sent).status_code == 303
    decision = desk.memory.reviews.case(reviewer.actor, case).decisions[0].decision
    assert decision.reasons == ("expression_copied", "substantial_part")
    assert decision.answers == ReviewAnswers(copied="expression", how_much="whole", transformed="no")


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({}, "decision: found none"),
        ({"outcome": "delete"}, "decision: found none"),
        ({"outcome": "withhold"}, "reasons: found none"),
        ({"outcome": "withhold", "reasons": ["because"]}, "expected one of the list"),
        ({"outcome": "release", "copied": "all"}, "expected one of the answers"),
        ({"outcome": "release", "also": "x:y"}, "found a case that is not on the page"),
        ({"outcome": "release", "revision": "no"}, "found a form that cannot be followed"),
    ],
)
def test_form_that_cannot_be_followed_decides_nothing_and_loses_nothing(client_as, open_case, desk, sent, told):
    case, reviewer = open_case(), client_as("reviewer")
    answer = reviewer.post(f"/cases/{case}/decisions", data={"note": "keep me", "transformed": "no", **sent})
    assert answer.status_code == 409
    assert told in answer.text
    assert "keep me" in answer.text
    assert re.search(r'name="transformed" value="no"[^>]* checked', answer.text)
    assert desk.memory.reviews.case(reviewer.actor, case).row.state == "open"


def test_decision_on_a_case_that_changed_is_refused(client_as, open_case, desk):
    case, anna, bo = open_case(), client_as("reviewer", name="anna"), client_as("reviewer", name="bo")
    assert anna.post(f"/cases/{case}/decisions", data=WITHHOLD).status_code == 303
    late = bo.post(f"/cases/{case}/decisions", data={"outcome": "release", "revision": "0"})
    assert late.status_code == 409
    assert len(desk.memory.reviews.case(anna.actor, case).decisions) == 1


def test_note_that_is_too_long_is_told(client_as, open_case):
    answer = client_as("reviewer").post(f"/cases/{open_case()}/decisions", data={**WITHHOLD, "note": "x" * 4001})
    assert "found 4001 letters, expected at most 4000" in answer.text


def test_viewer_sees_no_buttons_and_may_not_decide(client_as, open_case):
    case, viewer = open_case(), client_as("viewer")
    page = viewer.get(f"/cases/{case}").text
    assert 'name="outcome"' not in page
    assert "waits for a reviewer" in page
    for what in ("decisions", "lease", "give-back"):
        assert viewer.post(f"/cases/{case}/{what}", data=WITHHOLD).status_code == 403
    assert viewer.post(f"/decisions/{'0' * 32}/undo").status_code == 403


def test_request_without_the_key_of_the_page_is_refused(client_as, open_case):
    case, reviewer = open_case(), client_as("reviewer")
    del reviewer.headers["X-CSRF-Token"]
    assert reviewer.post(f"/cases/{case}/decisions", data=WITHHOLD).status_code == 403
    assert reviewer.post(f"/cases/{case}/decisions", data={**WITHHOLD, "csrf": reviewer.csrf}).status_code == 303


# --- leases, second looks, disputes, appeals ---------------------------------------------------------------


def test_case_belongs_to_who_opened_it_until_it_is_given_back(client_as, open_case):
    case, anna, bo = open_case(), client_as("reviewer", name="anna"), client_as("reviewer", name="bo")
    assert 'data-leased="yes"' in anna.get(f"/cases/{case}").text
    taken = bo.get(f"/cases/{case}").text
    assert 'name="outcome"' not in taken
    assert bo.post(f"/cases/{case}/lease").status_code == 409
    assert anna.post(f"/cases/{case}/lease").status_code == 204
    assert anna.post(f"/cases/{case}/give-back", data={"csrf": anna.csrf}).status_code == 204
    assert 'name="outcome"' in bo.get(f"/cases/{case}").text


class TestWithSecondLooks:
    """At a desk where every decision is taken by two."""

    @pytest.fixture
    def desk(self, make_desk):
        return make_desk(second_review_share=1)

    def test_second_look_is_not_known_from_a_first_one(self, client_as, open_case, desk):
        first, untouched = open_case(picture=near("fox", 50)), open_case(picture=near("elk", 51))
        anna, bo = client_as("reviewer", name="anna"), client_as("reviewer", name="bo")
        assert anna.post(f"/cases/{first}/decisions", data=WITHHOLD).status_code == 303
        anna.post(f"/cases/{untouched}/give-back")  # it had opened for her
        assert desk.memory.reviews.case(anna.actor, first).row.state == "second"

        def shape(case):
            """The page without what differs from case to case: pictures, figures, times."""
            text = bo.get(f"/cases/{case}").text
            return re.findall(r"<(?:section|aside|form|fieldset|legend|h2|button)[^>]*>", re.sub(r"\d+", "0", text))

        seen, other = shape(first), shape(untouched)
        assert [one for one in seen if "compare" not in one] == [one for one in other if "compare" not in one]
        assert "too near" not in bo.get(f"/cases/{first}").text
        assert "Your decision is kept" in anna.get(f"/cases/{first}").text

    def test_dispute_shows_both_to_a_lead_who_settles_it(self, client_as, open_case, desk):
        case = open_case()
        anna, bo, lea = (
            client_as("reviewer", name="anna"),
            client_as("reviewer", name="bo"),
            client_as("lead", name="lea"),
        )
        anna.post(f"/cases/{case}/decisions", data=WITHHOLD)
        bo.post(f"/cases/{case}/decisions", data={"outcome": "release", "note": "mere style"})
        assert desk.memory.reviews.case(lea.actor, case).row.state == "disputed"
        page = lea.get(f"/cases/{case}").text
        for wanted in ("Two people differ", "too near", "mere style", "Anna", "Bo", "Settle the dispute"):
            assert wanted in page
        assert 'name="outcome"' not in anna.get(f"/cases/{case}").text
        assert lea.post(f"/cases/{case}/decisions", data=WITHHOLD).status_code == 303
        assert desk.memory.reviews.case(lea.actor, case).row.state == "decided"


def test_appeal_needs_a_reason_and_brings_the_case_to_a_lead(client_as, open_case, desk):
    case, anna, lea = open_case(), client_as("reviewer", name="anna"), client_as("lead", name="lea")
    anna.post(f"/cases/{case}/decisions", data=WITHHOLD)
    assert anna.post(f"/cases/{case}/appeal", data={"note": " "}).status_code == 409
    assert anna.post(f"/cases/{case}/appeal", data={"note": "we hold a licence"}).status_code == 303
    page = lea.get(f"/cases/{case}").text
    assert "Decide the appeal" in page
    assert "we hold a licence" in page
    assert "Decide the appeal" not in anna.get(f"/cases/{case}").text


# --- pictures ----------------------------------------------------------------------------------------------


def test_picture_is_the_very_one_that_was_judged_and_private(client_as, open_case):
    case, viewer = open_case(picture=near("fox", 50)), client_as("viewer")
    answer = viewer.get(f"/cases/{case}/picture")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"].startswith("private")
    assert np.array_equal(np.asarray(picture_of(answer).convert("RGB")), np.asarray(near("fox", 50)))
    again = viewer.get(f"/cases/{case}/picture", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_every_look_is_noted(client_as, open_case, desk):
    case, viewer = open_case(), client_as("viewer")
    for address in ("", "/picture", "/thumbnail", "/works/1/picture"):
        assert viewer.get(f"/cases/{case}{address}").status_code == 200
    seen = [action for action in noted(desk, viewer.actor) if action.endswith(".seen")]
    assert seen == ["case.seen", "picture.seen", "thumbnail.seen", "work.seen"]


def test_work_that_was_withdrawn_has_no_picture_and_the_page_says_so(client_as, open_case, monkeypatch):
    from guardrail.desk.web import case_pages, picture_pages

    case, viewer = open_case(), client_as("viewer")
    for module in (case_pages, picture_pages):
        monkeypatch.setattr(module, "work_picture", lambda guard, bank, work_id: None)
    assert viewer.get(f"/cases/{case}/works/1/picture").status_code == 404
    page = viewer.get(f"/cases/{case}").text
    assert "No picture of this work is kept" in page
    assert "data-mode" not in page
    assert viewer.get(f"/cases/{case}/works/99/picture").status_code == 404


def test_sensitive_image_is_veiled_until_asked_for_and_that_is_noted(client_as, open_case, desk):
    case, reviewer = open_case(picture=near("fox", 50)), client_as("reviewer")
    make_sensitive(desk, case)
    page = reviewer.get(f"/cases/{case}").text
    assert "This image may be sensitive." in page
    assert 'data-veiled="yes"' in page
    plain = np.asarray(near("fox", 50), float)
    veiled = np.asarray(picture_of(reviewer.get(f"/cases/{case}/picture")).convert("RGB").resize((96, 96)), float)
    assert np.abs(veiled - plain).mean() > 4
    assert np.asarray(picture_of(reviewer.get(f"/cases/{case}/thumbnail"))).std(axis=(0, 1)).max() < plain.std()
    shown = re.search(r'data-reveal href="([^"]+)"', page)[1].replace("&amp;", "&")
    opened = reviewer.get(shown).text
    assert f'src="/cases/{case}/picture?shown=1"' in opened
    answer = reviewer.get(f"/cases/{case}/picture?shown=1")
    assert np.array_equal(np.asarray(picture_of(answer).convert("RGB")), np.asarray(near("fox", 50)))
    assert noted(desk, reviewer.actor)[-1] == "picture.revealed"


# --- parts -------------------------------------------------------------------------------------------------


def test_blur_shows_colours_and_no_forms_and_grey_no_colours():
    file = io.BytesIO()
    image = np.zeros((200, 300, 3), np.uint8)
    image[::2] = (255, 0, 0)
    Image.fromarray(image).save(file, "PNG")
    blurred = np.asarray(Image.open(io.BytesIO(veiled_picture(file.getvalue(), "blur"))).convert("RGB"), float)
    assert blurred[..., 0].std() < 6
    assert Image.open(io.BytesIO(veiled_picture(file.getvalue(), "grey"))).mode == "L"
    assert max(Image.open(io.BytesIO(small_picture(file.getvalue(), "none"))).size) == 176


def test_thumbnails_forget_what_was_not_asked_for_longest():
    kept = Thumbnails(2)
    for name in ("a", "b"):
        kept.keep((name,), name.encode())
    assert kept.find(("a",)) == b"a"
    kept.keep(("c",), b"c")
    assert (kept.find(("b",)), kept.find(("a",)), len(kept)) == (None, b"a", 2)


def test_reasons_are_in_the_order_of_the_questions_and_each_once():
    answers = ReviewAnswers(copied="style", how_much="trivial", transformed="yes", licensed="yes")
    assert reasons_of(answers) == ("style_or_idea_only", "small_part", "transformed", "licensed")
    assert reasons_of(ReviewAnswers(copied="nothing", licensed="no")) == ()


def test_ages_are_told_in_the_largest_unit_that_fits():
    from datetime import UTC, datetime, timedelta

    now = datetime(2026, 1, 1, tzinfo=UTC)
    ages = {5: "just now", 60: "1 min", 7199: "1 h", 86_400: "1 d", 86_400 * 40: "40 d", -5: "just now"}
    assert {seconds: age_words(now - timedelta(seconds=seconds), now) for seconds in ages} == ages
