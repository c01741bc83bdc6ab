"""Edits that put something over the picture or beside it: captions, text, stickers, frames, watermarks."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from guardrail.study.edits.base import Edit

__all__ = ["OVERLAYS"]

_WORDS = ("when", "you", "see", "it", "again", "nobody", "told", "me", "about", "this", "picture", "but", "here", "we")
_STROKES = 8  # lines of a scribble
_SMALLEST_LETTER_PX = 6.0
_INKS = ("white", "black", "red", "yellow", "blue", "lime")


def _font(height_px: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(max(height_px, _SMALLEST_LETTER_PX))  # the face that Pillow carries with it


def _phrase(random: np.random.Generator, words: int) -> str:
    return " ".join(str(word) for word in random.choice(_WORDS, words))


def _caption(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    """A band with two lines of text, above or below the picture."""
    above, dark = random.random() < 0.5, random.random() < 0.5
    lines = f"{_phrase(random, 4)}\n{_phrase(random, 4)}"
    band = max(1, round(0.5 * share * picture.height))
    ground = Image.new("RGB", (picture.width, picture.height + band), "black" if dark else "white")
    ground.paste(picture, (0, band if above else 0))
    font = _font(min(0.36 * band, picture.width / 14))
    middle = (picture.width / 2, band / 2 + (0 if above else picture.height))
    ImageDraw.Draw(ground).multiline_text(middle, lines, "white" if dark else "black", font, "mm", align="center")
    return ground


def _text(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    """Three lines of outlined text at places of their own."""
    letter = 0.22 * share * picture.height
    edited = picture.copy()
    draw = ImageDraw.Draw(edited)
    for line in range(3):
        ink = _INKS[int(random.integers(len(_INKS)))]
        place = (random.random() * picture.width * 0.5, picture.height * (line + random.random() * 0.6) / 3)
        border = "white" if ink == "black" else "black"
        draw.text(
            place, _phrase(random, 5), ink, _font(letter), stroke_width=max(1, round(letter / 16)), stroke_fill=border
        )
    return edited


def _sticker(size_px: int, kind: int) -> Image.Image:
    """A face, a star or a heart, RGBA, drawn at twice the size and brought down."""
    side = max(2 * size_px, 4)
    drawn = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(drawn)
    at = [side * part / 100 for part in range(101)]
    if kind == 0:
        draw.ellipse((0, 0, side - 1, side - 1), "#ffd93b", "#b8860b", max(1, side // 40))
        for left in (28, 60):
            draw.ellipse((at[left], at[28], at[left + 12], at[46]), "#3b2a00")
        draw.arc((at[25], at[35], at[75], at[82]), 15, 165, "#3b2a00", max(1, side // 16))
    elif kind == 1:
        angles = [math.pi * (point / 5 - 0.5) for point in range(10)]
        reach = [side * (0.5 if point % 2 == 0 else 0.2) for point in range(10)]
        star = [(side / 2 + r * math.cos(a), side / 2 + r * math.sin(a)) for r, a in zip(reach, angles, strict=True)]
        draw.polygon(star, "#e23b2e", "#7a120b")
    else:
        turns = np.linspace(0, 2 * math.pi, 60)
        x = 16 * np.sin(turns) ** 3
        y = 13 * np.cos(turns) - 5 * np.cos(2 * turns) - 2 * np.cos(3 * turns) - np.cos(4 * turns)
        draw.polygon([(side * (0.5 + a / 36), side * (0.45 - b / 36)) for a, b in zip(x, y, strict=True)], "#d6246e")
    return drawn.resize((max(size_px, 1),) * 2, Image.Resampling.BOX)


def _logo(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    """One sticker that covers up to two fifths of the area, as far as the sides allow."""
    side = max(2, round(min(math.sqrt(0.4 * share * picture.width * picture.height), min(picture.size))))
    kind, across, down = int(random.integers(3)), random.random(), random.random()
    edited = picture.copy()
    sticker = _sticker(side, kind)
    edited.paste(sticker, (round(across * (picture.width - side)), round(down * (picture.height - side))), sticker)
    return edited


def _stickers(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    """Twelve small stickers, each up to a fifth of the shorter side across."""
    side = max(2, round(0.2 * math.sqrt(share) * min(picture.size)))
    edited = picture.copy()
    for kind, across, down in random.random((12, 3)):
        sticker = _sticker(side, int(kind * 3))
        edited.paste(sticker, (round(across * (picture.width - side)), round(down * (picture.height - side))), sticker)
    return edited


def _frame(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    """A frame of three bands that covers the edges, up to a fifth of the shorter side."""
    colours = random.integers(0, 256, (3, 3))
    edited = picture.copy()
    draw = ImageDraw.Draw(edited)
    wide = 0.2 * share * min(picture.size)
    for band, colour in enumerate(colours):
        inset = round(wide * band / 3)
        box = (inset, inset, picture.width - 1 - inset, picture.height - 1 - inset)
        if box[0] <= box[2] and box[1] <= box[3]:
            draw.rectangle(box, outline=tuple(map(int, colour)), width=max(1, round(wide / 3)))
    return edited


def _watermark(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    """A grid of slanted words, up to three quarters opaque."""
    word, slant = _phrase(random, 1), random.uniform(15, 45)
    diagonal = math.ceil(math.hypot(*picture.size))
    letter = max(diagonal / 16, _SMALLEST_LETTER_PX)
    mask = Image.new("L", (diagonal, diagonal))
    draw = ImageDraw.Draw(mask)
    for row in range(math.ceil(diagonal / (2 * letter))):
        draw.text((-(row % 2) * 2 * letter, 2 * row * letter), f"{word}   " * 12, 255, _font(letter))
    mask = mask.rotate(slant, Image.Resampling.BILINEAR)
    left, top = (diagonal - picture.width) // 2, (diagonal - picture.height) // 2
    mask = mask.crop((left, top, left + picture.width, top + picture.height))
    return Image.composite(
        Image.new("RGB", picture.size, "white"), picture, mask.point([round(0.75 * share * v) for v in range(256)])
    )


def _cover(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    """A flat rectangle over up to half of the area."""
    colour = tuple(map(int, random.integers(0, 256, 3)))
    side = math.sqrt(0.5 * share)
    left, top = random.random(2) * (1 - side)
    box = (left * picture.width, top * picture.height, (left + side) * picture.width, (top + side) * picture.height)
    edited = picture.copy()
    ImageDraw.Draw(edited).rectangle(box, colour)
    return edited


def _scribble(picture: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    """Eight crooked strokes, each up to 6 % of the shorter side wide."""
    edited = picture.copy()
    draw = ImageDraw.Draw(edited)
    for _ in range(_STROKES):
        ink = _INKS[int(random.integers(len(_INKS)))]
        points = random.random((6, 2)) * picture.size
        draw.line(
            [tuple(map(float, point)) for point in points],
            ink,
            max(1, round(0.06 * share * min(picture.size))),
            "curve",
        )
    return edited


OVERLAYS = (
    Edit("caption", "overlay", "a band of text as high as half the picture, above or below", _caption),
    Edit("text", "overlay", "three lines of letters, each 22 % of the height", _text),
    Edit("logo", "overlay", "a face, star or heart on up to 40 % of the area", _logo),
    Edit("stickers", "overlay", "twelve small stickers, each a fifth of the shorter side", _stickers),
    Edit("frame", "overlay", "the outer fifth covered", _frame),
    Edit("watermark", "overlay", "a grid of slanted words, 75 % opaque", _watermark),
    Edit("cover", "overlay", "half of the area covered", _cover),
    Edit("scribble", "overlay", "eight strokes of 6 % of the shorter side", _scribble),
)
"""Edits that cover parts of the picture or add to it."""
