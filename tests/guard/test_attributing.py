"""Estimates of what an image owes, made while a guarded call returns or left to the desk's worker."""

import numpy as np
import pytest
import torch

from guardrail.attributing import same_pictures
from guardrail.attribution_settings import AttributionSettings
from guardrail.desk.making import build_folder_index
from guardrail.errors import GuardrailError
from guardrail.guard import Guard
from guardrail.index import FolderIndex, Recipe
from guardrail.intake import plain_view
from guardrail.records import Adapter, Decision, GenerationContext, RegisteredAdapter
from guardrail.settings import Settings
from guardrail.testing import FakePlugin
from tests.guard.attributing_samples import DECOYS, fitted
from tests.guard.conftest import SEEDS, drawing
from tests.study import adapter_models
from tests.study.attributed import tiny_pipeline


@pytest.fixture(scope="module")
def gradients(tmp_path_factory):
    """The folder of gradients of `tiny_pipeline()`."""
    folder = tmp_path_factory.mktemp("gradients")
    fitted(folder, tiny_pipeline())
    return folder


@pytest.fixture
def attributing_guard(make_guard, gradients):
    """Make a guard that attributes."""

    def make(**said):
        return make_guard(attribution=AttributionSettings(**{"gradients": gradients, "when": "always", **said}))

    return make


def call(guard, pipe=None):
    pipe = guard.wrap(pipe or tiny_pipeline())
    return pipe(batch_size=2, num_inference_steps=2, generator=torch.Generator().manual_seed(3))


def test_every_image_of_a_call_is_attributed_and_kept_beside_its_verdict(attributing_guard):
    guard = attributing_guard()
    report = call(guard).guard
    assert len(report.attributions) == len(report.verdicts) == 2
    for verdict, found in zip(report.verdicts, report.attributions, strict=True):
        assert found.verdict_id == verdict.verdict_id
        assert guard.memory.attributions_of(verdict.verdict_id) == (found,)
        assert (found.method.images, found.method.decoys) == (len(SEEDS), DECOYS)
        assert {one.work.title for one in found.influences} == {name.title() for name in SEEDS}
        assert all(one.similarity is not None for one in found.influences)
        assert sum(one.posterior for one in found.influences) == pytest.approx(1)


def test_what_a_call_returns_is_the_same_with_and_without(attributing_guard, make_guard):
    with_it, without = call(attributing_guard()), call(make_guard())
    both = zip(with_it.images, without.images, strict=True)
    assert all(np.array_equal(np.asarray(one), np.asarray(other)) for one, other in both)
    decisions = [[verdict.decision for verdict in found.guard.verdicts] for found in (with_it, without)]
    assert decisions[0] == decisions[1]
    assert without.guard.attributions == ()


def test_model_is_as_it_was_and_stays_guarded(attributing_guard):
    guard, pipe = attributing_guard(), tiny_pipeline()
    before = {name: one.clone() for name, one in pipe.unet.state_dict().items()}
    guard.wrap(pipe)
    call(guard, pipe)
    assert all(torch.equal(one, before[name]) for name, one in pipe.unet.state_dict().items())
    assert all(one.grad is None for one in pipe.unet.parameters())
    assert call(guard, pipe).guard.verdicts


def test_only_what_was_not_accepted_is_attributed_where_the_settings_say_so(attributing_guard):
    report = call(attributing_guard(when="flagged")).guard
    for verdict, found in zip(report.verdicts, report.attributions, strict=True):
        assert (found is None) == (verdict.decision is Decision.ACCEPT)


def test_another_model_is_not_attributed_and_its_verdicts_stand(attributing_guard, caplog):
    report = call(attributing_guard(), tiny_pipeline(seed=1)).guard
    assert report.attributions == (None, None)
    assert len(report.verdicts) == 2
    assert "was not attributed" in caplog.text


def test_missing_gradients_leave_verdicts_alone(attributing_guard, tmp_path, caplog):
    report = call(attributing_guard(gradients=tmp_path / "none")).guard
    assert report.attributions == (None, None)
    assert "guardrail attribute fit" in caplog.text


def test_estimate_that_cannot_be_kept_keeps_the_images_in(attributing_guard, monkeypatch):
    guard = attributing_guard()
    refused = GuardrailError("the ledger is full")

    def refuse(attribution):
        raise refused

    monkeypatch.setattr(guard.memory, "record_attribution", refuse)
    with pytest.raises(GuardrailError) as raised:
        call(guard)
    assert raised.value is refused


def test_queued_estimates_are_jobs_for_flagged_images(attributing_guard, pictures):
    guard = attributing_guard(when="flagged", how="queued")
    (verdict,) = guard.check(pictures["near fox"]).verdicts
    assert verdict.decision is Decision.FLAG
    job = guard.memory.jobs.take(["attribute"])
    assert job.asked == {"verdict_id": verdict.verdict_id}
    assert guard.memory.jobs.take(["attribute"]) is None


def test_queued_estimates_of_accepted_images_are_refused_by_the_settings():
    with pytest.raises(ValueError, match="only flagged pictures are kept"):
        AttributionSettings(when="always", how="queued")


def test_guard_without_estimates_loads_nothing_of_them(make_guard):
    assert "attributing" not in vars(make_guard())


def test_view_without_a_guard_shares_everything_with_the_pipeline(make_guard):
    pipe = make_guard().wrap(tiny_pipeline())
    view = plain_view(pipe)
    assert view.unet is pipe.unet
    assert type(view).__mro__[0] is not type(pipe)
    assert not isinstance(Guard, type(view))
    assert not hasattr(view(batch_size=1, num_inference_steps=1), "guard")
    assert plain_view(view) is view


def test_adapters_of_the_run_get_shares_that_add_up_and_their_holders(attributing_guard, tmp_path):
    pipe, pixels = adapter_models.pipeline(), adapter_models.shapes(8)
    adapter_models.train(pipe, pixels, 60)
    fitted(tmp_path / "gradients", pipe)
    guard = attributing_guard(gradients=tmp_path / "gradients")
    adapter_models.add_lora(pipe, "style")
    adapter_models.train(pipe, pixels[:1], 40, "style")
    guard.memory.adapters.register(RegisteredAdapter(name="style", weights_sha256="5" * 64, holder="House of Style"))
    context = GenerationContext(pipeline="Pictures", adapters=(Adapter(name="style", weight=1.0, sha256="5" * 64),))
    found = guard.attributing.of_image(pipe, pixels[0], context)
    (style,) = found.adapters
    assert (style.name, style.holder, style.sha256) == ("style", "House of Style", "5" * 64)
    assert style.share > 0
    assert style.share + found.base_share == pytest.approx(1, abs=1e-6)


def test_works_that_show_one_picture_are_told_as_one_group(world, tmp_path):
    works = tmp_path / "works"
    works.mkdir()
    for name, seed in {"a": 1, "b": 2, "c": 1}.items():
        drawing(seed).save(works / f"{name}.png")
    table = tmp_path / "works.csv"
    table.write_text("file,work_id\na.png,a\nb.png,b\nc.png,c\n", encoding="utf-8")
    settings, recipe = Settings(home=tmp_path, device="cpu"), Recipe(embedder="fake")
    build_folder_index(works, tmp_path / "index", settings, recipe, table, extra_plugins=[FakePlugin()])
    assert same_pictures(FolderIndex(tmp_path / "index")) == ((("default", "a"), ("default", "c")),)
