"""Every diffusers class that returns images or frames, built tiny, under a real guard."""

import diffusers
import numpy as np
import pytest
from PIL import Image
from trial import Bench, Trial, form, leaves, numbers, same, traces
from zoo import FAMILIES, NOT_BUILT, SPECIMENS

pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered in:RuntimeWarning")  # NaN made a picture
_LEAST_CHANGE = 0.02  # of the range of values: a card is far from any of these pictures
_LEAST_BUILT = 170  # the promise of issue 5

HELD_BACK = {
    "LTX2HDRPipeline": "its frames are of high dynamic range, far outside 0..1: they are not read, and withheld",
}  # classes whose pictures the guard does not read, so that they never come out


_UNREAD_IN_TUPLES = {"StableDiffusionLDM3DPipeline"}  # depth in a tuple within a tuple, where nothing names it
_ASIDE = (".audio", ".sound", ".c2w", ".depth", ".latent")  # parts that are no pictures
_OWN_INPUT = {"SkyReelsV2DiffusionForcingVideoToVideoPipeline"}  # puts the caller's frames before those it makes


def pictures_of(output, fields=()):
    """Arrays and images that stand for pictures, by where they stand; `fields` names the first parts of a tuple."""
    if isinstance(output, tuple):
        output = {fields[at] if at < len(fields) else str(at): part for at, part in enumerate(output)}
    return [(name, leaf) for name, leaf in leaves(output) if numbers(leaf).ndim >= 2 and not name.startswith(_ASIDE)]


def require_withheld(output, plain, fields=(), *, unread=False):
    """Require that every picture is another one of the same form; what could not be read may be blank."""
    mine, theirs = pictures_of(output, fields), pictures_of(plain, fields)
    assert mine
    assert [form(leaf) for _, leaf in mine] == [form(leaf) for _, leaf in theirs]
    for (name, card), (_, picture) in zip(mine, theirs, strict=True):
        shown, made = numbers(card), numbers(picture)
        reach = 255.0 if isinstance(card, Image.Image) else 1.0
        assert np.isfinite(shown).all(), name
        assert np.abs(shown - made).mean() / reach > _LEAST_CHANGE, name
        assert unread or np.ptp(shown) > 0, f"{name} is plain: a card is never plain black"


def check_accepted(trial):
    """The guarded output is the pipeline's own."""
    assert same(trial.again, trial.plain), "the specimen itself does not repeat"
    outcome = trial.accepted
    assert outcome.error is None, repr(outcome.error)
    if trial.specimen.name in HELD_BACK:
        assert "block" in outcome.decisions
        return "withheld"
    assert outcome.decisions == {"accept"}, [verdict.explanation for verdict in outcome.report.verdicts]
    assert type(outcome.output) is type(trial.plain)
    assert same(outcome.output, trial.plain)
    return ""


def check_blocked(trial):
    """A card comes out in the place of every picture that is in the index."""
    outcome = trial.blocked
    assert outcome.error is None, repr(outcome.error)
    assert outcome.decisions == {"block"}
    assert type(outcome.output) is type(trial.plain)
    require_withheld(outcome.output, trial.plain, unread=trial.specimen.name in HELD_BACK)


def check_flagged(trial):
    """A flagged picture is held like a blocked one, in tuples too."""
    outcome = trial.flagged
    assert outcome.error is None, repr(outcome.error)
    if trial.specimen.name in HELD_BACK or trial.specimen.name in _UNREAD_IN_TUPLES:
        assert outcome.decisions <= {"flag", "block"}
    else:
        assert outcome.decisions == {"flag"}
    assert type(outcome.output) is type(trial.plain_tuple)
    fields = tuple(trial.plain) if isinstance(trial.plain, dict) else ()
    unread = trial.specimen.name in HELD_BACK or trial.specimen.name in _UNREAD_IN_TUPLES
    require_withheld(outcome.output, trial.plain_tuple, fields, unread=unread)


def check_nan(trial):
    """What a broken model makes is never accepted."""
    outcome = trial.spoiled
    if outcome.error is not None:
        return "error"
    assert outcome.decisions
    assert "accept" not in outcome.decisions or trial.specimen.name in _OWN_INPUT
    for name, leaf in pictures_of(outcome.output):
        assert np.isfinite(numbers(leaf)).all(), name
        assert trial.specimen.name in HELD_BACK or np.ptp(numbers(leaf)) > 0, f"{name} is a plain picture"
    return ""


def check_latents(trial):
    """Latents whose picture is protected do not come out."""
    outcome = trial.latents
    if outcome is None:
        return "none"
    if outcome.error is not None:
        return "refused"
    assert "accept" not in outcome.decisions
    assert not same(outcome.output, trial.plain_latents)
    return "blocked"


def check_unwrapped(trial):
    """The pipeline bears no trace of a guard that was taken off."""
    _ = trial.blocked
    assert traces(trial.pipe) == trial.before


CASES = {
    "accepted": check_accepted,
    "blocked": check_blocked,
    "flagged": check_flagged,
    "NaN": check_nan,
    "latents": check_latents,
    "unwrapped": check_unwrapped,
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("bench"))
    yield bench
    bench.close()


@pytest.fixture(scope="module", params=sorted(SPECIMENS))
def trial(request, bench):
    """One class; its cases follow one another, and each is run once."""
    return Trial(SPECIMENS[request.param], bench)


def test_accepted_output_is_the_pipelines_own(trial):
    check_accepted(trial)


def test_blocked_output_is_a_card(trial):
    check_blocked(trial)


def test_flagged_output_is_held_in_tuples_too(trial):
    check_flagged(trial)


def test_nan_is_never_accepted(trial):
    check_nan(trial)


def test_latents_never_leave_unchecked(trial):
    check_latents(trial)


def test_unwrapped_pipeline_bears_no_trace(trial):
    check_unwrapped(trial)


def test_every_exported_pipeline_is_built_or_has_a_reason():
    exported = {name for name in dir(diffusers) if _is_pipeline(name)}
    assert exported - SPECIMENS.keys() - NOT_BUILT.keys() == set()
    assert SPECIMENS.keys() & NOT_BUILT.keys() == set()
    assert SPECIMENS.keys() == FAMILIES.keys()
    assert len(SPECIMENS) >= _LEAST_BUILT


def _is_pipeline(name):
    kind = getattr(diffusers, name, None)
    return (
        isinstance(kind, type)
        and issubclass(kind, diffusers.DiffusionPipeline)
        and kind is not diffusers.DiffusionPipeline
    )
