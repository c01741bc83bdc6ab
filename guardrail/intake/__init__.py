"""A pipeline call or files in, a generation context and an image batch out; the only room that knows diffusers."""

from typing import TYPE_CHECKING

from guardrail.lazy import lazy_names

if TYPE_CHECKING:
    from guardrail.intake.calls import BoundCall, bound_call
    from guardrail.intake.context import finish_context, prompt_of, read_context, read_run, remember_weights
    from guardrail.intake.credentials import file_behind, open_input
    from guardrail.intake.files import read_picture, shown_path
    from guardrail.intake.generators import replaying
    from guardrail.intake.inputs import inputs_of
    from guardrail.intake.installing import install, installed_guard, note_parts, uninstall, unwrap, wrap
    from guardrail.intake.latents import RandomState
    from guardrail.intake.modular import PipelineState
    from guardrail.intake.outputs import BaseOutput, PicturesInOutput, own_copy, pictures_in, put_into
    from guardrail.intake.ranks import first_rank_says, is_shared_by_ranks
    from guardrail.intake.remedies import Altered, Hit, Ladder, matched_rows
    from guardrail.intake.sources import FolderSource, SourceOptions, find_images, open_source, read_place
    from guardrail.intake.taking import (
        Sampling,
        Slot,
        Taken,
        asked_call,
        can_be_tried_again,
        cards_alone,
        fits,
        nothing_taken,
        slots_of,
        take,
    )
    from guardrail.intake.tally import unknown_signs
    from guardrail.intake.values import pictures_from
    from guardrail.intake.watching import Stopped, Watch, Watched, watched_call
    from guardrail.intake.weights import adapter_file_digest
    from guardrail.intake.wrapping import guard_of, outside_call, plain_view

__all__ = [
    "Altered",
    "BaseOutput",
    "BoundCall",
    "FolderSource",
    "Hit",
    "Ladder",
    "PicturesInOutput",
    "PipelineState",
    "RandomState",
    "Sampling",
    "Slot",
    "SourceOptions",
    "Stopped",
    "Taken",
    "Watch",
    "Watched",
    "adapter_file_digest",
    "asked_call",
    "bound_call",
    "can_be_tried_again",
    "cards_alone",
    "file_behind",
    "find_images",
    "finish_context",
    "first_rank_says",
    "fits",
    "guard_of",
    "inputs_of",
    "install",
    "installed_guard",
    "is_shared_by_ranks",
    "matched_rows",
    "note_parts",
    "nothing_taken",
    "open_input",
    "open_source",
    "outside_call",
    "own_copy",
    "pictures_from",
    "pictures_in",
    "plain_view",
    "prompt_of",
    "put_into",
    "read_context",
    "read_picture",
    "read_place",
    "read_run",
    "remember_weights",
    "replaying",
    "shown_path",
    "slots_of",
    "take",
    "uninstall",
    "unknown_signs",
    "unwrap",
    "watched_call",
    "wrap",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "guardrail.intake.calls": (
            "BoundCall",
            "bound_call",
        ),
        "guardrail.intake.context": (
            "finish_context",
            "prompt_of",
            "read_context",
            "read_run",
            "remember_weights",
        ),
        "guardrail.intake.credentials": (
            "file_behind",
            "open_input",
        ),
        "guardrail.intake.files": (
            "read_picture",
            "shown_path",
        ),
        "guardrail.intake.generators": ("replaying",),
        "guardrail.intake.inputs": ("inputs_of",),
        "guardrail.intake.installing": (
            "install",
            "installed_guard",
            "note_parts",
            "uninstall",
            "unwrap",
            "wrap",
        ),
        "guardrail.intake.latents": ("RandomState",),
        "guardrail.intake.modular": ("PipelineState",),
        "guardrail.intake.outputs": (
            "BaseOutput",
            "PicturesInOutput",
            "own_copy",
            "pictures_in",
            "put_into",
        ),
        "guardrail.intake.ranks": (
            "first_rank_says",
            "is_shared_by_ranks",
        ),
        "guardrail.intake.remedies": (
            "Altered",
            "Hit",
            "Ladder",
            "matched_rows",
        ),
        "guardrail.intake.sources": (
            "FolderSource",
            "SourceOptions",
            "find_images",
            "open_source",
            "read_place",
        ),
        "guardrail.intake.taking": (
            "Sampling",
            "Slot",
            "Taken",
            "asked_call",
            "can_be_tried_again",
            "cards_alone",
            "fits",
            "nothing_taken",
            "slots_of",
            "take",
        ),
        "guardrail.intake.tally": ("unknown_signs",),
        "guardrail.intake.values": ("pictures_from",),
        "guardrail.intake.watching": (
            "Stopped",
            "Watch",
            "Watched",
            "watched_call",
        ),
        "guardrail.intake.weights": ("adapter_file_digest",),
        "guardrail.intake.wrapping": (
            "guard_of",
            "outside_call",
            "plain_view",
        ),
    },
)
