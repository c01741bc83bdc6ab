"""The queue as a page: what it shows, filters, pages, and decides at once."""

import re
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image

from guardrail.desk.web import queue_pages
from guardrail.desk.web.filters import filter_of, query_of
from guardrail.desk.web.trails import Trail, trail_of
from guardrail.memory import AuditFilter
from guardrail.records import Adapter, GenerationContext

SEEDS = {"fox": 1, "elk": 4}  # of the works in conftest.py
WITHHOLD = {"outcome": "withhold", "reasons": ["expression_copied"]}


def drawing(seed, side=96):
    """A picture as the works of the index are drawn."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def near(work, other):
    """A picture that the guard flags as near a work; each `other` makes another one."""
    mixed = 0.6 * np.asarray(drawing(SEEDS[work]), float) + 0.4 * np.asarray(drawing(other), float)
    return Image.fromarray(mixed.round().astype(np.uint8))


def cases_on(page):
    """The numbers of the cases on a page, in its order."""
    return [int(one) for one in re.findall(r'class="title" href="/cases/(\d+)', page)]


def actions(desk, actor):
    """What the audit of an organisation holds, newest last."""
    return [(one.action, one.target) for one in reversed(desk.memory.audit.page(actor, AuditFilter()))]


def test_empty_queue_says_what_to_do(client_as):
    page = client_as("reviewer").get("/queue")
    assert page.status_code == 200
    assert "Nothing waits for you" in page.text
    assert "POST /v1/check" in page.text


def test_start_leads_to_the_queue(client_as):
    assert client_as("viewer").get("/").headers["location"] == "/queue"


def test_queue_shows_pictures_reason_work_and_age(client_as, open_case):
    case = open_case()
    page = client_as("reviewer").get("/queue").text
    assert cases_on(page) == [case]
    assert f'src="/cases/{case}/thumbnail"' in page
    assert f'src="/cases/{case}/works/1/picture"' in page
    assert "Fox" in page
    assert "near a work" in page
    assert "<meter" in page
    assert "just now" in page


def test_most_severe_comes_first_and_of_those_the_oldest(client_as, open_case, desk):
    for picture in (near("fox", 50), near("elk", 51), near("fox", 53)):
        open_case(picture=picture)
    reviewer = client_as("reviewer")
    rows = desk.memory.reviews.queue(reviewer.actor, filter_of("").asked).rows
    assert cases_on(reviewer.get("/queue").text) == [row.case_id for row in rows]
    assert [row.case_id for row in rows] == [
        row.case_id for row in sorted(rows, key=lambda row: (-int(row.severity * 10), row.opened_at))
    ]


def test_pages_follow_one_another_and_keep_the_filter(client_as, open_case, monkeypatch):
    monkeypatch.setattr(queue_pages, "_PAGE_ROWS", 2)
    opened = {open_case(picture=near("fox", other)) for other in (50, 51, 53, 54, 55)}
    reviewer, address, seen = client_as("reviewer"), "/queue?bank=animals&apart=1", []
    while address:
        page = reviewer.get(address).text
        seen += cases_on(page)
        found = re.search(r'rel="next" href="([^"]+)"', page)
        address = found[1].replace("&amp;", "&") if found else ""
        assert not address or parse_qs(urlsplit(address).query)["bank"] == ["animals"]
    assert sorted(seen) == sorted(opened)
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize(
    ("query", "found"),
    [("bank=animals", 1), ("bank=generic", 0), ("model=lab%2Fpainter", 1), ("adapter=flat-style", 1), ("older=1", 0)],
)
def test_queue_is_filtered_by_the_server(client_as, open_case, query, found):
    context = GenerationContext(pipeline="P", model_id="lab/painter", adapters=(Adapter(name="flat-style"),))
    open_case(context=context)
    page = client_as("viewer").get(f"/queue?{query}").text
    assert len(cases_on(page)) == found
    assert ("No case fits these filters" in page) is (not found)


def test_filter_that_cannot_be_followed_is_told_and_nothing_typed_is_lost(client_as, open_case):
    open_case()
    page = client_as("reviewer").get("/queue?bank=animals&older=yesterday")
    assert page.status_code == 422
    assert "expected a number of hours" in page.text
    assert '<option value="animals" selected>' in page.text
    assert 'value="yesterday" selected' in page.text


def test_cursor_that_is_none_is_told(client_as, open_case):
    open_case()
    page = client_as("reviewer").get("/queue?after=nonsense")
    assert page.status_code == 422
    assert "Not filtered by" in page.text


def test_queue_says_who_has_a_case(client_as, open_case):
    case = open_case()
    client_as("reviewer", name="anna").get(f"/cases/{case}")
    page = client_as("reviewer", name="bo").get("/queue").text
    assert "Anna has it" in page


def test_next_case_is_one_that_nobody_has(client_as, open_case):
    first, second = open_case(picture=near("fox", 50)), open_case(picture=near("elk", 51))
    anna, bo = client_as("reviewer", name="anna"), client_as("reviewer", name="bo")
    taken = {anna.get("/queue/next").headers["location"], bo.get("/queue/next").headers["location"]}
    assert {urlsplit(one).path for one in taken} == {f"/cases/{first}", f"/cases/{second}"}
    assert client_as("reviewer", name="cy").get("/queue/next").headers["location"] == "/queue"


def test_going_on_leads_to_another_case_and_gives_the_one_before_back(client_as, open_case):
    cases = {open_case(picture=near("fox", 50)), open_case(picture=near("elk", 51))}
    anna = client_as("reviewer", name="anna")
    first = int(urlsplit(anna.get("/queue/next").headers["location"]).path.rpartition("/")[2])
    onwards = anna.get(f"/queue/next?past={first}").headers["location"]
    assert int(urlsplit(onwards).path.rpartition("/")[2]) == (cases - {first}).pop()
    assert parse_qs(urlsplit(onwards).query)["past"] == [str(first)]
    bo = client_as("reviewer", name="bo")
    assert urlsplit(bo.get("/queue/next").headers["location"]).path == f"/cases/{first}"


def test_viewer_looks_and_decides_nothing(client_as, open_case):
    case = open_case()
    viewer = client_as("viewer")
    page = viewer.get("/queue").text
    assert 'name="case"' not in page
    assert "Take the next case" not in page
    assert viewer.get("/queue/next").status_code == 403
    assert viewer.post("/queue/preview", data={"case": [str(case)]}).status_code == 403
    assert viewer.post("/queue/decisions", data={"case": [f"{case}:0"], **WITHHOLD}).status_code == 403


def test_preview_lists_exactly_what_is_decided_and_undo_takes_all_back(client_as, open_case, desk):
    cases = [open_case(picture=near("fox", 50)), open_case(picture=near("elk", 51))]
    left = open_case(picture=near("fox", 53))
    reviewer = client_as("reviewer")
    page = reviewer.post("/queue/preview", data={"case": [str(one) for one in cases], "apart": "1"})
    assert page.status_code == 200
    named = re.findall(r'name="case" value="(\d+:\d+)"', page.text)
    assert [int(one.partition(":")[0]) for one in named] == cases
    sent = reviewer.post("/queue/decisions", data={"case": named, "queue": "bank=animals", **WITHHOLD})
    assert (sent.status_code, sent.headers["location"]) == (303, "/queue?bank=animals")
    told = reviewer.get(sent.headers["location"]).text
    assert "Decided 2 cases: withheld." in told
    assert cases_on(told) == [left]
    undo = re.search(r'action="(/decisions/[0-9a-f]{32}/undo)"', told)[1]
    assert "Decided 2 cases" not in reviewer.get("/queue").text  # said once
    assert reviewer.post(undo).headers["location"] == "/queue"
    assert sorted(cases_on(reviewer.get("/queue?apart=1").text)) == sorted([*cases, left])


def test_case_that_changed_since_the_preview_stops_all(client_as, open_case, desk):
    cases = [open_case(picture=near("fox", 50)), open_case(picture=near("elk", 51))]
    anna, bo = client_as("reviewer", name="anna"), client_as("reviewer", name="bo")
    named = [f"{row.case_id}:{row.revision}" for row in desk.memory.reviews.preview(anna.actor, cases).rows]
    assert bo.post(f"/cases/{cases[0]}/decisions", data=WITHHOLD).status_code == 303
    bo.post(f"/cases/{cases[1]}/give-back")  # it had opened for him
    answer = anna.post("/queue/decisions", data={"case": named, "note": "keep me", **WITHHOLD})
    assert answer.status_code == 409
    assert "Nothing was decided" in answer.text
    assert "keep me" in answer.text
    assert desk.memory.reviews.case(anna.actor, cases[1]).row.state == "open"


def test_nothing_picked_is_told(client_as, open_case):
    open_case()
    reviewer = client_as("reviewer")
    assert reviewer.post("/queue/preview", data={}).headers["location"] == "/queue"
    assert "Found 0 picked cases" in reviewer.get("/queue").text


def test_cases_nearly_the_same_are_one_row_and_can_be_looked_at(client_as, open_case, desk):
    one, other = near("fox", 50), near("fox", 50).copy()
    other.putpixel((3, 3), (255, 0, 0))
    cases = [open_case(picture=one), open_case(picture=other)]
    reviewer = client_as("reviewer")
    page = reviewer.get("/queue").text
    assert len(cases_on(page)) == 1
    assert "2 nearly the same" in page
    looked = reviewer.get(f"/cases/{cases[0]}/alike").text
    assert sorted(cases_on(looked)) == cases
    named = re.findall(
        r'name="case" value="(\d+):\d+"', reviewer.post("/queue/preview", data={"case": [str(cases[0])]}).text
    )
    assert sorted(int(one) for one in named) == cases


def test_hostile_models_and_adapters_are_shown_as_text(client_as, open_case):
    bad = '"><script>alert(1)</script>'
    open_case(context=GenerationContext(pipeline="P", model_id=bad, adapters=(Adapter(name=bad),)))
    page = client_as("reviewer").get("/queue").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    found = client_as("reviewer").get("/queue", params={"model": bad})
    assert "<script>alert" not in found.text
    assert len(cases_on(found.text)) == 1


def test_other_organisations_see_nothing_of_it(client_as, open_case):
    case = open_case()
    stranger = client_as("lead", "another")
    assert cases_on(stranger.get("/queue").text) == []
    assert stranger.get(f"/cases/{case}/alike").status_code == 404
    page = stranger.post("/queue/preview", data={"case": [str(case)], "apart": "1"})
    assert f'value="{case}:' not in page.text


def test_every_look_at_the_queue_is_noted(client_as, open_case, desk):
    open_case()
    reviewer = client_as("reviewer")
    reviewer.get("/queue")
    assert ("queue.seen", "waiting") in actions(desk, reviewer.actor)


def test_pages_run_no_script_and_no_style_of_their_own(client_as, open_case):
    case = open_case()
    lead = client_as("lead")
    for address in ("/queue", f"/cases/{case}", f"/cases/{case}/alike"):
        page = lead.get(address).text
        assert not re.search(r"<script(?![^>]* src=\"/static/)|<style| style=| on[a-z]+=", page), address
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', page), address


def test_address_says_the_filter_and_is_read_back():
    asked = filter_of("bank=a%26b&older=24&mine=1&tab=decided&after=x&strange=1")
    assert (asked.asked.bank, asked.asked.older_than_h, asked.asked.mine) == ("a&b", 24, True)
    assert asked.asked.states == ("decided", "second")
    assert filter_of(query_of(asked.said)) == asked
    assert query_of(asked.said, tab="") == "bank=a%26b&older=24&mine=1"


@pytest.mark.parametrize("query", ["older=-1", "older=nan", "older=1e400", "tab=all", "bank=" + "x" * 513])
def test_filter_that_means_nothing_is_refused_with_three_clauses(query):
    wrong = filter_of(query).wrong
    assert "found" in wrong
    assert "expected" in wrong
    assert ";" in wrong


def test_trail_goes_on_and_back():
    trail = trail_of({"past": "3.x.0.5.99999999999999"})
    assert trail.past == (3, 5)
    assert trail.with_case(3).said == "5.3"
    assert trail.without_last().last == 3
    assert Trail().last is None
    assert len(trail_of({"past": ".".join(str(one) for one in range(1, 100))}).past) == 40
