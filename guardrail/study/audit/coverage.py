"""How many of the works an audit asked for: what nobody asked a model for says nothing about it."""

from __future__ import annotations

from collections.abc import Sequence

from guardrail.study.audit.asks import Generations, PictureSet
from guardrail.study.audit.plan import Plan
from guardrail.study.audit.wording import counted

__all__ = ["unasked", "works_asked"]


def works_asked(works: PictureSet, prompts: Sequence[str | None], labels: Sequence[int | None]) -> int:
    """How many works were asked for, 0..N: those whose caption or label a generation was made from.

    Args:
        works: N pictures with captions or labels.
        prompts: of each generation; None for a model that takes none.
        labels: of each generation, likewise.

    Returns:
        All N where there are generations and none has a prompt or label: an unconditional model cannot be asked.
    """
    said, classes = set(prompts) - {None}, set(labels) - {None}
    if said:
        return sum(caption in said for caption in works.captions)
    if classes:
        return sum(label in classes for label in works.labels)
    return len(works) if prompts else 0


def unasked(works: PictureSet, plan: Plan, made: Generations) -> tuple[str, ...]:
    """What was never asked for, a sentence each, and what to do; empty where every work was.

    Args:
        works: the training pictures.
        plan: what was to be generated.
        made: what was.
    """
    if not plan.prompts and not plan.labels:
        return ()
    what, names, asked = (
        ("caption", plan.prompts, {*made.prompts}) if plan.prompts else ("class label", plan.labels, {*made.labels})
    )
    have = works.captions if plan.prompts else works.labels
    without = sum(one not in set(names) for one in have)
    found = []
    if without:
        have_none = "has" if without == 1 else "have"
        training = counted(len(works), "training picture")
        found.append(f"{without} of {training} {have_none} no {what}, and could not be asked for; give {what}s for all")
    reached = sum(one in asked for one in names)
    if reached < len(names):
        needed = plan.each * (len(names) - 1) + 1
        what_to_do = f"--generations {needed} asks for all" if needed > plan.count else "the others gave nothing yet"
        found.append(f"{reached} of {counted(len(names), what)} were asked for; {what_to_do}")
    return tuple(found)
