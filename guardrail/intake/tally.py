"""What the signs of one run measured, step by step, and the evidence it makes for each image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from guardrail import plugins as tools
from guardrail.carriers import Sign, SignReading, Step
from guardrail.errors import GuardrailError, SettingsInvalid
from guardrail.intake.sign_limits import SignBounds, bounds_of
from guardrail.records import CheckFailed, Decision, MemorisationSign, SignUnavailable, Work

if TYPE_CHECKING:
    import pluggy

    from guardrail.records import GenerationContext
    from guardrail.settings import Settings, SignSettings

__all__ = ["SignTally", "unknown_signs"]

SignEvidence = MemorisationSign | SignUnavailable | CheckFailed


def unknown_signs(hooks: pluggy.PluginManager, settings: Settings) -> tuple[str, ...]:
    """The names of signs that the settings turn on and no plugin offers, sorted.

    Plugins are asked before there is any run. Where one of them fails then, nobody knows what it offers, and none is
    called unknown: a run has that as a failed check, or as a sign that is not available.

    Args:
        hooks: the plugins.
        settings: which signs are on.
    """
    wanted = {name for name, one in settings.signs.items() if one.enabled}
    if not wanted:
        return ()
    answers = list(tools.call_guards(hooks, "before_generation", context=None, settings=settings))
    if any(answer.error is not None for answer in answers):
        return ()
    for answer in answers:
        for one in _listed(answer.value):
            wanted.discard(one.sign if isinstance(one, SignUnavailable) else getattr(one, "name", ""))
    return tuple(sorted(wanted))


@dataclass(slots=True)
class _Course:
    """One sign in the course of one run."""

    sign: Sign
    stage: str | None = None
    total: int | None = None
    values: list[torch.Tensor] = field(default_factory=list)
    works: list[tuple[Work | None, ...]] = field(default_factory=list)
    decided_at: int | None = None
    action: str = "recorded"

    def put_together(self) -> torch.Tensor:
        """Float32 (B,), in host memory: the mean or the highest over the steps."""
        stacked = torch.stack(self.values)
        return (stacked.mean(0) if self.sign.over == "mean" else stacked.amax(0)).cpu()

    def work_of(self, row: int) -> Work | None:
        """The work that the row's highest value is about."""
        at = int(torch.stack([values[row] for values in self.values]).argmax())
        return self.works[at][row] if self.works[at] else None


class SignTally:
    """Asks the plugins for signs, and keeps what they measure.

    Args:
        hooks: the plugins.
        settings: which signs are on, and what is done about them.
        context: how the model is run; may be put in anew once more is known of it.

    Raises:
        SettingsInvalid: a sign is to act on a mean over all steps, which is only known at the end.
    """

    def __init__(self, hooks: pluggy.PluginManager, settings: Settings, context: GenerationContext | None) -> None:
        self._hooks, self._settings, self.context = hooks, settings, context
        self._wanted = {name: one for name, one in settings.signs.items() if one.enabled}
        self._courses: dict[str, _Course] = {}
        self._unavailable: dict[str, str] = {}
        self._failures: dict[str, str] = {}
        self._asked: set[str] = set()
        if self._wanted:
            self._declare()

    @property
    def is_watching(self) -> bool:
        """Whether any sign is looked for in this run."""
        return bool(self._courses)

    @property
    def rows(self) -> int:
        """How many images were measured; 0 where none was."""
        return max((len(course.values[0]) for course in self._courses.values() if course.values), default=0)

    def _declare(self) -> None:
        answers = tools.call_guards(self._hooks, "before_generation", context=self.context, settings=self._settings)
        for answer in answers:
            if answer.error is not None:
                self._failures[f"before_generation:{answer.plugin}"] = repr(answer.error)
            for one in _listed(answer.value):
                self._declare_one(answer.plugin, one)
        for name in self._wanted.keys() - self._courses.keys() - self._unavailable.keys():
            self._unavailable[name] = "no plugin offers a sign of that name"

    def _declare_one(self, plugin: str, one: Any) -> None:
        if isinstance(one, SignUnavailable):
            self._unavailable[one.sign] = one.reason
        elif not isinstance(one, Sign) or one.name in self._courses:
            what = f"sign {one.name!r} twice" if isinstance(one, Sign) else f"a {type(one).__name__}"
            self._failures[f"before_generation:{plugin}"] = f"it answered {what}"
        elif one.name in self._wanted:
            own = self._wanted[one.name]
            if own.action != "record" and one.over == "mean" and own.steps is None:
                said = f"action {own.action!r} comes too late for a mean over all steps; set steps, the first so many"
                raise SettingsInvalid(f"signs.{one.name}", said)
            self._courses[one.name] = _Course(one)
            self._asked.add(plugin)

    # --- while it runs ---------------------------------------------------------------------------------------

    def take(self, step: Step) -> None:
        """Ask every plugin that looks for a sign what it measures at a step; one that fails is asked no more."""
        given = {"step": step, "context": self.context, "settings": self._settings}
        for answer in tools.call_guards(self._hooks, "during_generation", only=frozenset(self._asked), **given):
            wrong = repr(answer.error) if answer.error is not None else None
            for one in _listed(answer.value):
                wrong = self._take_one(step, one) or wrong
            if wrong is not None:
                self._failures[f"during_generation:{answer.plugin}"] = wrong
                self._asked.discard(answer.plugin)

    def _take_one(self, step: Step, one: Any) -> str | None:
        """Keep one answer; returns what is wrong with it."""
        if isinstance(one, SignUnavailable):
            self._unavailable.setdefault(one.sign, one.reason)
            return None
        if not isinstance(one, SignReading):
            return f"it answered a {type(one).__name__}, not a reading"
        course = self._courses.get(one.sign)
        if course is None:
            return f"it measured {one.sign!r}, which it did not say before"
        if not isinstance(one.values, torch.Tensor):
            return f"it measured a {type(one.values).__name__}, not a tensor"
        if one.values.shape != (len(step.after),) or len(one.works) not in (0, len(step.after)):
            return f"it measured shape {tuple(one.values.shape)} for {len(step.after)} images"
        counted = self._wanted[one.sign].steps
        if course.values and len(course.values[0]) != len(one.values):
            return None  # a later stage for other images
        if course.sign.over == "mean" and course.stage not in (None, step.stage):
            return None  # a later stage has values of another size
        if counted is not None and len(course.values) >= counted:
            return None
        course.stage, course.total = step.stage, step.total
        course.values.append(one.values.detach().float())
        course.works.append(one.works)
        return None

    def due(self, step: Step) -> Iterator[tuple[str, SignSettings, torch.Tensor]]:
        """The signs that ask for something to be done after this step: name, settings, and which images reach it.

        Only signs whose settings say more than `record`; each asks once in a run. Waits for the device.
        """
        for name, course in self._courses.items():
            own = self._wanted[name]
            decided = course.sign.over == "max" or len(course.values) == own.steps
            if own.action == "record" or course.decided_at is not None or not course.values or not decided:
                continue
            bounds = self._bounds(name, course)
            if bounds is None:
                continue
            least = Decision(own.act_on).severity
            values = course.put_together()
            reached = torch.tensor([bounds.reached(value).severity >= least for value in values.tolist()])
            if bool(reached.any()):
                yield name, own, reached
            elif course.sign.over == "mean":
                course.decided_at = step.number + 1

    def note_action(self, name: str, step: Step, action: str) -> None:
        """Keep what was done about a sign, and that it need not ask again."""
        course = self._courses[name]
        course.decided_at, course.action = step.number + 1, action

    def note_failure(self, error: Exception) -> None:
        """Keep that the run could not be looked at."""
        self._failures["watching"] = repr(error)

    # --- afterwards ------------------------------------------------------------------------------------------

    def evidence(self, at: int, of: int, image: str) -> tuple[SignEvidence, ...]:
        """What was found on one image.

        Args:
            at: its place among the pictures of the output.
            of: how many pictures there are. The frames of one clip share its values; where pictures and rows of the
                latents cannot be matched, every picture has the highest values of all rows.
            image: its name.
        """
        found: list[SignEvidence] = [
            CheckFailed(check=check, image=image, error=error) for check, error in sorted(self._failures.items())
        ]
        names = sorted(self._courses.keys() | self._unavailable.keys())
        return tuple(found + [self._found(name, at, of, image) for name in names])

    def _found(self, name: str, at: int, of: int, image: str) -> SignEvidence:
        course = self._courses.get(name)
        if course is None or not course.values:
            return SignUnavailable(sign=name, reason=self._unavailable.get(name, "no step of the run could be watched"))
        values = course.put_together()
        row = at * len(values) // of if of % len(values) == 0 else int(values.nan_to_num(math.inf).argmax())
        value = float(values[row])
        if not math.isfinite(value):
            return CheckFailed(check=f"sign:{name}", image=image, error=f"it measured {value}")
        bounds = self._bounds(name, course)
        if bounds is None:
            return CheckFailed(check=f"sign:{name}", image=image, error=self._failures[f"sign:{name}"])
        return MemorisationSign(
            sign=name,
            value=value,
            unit=course.sign.unit,
            steps=len(course.values),
            reaches=bounds.reached(value),
            step=course.decided_at,
            flag_above=bounds.flag_above,
            block_above=bounds.block_above,
            calibration=bounds.calibration,
            action=course.action,
            work=course.work_of(row) if course.sign.over == "max" else None,
        )

    def _bounds(self, name: str, course: _Course) -> SignBounds | None:
        """The limits of a sign; None where they cannot be trusted, which is then a failure."""
        try:
            return bounds_of(self._settings, self.context, name, course.total)
        except (GuardrailError, OSError) as error:
            self._failures[f"sign:{name}"] = str(error)
            return None

    def values(self) -> dict[Sign, tuple[float, ...]]:
        """What each sign measured of each image, over the whole run: for calibrations."""
        return {one.sign: tuple(one.put_together().tolist()) for one in self._courses.values() if one.values}

    def steps_made(self) -> int | None:
        """How many steps the watched stage has; None where none was watched."""
        return next((one.total for one in self._courses.values() if one.values and one.total), None)


def _listed(answer: object) -> Sequence[Any]:
    if answer is None:
        return ()
    return answer if isinstance(answer, list | tuple) and not isinstance(answer, SignReading | Sign) else (answer,)
