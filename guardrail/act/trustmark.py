"""TrustMark with weights of the user's: 61 bits under an error-correcting code into pixels, and out again."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from guardrail.act.marks import bits_of, hex_of
from guardrail.errors import WeightsUnusable
from guardrail.extras import need

__all__ = ["TRUSTMARK_BITS", "TRUSTMARK_REGISTERED", "TrustMark", "open_trustmark", "soft_binding_of"]

TRUSTMARK_BITS = 61
"""Bits of a payload under the code BCH_5, which corrects five wrong ones of 96."""

TRUSTMARK_REGISTERED = frozenset({"com.adobe.trustmark.C", "com.adobe.trustmark.P", "com.adobe.trustmark.Q"})
"""The variants in the list of soft binding algorithms that C2PA keeps, as it stood in November 2026; B is not."""

_SCHEMA = 1  # TrustMark's number of BCH_5, which stands before the payload in a soft binding
_SECRET_BITS = 100  # payload, code and schema together
_ENCODER: Mapping[str, Any] = {"resolution": 256, "width": 32, "ndown": 4, "nmiddle": 1, "activ": "silu"}
_DECODER_SIDE_PX = 224
_DECODERS = {"B": "resnet50", "C": "resnet18", "P": "resnet50", "Q": "resnet50"}  # by variant, as published with them
_FILE = re.compile(r"(encoder|decoder)_([BCPQ])\.ckpt")
_DIGITS_SHOWN = 12  # of a digest, in messages


class TrustMark:
    """Marks images of any size, and reads their marks, with one variant's networks.

    The package `trustmark` does both; its networks are filled from files that were digested first, where the package
    itself would fetch what it misses. The files are read as tensors only, so that no code in them runs.

    Source: Bui et al., "TrustMark: Universal Watermarking for Arbitrary Resolution Images", 2023.

    Attributes:
        algorithm: `com.adobe.trustmark.` and the variant.
    """

    def __init__(self, folder: Path, sha256: str) -> None:
        """Load both networks.

        Args:
            folder: where `encoder_Q.ckpt` and `decoder_Q.ckpt` lie (or of B, C or P), of one variant.
            sha256: digest of both, that of what `sha256sum decoder_Q.ckpt encoder_Q.ckpt` prints.

        Raises:
            ExtraMissing: the package trustmark is not installed.
            WeightsUnusable: a file is missing or is no such network, or the digest is another.
        """
        package = need("trustmark", extra="trustmark", purpose="put the watermark TrustMark into images")
        networks = need("trustmark.unet", extra="trustmark", purpose="put the watermark TrustMark into images")
        variant, files = _pinned(folder, sha256)
        encoder = networks.Unet1(secret_len=_SECRET_BITS, **_ENCODER)
        decoder = networks.SecretDecoder(_DECODERS[variant], _DECODER_SIDE_PX, _SECRET_BITS)
        parts = {"encoder": _Encoder(encoder), "decoder": _Decoder(decoder)}
        for part, network in ((encoder, "encoder"), (decoder, "decoder")):
            name = f"{network}_{variant}.ckpt"
            _fill(part, f"{network}.", files[name], str(folder / name))

        def load_model(model: Any, config: str, weights: str, device: str, bits: int, part: str) -> torch.nn.Module:
            return parts[part].eval()

        self.algorithm = f"com.adobe.trustmark.{variant}"
        filled = type("FilledTrustMark", (package.TrustMark,), {"load_model": load_model})  # fetches nothing
        self._model = filled(
            verbose=False,
            secret_len=_SECRET_BITS,
            device="cpu",
            model_type=variant,
            encoding_type=_SCHEMA,
            loadRemover=False,
        )

    def mark(self, pixels: NDArray[np.uint8], payload: str) -> NDArray[np.uint8]:
        """Put a payload into an image.

        Args:
            pixels: uint8 (H, W, 3), RGB; it is not written to.
            payload: 16 hex digits, of which the last 61 bits are put in.

        Returns:
            uint8 (H, W, 3). Of an image more than twice as long as it is wide only the middle square is marked (of
            variant P: of every image). Deterministic.
        """
        said = "".join("01"[int(bit)] for bit in bits_of(payload, TRUSTMARK_BITS))
        marked = self._model.encode(Image.fromarray(np.ascontiguousarray(pixels)), said, MODE="binary")
        return np.asarray(marked, np.uint8)

    def read(self, pixels: NDArray[np.uint8]) -> str:
        """The payload in an image as 16 hex digits; empty where no word of the code is found.

        Of 30,475 random words 17 passed for one of the code: a payload alone proves nothing.

        Args:
            pixels: uint8 (H, W, 3), RGB.
        """
        image = Image.fromarray(np.ascontiguousarray(pixels))
        said, found, schema = self._model.decode(image, MODE="binary")
        if not found or schema != _SCHEMA:
            return ""
        return hex_of(np.array([bit == "1" for bit in said], np.bool_))


def soft_binding_of(payload: str) -> str:
    """How TrustMark writes a payload in a soft binding: schema, asterisk, 61 binary digits.

    Args:
        payload: 16 hex digits.
    """
    return f"{_SCHEMA}*{int(payload, 16):0{TRUSTMARK_BITS}b}"


def open_trustmark(folder: Path | None, sha256: str) -> TrustMark:
    """The networks, loaded once in each process.

    Args:
        folder: the setting `watermark.weights`.
        sha256: the setting `watermark.weights_sha256`.

    Raises:
        ExtraMissing, WeightsUnusable: see `TrustMark`; no folder is named.
    """
    if folder is None:
        raise WeightsUnusable("watermark.weights", "no folder", "the folder of TrustMark's weights, which do not ship")
    return _opened(folder, sha256, os.getpid())


@lru_cache(maxsize=2)
def _opened(folder: Path, sha256: str, process_id: int) -> TrustMark:
    return TrustMark(folder, sha256)


class _Encoder(torch.nn.Module):
    """What the package calls to mark: gives the marked picture, and the change."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network, self.device = network, torch.device("cpu")

    def forward(self, cover: torch.Tensor, secret: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        marked = self.network(cover, secret)
        return marked, marked - cover


class _Decoder(torch.nn.Module):
    """What the package calls to read, by its member `decoder`."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.decoder, self.device = network, torch.device("cpu")


def _pinned(folder: Path, sha256: str) -> tuple[str, dict[str, bytes]]:
    """The variant of which a folder holds both networks, and the files' content by name, digested."""
    try:
        found = [match for path in folder.iterdir() if (match := _FILE.fullmatch(path.name))]
        variants = {match[2] for match in found}
        if len(variants) != 1 or len(found) != len(("encoder", "decoder")):
            said = ", ".join(sorted(match[0] for match in found)) or "none of them"
            raise WeightsUnusable(str(folder), said, "encoder_Q.ckpt and decoder_Q.ckpt, or both of B, C or P")
        files = {name: (folder / name).read_bytes() for name in sorted(match[0] for match in found)}
    except OSError as error:
        wanted = "a folder with TrustMark's weights"
        raise WeightsUnusable(str(folder), error.strerror or str(error), wanted) from error
    lines = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())
    digest = hashlib.sha256(lines.encode()).hexdigest()
    if digest != sha256:
        wanted = f"{sha256[:_DIGITS_SHOWN]}..." if sha256 else "the setting watermark.weights_sha256 to say so"
        raise WeightsUnusable(str(folder), f"sha256 {digest}", wanted)
    return variants.pop(), files


def _fill(network: torch.nn.Module, prefix: str, content: bytes, name: str) -> None:
    """Fill a network with the tensors of a checkpoint whose names begin with a prefix."""
    try:
        kept = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        tensors = kept.get("state_dict", kept)
        own = {key.removeprefix(prefix): one for key, one in tensors.items() if key.startswith(prefix)}
        network.load_state_dict(own)
    except (RuntimeError, pickle.UnpicklingError, AttributeError, EOFError) as error:
        found = f"{type(error).__name__}: {error}".splitlines()[0]
        raise WeightsUnusable(name, found, f"a checkpoint with TrustMark's tensors {prefix}*") from error
