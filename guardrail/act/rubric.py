"""A signed file in, the 31 checks of C2PA's asset conformance rubric out: what each found wrong, if anything.

The rubric is that of the C2PA Conformance Task Force for the conformance program 0.2 and specification 2.4, of
2026-03-31 (`asset-rubric-conformance0.2-spec2.4.yml` in the repository c2pa-org/conformance-public). It is written as
expressions over a manifest store as crJSON; here each is a function of that name, so that it runs without an evaluator.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import c2pa

from guardrail.act import rubric_words, sdk

__all__ = ["RubricCheck", "check_conformance", "conformance_of", "plain_form"]

_SPEC_VERSION = ("2", "4")  # major and minor, that a claim generator has to name
_INCEPTIONS = frozenset({"c2pa.created", "c2pa.opened"})  # how a picture comes about; one of them stands first
_NEEDS_NO_SOURCE = _INCEPTIONS | rubric_words.NOT_EDITORIAL | {"c2pa.placed"}
_NO_RESULTS = "MISSING_VALIDATION_RESULTS"  # the rubric's word where nothing was validated
_RELATIONSHIPS = frozenset({"parentOf", "inputTo", "componentOf"})  # of ingredients
_ENTERED_BY_PEOPLE = frozenset({"humanEntry.anonymous", "humanEntry.credentialed"})  # which nobody may rate
_TIFF = frozenset({"image/tiff", "image/x-adobe-dng"})  # media types
_PRESERVED = "exif.originalPreservationImage"  # a type of alternative content
_NEVER_ELSEWHERE = frozenset({"c2pa.actions", "c2pa.actions.v2", "c2pa.cloud-data", "c2pa.external-reference"})


class RubricCheck(NamedTuple):
    """One check of the rubric.

    Attributes:
        check: its id in the rubric.
        wrong: what it found, in a word each; empty where the file passes.
    """

    check: str
    wrong: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether the file passes."""
        return not self.wrong


def conformance_of(content: bytes, mime: str, anchors: Sequence[bytes]) -> tuple[RubricCheck, ...]:
    """All 31 checks on a signed file.

    Args:
        content: the whole file.
        mime: such as `image/png`.
        anchors: PEM root certificates to trust.

    Raises:
        c2pa.C2paError: it has no manifest, or none that can be parsed.
    """
    return check_conformance(plain_form(content, mime, anchors))


def plain_form(content: bytes, mime: str, anchors: Sequence[bytes]) -> dict[str, Any]:
    """The manifest store of a file as crJSON, validated, with nothing fetched from the network.

    Raises:
        c2pa.C2paError: it has none, or none that can be parsed.
    """
    with (
        c2pa.Context.from_dict(sdk._settings(anchors)) as context,
        c2pa.Reader(mime, io.BytesIO(content), context=context) as reader,
    ):
        store: dict[str, Any] = json.loads(reader.crjson())
        return store


def check_conformance(store: Mapping[str, Any]) -> tuple[RubricCheck, ...]:
    """All 31 checks on the first manifest of a store as crJSON, in the rubric's order; that is the active one."""
    manifests = store.get("manifests") or [{}]
    manifest = _Manifest(manifests[0])
    return tuple(RubricCheck(check, tuple(map(str, wrong(manifest)))) for check, wrong in _CHECKS.items())


@dataclass(frozen=True, slots=True)
class _Manifest:
    """A manifest as crJSON, with the parts that checks look at."""

    whole: Mapping[str, Any]
    assertions: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "assertions", self.whole.get("assertions") or {})

    @property
    def claim(self) -> Mapping[str, Any]:
        return self.whole.get("claim.v2") or {}

    @property
    def maps(self) -> Iterator[Mapping[str, Any]]:
        return (content for content in self.assertions.values() if isinstance(content, Mapping))

    @property
    def action_lists(self) -> Iterator[Mapping[str, Any]]:
        return (content for content in self.maps if content.get("actions") is not None)

    @property
    def actions(self) -> list[Mapping[str, Any]]:
        return [action for one in self.action_lists for action in one["actions"]]

    @property
    def ingredients(self) -> Iterator[Mapping[str, Any]]:
        return (content for content in self.maps if content.get("relationship") is not None)

    @property
    def spec_version(self) -> Any:
        generator = self.claim.get("claim_generator_info") or {}
        generator = generator[0] if isinstance(generator, list) else generator
        return generator.get("specVersion")

    def failures_in(self, codes: frozenset[str]) -> list[str]:
        results = self.whole.get("validationResults") or {"failure": [{"code": _NO_RESULTS}]}
        return [one["code"] for one in results.get("failure", ()) if one["code"] in codes | {_NO_RESULTS}]


_CHECKS: dict[str, Callable[[_Manifest], Iterable[Any]]] = {}


def _check(name: str) -> Callable[[Callable[[_Manifest], Iterable[Any]]], Callable[[_Manifest], Iterable[Any]]]:
    """Enter a check under its name in the rubric; it gives back what is wrong."""

    def enter(wrong: Callable[[_Manifest], Iterable[Any]]) -> Callable[[_Manifest], Iterable[Any]]:
        _CHECKS[f"validation:{name}"] = wrong
        return wrong

    return enter


# --- the conformance program's own -----------------------------------------------------------------------------


@_check("mandatory_dst_for_perceptible_transformations")
def _edits_without_source(manifest: _Manifest) -> list[str]:
    named = (action for action in manifest.actions if action.get("digitalSourceType") is None)
    return [
        one["action"] for one in named if one["action"].startswith("c2pa.") and one["action"] not in _NEEDS_NO_SOURCE
    ]


@_check("mandatory_spec_version")
def _spec_version(manifest: _Manifest) -> list[Any]:
    said = manifest.spec_version
    right = isinstance(said, str) and tuple(said.split(".")[:2]) == _SPEC_VERSION
    return [] if right else [said or "missing"]


@_check("mandatory_all_actions_included")
def _silent_on_all_actions(manifest: _Manifest) -> list[str]:
    return ["allActionsIncluded" for one in manifest.action_lists if one.get("allActionsIncluded") is None]


@_check("no_dst_for_opened_action")
def _opened_with_source(manifest: _Manifest) -> list[str]:
    opened = (action for action in manifest.actions if action["action"] == "c2pa.opened")
    return [one["digitalSourceType"] for one in opened if one.get("digitalSourceType") is not None]


@_check("well_formed_data_present")
def _nothing_on_form(manifest: _Manifest) -> list[str]:
    return [] if manifest.whole.get("validationResults") is not None else [_NO_RESULTS]


@_check("well_formed_success")
def _ill_formed(manifest: _Manifest) -> list[str]:
    return manifest.failures_in(rubric_words.ILL_FORMED)


@_check("valid_data_present")
def _nothing_on_validity(manifest: _Manifest) -> list[str]:
    return [] if manifest.whole.get("validationResults") is not None else [_NO_RESULTS]


@_check("valid_success")
def _invalid(manifest: _Manifest) -> list[str]:
    return manifest.failures_in(rubric_words.INVALID)


# --- specification 2.2 and on ----------------------------------------------------------------------------------


@_check("inception_action_position")
def _inception_elsewhere(manifest: _Manifest) -> list[str]:
    created = [one.get("url", "") for one in manifest.claim.get("created_assertions") or ()]
    listed = [url for url in created if "c2pa.actions" in url][:1]
    if not listed or not listed[0].endswith("c2pa.actions.v2"):
        return ["no c2pa.actions.v2 among the created assertions"]
    actions = [action["action"] for action in manifest.actions]
    return [] if "c2pa.created" not in actions or actions[0] in _INCEPTIONS else actions[:1]


@_check("no_deprecated_assertions")
def _former_assertions(manifest: _Manifest) -> list[str]:
    return [
        label for label in manifest.assertions if label.startswith("stds.") or label in rubric_words.FORMER_ASSERTIONS
    ]


@_check("no_unsupported_assertions")
def _unknown_assertions(manifest: _Manifest) -> list[str]:
    known = rubric_words.ASSERTIONS | rubric_words.FORMER_ASSERTIONS
    return [label for label in manifest.assertions if label.startswith("c2pa.") and label.split("__")[0] not in known]


@_check("no_deprecated_actions")
def _former_actions(manifest: _Manifest) -> list[str]:
    return [action["action"] for action in manifest.actions if action["action"] in rubric_words.FORMER_ACTIONS]


@_check("no_unsupported_actions")
def _unknown_actions(manifest: _Manifest) -> list[str]:
    names = (action["action"] for action in manifest.actions)
    return [name for name in names if name.startswith("c2pa.") and name not in rubric_words.ACTIONS]


@_check("no_unrecognized_custom_assertions")
def _nobody_s_assertions(manifest: _Manifest) -> list[str]:
    return [label for label in manifest.assertions if "." not in label]


@_check("no_unrecognized_custom_actions")
def _nobody_s_actions(manifest: _Manifest) -> list[str]:
    return [action["action"] for action in manifest.actions if "." not in action["action"]]


@_check("no_unrecognized_custom_action_parameters")
def _nobody_s_parameters(manifest: _Manifest) -> list[str]:
    names = (name for action in manifest.actions for name in action.get("parameters") or ())
    return [name for name in names if name not in rubric_words.PARAMETERS and "." not in name]


@_check("discouraged_legacy_action_parameters")
def _former_parameters(manifest: _Manifest) -> list[str]:
    given = ((action["action"], action.get("parameters") or {}) for action in manifest.actions)
    return [name for name, parameters in given if {"description", "ingredient"} & parameters.keys()]


@_check("active_manifest_urn")
def _other_name(manifest: _Manifest) -> list[str]:
    name = manifest.whole.get("label") or ""
    return [] if name.startswith("urn:c2pa:") else [name or "missing"]


@_check("review_ratings_datasource")
def _rated_by_people(manifest: _Manifest) -> list[str]:
    rated = (content for content in manifest.maps if content.get("reviewRatings") is not None)
    kinds = ((content.get("dataSource") or {}).get("type") for content in rated)
    return [kind for kind in kinds if kind in _ENTERED_BY_PEOPLE]


@_check("ingredient_v3_no_active_manifest")
def _validated_without_manifest(manifest: _Manifest) -> list[str]:
    bare = (one for one in manifest.ingredients if one.get("activeManifest") is None)
    return ["validationResults" for one in bare if one.get("validationResults") is not None]


@_check("ingredient_v3_mandatory_validation_results")
def _manifest_without_validation(manifest: _Manifest) -> list[str]:
    with_manifest = (one for one in manifest.ingredients if one.get("activeManifest") is not None)
    return ["activeManifest" for one in with_manifest if one.get("validationResults") is None]


@_check("ingredient_relationship_values")
def _other_relationships(manifest: _Manifest) -> list[str]:
    return [one["relationship"] for one in manifest.ingredients if one["relationship"] not in _RELATIONSHIPS]


@_check("mandatory_dst_for_created_action")
def _created_without_source(manifest: _Manifest) -> list[str]:
    created = (action for action in manifest.actions if action["action"] == "c2pa.created")
    return ["c2pa.created" for one in created if one.get("digitalSourceType") is None]


# --- specification 2.4 -----------------------------------------------------------------------------------------


@_check("no_deprecated_claim_fields")
def _former_fields(manifest: _Manifest) -> list[str]:
    return ["specVersion in the claim"] if manifest.claim.get("specVersion") is not None else []


@_check("ingredient_v3_choice")
def _manifest_and_source(manifest: _Manifest) -> list[str]:
    with_manifest = (one for one in manifest.ingredients if one.get("activeManifest") is not None)
    return ["digitalSourceType" for one in with_manifest if one.get("digitalSourceType") is not None]


@_check("alternative_content_representation_choice")
def _two_preserved(manifest: _Manifest) -> list[str]:
    places = ("multiAssetPartIndex", "embeddedOriginalPreservationImage")
    wrong = []
    for content in manifest.maps:
        parameters = content.get("parameters") or {}
        preserved = _PRESERVED in (content.get("type"), parameters.get("type"))
        if preserved and sum(parameters.get(place) is not None for place in places) != 1:
            wrong.append(_PRESERVED)
    return wrong


@_check("forbidden_labels_in_external_references")
def _forbidden_elsewhere(manifest: _Manifest) -> list[str]:
    labels = (
        one["label"]
        for one in manifest.maps
        if one.get("label") is not None and one.get("url") is not None and one.get("relationship") is None
    )
    return [one for one in labels if one in _NEVER_ELSEWHERE or one.startswith(("c2pa.hash", "c2pa.ingredient"))]


@_check("no_url_in_hashes")
def _hashes_with_url(manifest: _Manifest) -> list[str]:
    hashes = ("c2pa.hash.data", "c2pa.hash.bmff.v3")
    return [label for label in hashes if (manifest.assertions.get(label) or {}).get("url")]


@_check("all_actions_included_opened")
def _opened_and_no_more(manifest: _Manifest) -> list[str]:
    names = [action["action"] for action in manifest.actions]
    included = (manifest.assertions.get("c2pa.actions.v2") or {}).get("allActionsIncluded")
    return names if names == ["c2pa.opened"] and included is not True else []


@_check("opened_action_ingredient_reference")
def _opened_without_parent(manifest: _Manifest) -> list[str]:
    opened = (action for action in manifest.actions if action["action"] == "c2pa.opened")
    return ["c2pa.opened" for one in opened if len((one.get("parameters") or {}).get("ingredients") or ()) != 1]


@_check("no_box_hash_for_tiff")
def _boxes_in_tiff(manifest: _Manifest) -> list[str]:
    kind = (manifest.assertions.get("c2pa.asset-type.v2") or {}).get("dc:format")
    return ["c2pa.hash.boxes"] if kind in _TIFF and "c2pa.hash.boxes" in manifest.assertions else []
