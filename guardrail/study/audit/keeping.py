"""Generations on disk: each is there whole or not at all, and a run that was cut off goes on where it stopped."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from guardrail.errors import AuditImpossible
from guardrail.study.audit.asks import Generations
from guardrail.study.audit.plan import Ask, Plan

__all__ = ["Keeping"]

_PLAN, _DONE, _PICTURES = "plan.json", "done.jsonl", "generations"


class Keeping:
    """The generations of one plan in a folder.

    `plan.json` says which plan it is, `generations/NUMBER.png` holds each picture, and a line of `done.jsonl` is added
    once a picture is on the disk, or once it is known that the model gave none that could be looked at. A picture
    without its line, or whose bytes are not those of its line, is made again.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        """Open a folder for a plan; made where it is not there.

        Raises:
            AuditImpossible: it holds the generations of another plan, or cannot be written.
        """
        self.folder, self.plan = folder, plan
        try:
            (folder / _PICTURES).mkdir(parents=True, exist_ok=True)
            self._claim()
            self._done = self._read()
        except OSError as error:
            raise AuditImpossible(
                str(folder), f"a work folder that cannot be used ({error})", "one to write to", "name another"
            ) from error

    def missing(self) -> tuple[Ask, ...]:
        """What is still to be generated, in order."""
        return tuple(ask for ask in self.plan.asks() if ask.number not in self._done)

    @property
    def failures(self) -> dict[int, str]:
        """By number, why the model gave no picture that could be looked at."""
        said = self._within_plan().items()
        return {number: str(line["failure"]) for number, line in said if line.get("failure")}

    def keep(self, ask: Ask, pixels: NDArray[np.uint8]) -> None:
        """Put one generation on the disk: uint8 (S, S, 3), RGB."""
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "PNG")
        path = self._path(ask.number)
        written = path.with_suffix(".part")
        written.write_bytes(content.getvalue())
        written.replace(path)
        self._add({**asdict(ask), "sha256": hashlib.sha256(content.getvalue()).hexdigest()})

    def keep_failure(self, ask: Ask, reason: str) -> None:
        """Note that a generation gave nothing that could be looked at, such as NaN."""
        self._add({**asdict(ask), "failure": reason})

    def generations(self) -> Generations:
        """All that was kept of this plan, by number."""
        numbers = tuple(sorted(number for number, line in self._within_plan().items() if not line.get("failure")))
        asks = [self.plan.ask(number) for number in numbers]
        side = self.plan.side_px
        pixels = np.zeros((len(numbers), side, side, 3), np.uint8)
        for at, number in enumerate(numbers):
            with Image.open(self._path(number)) as picture:
                pixels[at] = np.asarray(picture.convert("RGB"))
        return Generations(
            pixels,
            numbers,
            tuple(ask.seed for ask in asks),
            tuple(ask.prompt for ask in asks),
            tuple(ask.label for ask in asks),
        )

    def _path(self, number: int) -> Path:
        return self.folder / _PICTURES / f"{number:06d}.png"

    def _within_plan(self) -> Mapping[int, dict[str, object]]:
        """A plan may have become shorter since."""
        return {number: line for number, line in self._done.items() if number < self.plan.count}

    def _claim(self) -> None:
        path = self.folder / _PLAN
        if not path.exists():
            written = path.with_suffix(".part")
            written.write_text(json.dumps({"plan_sha256": self.plan.sha256}), encoding="utf-8")
            written.replace(path)
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["plan_sha256"]
        except (ValueError, KeyError, TypeError):
            found = "something else"
        if found != self.plan.sha256:
            raise AuditImpossible(
                str(self.folder),
                "the work of another audit",
                "the same model, training pictures, seed and options as before",
                "name another folder with --work, or remove this one",
            )

    def _read(self) -> dict[int, dict[str, object]]:
        path = self.folder / _DONE
        done: dict[int, dict[str, object]] = {}
        content = path.read_bytes() if path.exists() else b""
        if content and not content.endswith(b"\n"):
            with path.open("ab") as file:
                file.write(b"\n")  # after a line that was cut off
        for text in content.splitlines():
            try:
                line = json.loads(text)
                number = int(line["number"])
            except (ValueError, KeyError, TypeError):
                continue  # a line that was cut off: its picture is made again
            if line.get("failure") or self._is_whole(number, line.get("sha256")):
                done[number] = line
        return done

    def _is_whole(self, number: int, sha256: object) -> bool:
        path = self._path(number)
        return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256

    def _add(self, line: dict[str, object]) -> None:
        path = self.folder / _DONE
        with path.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._done[int(str(line["number"]))] = line
