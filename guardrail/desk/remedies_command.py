"""`guardrail bench remedies`: how many blocked images each remedy turns into accepted ones, and at what cost."""

from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console
from rich.table import Table

from guardrail.desk.console import AsJson, aside, plain, print_json
from guardrail.errors import SettingsInvalid
from guardrail.records import RemedyName

if TYPE_CHECKING:
    from guardrail.desk.remedies_run import RemedyOutcome

__all__ = ["bench_remedies"]

_ALL = "all"


def bench_remedies(
    images: Annotated[int, typer.Option("--images", min=1, max=256, help="Images in each first call.")] = 32,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="First calls of each pipeline.")] = 1,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the first of them.")] = 7,
    remedies: Annotated[
        str, typer.Option("--remedies", help="Names with commas; `all` alone is the settings' own ladder.")
    ] = "",
    models: Annotated[
        str,
        typer.Option("--models", help="Words with commas, one of which is in a model's name: captions,UNet,exactly."),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """What remedies make of blocked images, on the shipped models and on prompts that are memorised by construction.

    Every remedy begins with the same images and is given one try; the last line takes the settings' remedies in turn.

    Example: guardrail bench remedies --images 16 --remedies fresh_seed,away_from_work

    Exit codes: 0 measured, 1 not.
    """
    wanted = _names(remedies)
    from guardrail.desk.remedies_run import LADDER, measure_remedies

    names = tuple(LADDER if one == _ALL else one for one in wanted)
    outcomes = measure_remedies(images, rounds, seed, names, tuple(filter(None, models.split(","))), _say)
    if not outcomes:
        raise SettingsInvalid("--models", f"{models!r}, where a word of a model's name is expected, such as captions")
    if as_json:
        print_json({"images": images, "rounds": rounds, "seed": seed, "outcomes": [_document(one) for one in outcomes]})
    else:
        _show(outcomes)


def _names(said: str) -> tuple[str, ...]:
    """Names of remedies.

    Raises:
        SettingsInvalid: there is none of that name.
    """
    names, known = tuple(filter(None, said.split(","))), (*get_args(RemedyName), _ALL)
    for name in names:
        if name not in known:
            raise SettingsInvalid("--remedies", f"{name!r}, where names of {', '.join(known)} are expected")
    return names


def _say(one: "RemedyOutcome") -> None:
    """One outcome as it is known, beside the answer."""
    became = f"{one.accepted} of {one.blocked} accepted, {one.flagged} flagged" if one.tries else "does not fit"
    aside().print(plain(f"{one.pipeline}, {one.remedy}: {became}"))


def _document(one: "RemedyOutcome") -> dict[str, Any]:
    return {
        "pipeline": one.pipeline,
        "remedy": one.remedy,
        "images": one.images,
        "blocked": one.blocked,
        "accepted": one.accepted,
        "flagged": one.flagged,
        "still_blocked": one.blocked - one.accepted - one.flagged,
        "accepted_copies": one.copies,
        "made_again": one.tries,
        "took_ms": round(one.took_ms, 1),
        "unfit": sorted(one.unfit),
    }


def _show(outcomes: "list[RemedyOutcome]") -> None:
    names = ("pipeline", "blocked", "remedy", "accepted", "of them copies", "flagged", "ms a new image", "unfit")
    table = Table(*names, title="what became of blocked images", title_justify="left")
    for one in outcomes:
        took = f"{one.took_ms / one.tries:.0f}" if one.tries else ""
        counts = (str(one.accepted), str(one.copies), str(one.flagged)) if one.tries else ("", "", "")
        unfit = "" if one.tries else plain("; ".join(sorted(one.unfit)))
        table.add_row(one.pipeline, f"{one.blocked} of {one.images}", one.remedy, *counts, took, unfit)
    Console(highlight=False).print(table)
