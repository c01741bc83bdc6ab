"""A verdict in, a picture out that stands in place of the withheld one: plainly a notice, never black."""

from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from guardrail.records import Decision, Verdict

__all__ = ["draw_card"]

Colour = tuple[int, int, int]

_SMALLEST_WITH_ICON_PX = 32
_SMALLEST_WITH_WORDS_PX = 96
_SMALLEST_FONT_PX = 8
_LARGEST_FONT_PX = 96
_OVERSAMPLING = 3  # the icon is drawn larger and reduced, for smooth edges
_SHORT_ID = 8  # characters of the verdict's id: enough to find it in the ledger
_BACKGROUND: Colour = (246, 244, 240)
_INK: Colour = (38, 40, 46)
_MUTED: Colour = (104, 106, 114)


@dataclass(frozen=True, slots=True)
class _Style:
    """How one decision looks: its words, its strong colour, and a pale one for hatches."""

    words: str
    strong: Colour
    pale: Colour


_BLOCKED = _Style("Blocked by guardrail", (192, 52, 44), (238, 200, 194))
_HELD = _Style("Held for review", (214, 138, 16), (247, 222, 172))


def draw_card(size_px: tuple[int, int], verdict: Verdict) -> Image.Image:
    """Draw the notice that is shown in place of a withheld picture.

    From 96 px on both sides it has an icon and words (what happened, the rule, the verdict's short id); from 32 px the
    icon alone, and below that a pattern: diagonal stripes, red for blocked, amber for held. Same verdict and size, same
    Pillow: same pixels.

    Args:
        size_px: (width, height), each >= 1.
        verdict: its decision, rule and id are shown, nothing else of it.

    Returns:
        An RGB picture of that size.
    """
    style = _BLOCKED if verdict.decision is Decision.BLOCK else _HELD
    card = Image.new("RGB", size_px, _BACKGROUND)
    least = min(size_px)
    if least < _SMALLEST_WITH_ICON_PX:
        _hatch(card, style.strong, style.pale, max(2, least // 4))
    elif least < _SMALLEST_WITH_WORDS_PX:
        _hatch(card, style.pale, _BACKGROUND, max(3, least // 8))
        side = round(least * 0.62)
        _place(card, _icon(side, style, verdict.decision), (size_px[1] - side) // 2)
    else:
        _draw_notice(card, style, verdict)
    return card


def _draw_notice(card: Image.Image, style: _Style, verdict: Verdict) -> None:
    """Icon and words in the middle, between two hatched bands."""
    width, height = card.size
    least = min(width, height)
    band = max(4, least // 24)
    strip = Image.new("RGB", (width, band))
    _hatch(strip, style.strong, style.pale, band)
    card.paste(strip, (0, 0))
    card.paste(strip, (0, height - band))
    room = width * 0.94
    big = _font_size(style.words, room, least / 10)
    lines = [(style.words, big, _INK)]
    if least >= 2 * _SMALLEST_WITH_WORDS_PX:
        small = max(_SMALLEST_FONT_PX, round(big * 0.55))
        rule = f"rule: {verdict.rule}"
        lines.append((rule, max(_font_size(rule, room, small), round(small * 0.7)), _MUTED))
        lines.append((f"verdict {verdict.verdict_id[:_SHORT_ID]}", small, _MUTED))
    heights = [round(size * 1.5) for _, size, _ in lines]
    side = round(least * 0.34)
    top = (height - side - round(big * 0.6) - sum(heights)) // 2
    _place(card, _icon(side, style, verdict.decision), top)
    top += side + round(big * 0.6)
    for (text, size, colour), line_height in zip(lines, heights, strict=True):
        _write(card, text, size, colour, top, room)
        top += line_height


def _hatch(card: Image.Image, one: Colour, other: Colour, stripe_px: int) -> None:
    """Fill with diagonal stripes of two colours, each so many pixels wide along a row."""
    width, height = card.size
    row = Image.new("RGB", (width + height, 1))
    row.putdata([one if at // stripe_px % 2 == 0 else other for at in range(width + height)])
    for y in range(height):
        card.paste(row.crop((y, 0, y + width, 1)), (0, y))


def _icon(side_px: int, style: _Style, decision: Decision) -> Image.Image:
    """A barred circle for blocked, two upright bars (paused) for held: RGBA (side, side), transparent around."""
    side = side_px * _OVERSAMPLING
    icon = Image.new("RGBA", (side, side), (*style.strong, 0))
    draw = ImageDraw.Draw(icon)
    line = max(1, side // 9)
    draw.ellipse((0, 0, side - 1, side - 1), fill=style.strong)
    draw.ellipse((line, line, side - 1 - line, side - 1 - line), fill=_BACKGROUND)
    if decision is Decision.BLOCK:
        near, far = side * 0.17, side * 0.83
        draw.line((near, near, far, far), fill=style.strong, width=line)
    else:
        for left in (0.36, 0.54):
            draw.rectangle((side * left, side * 0.3, side * (left + 0.1), side * 0.7), fill=style.strong)
    return icon.resize((side_px, side_px), Image.Resampling.LANCZOS)


def _place(card: Image.Image, icon: Image.Image, top: int) -> None:
    card.paste(icon, ((card.width - icon.width) // 2, top), icon)


def _font_size(text: str, room_px: float, wanted: float) -> int:
    """The largest size, at most the wanted one, at which a text fits into a width."""
    wanted = max(_SMALLEST_FONT_PX, min(wanted, _LARGEST_FONT_PX))
    needed = ImageFont.load_default(size=wanted).getlength(text)
    return max(_SMALLEST_FONT_PX, int(wanted * min(1.0, room_px / needed)))


def _write(card: Image.Image, text: str, size: int, colour: Colour, top: int, room_px: float) -> None:
    """One centred line; what does not fit ends in three dots."""
    font = ImageFont.load_default(size=size)
    text = text.encode("ascii", "replace").decode()  # the built-in font holds Latin letters only
    if font.getlength(text) > room_px:
        while text and font.getlength(f"{text}...") > room_px:
            text = text[:-1]
        text += "..."
    left = (card.width - font.getlength(text)) / 2
    ImageDraw.Draw(card).text((left, top), text, font=font, fill=colour)
