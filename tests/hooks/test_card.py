from datetime import UTC, datetime

import pluggy

from guardrail import hookspecs
from guardrail.records import Decision, Verdict
from guardrail_hooks import card


def test_hook_replace_image_draws_a_card():
    plugins = pluggy.PluginManager(hookspecs.PROJECT)
    plugins.add_hookspecs(hookspecs)
    plugins.register(card)
    plugins.check_pending()
    verdict = Verdict(
        image="images[0]",
        pixels_sha256=None,
        at=datetime.now(UTC),
        decision=Decision.BLOCK,
        rule="copies are blocked",
        explanation="a copy",
        evidence=(),
        nearest=(),
        index_snapshot=None,
        policy_sha256="0" * 64,
        calibration="uncalibrated",
    )
    drawn = plugins.hook.replace_image(size_px=(120, 80), verdict=verdict)
    assert (drawn.size, drawn.mode) == ((120, 80), "RGB")
