"""A pipeline call or files in, a generation context and an image batch out; the only room that knows diffusers."""

from typing import TYPE_CHECKING

from guardrail.lazy import lazy_names

if TYPE_CHECKING:
    from guardrail.intake.context import finish_context, read_context
    from guardrail.intake.files import read_picture, shown_path
    from guardrail.intake.outputs import PicturesInOutput, own_copy, pictures_in, put_into
    from guardrail.intake.reseed import Reseeded, reseeded
    from guardrail.intake.sources import FolderSource, SourceOptions, find_images, open_source, read_place
    from guardrail.intake.values import pictures_from
    from guardrail.intake.wrapping import guard_of, unwrap, wrap

__all__ = [
    "FolderSource",
    "PicturesInOutput",
    "Reseeded",
    "SourceOptions",
    "find_images",
    "finish_context",
    "guard_of",
    "open_source",
    "own_copy",
    "pictures_from",
    "pictures_in",
    "put_into",
    "read_context",
    "read_picture",
    "read_place",
    "reseeded",
    "shown_path",
    "unwrap",
    "wrap",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "guardrail.intake.context": ("finish_context", "read_context"),
        "guardrail.intake.files": ("read_picture", "shown_path"),
        "guardrail.intake.outputs": ("PicturesInOutput", "own_copy", "pictures_in", "put_into"),
        "guardrail.intake.sources": (
            "FolderSource",
            "SourceOptions",
            "find_images",
            "open_source",
            "read_place",
        ),
        "guardrail.intake.reseed": ("Reseeded", "reseeded"),
        "guardrail.intake.values": ("pictures_from",),
        "guardrail.intake.wrapping": ("guard_of", "unwrap", "wrap"),
    },
)
