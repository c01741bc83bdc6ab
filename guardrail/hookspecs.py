"""The contract with plugins: every hook, when it is called, what to return, and what an error in it does.

A plugin is a module or object with functions marked `@guardrail.hookimpl`, offered by an entry point in group
`guardrail`. A hook may take fewer arguments than are listed here. Three families:

* `register_*`: called once, when a Guard is built. An error stops the build (`PluginFault`).
* guards (`before_generation`, `during_generation`, `find_evidence`, `replace_image`, `watermark_image`,
  `find_watermark`, `describe_output`, `provide_signer`): called plugin by plugin, so that one crash loses no other
  answer. An error in the first four becomes `CheckFailed` evidence; in the others it withholds the image
  (`ReleaseFailed`).
* observers (`verdict_reached`, `output_released`, `review_recorded`): an error is logged, the verdict stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from guardrail.carriers import Marked, OutputPicture, Picture, Sign, SignReading, Step
    from guardrail.protocols import Embedder, IndexBackend
    from guardrail.records import (
        GenerationContext,
        Limits,
        MatchEvidence,
        Neighbour,
        Release,
        ReviewDecision,
        SignUnavailable,
        Unproved,
        Verdict,
        WatermarkFound,
    )
    from guardrail.settings import Settings

PROJECT = "guardrail"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

__all__ = ["PROJECT", "hookimpl", "hookspec"]


@hookspec
def register_embedders() -> Mapping[str, Callable[[str, str], Embedder]]:  # type: ignore[empty-body]
    """Offer embedders.

    Called once, when a Guard or an index is built. Return a mapping from a scheme (`mini`, `clip`) to a factory that
    takes what follows the colon in the embedder's name (`""` for a bare scheme) and a torch device name, and returns
    an `Embedder`. Two plugins offering one scheme, or an error, stop the build.
    """


@hookspec
def register_index_backends() -> Mapping[str, Callable[[str, str], IndexBackend]]:  # type: ignore[empty-body]
    """Offer index backends.

    Called once, when a Guard is built. Return a mapping from a URL scheme (`folder` for a plain path) to a function
    that opens an index at a location, to be searched on a torch device (`cpu`, `cuda`; a backend elsewhere takes no
    notice), and returns an `IndexBackend`. Two plugins offering one scheme, or an error, stop the build.
    """


@hookspec
def before_generation(  # type: ignore[empty-body]
    context: GenerationContext | None, settings: Settings
) -> Sequence[Sign | SignUnavailable]:
    """Say which signs of memorisation to look for in a run.

    Called for each call of a pipeline, before anything is generated, if the settings name any sign (`settings.signs`).
    Return a `Sign` for each one this plugin looks for, or a `SignUnavailable` with the reason where it could not be
    measured on this run; an empty sequence or `None` for none. A sign that the settings do not name, or turn off, is
    not looked for. Where no sign is looked for the pipeline is simply called. An error becomes `CheckFailed` evidence
    on every image of the run.

    It is also called when a Guard is built, with `None` as `context`: name every sign of yours that the settings name,
    so that one which no plugin offers is an error in the settings.
    """


@hookspec
def during_generation(
    step: Step, context: GenerationContext | None, settings: Settings
) -> SignReading | SignUnavailable | Sequence[SignReading | SignUnavailable] | None:
    """Measure signs of memorisation at one step of a run.

    Called after each step of a scheduler, and when an image embedding was finished, of plugins that said in
    `before_generation` that they look for a sign. Return a `SignReading` with a value for each image of the batch
    (higher is more suspicious), a `SignUnavailable` with the reason, or `None` to skip this step. Steps are put
    together as the `Sign` says, and what is done about it stands in the settings. Leave values on their device: every
    transfer holds the run up. Read tensors, never write to them, and draw no random number. An error, or a reading
    that was not announced or has another length, becomes `CheckFailed` evidence on every image, and the plugin is not
    asked again in this run; values that are no finite numbers are `CheckFailed` on their image.
    """


@hookspec
def find_evidence(  # type: ignore[empty-body]
    context: GenerationContext | None,
    picture: Picture,
    neighbours: tuple[Neighbour, ...],
    index: IndexBackend,
    limits: Limits,
    settings: Settings,
) -> Sequence[MatchEvidence | Unproved]:
    """Look closer at one image and its neighbours.

    Called for every image that could be fingerprinted, after search. Return evidence (an empty sequence or `None` for
    none); it is added to that of the other signals and judged by the policy. `Unproved` says that a work was looked at
    closer and no copy was found: it can make a flag of a block, never less. An error becomes `CheckFailed` evidence.
    `picture.pixels` is the guard's own copy: read it, never write to it.
    """


@hookspec(firstresult=True)
def replace_image(size_px: tuple[int, int], verdict: Verdict) -> Image | None:
    """Draw what is shown in place of an image that is withheld.

    Called for every blocked image, and for flagged ones that are held for review. `size_px` is (width, height). Return
    an RGB `PIL.Image.Image` of that size, or `None` to leave it to the next plugin. An error, a wrong size or no answer
    gives a plain grey picture, and is logged: the image stays withheld.
    """


@hookspec(firstresult=True)
def watermark_image(
    pixels: NDArray[np.uint8], verdict: Verdict, context: GenerationContext | None, settings: Settings
) -> Marked | None:
    """Put an invisible mark into an accepted image before it is encoded and signed.

    Called where the settings name a watermark (`settings.watermark.name`). `pixels` is uint8 (H, W, 3), RGB, a copy of
    your own. Return a `Marked` of the same size, or `None` when the settings name another plugin's mark. The marked
    image is judged again before it leaves. No answer, another size or an error withholds the image.
    """


@hookspec
def find_watermark(pixels: NDArray[np.uint8], settings: Settings) -> WatermarkFound | None:
    """Look for this plugin's mark in an image, when a file is verified and when a marked image is read back.

    `pixels` is uint8 (H, W, 3), RGB, of any size. Return a `WatermarkFound`, or `None` where this plugin does not look.
    An error is reported as a layer that is unavailable; while an image is released it withholds the image.
    """


@hookspec
def describe_output(  # type: ignore[empty-body]
    verdict: Verdict, context: GenerationContext | None, output: OutputPicture, settings: Settings
) -> Mapping[str, Any]:
    """Say something of an accepted image in its signed manifest.

    Called before signing, with the image as it leaves. Return a mapping from C2PA assertion labels to JSON-ready
    values. Never put prompt text, paths or names of this machine there: the file leaves it. Two plugins using one
    label, or an error, withhold the image.
    """


@hookspec(firstresult=True)
def provide_signer(settings: Settings) -> object | None:
    """Offer the signer of this guard's releases.

    Called once for each call to `save`. Return a `guardrail.act.Signing` (credential and trust anchor), or `None` when
    this plugin has none for these settings. No answer at all or an error withholds the images.
    """


@hookspec
def verdict_reached(verdict: Verdict, context: GenerationContext | None) -> None:
    """Observe a verdict, after it is in the ledger. Return nothing; an error is logged."""


@hookspec
def output_released(release: Release, path: Path) -> None:
    """Observe a signed file that was written, after it is in the ledger. Return nothing; an error is logged."""


@hookspec
def review_recorded(decision: ReviewDecision, verdict: Verdict) -> None:
    """Observe a person's decision on a flagged image, after it is in the ledger. Return nothing; an error is logged.

    Called at the desk, once for each decision, also for one that takes another back (`decision.undoes`). `verdict` is
    the one that the case was opened for. Where the process is killed in between it is not called: programs that must
    not miss a decision take webhooks, which are sent again.
    """
