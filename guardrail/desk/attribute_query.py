"""`guardrail attribute query`: what images are estimated to owe to training images."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from rich.console import Console
from rich.table import Table

from guardrail.desk.attribute_fit import Adapter, AtOnce, Device
from guardrail.desk.audit_named import require_model
from guardrail.desk.console import AsJson, SettingsFile, aside, plain, print_json, progress_of, read_settings
from guardrail.errors import SettingsInvalid

if TYPE_CHECKING:
    from guardrail.desk.attribute_query_run import AskedQuery, AttributedImage

__all__ = ["query"]

_STANDS_OUT = 12
_COULD_NOT = 1
_STOPPED = 130  # as shells say it of Ctrl-C
_SHOWN = 8  # training images in a table; --json and --html have the others

_Html = Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with the pictures side by side.")]


def query(
    gradients: Annotated[Path, typer.Argument(help="Folder that `guardrail attribute fit` made.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Images that the model made.")],
    pipeline: Annotated[str, typer.Option(help="The model that made them: a folder, or module:function.")],
    prompt: Annotated[str | None, typer.Option(help="What they were made from.")] = None,
    label: Annotated[int | None, typer.Option(help="Their class, of a model with classes.")] = None,
    seed: Annotated[int | None, typer.Option(help="The seed they were made from, where it is known.")] = None,
    adapter: Adapter = None,
    index: Annotated[Path | None, typer.Option(help="Index that knows whose the works are.")] = None,
    html: _Html = None,
    square: Annotated[str, typer.Option(help="How images are made square: crop, pad (white) or squeeze.")] = "crop",
    at_once: AtOnce = 0,
    device: Device = "",
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Say which training images stand out among what an image is estimated to owe to.

    That none does is a normal answer. What is said is estimated influence under this model and method; how alike two
    pictures look is in a column of its own.

    Example: guardrail attribute query gradients out.png --pipeline my-pipeline --prompt "a red fox" --html owes.html

    Exit codes: 0 no single training image stands out, 12 some do, 1 it could not be told (too few decoys, another
    model, an image that cannot be read), 130 stopped by Ctrl-C.
    """
    _require(square, html)
    require_model(pipeline)
    from guardrail.desk.attribute_model import AskedModel  # when a command runs, not before: they load torch
    from guardrail.desk.attribute_query_run import AskedQuery
    from guardrail.fingerprint import resolve_device
    from guardrail.study.attribution.keeping import GradientRows

    settings = read_settings(settings_file)
    where = str(resolve_device(device or settings.device))
    side = GradientRows(gradients).manifest.side_px
    asked = AskedQuery(
        model=AskedModel(pipeline, tuple(adapter or ()), side, where),
        gradients=gradients,
        images=tuple(images),
        prompt=prompt,
        label=label,
        seed=seed,
        index=index,
        square=cast("Literal['crop', 'pad', 'squeeze']", square),
        at_once=at_once or None,
    )
    found = _asked(asked, settings)
    _tell(asked, found, html, as_json=as_json)
    raise typer.Exit(_exit_code(found))


def _require(square: str, html: Path | None) -> None:
    if square not in ("crop", "pad", "squeeze"):
        raise SettingsInvalid("--square", f"found {square!r}, expected crop, pad or squeeze")
    if html is not None and (html.is_dir() or not html.absolute().parent.is_dir()):
        raise SettingsInvalid("--html", f"{str(html)!r}, expected a file in a folder that is there")


def _asked(asked: "AskedQuery", settings: Any) -> tuple["AttributedImage", ...]:
    from guardrail.desk.attribute_query_run import attribute_images

    try:
        return attribute_images(asked, settings, progress_of)
    except KeyboardInterrupt:
        aside().print("stopped; nothing was changed")
        raise typer.Exit(_STOPPED) from None


def _exit_code(found: Sequence["AttributedImage"]) -> int:
    if any(one.attribution.named for one in found):
        return _STANDS_OUT
    return _COULD_NOT if any(one.attribution.decoys_needed for one in found) else 0


def _tell(asked: "AskedQuery", found: Sequence["AttributedImage"], html: Path | None, *, as_json: bool) -> None:
    from guardrail.study.attribution.report import SAID, headline

    if html is not None:
        from guardrail.desk.attribute_page import write_attribution_page

        write_attribution_page(found, html)
    if as_json:
        images = [
            {
                "path": str(one.path),
                "headline": headline(one.attribution),
                "attribution": one.attribution.model_dump(mode="json"),
                "cpu_s": round(one.cpu_s, 3),
            }
            for one in found
        ]
        print_json({"gradients": str(asked.gradients), "said": SAID, "images": images, "page": str(html or "")})
        return
    for one in found:
        _show(one)
    if html is not None:
        aside().print(plain(f"the pictures are in {html}"), soft_wrap=True)


def _show(one: "AttributedImage") -> None:
    from guardrail.study.attribution.report import lines_of

    console, attribution = Console(highlight=False), one.attribution
    first, *others = lines_of(attribution)
    console.print(plain(f"{one.path}: {first}"), soft_wrap=True)
    for line in others:
        console.print(plain(f"    {line}"), soft_wrap=True)
    table = Table("most influential", "influence", "p", "q", "similarity", "posterior", box=None)
    for found in attribution.influences[:_SHOWN]:
        mark = " *" if found.named else ""
        table.add_row(
            plain(f"{found.work.bank}/{found.work.work_id}{mark}"),
            f"{found.influence:.1f}",
            _number(found.p_value),
            _number(found.q_value),
            _number(found.similarity),
            _number(found.posterior),
        )
    console.print(table)
    if (rest := len(attribution.influences) - _SHOWN) > 0:
        aside().print(f"... and {rest} more: --json has all, --html shows them")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
