"""Whose mark an invisible watermark is: eight hex digits that are put in, looked for again, and counted bit by bit."""

import os
import re
import secrets
import tempfile
from math import comb
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guardrail.errors import SettingsInvalid
from guardrail.settings import Settings

__all__ = ["MARK_BITS", "bits_of", "chance_of", "hex_of", "own_mark"]

MARK_BITS = 32
"""Bits that say whose mark it is."""

_MARK_FILE = "watermark.mark"  # in `home`
_HEX_DIGITS = MARK_BITS // 4
_EVEN = MARK_BITS // 2  # ones in a mark that is made here
_MOST_UNEVEN = 6  # ones more or fewer: decoders read unmarked pictures as mostly zeros, or mostly ones


def own_mark(settings: Settings, *, make: bool = False) -> str:
    """The mark of this installation: `settings.watermark.payload`, or what is kept in the file `watermark.mark`.

    A mark that is made here is drawn at random with as many ones as zeros, because what decoders read in unmarked
    pictures is far from evenly mixed. Two processes that need it first at once get the same one. Machines that are to
    know each other's images share it: copy the file, or set the payload.

    Args:
        settings: the payload, or `home`.
        make: where there is none, make one.

    Returns:
        Eight hex digits, most significant bit first.

    Raises:
        SettingsInvalid: there is none, it has another length, or so few zeros or ones that it may be found by chance.
    """
    said = settings.watermark.payload
    if said:
        return _fit(said, "watermark.payload")
    path = settings.home / _MARK_FILE
    try:
        if make and not path.exists():
            _make(path)
        return _fit(path.read_text(encoding="ascii").strip(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        found = getattr(error, "strerror", None) or "something else than text"
        wanted = (
            "eight hex digits there or in the setting watermark.payload (the first image that is marked makes them)"
        )
        raise SettingsInvalid(str(path), f"found {found}, expected {wanted}") from error


def _fit(mark: str, place: str) -> str:
    if not re.fullmatch(f"[0-9a-f]{{{_HEX_DIGITS}}}", mark):
        raise SettingsInvalid(place, f"found {len(mark)} signs, expected {_HEX_DIGITS} hex digits in lower case")
    ones = int(mark, 16).bit_count()
    if abs(ones - _EVEN) > _MOST_UNEVEN:
        fewest, most = _EVEN - _MOST_UNEVEN, _EVEN + _MOST_UNEVEN
        raise SettingsInvalid(place, f"found a mark with {ones} ones of {MARK_BITS}, expected {fewest} to {most}")
    return mark


def _make(path: Path) -> None:
    """Write a mark under a name of its own and link it into place: whole, or not at all; the first one stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ones = secrets.SystemRandom().sample(range(MARK_BITS), _EVEN)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{sum(1 << at for at in ones):0{_HEX_DIGITS}x}\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(name, path)
    except FileExistsError:  # another process was first
        pass
    finally:
        Path(name).unlink()


def bits_of(payload: str, bits: int) -> NDArray[np.bool_]:
    """The last `bits` bits of a payload in hex: bool (bits,), most significant first."""
    value = int(payload, 16)
    return np.array([value >> at & 1 for at in reversed(range(bits))], np.bool_)


def hex_of(bits: NDArray[np.bool_]) -> str:
    """Bits, bool (N,), most significant first, as hex: N / 4 digits, rounded up."""
    return f"{int(''.join('01'[int(bit)] for bit in bits), 2):0{-(-len(bits) // 4)}x}"


def chance_of(agreeing: int, bits: int = MARK_BITS) -> float:
    """The probability that at least `agreeing` of `bits` evenly drawn bits agree: sum of C(n, k) / 2^n over k."""
    ways: int = sum(comb(bits, many) for many in range(agreeing, bits + 1))
    return float(ways / 2**bits)
