"""The words that C2PA's asset conformance rubric knows: actions, assertions, parameters and validation codes.

Source: `asset-rubric-conformance0.2-spec2.4.yml` of 2026-03-31 in the repository c2pa-org/conformance-public.
"""

__all__ = [
    "ACTIONS",
    "ASSERTIONS",
    "FORMER_ACTIONS",
    "FORMER_ASSERTIONS",
    "ILL_FORMED",
    "INVALID",
    "NOT_EDITORIAL",
    "PARAMETERS",
]


def _words(prefix: str, words: str) -> frozenset[str]:
    return frozenset(prefix + word for word in words.split())


ACTIONS = _words(
    "c2pa.",
    "addedText adjustedColor changedSpeed color_adjustments converted created cropped deleted drawing dubbed "
    "edited edited.metadata enhanced filtered mastered mixed opened orientation placed published redacted "
    "remixed removed repackaged resized resized.proportional transcoded translated trimmed unknown watermarked "
    "watermarked.bound watermarked.unbound",
)
"""Actions that C2PA defines."""

FORMER_ACTIONS = _words(
    "c2pa.",
    "color_adjustments copied formatted managed printed produced saved version_updated watermarked",
)
"""Actions that it no longer does."""

NOT_EDITORIAL = _words(
    "c2pa.",
    "converted edited.metadata enhanced published redacted repackaged resized.proportional transcoded "
    "watermarked watermarked.bound watermarked.unbound",
)
"""Actions that leave alone what is seen."""

ASSERTIONS = _words(
    "c2pa.",
    "actions.v2 ai-disclosure alternative-content-representation assertion.metadata asset-ref asset-type.v2 "
    "certificate-status cloud-data depthmap.GDepth embedded-data environmental-sustainability "
    "external-reference hash.bmff.v3 hash.boxes hash.collection.data hash.data hash.data.part hash.multi-asset "
    "icon ingredient.v3 metadata repository-receipt session-keys soft-binding thumbnail.claim "
    "thumbnail.ingredient time-stamp",
)
"""Assertions that C2PA defines."""

FORMER_ASSERTIONS = _words(
    "c2pa.",
    "actions asset-type claim hash.bmff.v2 ingredient ingredient.v2",
)
"""Assertions that it no longer does."""

PARAMETERS = _words(
    "",
    "description ingredient ingredients italic multipleInstances optical-size ranges redacted relatedAssertions "
    "slant sourceLanguage targetLanguage weight width",
)
"""Parameters of actions that need no namespace."""

ILL_FORMED = _words(
    "",
    "assertion.action.malformed assertion.alternativeContentRepresentation.malformed "
    "assertion.alternativeContentRepresentation.missing assertion.bmffHash.malformed "
    "assertion.boxesHash.malformed assertion.boxesHash.unknownBox assertion.cbor.invalid "
    "assertion.collectionHash.malformed assertion.dataHash.malformed assertion.external-reference.created "
    "assertion.external-reference.labelMismatch assertion.external-reference.malformed "
    "assertion.ingredient.malformed assertion.json.invalid assertion.multiAssetHash.malformed "
    "assertion.multipleHardBindings claim.cbor.invalid claim.hardBindings.missing claim.malformed claim.missing "
    "claim.multiple hashedURI.missing ingredient.manifest.missing manifest.compressed.invalid "
    "manifest.html.multipleManifests manifest.inaccessible manifest.multipleParents "
    "manifest.structuredText.emptyReference manifest.structuredText.malformedReference "
    "manifest.structuredText.multipleReferences manifest.structuredText.noManifest "
    "manifest.structuredText.noResolutionPath manifest.timestamp.invalid manifest.timestamp.wrongParents "
    "manifest.update.invalid manifest.update.wrongParents",
)
"""Validation codes of what is not put together as it should be."""

INVALID = _words(
    "",
    "assertion.action.ingredientMismatch assertion.action.redactionMismatch "
    "assertion.alternativeContentRepresentation.hashMismatch assertion.bmffHash.mismatch "
    "assertion.boxesHash.mismatch assertion.collectionHash.mismatch assertion.dataHash.mismatch "
    "assertion.external-reference.hashMismatch assertion.hardBinding.redacted assertion.hashedURI.mismatch "
    "assertion.multiAssetHash.mismatch claimSignature.missing hashedURI.mismatch "
    "ingredient.claimSignature.mismatch ingredient.claimSignature.missing ingredient.manifest.mismatch",
)
"""Validation codes of what is not what was signed."""
