"""What a file says that a guarded pipeline made: every shipped plugin's words, by its published schema."""

import pytest
from jsonschema import Draft202012Validator

from guardrail import act
from guardrail.act import STATEMENTS, assertion_schema, conformance_of, load_anchors, sdk
from guardrail.testing import FakePipeline

MIMES = ("image/png", "image/jpeg", "image/webp")
ALL = {
    "model_name": "Fox 2",
    "human_oversight": "prompt_guided",
    "training_mining": "not_allowed",
    "soft_binding": True,
}


def released_by_a_run(guard, pictures, folder):
    output = guard.wrap(FakePipeline([[pictures["new"]]]))("CANARY a red fox")
    (path,) = output.guard.save(folder)
    return path


@pytest.mark.parametrize("mime", MIMES)
def test_all_that_plugins_say_is_signed_and_keeps_to_its_schema(make_guard, world, pictures, tmp_path, mime):
    path = released_by_a_run(make_guard(provenance={"mime": mime, **ALL}), pictures, tmp_path / "out")
    reading = sdk.read(path.read_bytes(), mime, load_anchors(world.keys))
    assert reading.state == "Trusted"
    assert reading.assertions.keys() == STATEMENTS.keys() - {act.ATTRIBUTION_LABEL} | {sdk.BINDING_LABEL}
    for label in STATEMENTS.keys() & reading.assertions.keys():
        Draft202012Validator(assertion_schema(label)).validate(reading.assertions[label])
    assert b"CANARY" not in path.read_bytes()


@pytest.mark.parametrize("mime", MIMES)
def test_file_of_a_run_passes_the_conformance_rubric(make_guard, world, pictures, tmp_path, mime):
    path = released_by_a_run(make_guard(provenance={"mime": mime, **ALL}), pictures, tmp_path / "out")
    checks = conformance_of(path.read_bytes(), mime, load_anchors(world.keys))
    assert [one for one in checks if not one.holds] == []
    assert len(checks) == 31


def test_at_detail_none_neither_verdict_nor_run_is_told(make_guard, world, pictures, tmp_path):
    path = released_by_a_run(make_guard(provenance={"detail": "none"}), pictures, tmp_path / "out")
    labels = sdk.read(path.read_bytes(), "image/png", load_anchors(world.keys)).assertions.keys()
    assert labels == {act.ACTIONS_LABEL, act.DISCLOSURE_LABEL, sdk.BINDING_LABEL}


def test_nearest_works_are_told_with_the_limits_of_the_guard(make_guard, world, pictures, tmp_path):
    guard = make_guard()
    path = released_by_a_run(guard, pictures, tmp_path / "out")
    said = sdk.read(path.read_bytes(), "image/png", load_anchors(world.keys)).assertions[act.VERDICT_LABEL]
    limits = {near["signal"]: near["limit"] for near in said["nearest"] if "limit" in near}
    assert limits
    for signal, limit in limits.items():
        of_guard = getattr(guard.limits, {"copy": "copy_"}.get(signal, signal)).model_dump(exclude_none=True)
        assert limit == of_guard
