"""What a worker is told to read: a path, an address, bytes, or that there is nothing to read and why."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from guardrail.carriers import Picture
from guardrail.errors import ImageUnreadable
from guardrail.intake.files import LARGEST_IMAGE_PX, read_content, read_picture, unread_picture
from guardrail.intake.sources.web import WebLimits, fetch

__all__ = ["Address", "Content", "Place", "Unread", "read_place"]


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of an image file."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Address:
    """A picture on the web, and how much is spent on fetching it."""

    name: str
    url: str
    limits: WebLimits


@dataclass(frozen=True, slots=True)
class Unread:
    """A picture that cannot be read, known before it is tried."""

    name: str
    reason: str


Place: TypeAlias = Path | Content | Address | Unread


def read_place(place: Place, largest_px: int = LARGEST_IMAGE_PX) -> Picture:
    """Read the picture at a place; one that cannot be read comes back with a failure, never as an exception.

    Args:
        place: what a source's `open` gave.
        largest_px: width x height above which a picture is not decoded.
    """
    match place:
        case Path():
            return read_picture(place, largest_px)
        case Content():
            return read_content(place.name, place.content, largest_px)
        case Address():
            try:
                content = fetch(place.url, place.limits)
            except ImageUnreadable as error:
                return unread_picture(place.name, str(error.args[1]))
            return read_content(place.name, content, largest_px)
        case Unread():
            return unread_picture(place.name, place.reason)
