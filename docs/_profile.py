"""What the generated blocks of docs/provenance.md say: assertions, examples of them, and the checks of the rubric."""

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np

from guardrail import act
from guardrail.act.assertions import actions_assertion, watermark_assertion
from guardrail.act.rubric import check_conformance
from guardrail.carriers import OutputPicture, ParentFile
from guardrail.records import Credit, Decision, GenerationContext, Limits, Neighbour, Signal, Verdict, Watermark, Work
from guardrail.release_settings import ProvenanceSettings

__all__ = ["assertion_table", "example", "rubric_list"]

_WHEN = {
    "c2pa.actions.v2": ("guardrail itself", "always"),
    "org.guardrail.verdict": ("`claims`", "unless `provenance.detail` is `none`"),
    "org.guardrail.generation": ("`generation`", "of pictures from a run, unless `provenance.detail` is `none`"),
    "org.guardrail.attribution": ("`credits`", "where there is somebody to credit"),
    "c2pa.ai-disclosure": ("`ai_disclosure`", "of pictures from a run, or where `provenance.model_name` is set"),
    "cawg.training-mining": ("`training_mining`", "where `provenance.training_mining` is set"),
    "c2pa.soft-binding": (
        "`iscc_binding`; guardrail itself for a mark",
        "where `provenance.soft_binding` is set; where the mark is in C2PA's list",
    ),
}
_PIXELS = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
_MARK = Watermark(algorithm="com.adobe.trustmark.P", payload="5a" * 8, bits=64, bits_found=64, registered=True)
_SETTINGS = ProvenanceSettings(
    human_oversight="prompt_guided",
    training_mining="constrained",
    training_mining_terms="https://example.org/terms",
)


def assertion_table() -> str:
    """Label, what it is, who says it, and when."""
    assert _WHEN.keys() == act.STATEMENTS.keys(), "every assertion is in the table"
    lines = ["| assertion | what it is | said by | when |", "| --- | --- | --- | --- |"]
    for label, (who, when) in _WHEN.items():
        sentence = (act.STATEMENTS[label].__doc__ or "").split("\n")[0].split(". ")[0].rstrip(".")
        what = next(part for part in sentence.split(": ") if not part.startswith("`"))
        lines.append(f"| [`{label}`](reference/schemas/{label}.json) | {what} | {who} | {when} |")
    return "\n".join(lines)


def example(name: str) -> str:
    """One assertion as the code makes it, as JSON: by label, or `edited` for the actions with a parent and a mark."""
    return f"```json\n{json.dumps(_examples()[name], indent=2, ensure_ascii=False)}\n```"


def rubric_list() -> str:
    """The ids of the rubric's checks, in its order."""
    return "\n".join(f"{at}. `{one.check}`" for at, one in enumerate(check_conformance({}), start=1))


def _examples() -> dict[str, Any]:
    verdict, limits = _verdict(), Limits.model_validate({"copy": {"flag_above": 0.75, "block_above": 0.85}})
    run = GenerationContext(pipeline="StableDiffusionPipeline", model_id="acme/fox", model_revision="4f" * 20)
    created = OutputPicture(b"", "image/png", _PIXELS)
    edited = OutputPicture(b"", "image/png", _PIXELS, _MARK, ParentFile(b"", "image/png", 0.6))
    return {
        "c2pa.actions.v2": actions_assertion(created),
        "edited": actions_assertion(edited),
        "org.guardrail.verdict": act.verdict_assertion(verdict, "full", limits),
        "org.guardrail.attribution": act.attribution_assertion(verdict),
        "c2pa.ai-disclosure": act.disclosure_assertion(run, _SETTINGS),
        "cawg.training-mining": act.mining_assertion(_SETTINGS),
        "c2pa.soft-binding": act.iscc_assertion(_PIXELS),
        "mark": watermark_assertion(_MARK),
    }


def _verdict() -> Verdict:
    work = Work(work_id="fox-001", bank="northlight", title="Red fox", creator="Anna Berg")
    credit = Credit(
        work_id="fox-001",
        bank="northlight",
        title="Red fox",
        creator="Anna Berg",
        rights_holder="Northlight",
        licence="CC-BY-4.0",
    )
    return Verdict(
        verdict_id="0f3a5c1e9b7d42c8a6e4f20b1d9c8e7a",
        image="images[0]",
        pixels_sha256="1" * 64,
        at=datetime(2026, 11, 22, tzinfo=UTC),
        decision=Decision.ACCEPT,
        rule="licensed works are credited",
        explanation="",
        evidence=(),
        nearest=(Neighbour(work=work, row=0, signal=Signal.COPY, similarity=0.8123),),
        credits=(credit,),
        index_snapshot="2" * 64,
        policy_sha256="3" * 64,
        calibration="cal-2026-11-20-4b1c",
    )
