"""A signed file, a key and a text in; whether that text was a prompt of the image out."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from guardrail.act import sdk
from guardrail.act.generation import GENERATION_LABEL, PromptStatement
from guardrail.act.picture_file import read_picture_file
from guardrail.act.prompts import fields_saying
from guardrail.act.verify import verify_file
from guardrail.errors import PromptUnproved
from guardrail.records import VerifyOutcome

__all__ = ["PromptProof", "prove_prompt"]


class PromptProof(NamedTuple):
    """Which prompts of an image a text is.

    Attributes:
        verdict_id: under which the image left.
        fields: the prompts it is, such as `prompt`; none where it is none of them.
        digested: the prompts that the file has digests of.
    """

    verdict_id: str
    fields: tuple[str, ...]
    digested: tuple[str, ...]


def prove_prompt(path: Path, anchors: Sequence[bytes], key: bytes, text: str) -> PromptProof:
    """Say whether a text was a prompt of an image that we signed.

    Args:
        path: the file.
        anchors: our root certificates, PEM.
        key: of the digests, see `load_prompt_key`.
        text: the prompt, letter by letter.

    Raises:
        ImageUnreadable: the file cannot be read.
        PromptUnproved: it is not ours, was changed, or says nothing of prompts.
    """
    report = verify_file(path, anchors)
    if report.outcome not in {VerifyOutcome.OURS, VerifyOutcome.EXPIRED}:
        raise PromptUnproved(str(path), f"{report.outcome.value}: {report.explanation}")
    content, mime = read_picture_file(path)
    said = sdk.read(content, mime, anchors).assertions.get(GENERATION_LABEL, {}).get("prompts")
    if said is None:
        found = "a manifest that says nothing of prompts, as of a picture that was only checked and not made by us"
        raise PromptUnproved(str(path), found)
    statement = PromptStatement.model_validate(said)
    digests = {field: list(some) for field, some in statement.digests.items()}
    return PromptProof(
        statement.bound_to, fields_saying(key, statement.bound_to, digests, text), tuple(sorted(digests))
    )
