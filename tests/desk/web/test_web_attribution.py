"""What an image may owe to training images: asked for on its page, done by a job, shown on page and file."""

import pytest

from guardrail.attribution_settings import AttributionSettings
from guardrail.desk.web.app import build_app
from guardrail.desk.web.attribution_pages import attribute, can_estimate
from guardrail.memory import AuditFilter
from guardrail.records import Adapter, GenerationContext
from guardrail.review_errors import CaseMissing
from tests.desk.web.conftest import near
from tests.guard.attributing_samples import fitted
from tests.study.attributed import tiny_pipeline


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A saved pipeline, and the folder of its gradients."""
    home = tmp_path_factory.mktemp("model")
    tiny_pipeline().save_pretrained(home / "pipeline")
    fitted(home / "gradients", tiny_pipeline())
    return home


@pytest.fixture
def desk(make_desk, model):
    said = AttributionSettings(
        gradients=model / "gradients", model=str(model / "pipeline"), when="flagged", how="queued"
    )
    desk = make_desk()
    desk.settings = desk.settings.model_copy(update={"attribution": said})
    return desk


@pytest.fixture
def app(desk):
    return build_app(desk, workers=False)


def case_of(desk, context=None, other=9):
    (verdict,) = desk.guard_for("default").check([near("fox", other, 0.62)], context).verdicts
    return desk.memory.reviews.case_of_verdict("default", verdict.verdict_id), verdict


def test_flagged_image_is_estimated_by_the_job_that_the_guard_left(desk, app, client_as):
    case, verdict = case_of(desk)
    while desk.workers.work_once():
        pass
    (found,) = desk.memory.attributions_of(verdict.verdict_id)
    assert {one.work.title for one in found.influences} == {"Fox", "Owl", "Sky", "Elk"}
    page = client_as("reviewer").get(f"/cases/{case}").text
    assert "Not estimated" not in page
    assert "estimated influence under this model and method" in page.casefold()
    assert all(name in page[page.index("Most influential") :] for name in ("Fox", "Owl", "Sky", "Elk"))


def test_estimate_can_be_asked_for_again_and_is_noted(desk, app, client_as):
    case, verdict = case_of(desk)
    while desk.workers.work_once():
        pass
    client = client_as("reviewer")
    assert f'action="/cases/{case}/attribution"' in client.get(f"/cases/{case}").text
    answer = client.post(f"/cases/{case}/attribution")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/cases/{case}")
    assert desk.workers.work_once()
    assert len(desk.memory.attributions_of(verdict.verdict_id)) == 2
    lead = client_as("lead").actor
    assert "case.attributed" in [one.action for one in desk.memory.audit.page(lead, AuditFilter())]


def test_file_of_the_case_has_the_estimate(desk, app, client_as):
    case, _ = case_of(desk)
    while desk.workers.work_once():
        pass
    page = client_as("lead").post(f"/cases/{case}/file", data={"kind": "html", "csrf": client_as("lead").csrf})
    assert page.status_code == 200
    assert "named are those of 4 training images" in page.text.casefold()


def test_viewers_and_other_organisations_estimate_nothing(desk, app, client_as):
    case, _ = case_of(desk)
    assert client_as("viewer").post(f"/cases/{case}/attribution").status_code == 403
    assert client_as("reviewer", "another").post(f"/cases/{case}/attribution").status_code == 404
    assert f"/cases/{case}/attribution" not in client_as("viewer").get(f"/cases/{case}").text


def test_desk_without_a_model_says_so_and_offers_nothing(make_desk, client_as):
    desk = make_desk()
    assert not can_estimate(desk)
    assert "attribute" not in desk.handlers


def test_run_with_an_adapter_that_the_model_comes_without_is_not_estimated(desk, app):
    context = GenerationContext(pipeline="DDPMPipeline", adapters=(Adapter(name="style", weight=0.5),))
    _, verdict = case_of(desk, context)
    while desk.workers.work_once():
        pass
    assert desk.memory.attributions_of(verdict.verdict_id) == ()


def test_job_about_a_verdict_without_a_case_fails_for_good(desk, app):
    desk.memory.jobs.add("default", "attribute", {"verdict_id": "f" * 32})
    job = desk.memory.jobs.take(["attribute"])
    with pytest.raises(CaseMissing):
        attribute(desk, job)
