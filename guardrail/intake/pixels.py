"""One value in, uint8 RGB pixels out: Pillow images, NumPy arrays and torch tensors, judged by what they hold."""

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image

from guardrail.errors import ImageUnreadable

__all__ = [
    "Form",
    "bare_array",
    "bare_colours",
    "form_of",
    "from_array",
    "from_pillow",
    "require_side",
    "to_like",
    "unknown_form",
]

_TOLERANCE = 1 / 255  # float outputs may overshoot their range by one grey level (rounding in half precision)
_CHANNELS = (1, 3, 4)
_LARGEST_SIDE_PX = 32_768  # matrices of the hashes grow with the side; 16 times SDXL's
_LONG_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")


class Form(NamedTuple):
    """How pictures lie in an array: where the channels are, and which values mean black and white.

    `refused` is the reason why no part of an array may be taken for a picture. `may_be_grey` says that the channels of
    a picture may be frames of a grey film just as well.
    """

    channels_first: bool
    black: float
    white: float
    refused: str = ""
    may_be_grey: bool = False

    @property
    def is_known(self) -> bool:
        """Whether the values have a range; where they have none, nothing can be read from them."""
        return self.white > self.black


def from_pillow(name: str, image: Image.Image) -> torch.Tensor:
    """A Pillow image of any mode as uint8 (3, H, W) RGB; transparency is laid on white, as a reader would see it.

    Raises:
        ImageUnreadable: it has no pixels, more than one frame, or float values of unknown range.
    """
    if image.width < 1 or image.height < 1:
        raise ImageUnreadable(name, f"a picture of {image.width}x{image.height} pixels")
    frames = getattr(image, "n_frames", 1)
    require_side(name, image.height, image.width)
    if frames > 1:
        raise ImageUnreadable(name, f"an animation of {frames} frames, of which only the first would be seen")
    if image.mode == "F":
        raise ImageUnreadable(name, "float pixels (mode F) of unknown range")
    if image.mode in _LONG_MODES:
        image = _from_long(name, image)
    if image.has_transparency_data:
        over = image.convert("RGBA")
        image = Image.new("RGBA", over.size, "white")
        image.alpha_composite(over)
    pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def bare_colours(image: Image.Image) -> tuple[torch.Tensor, ...]:
    """How else a partly transparent Pillow image may be seen: its bare colours, and on black; uint8 (3, H, W) each."""
    if not image.has_transparency_data:
        return ()
    over = torch.from_numpy(np.array(image.convert("RGBA"))).permute(2, 0, 1)
    return _otherwise(over[:3], over[3:].float() / 255)


def bare_array(array: Any, form: Form) -> tuple[torch.Tensor, ...]:
    """The same for a picture of four channels."""
    tensor = _tensor("picture", array)
    channels = tensor if form.channels_first else tensor.movedim(-1, 0)
    if channels.shape[0] != 4:
        return ()
    colours = from_array(channels[:3], form._replace(channels_first=True))
    return _otherwise(colours, (channels[3:].float() / form.white).clamp(0, 1))


def _otherwise(colours: torch.Tensor, opacity: torch.Tensor) -> tuple[torch.Tensor, ...]:
    if float(opacity.min()) >= 1:
        return ()
    return colours.contiguous(), (colours.float() * opacity).round().to(torch.uint8)


def _from_long(name: str, image: Image.Image) -> Image.Image:
    """A 16-bit picture at 8 bits (Pillow's own conversion clips instead of scaling)."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ImageUnreadable(name, f"integer pixels from {values.min()} to {values.max()}, not 16-bit")
    return Image.fromarray((values >> 8).astype(np.uint8))


def form_of(name: str, array: Any) -> Form:
    """Find out how pictures lie in an array or tensor whose last three axes are one picture.

    Args:
        name: for messages.
        array: NumPy array or torch tensor, (..., C, H, W) or (..., H, W, C), C of 1, 3 or 4; uint8 0..255, or floats
            in 0..1 or -1..1.

    Raises:
        ImageUnreadable: no axis has 1, 3 or 4 channels, it is empty, holds NaN, or values outside these ranges.
    """
    shape = tuple(array.shape)
    if 0 in shape:
        raise ImageUnreadable(name, f"an empty array of shape {shape}")
    channels_first = _channels_first(name, array)
    require_side(name, *(shape[-2:] if channels_first else shape[-3:-1]))
    tensor = _tensor(name, array)
    if tensor.dtype == torch.uint8:
        return Form(channels_first, 0, 255)
    if not tensor.dtype.is_floating_point:
        raise ImageUnreadable(name, f"values of type {tensor.dtype}; pictures are uint8 or float")
    low, high = float(tensor.min()), float(tensor.max())
    if not (np.isfinite(low) and np.isfinite(high)) or not bool(torch.isfinite(tensor).all()):
        raise ImageUnreadable(name, "values that are not finite (NaN or infinity)")
    if high > 1 + _TOLERANCE or low < -1 - _TOLERANCE:
        raise ImageUnreadable(name, f"values from {low:.3g} to {high:.3g}, outside 0..1 and -1..1; it may be a latent")
    signed = low < -_TOLERANCE
    if signed and shape[-3 if channels_first else -1] == 4:
        raise ImageUnreadable(name, "four channels in -1..1, where transparency is 0..1; it may be a latent")
    return Form(channels_first, -1.0 if signed else 0.0, 1.0)


def _channels_first(name: str, array: Any) -> bool:
    """Where the channels are; in NumPy always last, since three grey pictures look like one with channels first."""
    shape = tuple(array.shape)
    if len(shape) < 3:
        raise ImageUnreadable(name, f"an array of shape {shape}, which has no axis of channels")
    if not isinstance(array, torch.Tensor):
        if shape[-1] in _CHANNELS:
            return False
        raise ImageUnreadable(name, f"a NumPy array of shape {shape}, whose last axis is not 1, 3 or 4 channels")
    if shape[-3] in _CHANNELS:
        if len(shape) > 4 and shape[-4] in (3, 4):
            raise ImageUnreadable(name, f"a video of shape {shape}, of which either of two axes may be the channels")
        return True
    if shape[-1] in _CHANNELS:
        return False
    raise ImageUnreadable(name, f"a tensor of shape {shape} without an axis of 1, 3 or 4 channels")


def require_side(name: str, height: int, width: int) -> None:
    """Refuse sides that would take gigabytes to hash.

    Raises:
        ImageUnreadable: a side is longer than any picture's.
    """
    if max(height, width) > _LARGEST_SIDE_PX:
        raise ImageUnreadable(name, f"{width}x{height} pixels, with a side longer than {_LARGEST_SIDE_PX}")


def _tensor(name: str, array: Any) -> torch.Tensor:
    """A tensor of the same values; whatever torch cannot take (strides, byte orders, layouts) is unreadable."""
    try:
        if isinstance(array, torch.Tensor):
            if array.is_meta or array.is_quantized or array.layout is not torch.strided:
                raise ImageUnreadable(
                    name, f"a tensor on {array.device} of layout {array.layout}, without plain values"
                )
            return array.detach()
        native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
        return torch.as_tensor(native if native.flags.writeable else native.copy())
    except (TypeError, ValueError, RuntimeError) as error:
        raise ImageUnreadable(name, f"values of type {array.dtype}: {error}") from error


def unknown_form(name: str, array: Any) -> Form:
    """The form of an array that cannot be read as a whole; single pictures of it may be, unless it is `refused`."""
    try:
        return Form(_channels_first(name, array), 0.0, 0.0)
    except ImageUnreadable as error:
        return Form(isinstance(array, torch.Tensor), 0.0, 0.0, refused=str(error.args[1]))


def from_array(array: Any, form: Form) -> torch.Tensor:
    """One picture of known form, (C, H, W) or (H, W, C), as uint8 (3, H, W) RGB on its device; always a copy."""
    tensor = _tensor("picture", array)
    tensor = tensor if form.channels_first else tensor.movedim(-1, 0)
    if tensor.dtype == torch.uint8:
        values = tensor.clone()
    else:
        scaled = (tensor.float() - form.black) / (form.white - form.black)
        values = (scaled.clamp(0, 1) * 255).round().to(torch.uint8)
    if values.shape[0] == 4:
        alpha = values[3:].float() / 255
        values = (values[:3].float() * alpha + 255 * (1 - alpha)).round().to(torch.uint8)
    return values.expand(3, -1, -1).contiguous()


def to_like(card: Image.Image, value: Any, form: Form | Literal["pillow"]) -> Any:
    """A card in the kind, mode, dtype, range and device of the value that it takes the place of.

    Where the value is no picture at all (five channels, say) its place is filled with zeros.
    """
    if isinstance(form, str):
        if 0 in value.size:
            return value
        card = card if card.size == value.size else card.resize(value.size)
        return card.convert(value.mode) if value.mode in ("RGB", "RGBA", "L") else card
    channels = value.shape[0 if form.channels_first else -1]
    if value.ndim < 3 or channels not in _CHANNELS or 0 in value.shape:
        return torch.zeros_like(value) if isinstance(value, torch.Tensor) else np.zeros_like(value)
    form = form if form.is_known else Form(form.channels_first, 0.0, 1.0)
    height, width = value.shape[1:] if form.channels_first else value.shape[:2]
    card = card if card.size == (width, height) else card.resize((width, height))
    pixels = np.array(card.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels]))
    pixels = pixels[..., None] if channels == 1 else pixels
    scaled = torch.from_numpy(pixels).double() / 255 * (form.white - form.black) + form.black
    scaled = scaled.movedim(-1, 0) if form.channels_first else scaled
    if isinstance(value, torch.Tensor):
        return scaled.to(value.device, value.dtype)
    return scaled.numpy().astype(value.dtype)
