"""Works at the desk: listed, added, withdrawn; and what was released before a work came is found by its prints."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from guardrail.memory.audit import AuditFilter
from guardrail.records import Work

FOX = 1  # the seed of its picture in conftest.py
WHY = "asked for by its maker"


def drawing(seed, side=96):
    """A picture as the works of these indexes are drawn."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def png_of(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def desk(make_desk, desk_world, tmp_path):
    """A desk over indexes of its own, which tests may change."""
    shutil.copytree(desk_world / "index", tmp_path / "index")
    return make_desk(index=tmp_path / "index")


def add(client, image, **said):
    fields = {"work_id": "new", "bank": "animals", "title": "A new one", **said}
    return client.post("/works", data=fields, files={"image": ("new.png", png_of(image), "image/png")})


def released(desk, image, folder):
    """Release a picture that nothing is near to, really: signed, with its prints in memory."""
    report = desk.guard_for("default").check([image])
    assert report.verdicts[0].decision == "accept"
    (path,) = report.save(folder)
    return path


def test_works_are_listed_with_what_a_match_means(client_as):
    page = client_as("viewer").get("/works").text
    assert all(name in page for name in ("Fox", "Owl", "Sky", "Elk"))
    assert "licensed, credited" in page
    assert 'action="/works/withdraw"' not in page  # a viewer sees


def test_works_are_filtered_and_searched(client_as):
    viewer = client_as("viewer")
    generic = viewer.get("/works", params={"bank": "generic"}).text
    assert "Sky" in generic
    assert "Fox" not in generic
    found = viewer.get("/works", params={"words": "fox ås"}).text
    assert "Fox" in found
    assert "Elk" not in found


def test_hostile_title_is_shown_as_text(client_as, desk):
    lead = client_as("lead")
    title = '"><script>alert(1)</script>'
    assert add(lead, drawing(70), title=title, source="javascript:alert(1)").status_code == 303
    page = lead.get("/works").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert 'href="javascript:' not in page


def test_uploaded_work_is_found_by_the_next_check_and_withdrawn_from_the_one_after(client_as, desk):
    lead, guard = client_as("lead"), desk.guard_for("default")
    assert guard.check([drawing(71)]).verdicts[0].decision == "accept"
    assert add(lead, drawing(71)).status_code == 303
    verdict = guard.check([drawing(71)]).verdicts[0]
    assert (verdict.decision, verdict.nearest[0].work.work_id) == ("block", "new")
    assert lead.post("/works/withdraw", data={"bank": "animals", "work_id": "new", "reason": WHY}).status_code == 303
    assert guard.check([drawing(71)]).verdicts[0].decision == "accept"
    events = desk.memory.audit.page(lead.actor, AuditFilter(action="work"))
    assert {"work.added", "work.removed"} <= {event.action for event in events}


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"work_id": ""}, 422),
        ({"disposition": "own"}, 422),
        ({"expires_at": "soon"}, 422),
        ({"work_id": "x" * 300}, 422),
    ],
)
def test_upload_that_cannot_be_used_changes_nothing(client_as, desk, said, status):
    before = desk.guard_for("default").index.header.snapshot
    assert add(client_as("lead"), drawing(72), **said).status_code == status
    assert desk.guard_for("default").index.header.snapshot == before


def test_file_that_is_no_picture_is_refused(client_as, desk):
    before = desk.guard_for("default").index.header.snapshot
    said = {"work_id": "new", "bank": "animals"}
    answer = client_as("lead").post("/works", data=said, files={"image": ("new.png", b"no picture", "image/png")})
    assert answer.status_code == 422
    assert desk.guard_for("default").index.header.snapshot == before


@pytest.mark.parametrize("path", ["/works", "/works/withdraw", "/works/generic", "/works/rescan"])
def test_reviewer_may_change_no_work(client_as, path):
    answer = client_as("reviewer").post(path, data={"bank": "animals", "work_id": "fox"})
    assert answer.status_code == 403


def test_picture_of_a_work_is_served(client_as):
    found = client_as("viewer").get("/works/picture", params={"bank": "animals", "work_id": "fox"})
    assert (found.status_code, found.headers["content-type"]) == (200, "image/jpeg")
    assert client_as("viewer").get("/works/picture", params={"bank": "animals", "work_id": "no"}).status_code == 404


def test_rescan_finds_what_was_released_before_the_work_came(client_as, desk, tmp_path):
    lead = client_as("lead")
    released(desk, drawing(73), tmp_path / "out")
    released(desk, drawing(74), tmp_path / "out")
    where = add(lead, drawing(73)).headers["location"]
    assert "Waits for its turn" in lead.get(where).text
    assert desk.workers.work_once()
    page = lead.get(where).text
    assert "1 released output" in page
    job = desk.memory.jobs.get(lead.actor, where.rpartition("/")[2])
    (near,) = job.answer["near"]
    assert near["decision"] in ("flag", "block")
    assert "before this work was known" in near["explanation"]
    assert str(tmp_path) not in page  # no path of the machine
    (case,) = desk.memory.open_cases()
    assert case.nearest_work == "animals/new"


def test_turned_copy_among_the_released_is_found(client_as, desk, tmp_path):
    released(desk, drawing(75).rotate(90), tmp_path / "out")
    lead = client_as("lead")
    where = add(lead, drawing(75)).headers["location"]
    desk.workers.work_once()
    assert len(desk.memory.jobs.get(lead.actor, where.rpartition("/")[2]).answer["near"]) == 1


def test_rescan_done_twice_opens_no_case_twice(client_as, desk, tmp_path):
    from guardrail.desk.web.works_pages import rescan

    released(desk, drawing(76), tmp_path / "out")
    lead = client_as("lead")
    where = add(lead, drawing(76)).headers["location"]
    job = desk.memory.jobs.get(lead.actor, where.rpartition("/")[2])
    first, second = (rescan(desk, job) for _ in range(2))
    assert first == second
    assert len(desk.memory.open_cases()) == 1


def test_outputs_of_another_organisation_are_not_told(client_as, desk, tmp_path):
    released(desk, drawing(77), tmp_path / "out")
    lead = client_as("lead", "another")
    from guardrail.desk.rescanning import Rescan
    from guardrail.desk.web.adding_works import add_work, remove_work

    add_work(desk, "another", Work(work_id="new", bank="animals"), png_of(drawing(77)))
    try:
        report = Rescan(desk.guard_for("another"), desk.memory, "j")([("animals", "new")])
    finally:
        remove_work(desk, "another", "animals", "new")
    assert report.near == ()
    assert lead.get("/rescans/unknown").status_code == 404


def test_work_that_cannot_be_sought_is_named(desk):
    from guardrail.desk.rescanning import Rescan

    report = Rescan(desk.guard_for("default"), desk.memory, "j")([("animals", "gone")])
    assert report.document()["missing"] == ["animals/gone"]


def test_generic_work_is_not_protected_until_that_is_taken_back(client_as, desk):
    lead, guard = client_as("lead"), desk.guard_for("default")
    assert guard.check([drawing(FOX)]).verdicts[0].decision == "block"
    assert lead.post("/works/generic", data={"bank": "animals", "work_id": "fox", "reason": WHY}).status_code == 303
    assert guard.check([drawing(FOX)]).verdicts[0].decision == "accept"
    (change,) = desk.memory.changes.page(lead.actor, "generic")
    assert lead.post(f"/changes/{change.change_id}/undo").status_code == 303
    assert guard.check([drawing(FOX)]).verdicts[0].decision == "block"
    assert lead.post(f"/changes/{change.change_id}/undo").status_code == 409
    kinds = [row.kind for row in desk.memory.rows()]
    assert kinds.count("change") == 2
    desk.memory.verify(deep=True)


def test_work_whose_maker_opted_out_cannot_be_called_generic(client_as, desk):
    lead = client_as("lead")
    add(lead, drawing(78), opted_out_at="2020-01-01")
    assert lead.post("/works/generic", data={"bank": "animals", "work_id": "new", "reason": WHY}).status_code == 409
    assert desk.guard_for("default").check([drawing(78)]).verdicts[0].decision == "block"


def test_generic_picture_of_a_case_explains_the_likeness(client_as, desk, open_case):
    lead = client_as("lead")
    case_id = open_case()
    png = desk.memory.reviews.picture(lead.actor, case_id)
    assert lead.post(f"/cases/{case_id}/generic", data={"what": "picture", "reason": WHY}).status_code == 303
    assert desk.guard_for("default").check([Image.open(io.BytesIO(png))]).verdicts[0].decision == "accept"
    (change,) = desk.memory.changes.page(lead.actor, "generic")
    assert lead.post(f"/changes/{change.change_id}/undo").status_code == 303
    assert desk.guard_for("default").check([Image.open(io.BytesIO(png))]).verdicts[0].decision == "flag"


def test_case_of_another_organisation_cannot_be_called_generic(client_as, desk, open_case):
    case_id = open_case()
    answer = client_as("lead", "another").post(f"/cases/{case_id}/generic", data={"what": "picture"})
    assert answer.status_code == 404
    assert desk.memory.changes.page(client_as("lead").actor) == ()
