"""What texts about a work may hold: titles and names in any script, but no signs that only machines see."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from guardrail.desk.web.problems import Problem

__all__ = ["require_texts"]

_NEVER = frozenset({"Cc", "Cs", "Zl", "Zp"})  # Unicode: control, half a letter, breaks of lines and of paragraphs
_BY_NAME = ("bank", "work_id")  # one is asked for by them: they hold nothing that cannot be seen


def require_texts(said: Mapping[str, object]) -> None:
    """Require of the texts of a work that people can read them and every store can keep them.

    Args:
        said: texts by the name of their field; what is no text is passed over.

    Raises:
        Problem: 422, one of them holds a control character, or as bank or id what cannot be printed; it is named.
    """
    for name, text in said.items():
        if not isinstance(text, str):
            continue
        odd = [sign for sign in text if unicodedata.category(sign) in _NEVER]
        odd += [sign for sign in text if name in _BY_NAME and not sign.isprintable()]
        if odd:
            found = f"found U+{ord(odd[0]):04X}, which cannot be printed, in {name!r}"
            raise Problem(422, f"{found}, expected text in one line; take it out", "bad-work")
