"""Pictures that share a hand with works and copy none of them in; how often they are flagged, with intervals, out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from scipy.stats import binomtest

from guardrail.records import Decision, Measured, Record
from guardrail.study.audit.intervals import measured_share

__all__ = ["Arm", "ArmFigures", "Cause", "JudgedPicture", "StyleFigures", "StyleGroup", "measure_style", "style_groups"]

_FEWEST = 2  # works of a group: one to index, one to judge


class Arm(StrEnum):
    """What a picture is judged against: an index with other works of its own group, or one without any."""

    OWN = "own"
    OTHER = "other"


class Cause(StrEnum):
    """Why a picture was not accepted, if it was not: an unproved likeness, a proved copy, or too little in it."""

    NONE = "none"
    UNPROVED = "unproved"
    PROVED = "proved"
    FAINT = "faint"


class StyleGroup(NamedTuple):
    """Pictures of one maker or genre: some to index, others to judge; `side` (0 or 1) says in which of two indexes."""

    name: str
    side: int
    indexed: tuple[str, ...]
    judged: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JudgedPicture:
    """What a guard made of one picture in one arm.

    Attributes:
        file: which picture.
        group: whose, or of which genre.
        arm: what it was judged against.
        decision: the guard's.
        cause: why, as far as it was not accepted.
        signals: the signals of the protected works that reached a limit, each once.
        by_own_group: whether one of those works is of the picture's own group.
    """

    file: str
    group: str
    arm: Arm
    decision: Decision
    cause: Cause
    signals: tuple[str, ...] = ()
    by_own_group: bool = False


class ArmFigures(Record):
    """How the pictures of one arm fared; shares with 95 % intervals by Clopper and Pearson.

    `flagged` counts all that were flagged or blocked, `blocked` the latter. `proved` are copies in truth as far as
    proof goes, and `faint` were flagged unseen, because too little is in them. `unproved` and `unproved_blocked` are
    false alarms, over the pictures that are not proved. `groups` counts groups with at least one of them: pictures of
    one group are not independent of each other, groups are. `by_own_group` counts false alarms by a work of the
    picture's own group, `signals` those at which each signal spoke.
    """

    arm: Arm
    pictures: int
    flagged: Measured
    blocked: Measured
    proved: Measured
    faint: Measured
    unproved: Measured
    unproved_blocked: Measured
    groups: Measured
    by_own_group: int
    signals: dict[str, int]


class StyleFigures(Record):
    """False alarms on pictures that share a hand with works, beside the same pictures against works of other hands.

    `limits` names the calibration they were judged by. `only_own` and `only_other` count pictures with an unproved flag
    in that arm alone (those proved in either arm do not count), `groups_more` and `groups_fewer` the groups with more,
    or with fewer, of them in the arm `own`. `chance` is the probability (0..1) that groups differ as far by chance:
    two-sided sign test over groups.
    """

    limits: str
    own: ArmFigures
    other: ArmFigures
    only_own: int
    only_other: int
    groups_more: int
    groups_fewer: int
    chance: float


def style_groups(group_of: Mapping[str, str], *, groups: int, each: int, seed: int) -> tuple[StyleGroup, ...]:
    """Split the pictures of every group into those to index and those to judge, the same for a seed.

    Groups, and the pictures of each, are taken in the order of sha256(seed, name), so that neither the order of a table
    nor what else stands in it matters. Every other group belongs to the second of two indexes.

    Args:
        group_of: by file, the name of its group; files of no group ("") and of groups with a single one are left out.
        groups: how many at most.
        each: pictures of a group at most, 2 or more.
        seed: of the order.

    Returns:
        Half of the pictures of each group are to be indexed, one more than to be judged where their number is odd.
    """
    assert each >= _FEWEST, "one is indexed and one is judged"
    members: dict[str, list[str]] = {}
    for file, name in group_of.items():
        members.setdefault(name, []).append(file)
    names = [name for name, files in members.items() if name and len(files) >= _FEWEST]
    split = []
    for at, name in enumerate(_ordered(names, seed)[:groups]):
        files = _ordered(members[name], seed)[:each]
        half = (len(files) + 1) // 2
        split.append(StyleGroup(name, at % 2, tuple(files[:half]), tuple(files[half:])))
    return tuple(split)


def _ordered(names: Iterable[str], seed: int) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode("utf-8", "surrogateescape")).digest())


def measure_style(judged: Sequence[JudgedPicture], limits: str) -> StyleFigures:
    """Count, for both arms, and compare them picture by picture and group by group.

    Args:
        judged: every picture once in either arm.
        limits: the name of the limits they were judged by.

    Raises:
        ValueError: a picture is there in one arm only, or twice.
    """
    arms = {arm: {one.file: one for one in judged if one.arm is arm} for arm in Arm}
    own, other = arms[Arm.OWN], arms[Arm.OTHER]
    if own.keys() != other.keys() or len(own) + len(other) != len(judged):
        raise ValueError(f"{len(judged)} judgements of {len(own | other)} pictures, expected each in both arms, once")
    balance: Counter[str] = Counter()
    alone = dict.fromkeys(Arm, 0)
    for file, one in own.items():
        causes = {Arm.OWN: one.cause, Arm.OTHER: other[file].cause}
        flagged = [arm for arm, cause in causes.items() if cause is Cause.UNPROVED]
        if len(flagged) == 1 and Cause.PROVED not in causes.values():
            alone[flagged[0]] += 1
            balance[one.group] += 1 if flagged[0] is Arm.OWN else -1
    more, fewer = sum(value > 0 for value in balance.values()), sum(value < 0 for value in balance.values())
    return StyleFigures(
        limits=limits,
        own=_arm(Arm.OWN, tuple(own.values())),
        other=_arm(Arm.OTHER, tuple(other.values())),
        only_own=alone[Arm.OWN],
        only_other=alone[Arm.OTHER],
        groups_more=more,
        groups_fewer=fewer,
        chance=float(binomtest(more, more + fewer).pvalue) if more + fewer else 1.0,
    )


def _arm(arm: Arm, judged: Sequence[JudgedPicture]) -> ArmFigures:
    count = len(judged)
    causes = Counter(one.cause for one in judged)
    unproved = [one for one in judged if one.cause is Cause.UNPROVED]
    clean = [one for one in judged if one.cause is not Cause.PROVED]
    blocked = [one for one in judged if one.decision is Decision.BLOCK]
    groups, alarmed = {one.group for one in clean}, {one.group for one in unproved}
    return ArmFigures(
        arm=arm,
        pictures=count,
        flagged=measured_share("flagged", sum(one.decision is not Decision.ACCEPT for one in judged), count),
        blocked=measured_share("blocked", len(blocked), count),
        proved=measured_share("proved", causes[Cause.PROVED], count),
        faint=measured_share("faint", causes[Cause.FAINT], count),
        unproved=measured_share("unproved", len(unproved), len(clean)),
        unproved_blocked=measured_share(
            "unproved_blocked", sum(one.cause is Cause.UNPROVED for one in blocked), len(clean)
        ),
        groups=measured_share("groups", len(alarmed), len(groups)),
        by_own_group=sum(one.by_own_group for one in unproved),
        signals=dict(sorted(Counter(signal for one in unproved for signal in one.signals).items())),
    )
