"""Random edits for the training of `mini`: what people and models do to a picture that they copy.

Every edit takes and gives an RGB Pillow picture; `edited` chains some of them at random. They are not those of
`guardrail.study.edits`, which the benchmark measures with.
"""

import io
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageOps

Chance = np.random.Generator
Edit = Callable[[Image.Image, Chance], Image.Image]
WORDS = ("sale", "copy", "look", "here", "draft", "2024", "HELLO", "wow", "nobody:", "sample", "mine!", "when you read")
QUARTER_TURNS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)


def laid(pixels: NDArray[np.uint8], ground: Image.Image | tuple[int, int, int]) -> Image.Image:
    """A packed picture as RGB; a transparent one is laid on a colour or on another picture."""
    picture = Image.fromarray(pixels)
    if picture.mode == "RGB":
        return picture
    under = ground.resize(picture.size) if isinstance(ground, Image.Image) else Image.new("RGB", picture.size, ground)
    under.paste(picture, (0, 0), picture)
    return under


def colour(chance: Chance) -> tuple[int, int, int]:
    """A colour: white or black now and then."""
    if chance.random() < 0.4:
        return (255, 255, 255) if chance.random() < 0.7 else (0, 0, 0)
    red, green, blue = (int(value) for value in chance.integers(0, 256, 3))
    return red, green, blue


def cropped(picture: Image.Image, chance: Chance, smallest: float) -> Image.Image:
    """A rectangle that keeps `smallest` to all of the area, of a somewhat other shape."""
    area = chance.uniform(smallest, 1.0)
    stretch = np.exp(chance.uniform(-0.3, 0.3))
    width = max(8, round(min(1.0, np.sqrt(area) * stretch) * picture.width))
    height = max(8, round(min(1.0, np.sqrt(area) / stretch) * picture.height))
    left = int(chance.integers(0, max(1, picture.width - width + 1)))
    top = int(chance.integers(0, max(1, picture.height - height + 1)))
    return picture.crop((left, top, left + width, top + height))


def turned(picture: Image.Image, chance: Chance) -> Image.Image:
    """Turned by up to 30 degrees, the corners filled or cut off."""
    angle = float(chance.uniform(-30, 30))
    whole = bool(chance.random() < 0.6)
    return picture.rotate(angle, Image.Resampling.BILINEAR, expand=whole, fillcolor=colour(chance))


def leaning(picture: Image.Image, chance: Chance) -> Image.Image:
    """Seen at a slant."""
    width, height = picture.size
    corners = np.array([[0, 0], [0, height], [width, height], [width, 0]], float)
    corners += chance.uniform(-0.15, 0.15, (4, 2)) * (width, height)
    return picture.transform(
        picture.size, Image.Transform.QUAD, tuple(corners.ravel()), Image.Resampling.BILINEAR, fillcolor=colour(chance)
    )


def jpeg(picture: Image.Image, chance: Chance) -> Image.Image:
    """After JPEG compression of quality 5 to 60."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=int(chance.integers(5, 60)))
    return Image.open(buffer).convert("RGB")


def lit(picture: Image.Image, chance: Chance) -> Image.Image:
    """Of other brightness, contrast and saturation."""
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhance(picture).enhance(float(np.exp(chance.uniform(-0.7, 0.7))))
    return picture


def hued(picture: Image.Image, chance: Chance) -> Image.Image:
    """With all hues moved round the circle."""
    hue, saturation, value = picture.convert("HSV").split()
    moved = ImageChops.add_modulo(hue, Image.new("L", hue.size, int(chance.integers(10, 246))))
    return Image.merge("HSV", (moved, saturation, value)).convert("RGB")


def tinted(picture: Image.Image, chance: Chance) -> Image.Image:
    """Part of the way to a colour."""
    return Image.blend(picture, Image.new("RGB", picture.size, colour(chance)), float(chance.uniform(0.1, 0.5)))


def grey(picture: Image.Image, chance: Chance) -> Image.Image:
    """In greys, or in two colours."""
    greys = picture.convert("L")
    if chance.random() < 0.7:
        return greys.convert("RGB")
    return ImageOps.colorize(greys, colour(chance), colour(chance))


def posterised(picture: Image.Image, chance: Chance) -> Image.Image:
    """With few levels in each channel, or solarised."""
    if chance.random() < 0.8:
        return ImageOps.posterize(picture, int(chance.integers(1, 4)))
    return ImageOps.solarize(picture, int(chance.integers(64, 192)))


def blurred(picture: Image.Image, chance: Chance) -> Image.Image:
    """Blurred, or drawn small and enlarged again."""
    if chance.random() < 0.5:
        return picture.filter(ImageFilter.GaussianBlur(float(chance.uniform(0.5, 4))))
    small = max(16, round(max(picture.size) * chance.uniform(0.12, 0.5)))
    little = picture.copy()
    little.thumbnail((small, small))
    return little.resize(picture.size, Image.Resampling.BILINEAR)


def noisy(picture: Image.Image, chance: Chance) -> Image.Image:
    """With Gaussian noise."""
    pixels = np.asarray(picture, np.float32)
    noise = chance.standard_normal(pixels.shape, np.float32) * np.float32(chance.uniform(5, 45))
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def stylised(picture: Image.Image, chance: Chance) -> Image.Image:
    """Like paint, pencil, relief or a cartoon."""
    choice = int(chance.integers(0, 5))
    edges = picture.convert("L").filter(ImageFilter.FIND_EDGES).point(lambda value: 255 - min(255, value * 2))
    if choice == 0:
        return picture.filter(ImageFilter.ModeFilter(int(chance.choice([3, 5, 7]))))
    if choice == 1:
        return edges.convert("RGB")
    if choice == 2:
        smooth = picture.filter(ImageFilter.MedianFilter(5))
        return Image.composite(smooth, Image.new("RGB", picture.size, "black"), edges)
    if choice == 3:
        return Image.blend(picture.filter(ImageFilter.EMBOSS), picture, float(chance.uniform(0, 0.6)))
    return ImageOps.invert(picture) if chance.random() < 0.3 else picture.filter(ImageFilter.SHARPEN)


def written_on(picture: Image.Image, chance: Chance) -> Image.Image:
    """With words, a caption band, or shapes over it."""
    picture, pen = picture.copy(), None
    pen = ImageDraw.Draw(picture)
    width, height = picture.size
    if chance.random() < 0.4:
        band = round(height * chance.uniform(0.1, 0.28))
        top = 0 if chance.random() < 0.3 else height - band
        pen.rectangle((0, top, width, top + band), fill=colour(chance))
    for _ in range(int(chance.integers(1, 5))):
        left, top = int(chance.integers(0, width)), int(chance.integers(0, height))
        if chance.random() < 0.6:
            words = " ".join(chance.choice(WORDS, int(chance.integers(1, 4))))
            size = max(8.0, height * float(chance.uniform(0.05, 0.18)))
            pen.text((left - width // 4, top), words, fill=colour(chance), font_size=size)
        else:
            wide, high = (round(side * chance.uniform(0.05, 0.35)) for side in picture.size)
            draw = pen.ellipse if chance.random() < 0.5 else pen.rectangle
            draw((left, top, left + wide, top + high), fill=colour(chance))
    return picture


def bordered(picture: Image.Image, chance: Chance) -> Image.Image:
    """With a border on all sides, or on two."""
    share = chance.uniform(0.05, 0.5, 4)
    if chance.random() < 0.5:
        share[chance.integers(0, 2) :: 2] = 0
    left, top, right, bottom = (round(part * max(picture.size) / 2) for part in share)
    wide = Image.new("RGB", (picture.width + left + right, picture.height + top + bottom), colour(chance))
    wide.paste(picture, (left, top))
    return wide


def pasted(picture: Image.Image, other: Image.Image, chance: Chance) -> Image.Image:
    """As a part of another picture: inside it, or beside it."""
    if chance.random() < 0.3:
        both = Image.new("RGB", (picture.width * 2, picture.height))
        first = bool(chance.random() < 0.5)
        both.paste(picture, (0 if first else picture.width, 0))
        both.paste(other.resize(picture.size), (picture.width if first else 0, 0))
        return both
    wide, high = max(64, other.width), max(64, other.height)
    share = float(chance.uniform(0.4, 0.85))
    scale = share * min(wide / picture.width, high / picture.height)
    small = picture.resize((max(8, round(picture.width * scale)), max(8, round(picture.height * scale))))
    ground = other.resize((wide, high))
    ground.paste(
        small, (int(chance.integers(0, wide - small.width + 1)), int(chance.integers(0, high - small.height + 1)))
    )
    return ground


def with_sticker(picture: Image.Image, sticker: NDArray[np.uint8], chance: Chance) -> Image.Image:
    """With another drawing pasted over a small part."""
    drawn = Image.fromarray(sticker)
    side = max(8, round(max(picture.size) * chance.uniform(0.15, 0.4)))
    drawn.thumbnail((side, side))
    picture = picture.copy()
    place = (int(chance.integers(0, picture.width)) - side // 4, int(chance.integers(0, picture.height)) - side // 4)
    picture.paste(drawn, place, drawn if drawn.mode == "RGBA" else None)
    return picture


PHOTOMETRIC: Sequence[tuple[Edit, float]] = (
    (lit, 0.45),
    (hued, 0.12),
    (tinted, 0.1),
    (grey, 0.15),
    (posterised, 0.12),
    (stylised, 0.12),
    (blurred, 0.2),
    (noisy, 0.15),
    (jpeg, 0.25),
)


def edited(picture: Image.Image, others: Sequence[NDArray[np.uint8]], chance: Chance) -> Image.Image:
    """A strongly edited view.

    Args:
        picture: the work, RGB.
        others: two other packed pictures, to paste it into and to stick on it.
        chance: random numbers.
    """
    if chance.random() < 0.6:
        picture = cropped(picture, chance, 0.2 if chance.random() < 0.5 else 0.5)
    if chance.random() < 0.3:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if chance.random() < 0.25:
        picture = picture.transpose(QUARTER_TURNS[int(chance.integers(0, 3))])
    geometric: Sequence[tuple[Edit, float]] = ((turned, 0.2), (leaning, 0.1), (written_on, 0.25), (bordered, 0.2))
    steps = [edit for edit, share in (*geometric, *PHOTOMETRIC) if chance.random() < share]
    chance.shuffle(steps)  # type: ignore[arg-type]  # a list of functions can be shuffled
    for edit in steps:
        picture = edit(picture, chance)
    if chance.random() < 0.12:
        picture = with_sticker(picture, others[1], chance)
    if chance.random() < 0.18:
        picture = pasted(picture, laid(others[0], colour(chance)), chance)
    return picture
