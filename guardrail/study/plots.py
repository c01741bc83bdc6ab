"""Draw what was measured, as PNG or SVG, with matplotlib: distributions and their limits, lines, tables of shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from guardrail.errors import SettingsInvalid
from guardrail.extras import need

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PLOT_ENDINGS", "Distributions", "Lines", "draw_distributions", "draw_lines", "draw_shares", "require_plots"]

PLOT_ENDINGS = (".png", ".svg")
"""The endings of files that can be drawn to."""

_DPI = 120  # dots an inch, of a PNG
_BINS = 60
_FAMILY = ["DejaVu Sans"]  # comes with matplotlib, so every machine draws the same
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito: told apart by all eyes
_SVG_SALT = "guardrail"  # element ids in an SVG are made from it, so that the same plot is the same file


@dataclass(frozen=True, slots=True)
class Distributions:
    """One panel of histograms.

    Attributes:
        title: above it.
        unit: below its axis.
        groups: by name, float (N,) values; what is not finite is left out.
        limits: by name, where a vertical line stands.
    """

    title: str
    unit: str
    groups: Mapping[str, NDArray[np.floating[Any]]]
    limits: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lines:
    """One panel of lines over a common axis.

    Attributes:
        title: above it.
        x_name, y_name: at the axes.
        x: float (N,), ascending.
        lines: by name, float (N,) values.
        bands: by name of a line, float (2, N), the lower and upper end of its interval.
        logarithmic: whether both axes are, for what spans powers of ten; all values are above 0 then.
    """

    title: str
    x_name: str
    y_name: str
    x: Sequence[float]
    lines: Mapping[str, Sequence[float]]
    bands: Mapping[str, NDArray[np.floating[Any]]] = field(default_factory=dict)
    logarithmic: bool = False


def require_plots(path: Path) -> None:
    """Make sure, before long work, that a plot can be drawn to a file.

    Raises:
        SettingsInvalid: its name ends in something else than `.png` or `.svg`.
        ExtraMissing: matplotlib is not installed.
    """
    if path.suffix.lower() not in PLOT_ENDINGS:
        raise SettingsInvalid(str(path), f"found the ending {path.suffix!r}, expected one of {', '.join(PLOT_ENDINGS)}")
    need("matplotlib", "plots", "draw plots")


def draw_distributions(path: Path, panels: Sequence[Distributions]) -> None:
    """Draw panels of histograms below each other; heights are shares of a group, on a logarithmic scale.

    Args:
        path: where to; the ending says as what.
        panels: at least one.

    Raises:
        SettingsInvalid, ExtraMissing: as `require_plots`.
    """
    figure, axes = _figure(path, len(panels))
    for axis, panel in zip(axes, panels, strict=True):
        finite = {name: values[np.isfinite(values)] for name, values in panel.groups.items()}
        shown = [values for values in finite.values() if len(values)]
        edges = np.histogram_bin_edges(np.concatenate(shown), _BINS) if shown else np.linspace(0, 1, _BINS + 1)
        for (name, values), colour in zip(finite.items(), _cycle(len(finite)), strict=True):
            if len(values):
                weights = np.full(len(values), 1 / len(values))
                axis.hist(
                    values, edges.tolist(), weights=weights, color=colour, alpha=0.5, label=f"{name} ({len(values)})"
                )
        for (name, limit), dash in zip(panel.limits.items(), _dashes(len(panel.limits)), strict=True):
            axis.axvline(limit, color="black", linestyle=dash, linewidth=1, label=f"{name}: {limit:.4g}")
        axis.set(title=panel.title, xlabel=panel.unit, ylabel="share", yscale="log")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize="small")
    _save(figure, path)


def draw_lines(path: Path, panels: Sequence[Lines]) -> None:
    """Draw panels of lines below each other, with their intervals as bands.

    Raises:
        SettingsInvalid, ExtraMissing: as `require_plots`.
    """
    figure, axes = _figure(path, len(panels))
    for axis, panel in zip(axes, panels, strict=True):
        for (name, values), colour in zip(panel.lines.items(), _cycle(len(panel.lines)), strict=True):
            axis.plot(panel.x, values, color=colour, marker="o", markersize=3, label=name)
            if name in panel.bands:
                low, high = panel.bands[name]
                axis.fill_between(panel.x, low, high, color=colour, alpha=0.2, linewidth=0)
        axis.set(title=panel.title, xlabel=panel.x_name, ylabel=panel.y_name)
        if panel.logarithmic:
            axis.set(xscale="log", yscale="log")
        axis.legend(fontsize="small")
    _save(figure, path)


def draw_shares(path: Path, title: str, rows: Mapping[str, Sequence[float]], columns: Sequence[str]) -> None:
    """Draw a table of shares as coloured cells with their numbers in per cent.

    Args:
        path: where to; the ending says as what.
        title: above it.
        rows: by name, one share 0..1 for each column.
        columns: their names.

    Raises:
        SettingsInvalid, ExtraMissing: as `require_plots`.
    """
    size = (2.4 + 0.75 * len(columns), 1.2 + 0.28 * len(rows))
    figure, (axis,) = _figure(path, 1, size)
    cells = np.array([list(row) for row in rows.values()], float)
    axis.imshow(cells, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axis.set_yticks(range(len(rows)), rows)
    for (row, column), share in np.ndenumerate(cells):
        ink = "white" if share < 0.6 else "black"
        axis.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=ink, fontsize="small")
    axis.set_title(title)
    _save(figure, path)


def _figure(path: Path, panels: int, size: tuple[float, float] | None = None) -> tuple[Figure, list[Axes]]:
    """A figure without a window, and its panels; drawn by the object, so that no global state is touched."""
    require_plots(path)
    figures = need("matplotlib.figure", "plots", "draw plots")
    figure: Figure = figures.Figure(figsize=size or (7.0, 2.9 * panels), dpi=_DPI, layout="constrained")
    return figure, [figure.add_subplot(panels, 1, at + 1) for at in range(panels)]


def _save(figure: Figure, path: Path) -> None:
    matplotlib = need("matplotlib", "plots", "draw plots")
    with matplotlib.rc_context({"svg.hashsalt": _SVG_SALT, "font.sans-serif": _FAMILY, "svg.fonttype": "path"}):
        if path.suffix.lower() == ".svg":
            figure.savefig(path, format="svg", metadata={"Date": None})
        else:
            figure.savefig(path, format="png", metadata={"Software": None})


def _cycle(count: int) -> list[str]:
    return [_COLOURS[at % len(_COLOURS)] for at in range(count)]


def _dashes(count: int) -> list[str]:
    return [("solid", "dashed", "dotted", "dashdot")[at % 4] for at in range(count)]
