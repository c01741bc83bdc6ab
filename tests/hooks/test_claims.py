import json
from datetime import UTC, datetime

import numpy as np
import pluggy
import pytest

from guardrail import hookspecs
from guardrail.carriers import OutputPicture
from guardrail.records import BitsLimit, Credit, Decision, Limits, Neighbour, Signal, Verdict, Work
from guardrail.settings import Settings
from guardrail_hooks import claims
from guardrail_hooks import credits as attribution

VERDICT = "org.guardrail.verdict"
ATTRIBUTION = "org.guardrail.attribution"


def said(plugin, tmp_path, detail="full", limits=None, **changes):
    plugins = pluggy.PluginManager(hookspecs.PROJECT)
    plugins.add_hookspecs(hookspecs)
    plugins.register(plugin)
    plugins.check_pending()
    verdict = Verdict(
        **{
            "image": "CANARY.png",
            "pixels_sha256": None,
            "at": datetime.now(UTC),
            "decision": Decision.ACCEPT,
            "rule": "default",
            "explanation": "CANARY",
            "evidence": (),
            "nearest": (Neighbour(work=Work(work_id="w-1"), row=0, signal=Signal.PDQ, distance_bits=97),),
            "index_snapshot": "1" * 64,
            "policy_sha256": "0" * 64,
            "calibration": "uncalibrated",
        }
        | changes
    )
    output = OutputPicture(b"", "image/png", np.zeros((1, 1, 3), np.uint8), limits=limits)
    settings = Settings(index="i", home=tmp_path, provenance={"detail": detail})
    (found,) = plugins.hook.describe_output(verdict=verdict, context=None, output=output, settings=settings)
    return found


def test_hook_describe_output_says_why(tmp_path):
    found = said(claims, tmp_path)
    assert list(found) == [VERDICT]
    assert found[VERDICT]["decision"] == "accept"
    assert found[VERDICT]["index_snapshot"] == "1" * 64
    assert "CANARY" not in json.dumps(found)


def test_nearest_works_come_with_the_limits_they_were_judged_by(tmp_path):
    limits = Limits(pdq=BitsLimit(flag_within_bits=40, block_within_bits=31))
    (near,) = said(claims, tmp_path, limits=limits)[VERDICT]["nearest"]
    assert near["distance_bits"] == 97
    assert near["limit"] == {"flag_within_bits": 40, "block_within_bits": 31}


def test_summary_leaves_the_nearest_works_out(tmp_path):
    found = said(claims, tmp_path, detail="summary")[VERDICT]
    assert "nearest" not in found
    assert found.keys() >= {"decision", "rule", "policy_sha256", "index_snapshot", "calibration", "verdict_id"}


def test_at_none_nothing_is_said_of_the_verdict(tmp_path):
    assert said(claims, tmp_path, detail="none") == {}


@pytest.mark.parametrize("detail", ["none", "summary", "full"])
def test_makers_are_credited_whatever_is_told_of_the_verdict(tmp_path, detail):
    owed = Credit(work_id="w-2", bank="b", title="T", creator="C", rights_holder="H", licence="CC-BY-4.0")
    (credit,) = said(attribution, tmp_path, detail=detail, credits=(owed,))[ATTRIBUTION]["credits"]
    assert credit == owed.model_dump()


def test_nobody_to_credit_is_no_assertion(tmp_path):
    assert said(attribution, tmp_path) == {}
