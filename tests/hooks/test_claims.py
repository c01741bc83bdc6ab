import json
from datetime import UTC, datetime

import pluggy

from guardrail import hookspecs
from guardrail.records import Decision, Verdict
from guardrail_hooks import claims


def test_hook_describe_output_says_why():
    plugins = pluggy.PluginManager(hookspecs.PROJECT)
    plugins.add_hookspecs(hookspecs)
    plugins.register(claims)
    plugins.check_pending()
    verdict = Verdict(
        image="CANARY.png",
        pixels_sha256=None,
        at=datetime.now(UTC),
        decision=Decision.ACCEPT,
        rule="default",
        explanation="CANARY",
        evidence=(),
        nearest=(),
        index_snapshot="1" * 64,
        policy_sha256="0" * 64,
        calibration="uncalibrated",
    )
    (said,) = plugins.hook.describe_output(verdict=verdict, context=None)
    assert list(said) == ["org.guardrail.verdict"]
    assert said["org.guardrail.verdict"]["decision"] == "accept"
    assert said["org.guardrail.verdict"]["index_snapshot"] == "1" * 64
    assert "CANARY" not in json.dumps(said)
