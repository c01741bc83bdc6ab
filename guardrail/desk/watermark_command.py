"""`guardrail bench watermark`: what the invisible mark outlasts, what it changes, and how often chance finds it."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from guardrail.desk.console import AsJson, SettingsFile, aside, print_json, progress_of, read_settings
from guardrail.errors import GuardrailError, NothingToIndex, PluginFault, SettingsInvalid

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from guardrail.carriers import Marked
    from guardrail.guard import Guard
    from guardrail.records import Verdict, WatermarkFound
    from guardrail.settings import Settings
    from guardrail.study.watermarks import Attack, MarkFigures, Marking

__all__ = ["bench_watermark"]

_OTHER_MARKS = 10_000  # drawn for the chance that somebody's mark is found in an unmarked picture
_FULL = 100.0  # intensity of an edit where none is said
_NO_SNAPSHOT = "0" * 64


def bench_watermark(
    folders: Annotated[list[Path], typer.Argument(help="Folders of images; as many are taken of each.")],
    name: Annotated[str, typer.Option(help="Plugin that marks, in place of the settings': rivagan, trustmark.")] = "",
    take: Annotated[int, typer.Option(min=1, help="Images in all, at most.")] = 200,
    side: Annotated[int, typer.Option(min=32, help="Longer side that they are brought down to, in pixels.")] = 512,
    attacks: Annotated[
        str, typer.Option(help="Edits with intensities 0..100, like jpeg:50,mirror; default: sixteen usual ones.")
    ] = "",
    index: Annotated[str, typer.Option(help="Index to judge with, marked and unmarked; default: the demo's.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of images, the mark and the edits.")] = 0,
    plot: Annotated[Path | None, typer.Option(help="Draw the shares, to a .png or .svg file.")] = None,
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Mark images, edit them, and count in how many the mark is found again.

    Unmarked images are looked at too, and a guard judges each image with and without the mark.

    Example: guardrail bench watermark my-images --name rivagan --take 100 --plot marks.png

    Exit codes: 0 measured, 1 not (no image, no such plugin, or what it needs is missing).
    """
    from guardrail.desk.speed_commands import scratch_guard  # when a command runs, not before: all this loads torch
    from guardrail.study.plots import require_plots
    from guardrail.study.watermarks import measure_marks

    if plot is not None:
        require_plots(plot)
    tried = _attacks(attacks)
    settings = _told(read_settings(settings_file), name, seed)
    files = _chosen(folders, take, seed)
    with scratch_guard(settings, index, "cpu") as guard, progress_of("marking and attacking") as progress:
        marking = _marking(guard, settings, tried, seed)
        pictures = _pictures(files, side, settings.largest_image_px)
        figures = measure_marks(pictures, marking, lambda done: progress(done, len(files)))
    chance = _chance(figures)
    if plot is not None:
        _draw(plot, figures)
    if as_json:
        print_json(figures.model_dump(mode="json") | {"chance": chance, "side_px": side, "files": len(files)})
    else:
        _show(figures, chance)


# --- what was asked -------------------------------------------------------------------------------------------------


def _told(settings: "Settings", name: str, seed: int) -> "Settings":
    """The settings, with the plugin that is asked for and, where they name no mark, one that the seed draws.

    Raises:
        SettingsInvalid: no plugin is named.
    """
    import numpy as np

    from guardrail.study.watermarks import even_mark

    payload = settings.watermark.payload or even_mark(np.random.default_rng(seed))
    said = settings.watermark.model_copy(update={"payload": payload, "name": name or settings.watermark.name})
    if not said.name:
        raise SettingsInvalid("watermark.name", "found none, expected a plugin that marks, as by --name rivagan")
    return settings.model_copy(update={"watermark": said})


def _attacks(said: str) -> "Sequence[Attack]":
    """`jpeg:50,mirror` as attacks.

    Raises:
        SettingsInvalid: there is no such edit or intensity.
    """
    from guardrail.study.edits import EDITS
    from guardrail.study.watermarks import ATTACKS, Attack

    if not said:
        return ATTACKS
    tried = []
    for one in said.split(","):
        edit, _, number = one.partition(":")
        try:
            intensity = float(number or _FULL)
        except ValueError:
            intensity = -1.0
        if edit not in EDITS or not 0 < intensity <= _FULL:
            raise SettingsInvalid("--attacks", f"found {one!r}, expected an edit of a copies bench, like jpeg:50")
        tried.append(Attack(edit, intensity, f"{edit} {intensity:g}"))
    return tried


def _chosen(folders: Sequence[Path], take: int, seed: int) -> list[Path]:
    """Files of each folder in turn, drawn by the seed, `take` in all.

    Raises:
        NothingToIndex: there is none.
    """
    from random import Random

    from guardrail.intake import find_images

    drawn = []
    for folder in folders:
        names = sorted(find_images(folder)[0]) if folder.is_dir() else []
        Random(seed).shuffle(names)  # noqa: S311 - a choice that can be made again, no secret
        drawn.append([folder / name for name in names])
    longest = max((len(files) for files in drawn), default=0)
    turns = [files[at] for at in range(longest) for files in drawn if at < len(files)]
    if not turns:
        raise NothingToIndex(", ".join(map(str, folders)), "no file that is named like an image")
    return turns[:take]


def _pictures(files: Sequence[Path], side_px: int, largest_px: int) -> "Iterator[NDArray[np.uint8]]":
    """The files as uint8 (H, W, 3), brought down to a longer side; those that cannot be read are told and left out."""
    import numpy as np

    from guardrail.desk.copies_choice import as_picture
    from guardrail.intake import read_picture

    for path in files:
        pixels = read_picture(path, largest_px).pixels
        if pixels is None:
            aside().print(f"left out, it cannot be read: {path.name!r}", markup=False)
        else:
            yield np.asarray(as_picture(pixels, side_px), np.uint8)


# --- marking, as a guard that releases does -------------------------------------------------------------------------


def _marking(guard: "Guard", settings: "Settings", attacks: "Sequence[Attack]", seed: int) -> "Marking":
    import torch

    from guardrail.fingerprint import hash_pdq
    from guardrail.fingerprint.devices import exact_arithmetic
    from guardrail.study.watermarks import Marking

    def hashed(pixels: "NDArray[np.uint8]") -> "NDArray[np.uint8]":
        with exact_arithmetic(torch.device("cpu")):
            codes, _ = hash_pdq(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])
        return codes[0, 0].numpy()

    return Marking(
        mark=lambda pixels: _marked(guard, settings, pixels),
        find=lambda pixels: _found(guard, settings, pixels),
        hashed=hashed,
        decided=lambda pixels: guard.check(pixels).verdicts[0].decision.value,
        attacks=attacks,
        seed=seed,
    )


def _marked(guard: "Guard", settings: "Settings", pixels: "NDArray[np.uint8]") -> "Marked":
    from guardrail.carriers import Marked
    from guardrail.plugins import first_answer

    given = {"pixels": pixels, "verdict": _verdict(), "context": None, "settings": settings}
    answer = first_answer(guard.plugins, "watermark_image", **given)
    if answer is not None and isinstance(answer.error, GuardrailError):
        raise answer.error
    if answer is None or not isinstance(answer.value, Marked):
        raise PluginFault(settings.watermark.name, f"it puts no mark into an image ({answer})")
    return answer.value


def _found(guard: "Guard", settings: "Settings", pixels: "NDArray[np.uint8]") -> "WatermarkFound":
    from guardrail.plugins import first_answer
    from guardrail.records import WatermarkFound

    answer = first_answer(guard.plugins, "find_watermark", pixels=pixels, settings=settings)
    if answer is not None and isinstance(answer.error, GuardrailError):
        raise answer.error
    if answer is None or not isinstance(answer.value, WatermarkFound):
        raise PluginFault(settings.watermark.name, f"it looks for no mark ({answer})")
    return answer.value


def _verdict() -> "Verdict":
    """What a plugin is given where nothing is released."""
    from guardrail.records import Decision, Verdict

    return Verdict(
        image="bench",
        pixels_sha256=None,
        at=datetime.now(UTC),
        decision=Decision.ACCEPT,
        rule="bench",
        explanation="",
        evidence=(),
        nearest=(),
        index_snapshot=None,
        policy_sha256=_NO_SNAPSHOT,
        calibration="",
    )


# --- what is said of it ---------------------------------------------------------------------------------------------


def _chance(figures: "MarkFigures") -> float | None:
    """How often somebody's mark is found in an unmarked picture, where the bits that are read can be had."""
    from guardrail.act.rivagan import RIVAGAN_ALGORITHM, RIVAGAN_PRESENT_BITS
    from guardrail.study.watermarks import chance_found

    if figures.algorithm != RIVAGAN_ALGORITHM:
        return None
    return chance_found(figures.unmarked_payloads, RIVAGAN_PRESENT_BITS, _OTHER_MARKS)


def _draw(path: Path, figures: "MarkFigures") -> None:
    from guardrail.study.plots import draw_shares

    rows = {one.said: [one.present / one.images, one.bits_right] for one in figures.attacks}
    draw_shares(path, f"{figures.algorithm}, {figures.kept} images, in %", rows, ("present", "bits right"))


def _show(figures: "MarkFigures", chance: float | None) -> None:
    console = Console(highlight=False)
    head = [
        Column("attack", no_wrap=True),
        *(Column(one, justify="right") for one in ("present", "95 %", "bits right")),
    ]
    table = Table(*head, title=f"share of {figures.kept} marked images in which the mark is found, in %", box=None)
    for one in figures.attacks:
        interval = f"{100 * one.low:.0f}-{100 * one.high:.0f}"
        table.add_row(one.said, f"{100 * one.present / one.images:.0f}", interval, f"{100 * one.bits_right:.0f}")
    console.print(table)
    for line in _lines(figures, chance):
        console.print(line, markup=False, soft_wrap=True)


def _lines(figures: "MarkFigures", chance: float | None) -> Iterator[str]:
    def quartiles(three: tuple[float, float, float], form: Callable[[float], str]) -> str:
        low, median, high = map(form, three)
        return f"{median} ({low} to {high})"

    yield f"nothing done: found in {figures.kept} of {figures.images} images"
    yield (
        f"unmarked: found in {figures.alarms} of {figures.images} (95 %: at most {figures.alarms_high:.2%}); "
        f"at most {figures.unmarked_bits_most} of {figures.bits} bits agree"
    )
    if chance is not None:
        yield f"unmarked, with {_OTHER_MARKS} other marks: found in {chance:.6%} of all pairs"
    yield (
        f"change: PSNR {quartiles(figures.psnr_db, lambda one: f'{one:.1f}')} dB, least {figures.psnr_db_least:.1f}; "
        f"SSIM {quartiles(figures.ssim, lambda one: f'{one:.3f}')}; "
        f"PDQ {quartiles(figures.pdq_bits, lambda one: f'{one:.0f}')} bits, most {figures.pdq_bits_most}"
    )
    yield (
        f"CPU: mark {quartiles(figures.mark_cpu_ms, lambda one: f'{one:.0f}')} ms, "
        f"find {quartiles(figures.find_cpu_ms, lambda one: f'{one:.0f}')} ms"
    )
    said = ", ".join(f"{name}: {count}" for name, count in sorted(figures.decided_otherwise.items())) or "never"
    yield f"judged otherwise once marked, of {figures.images}: {said}"
