"""Whether a person named a model at all, found out before anything heavy is loaded."""

from __future__ import annotations

from pathlib import Path

from guardrail.errors import AuditImpossible

__all__ = ["require_model"]


def require_model(said: str) -> None:
    """Require a folder of a saved pipeline, or the form `module:function`.

    Raises:
        AuditImpossible: it is neither.
    """
    folder = Path(said)
    if folder.is_dir():
        if not (folder / "model_index.json").is_file():
            raise AuditImpossible(
                said, "a folder without model_index.json", "a saved diffusers pipeline", "save_pretrained() makes one"
            )
        return
    module, _, name = said.partition(":")
    if not module or not name:
        raise AuditImpossible(said, "neither a folder nor module:function", "one of them", "name a saved pipeline")
