"""Models in, whether their weights are those in the files they were loaded from out; found out in the background."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open

from guardrail.intake.digests_kept import KeptDigests, file_sha256
from guardrail.intake.weights import digest_of_module, kept_weights, named_digest
from guardrail.records import ModelFiles

__all__ = ["PartFiles", "files_of", "files_of_part", "found_at_last", "found_so_far"]

log = logging.getLogger("guardrail.intake")

_AT_ONCE_BYTES = 2**26  # like the digest of weights: more is read in the background
_INDEX_ENDING = ".safetensors.index.json"  # how a model in several files names them
_LONGEST_WAIT_S = 600.0  # for what takes a minute with the largest models there are
_STILL = "it is still being found out"


@dataclass(frozen=True, slots=True)
class PartFiles:
    """What was found of one part of a pipeline.

    Attributes:
        state: see `ModelFiles`.
        files: with the very weights that ran, where there are such.
        sha256: their digests.
        reason: why nothing is known.
    """

    state: Literal["as_in_files", "modified", "unknown"]
    files: tuple[Path, ...] = ()
    sha256: tuple[str, ...] = ()
    reason: str = ""


_kept: weakref.WeakKeyDictionary[torch.nn.Module, tuple[Future[str], Future[PartFiles]]] = weakref.WeakKeyDictionary()
_kept_lock = threading.Lock()


def _forget_all() -> None:
    """In a forked process: threads are gone, so everything is found out again."""
    global _kept_lock
    _kept_lock = threading.Lock()
    _kept.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def found_so_far(part: Future[PartFiles]) -> PartFiles:
    """What is known of a part now: `unknown` while it is still being found out."""
    return part.result() if part.done() else PartFiles("unknown", reason=_STILL)


def found_at_last(part: Future[PartFiles]) -> PartFiles:
    """What is known of a part once it is found out, or `unknown` after ten minutes."""
    try:
        return part.result(_LONGEST_WAIT_S)
    except TimeoutError:
        return PartFiles("unknown", reason=_STILL)


def files_of(found: Sequence[PartFiles]) -> ModelFiles:
    """What the parts of a pipeline are together: as in their files where all of them are, modified where one is."""
    if not found:
        return ModelFiles(state="unknown", reason="the pipeline has no part that holds weights")
    if all(one.state == "as_in_files" for one in found):
        return ModelFiles(state="as_in_files", sha256=tuple(digest for one in found for digest in one.sha256))
    worst = next((one for one in found if one.state == "modified"), None)
    worst = worst or next(one for one in found if one.state == "unknown")
    return ModelFiles(state=worst.state, reason=worst.reason)


def files_of_part(name: str, part: torch.nn.Module, digests: KeptDigests) -> Future[PartFiles]:
    """The same for one part; done at once for up to 64 MiB of weights. It is found out anew when the weights change.

    Args:
        name: of the part in its pipeline: a folder of that name is looked into, too.
        part: the model.
        digests: where those that were made are kept.
    """
    weights = digest_of_module(part)
    with _kept_lock:
        kept = _kept.get(part)
        if kept is not None and kept[0] is weights:
            return kept[1]
        made: Future[PartFiles] = Future()
        _kept[part] = (weights, made)
    folder = _folder_of(name, part)
    forms = {tensor_name: tensor.dtype for tensor_name, tensor in kept_weights(part).tensors}
    size_bytes = sum(tensor.numel() * tensor.element_size() for _, tensor in kept_weights(part).tensors)
    given = (made, weights, folder, forms, digests)
    if weights.done() and size_bytes <= _AT_ONCE_BYTES:
        _find_out(*given)
    else:
        thread = threading.Thread(target=_find_out, args=given, name="guardrail-model-files", daemon=True)
        thread.start()
    return made


def _find_out(
    made: Future[PartFiles],
    weights: Future[str],
    folder: Path | None,
    forms: Mapping[str, torch.dtype],
    digests: KeptDigests,
) -> None:
    try:
        made.set_result(_compared(weights.result(), folder, forms, digests))
    except Exception as error:  # files of any kind may lie there, and no call fails for them
        log.info("files of a model were not compared with its weights", exc_info=error)
        made.set_result(PartFiles("unknown", reason=type(error).__name__))


def _compared(loaded: str, folder: Path | None, forms: Mapping[str, torch.dtype], digests: KeptDigests) -> PartFiles:
    """Digest what is in the files as if it had been loaded, and compare.

    Files of float32 count as those of weights that were loaded as float16: they are converted as loading does.
    """
    if folder is None:
        return PartFiles("unknown", reason="it was not loaded from a folder of this machine")
    purpose = "tensors " + hashlib.sha256(json.dumps({n: str(t) for n, t in forms.items()}).encode()).hexdigest()
    comparable = False
    for files in _sets_in(folder):
        if _names_in(files) != set(forms):
            continue
        comparable = True
        if digests.of_files(files, purpose, partial(_tensors_digest, files, forms)) == loaded:
            sha256 = tuple(digests.of_files((file,), "sha256", partial(file_sha256, file)) for file in files)
            return PartFiles("as_in_files", files, sha256)
    if not comparable:
        return PartFiles("unknown", reason="no safetensors files beside it hold tensors of the same names")
    return PartFiles("modified", reason="its weights are in none of the files beside it")


def _folder_of(name: str, part: Any) -> Path | None:
    """Where a part was loaded from, as diffusers notes it: its own folder, or that of the pipeline."""
    config = getattr(part, "config", None)
    said = config.get("_name_or_path") if isinstance(config, Mapping) else None
    if not said:
        return None
    folder = Path(str(said)).absolute()
    return next((one for one in (folder / name, folder) if one.is_dir() and any(_sets_in(one))), None)


def _sets_in(folder: Path) -> Iterator[tuple[Path, ...]]:
    """The sets of files that hold one model each: those that an index names, then single ones."""
    taken: set[Path] = set()
    for index in sorted(folder.glob(f"*{_INDEX_ENDING}")):
        named = json.loads(index.read_text(encoding="utf-8")).get("weight_map", {})
        files = tuple(sorted({folder / Path(str(file)).name for file in named.values()}))
        taken.update(files)
        if files and all(file.is_file() for file in files):
            yield files
    yield from ((file,) for file in sorted(folder.glob("*.safetensors")) if file not in taken)


def _names_in(files: Iterable[Path]) -> set[str]:
    names: set[str] = set()
    for file in files:
        with safe_open(file, framework="pt", device="cpu") as opened:
            names.update(opened.keys())
    return names


def _tensors_digest(files: Iterable[Path], forms: Mapping[str, torch.dtype]) -> str:
    with ExitStack() as stack:
        return named_digest(_tensors_in(stack, files, forms))


def _tensors_in(
    stack: ExitStack, files: Iterable[Path], forms: Mapping[str, torch.dtype]
) -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors of some files by name, in order of their names, as they are once loaded; one in memory at a time."""
    where: dict[str, Any] = {}
    for file in files:
        opened = stack.enter_context(safe_open(file, framework="pt", device="cpu"))
        where.update(dict.fromkeys(opened.keys(), opened))
    for name in sorted(where):
        yield name, where[name].get_tensor(name).to(forms[name])
