"""What an audit says of models with a known answer: one that does nothing but memorise, and one that never does."""

import numpy as np
import pytest
import torch

from guardrail.records import AuditOutcome
from guardrail.study import overfitted_pipeline
from guardrail.study.audit import Budget, Extraction, Generations, PictureSet, Repetition, Subject
from guardrail.study.audit.shapes import random_shapes

SIDE = 16
NOTHING = PictureSet((), (), lambda row, side_px: np.zeros((side_px, side_px, 3), np.uint8))


def silent(done, total):
    assert 0 <= done <= total


def made(pixels, prompts=None):
    count = len(pixels)
    return Generations(
        np.asarray(pixels, np.uint8),
        tuple(range(count)),
        tuple(range(100, 100 + count)),
        tuple(prompts or [None] * count),
        (None,) * count,
    )


def subject_of(pixels, training, held_out=NOTHING, prompts=None):
    return Subject(None, "a model", training, held_out, made(pixels, prompts), SIDE)


def of(pixels, names="abcdefgh"):
    pixels = np.asarray(pixels, np.uint8)
    return PictureSet(
        tuple(names[: len(pixels)]),
        (None,) * len(pixels),
        lambda row, side_px: pixels[row] if side_px == pixels.shape[1] else pytest.fail("read at another side"),
    )


def figure(finding, name):
    return next(one for one in finding.measured if one.name == name)


def extraction(subject, **said):
    return Extraction(**said).run(subject, Budget(), silent)


def repetition(subject, **said):
    return Repetition(**said).run(subject, Budget(), silent)


@pytest.fixture(scope="module")
def overfitted():
    training = random_shapes(6, seed=7)
    works = torch.from_numpy(training.pixels(SIDE)).permute(0, 3, 1, 2).float() / 127.5 - 1
    pipe = overfitted_pipeline(works)
    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(at) for at in range(96)]
    images = pipe(batch_size=96, num_inference_steps=10, generator=generators, output_type="np").images
    return subject_of((images * 255).round(), training, held_out=random_shapes(64, seed=8))


def test_every_generation_of_the_overfitted_model_is_a_copy_and_every_work_is_extracted(overfitted):
    finding = extraction(overfitted)
    assert finding.outcome is AuditOutcome.MEMORISED
    assert figure(finding, "generations_copies").value == 1
    assert {one.work for one in finding.works} == set(overfitted.training.names)
    assert sum(one.generations for one in finding.works) == 96
    assert all(one.tile_l2 < 0.01 and one.correlation > 0.999 and one.near_duplicates == 1 for one in finding.works)


def test_seed_of_an_extracted_work_is_that_of_its_nearest_generation(overfitted):
    for work in extraction(overfitted).works:
        at = overfitted.generated.numbers.index(work.nearest)
        assert work.seed == overfitted.generated.seeds[at]
        original = overfitted.training.read(overfitted.training.names.index(work.work), SIDE)
        assert np.abs(overfitted.generated.pixels[at].astype(int) - original).max() <= 3


def test_overfitted_model_repeats_its_works(overfitted):
    finding = repetition(overfitted)
    assert finding.outcome is AuditOutcome.MEMORISED
    assert all(clique.work in overfitted.training.names for clique in finding.cliques)
    pixels = overfitted.generated.pixels.astype(int)
    for clique in finding.cliques:
        assert len(clique.members) >= 10
        assert np.ptp(pixels[list(clique.members)], axis=0).max() <= 3


def test_model_that_draws_new_pictures_is_clean():
    subject = subject_of(random_shapes(200, seed=3).pixels(SIDE), random_shapes(6, seed=7), random_shapes(64, seed=8))
    finding = extraction(subject)
    assert finding.outcome is AuditOutcome.CLEAN
    assert finding.works == ()
    assert figure(finding, "generations_copies").high == pytest.approx(1 - 0.025 ** (1 / 200))
    assert repetition(subject).outcome is AuditOutcome.CLEAN


def test_too_few_generations_without_a_copy_are_not_clean():
    subject = subject_of(random_shapes(40, seed=3).pixels(SIDE), random_shapes(6, seed=7), random_shapes(64, seed=8))
    assert extraction(subject).outcome is AuditOutcome.COULD_NOT_TELL
    assert repetition(subject).outcome is AuditOutcome.COULD_NOT_TELL


@pytest.mark.parametrize("part", [extraction, repetition])
def test_no_generation_at_all_is_not_clean(part):
    subject = subject_of(np.zeros((0, SIDE, SIDE, 3)), random_shapes(6, seed=7))
    assert part(subject).outcome is AuditOutcome.COULD_NOT_TELL


def test_without_training_pictures_nothing_is_clean():
    assert extraction(subject_of(random_shapes(200, seed=3).pixels(SIDE), NOTHING)).outcome is (
        AuditOutcome.COULD_NOT_TELL
    )


def test_one_copy_among_many_is_found_with_its_prompt():
    training = random_shapes(6, seed=7)
    pixels = random_shapes(200, seed=3).pixels(SIDE)
    pixels[123] = training.read(4, SIDE)
    finding = extraction(subject_of(pixels, training, prompts=[f"a picture {at}" for at in range(200)]))
    assert finding.outcome is AuditOutcome.MEMORISED
    (work,) = finding.works
    assert (work.work, work.nearest, work.prompt, work.generations) == (training.names[4], 123, "a picture 123", 1)
    assert work.found_by == ("correlation", "tile_l2")


@pytest.mark.parametrize(
    ("edit", "by"),
    [
        (lambda picture: picture[:, ::-1], ("correlation", "tile_l2")),
        (lambda picture: (picture * 0.4 + [90, 60, 30]).astype(np.uint8), ("correlation",)),
    ],
    ids=["flipped", "tinted and faded"],
)
def test_edited_copy_is_found(edit, by):
    training = random_shapes(6, seed=7)
    pixels = random_shapes(200, seed=3).pixels(SIDE)
    pixels[5] = edit(training.read(2, SIDE))
    (work,) = extraction(subject_of(pixels, training)).works
    assert work.work == training.names[2]
    assert work.found_by == by


def test_flat_colours_copy_nothing_though_their_distance_is_zero():
    blank = np.full((200, SIDE, SIDE, 3), 255)
    finding = extraction(subject_of(blank, of(blank[:1])))
    assert figure(finding, "generations_by_tile_l2_alone").value == 1
    assert finding.outcome is AuditOutcome.CLEAN


def test_near_duplicates_of_a_work_are_counted():
    pictures = random_shapes(4, seed=7).pixels(SIDE)
    training = of(
        [pictures[0], pictures[1], pictures[0][:, ::-1], np.clip(pictures[0] * 0.8 + 20, 0, 255), pictures[2]]
    )
    finding = extraction(subject_of([pictures[0]] * 4 + [pictures[1]] * 2, training))
    assert {one.work: one.near_duplicates for one in finding.works} == {"a": 3, "b": 1}
    assert [figure(finding, f"eidetic_k{k}").value for k in (1, 2, 5)] == [1, 1, 2]


def test_measure_that_also_takes_held_out_pictures_for_copies_proves_nothing():
    training = random_shapes(4, seed=7)
    held_out = of(training.pixels(SIDE))
    finding = extraction(subject_of(random_shapes(190, seed=3).pixels(SIDE), training, held_out))
    assert finding.outcome is AuditOutcome.CLEAN
    pixels = random_shapes(190, seed=3).pixels(SIDE)
    pixels[:3] = training.pixels(SIDE)[:3]
    finding = extraction(subject_of(pixels, training, held_out))
    assert finding.outcome is AuditOutcome.COULD_NOT_TELL
    assert "4 of 4 held-out pictures" in finding.reason


def test_copy_that_only_guardrails_own_look_proves_counts():
    training = random_shapes(6, seed=7)

    def recognise(pixels, progress):
        progress(len(pixels), len(pixels))
        return [{3: ("geometry",)} if at == 17 and len(pixels) == 200 else {} for at in range(len(pixels))]

    finding = extraction(subject_of(random_shapes(200, seed=3).pixels(SIDE), training), recognise=recognise)
    (work,) = finding.works
    assert (work.work, work.nearest, work.found_by) == (training.names[3], 17, ("guard:geometry",))
    assert figure(finding, "generations_by_guard").value == 1 / 200
    assert figure(finding, "held_out_by_guard").value == 0


def test_repeated_picture_that_is_in_no_training_set_could_not_be_told():
    pixels = random_shapes(60, seed=3).pixels(SIDE)
    pixels[:12] = pixels[0]
    finding = repetition(subject_of(pixels, random_shapes(6, seed=7)))
    assert finding.outcome is AuditOutcome.COULD_NOT_TELL
    (clique,) = finding.cliques
    assert clique.members == tuple(range(12))
    assert clique.work is None


@pytest.mark.parametrize(("again", "found"), [(9, 0), (10, 1)])
def test_clique_has_ten_members_at_least(again, found):
    pixels = random_shapes(60, seed=3).pixels(SIDE)
    pixels[:again] = pixels[0]
    assert len(repetition(subject_of(pixels, NOTHING)).cliques) == found
