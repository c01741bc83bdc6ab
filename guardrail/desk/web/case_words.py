"""What cases, questions and decisions are called on the pages, and which reasons follow from answers."""

from dataclasses import dataclass
from datetime import datetime

from guardrail.records import CaseRow
from guardrail.records.review import CaseState, ReasonCode, ReviewAnswers, ReviewOutcome, ReviewRound

__all__ = [
    "OUTCOMES",
    "QUESTIONS",
    "REASONS",
    "ROUNDS",
    "STATES",
    "Answer",
    "Outcome",
    "Question",
    "age_words",
    "reasons_of",
    "why_flagged",
]

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400  # seconds


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to a question, in words, and the reason code that follows from it, or ""."""

    value: str
    words: str
    reason: ReasonCode | str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """One question of `ReviewAnswers`, by its field."""

    name: str
    words: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way to decide.

    Attributes:
        value: as in `ReviewOutcome`.
        words: on its button.
        done: in a sentence, once it was decided.
        key: the letter that takes it.
        look: its class in the style sheet.
        means: what follows, for the preview.
        needs_reasons: whether at least one reason must be given.
    """

    value: ReviewOutcome
    words: str
    done: str
    key: str
    look: str
    means: str
    needs_reasons: bool = False


QUESTIONS: tuple[Question, ...] = (
    Question(
        "copied",
        "What of the work is in the image?",
        (
            Answer("expression", "Expression", "expression_copied"),
            Answer("style", "Style only", "style_or_idea_only"),
            Answer("idea", "Idea only", "style_or_idea_only"),
            Answer("nothing", "Nothing"),
        ),
    ),
    Question(
        "how_much",
        "How much of the work?",
        (
            Answer("whole", "All of it", "substantial_part"),
            Answer("substantial", "Substantial", "substantial_part"),
            Answer("small", "Small part", "small_part"),
            Answer("trivial", "Trivial", "small_part"),
        ),
    ),
    Question(
        "transformed",
        "Transformed into something of its own?",
        (Answer("yes", "Yes", "transformed"), Answer("no", "No")),
    ),
    Question("licensed", "Is this use licensed?", (Answer("yes", "Yes", "licensed"), Answer("no", "No"))),
)
OUTCOMES: dict[str, Outcome] = {
    outcome.value: outcome
    for outcome in (
        Outcome("release", "Release", "released", "r", "release", "is signed as seen by a person, and leaves"),
        Outcome(
            "release_with_credit",
            "Release with credit",
            "released with credit",
            "c",
            "credit",
            "is signed, names the maker of the work, and leaves",
        ),
        Outcome("withhold", "Withhold", "withheld", "w", "withhold", "stays in", needs_reasons=True),
        Outcome(
            "not_a_match",
            "Not a match",
            "not a match",
            "n",
            "none",
            "is signed and leaves, and the pair counts as no match",
            needs_reasons=True,
        ),
    )
}
REASONS: dict[ReasonCode, str] = {
    "expression_copied": "expression copied",
    "style_or_idea_only": "style or idea only",
    "substantial_part": "substantial part",
    "small_part": "small part",
    "transformed": "transformed",
    "licensed": "licensed",
    "generic_imagery": "generic imagery",
    "wrong_work": "another work is meant",
    "own_work": "own work",
    "work_not_protected": "work not protected",
    "sensitive": "sensitive image",
    "other": "other, see the note",
}
STATES: dict[CaseState, str] = {
    "open": "waits",
    "second": "waits for a second look",  # seen as this by who decided first alone; others see it as open
    "disputed": "disputed",
    "appealed": "appealed",
    "decided": "decided",
    "erased": "erased",
}
ROUNDS: dict[ReviewRound, str] = {
    "first": "first look",
    "second": "second look, without seeing the first",
    "resolution": "resolution of a dispute",
    "appeal": "on appeal",
    "repeat": "repeated: the same pixels were decided before",
}


def age_words(since: datetime, now: datetime) -> str:
    """How long ago, in the largest unit that fits: `4 min`, `3 h`, `12 d`."""
    seconds = max((now - since).total_seconds(), 0)
    if seconds < _MINUTE:
        return "just now"
    for unit, length in (("d", _DAY), ("h", _HOUR), ("min", _MINUTE)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    raise AssertionError("a minute has passed")


def reasons_of(answers: ReviewAnswers) -> tuple[ReasonCode, ...]:
    """The reason codes that follow from answers, in the order of the questions; each once."""
    found: dict[ReasonCode, None] = {}
    for question in QUESTIONS:
        given = getattr(answers, question.name)
        for answer in question.answers:
            if answer.value == given and answer.reason:
                found[answer.reason] = None  # type: ignore[index]  # the table above holds codes only
    return tuple(found)


def why_flagged(row: CaseRow) -> str:
    """One line on why a case is in the queue: rules are named in words, as the policy has them."""
    return row.rule[:1].upper() + row.rule[1:] if row.rule else "Flagged without a rule"
