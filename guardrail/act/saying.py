"""What a manifest says, and how its layers hold, in words for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from guardrail.act.assertions import ACTIONS_LABEL, ATTRIBUTION_LABEL, DISCLOSURE_LABEL, VERDICT_LABEL
from guardrail.records import LayerFinding, VerifyLayer, VerifyOutcome

if TYPE_CHECKING:
    from guardrail.act.sdk import Reading

__all__ = ["claims_in", "credential_layer", "time_stamp_layer"]

_LONGEST_TEXT = 300  # letters of one fact: a stranger's manifest may hold megabytes
_MOST_NEAREST = 5  # works, as in our own verdict assertion
_MOST_LABELS = 40
_FINDINGS: dict[VerifyOutcome, LayerFinding] = {
    VerifyOutcome.OURS: "holds",
    VerifyOutcome.TAMPERED: "fails",
    VerifyOutcome.OTHER_SIGNER: "fails",
    VerifyOutcome.EXPIRED: "fails",
    VerifyOutcome.NO_CREDENTIAL: "absent",
}
_VERDICT_FIELDS = {
    "decision": "decision",
    "rule": "rule",
    "policy_sha256": "policy",
    "index_snapshot": "index snapshot",
    "calibration": "calibration",
    "verdict_id": "verdict",
    "earlier_verdict_id": "verdict before marking and encoding",
}
_MODEL_FIELDS = {"modelName": "model", "modelIdentifier": "model's identifier", "modelType": "kind of model"}
_CREDIT_FIELDS = ("title", "creator", "rights_holder", "licence")


def credential_layer(outcome: VerifyOutcome, explanation: str, reading: Reading | None) -> VerifyLayer:
    """The layer `credential`; without a reading, c2pa found no manifest that it could parse."""
    facts: dict[str, str] = {}
    if reading is not None:
        facts = {
            "manifest": _short(reading.manifest_id),
            "signer's name": _short(reading.signer),
            "made with": _short(" ".join(str(reading.generator.get(name, "")) for name in ("name", "version")).strip()),
            "binding": _short(reading.binding),
            "failed checks": _short(", ".join(dict.fromkeys(reading.failures))),
        }
    return VerifyLayer(
        layer="credential",
        finding=_FINDINGS[outcome],
        explanation=explanation,
        facts={name: said for name, said in facts.items() if said},
    )


def time_stamp_layer(reading: Reading | None) -> VerifyLayer:
    """The layer `time_stamp`: when a server of ours saw the signature."""
    if reading is None:
        return VerifyLayer(layer="time_stamp", finding="absent", explanation="without a manifest there is none")
    stamp = reading.time_stamp
    if stamp is None:
        explanation = "none that holds: when the file was signed is not proved, and it expires with its certificate"
        return VerifyLayer(layer="time_stamp", finding="absent", explanation=explanation)
    facts = {"at": stamp.at.isoformat(), "server's name": _short(stamp.authority)}
    if not stamp.trusted:
        explanation = "a server that is not under our time stamp anchors says it saw the signature then"
        return VerifyLayer(layer="time_stamp", finding="fails", explanation=explanation, facts=facts)
    explanation = f"a time stamp server that we trust saw the signature on {stamp.at:%Y-%m-%d %H:%M} UTC"
    return VerifyLayer(layer="time_stamp", finding="holds", explanation=explanation, facts=facts)


def claims_in(reading: Reading) -> dict[str, str]:
    """What the active manifest claims, by name, in the order of telling; all of it is the signer's word."""
    claims = {
        **_texts(_part(reading, VERDICT_LABEL), _VERDICT_FIELDS),
        **_nearest(_part(reading, VERDICT_LABEL)),
        **_reviewed(_part(reading, VERDICT_LABEL).get("review")),
        **_texts(_part(reading, DISCLOSURE_LABEL), _MODEL_FIELDS),
        **_credits(_part(reading, ATTRIBUTION_LABEL)),
        "how it was made": ", ".join(_actions(_part(reading, ACTIONS_LABEL))),
        "assertions": ", ".join(_short(label) for label in list(reading.assertions)[:_MOST_LABELS]),
    }
    return {name: told for name, told in claims.items() if told}


def _reviewed(review: object) -> dict[str, str]:
    """That a person let a flagged picture out, and when."""
    if not isinstance(review, Mapping):
        return {}
    outcome, at = _short(review.get("outcome", "")).replace("_", " "), _short(review.get("at", ""))
    return {
        "released by a person": f"{outcome}, {at}",
        "decision of that person": _short(review.get("decision_id", "")),
    }


def _part(reading: Reading, label: str) -> Mapping[str, Any]:
    said = reading.assertions.get(label)
    return said if isinstance(said, Mapping) else {}


def _texts(said: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    """The fields that are plain values, by the names that people read."""
    return {
        name: _short(said[field]) for field, name in names.items() if isinstance(said.get(field), str | int | float)
    }


def _nearest(said: Mapping[str, Any]) -> dict[str, str]:
    works = [one for one in _list(said, "nearest") if isinstance(one, Mapping)]
    return {f"nearest work {place}": _nearness(one) for place, one in enumerate(works[:_MOST_NEAREST], start=1)}


def _credits(said: Mapping[str, Any]) -> dict[str, str]:
    given = [one for one in _list(said, "credits") if isinstance(one, Mapping)]
    told = [", ".join(_short(one[name]) for name in _CREDIT_FIELDS if one.get(name)) for one in given[:_MOST_NEAREST]]
    return {f"credit {place}": one for place, one in enumerate(told, start=1)}


def _actions(said: Mapping[str, Any]) -> list[str]:
    done = [one for one in _list(said, "actions")[:_MOST_LABELS] if isinstance(one, Mapping)]
    kinds = [str(one.get("digitalSourceType", "")).rpartition("/")[2] for one in done]
    return [
        _short(one.get("action")) + (f" ({_short(kind)})" if kind else "")
        for one, kind in zip(done, kinds, strict=True)
    ]


def _nearness(near: Mapping[str, Any]) -> str:
    """One work, by which signal, and how near."""
    work = "/".join(_short(near[name]) for name in ("bank", "work_id") if near.get(name))
    similarity, bits = near.get("similarity"), near.get("distance_bits")
    if isinstance(similarity, int | float):
        return f"{work} by {_short(near.get('signal'))}, similarity {similarity:.3f}"
    return f"{work} by {_short(near.get('signal'))}, {_short(bits)} bits apart"


def _list(said: Mapping[str, Any], name: str) -> list[Any]:
    found = said.get(name)
    return found if isinstance(found, list) else []


def _short(said: object) -> str:
    """Text that a file brought along, cut to what a page can show."""
    text = "" if said is None else str(said)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."
