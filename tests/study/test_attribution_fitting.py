"""A pipeline and pictures become a folder of gradients, once; and an image is asked about with the same model alone."""

import numpy as np
import pytest
import torch
from attributed import SIDE, pictures, tiny_pipeline

from guardrail.attribution_errors import AttributionImpossible, GradientsMismatch
from guardrail.records import Work
from guardrail.study.attribution.access import PipelineAccess
from guardrail.study.attribution.asking import GradientIndex, asked_row, parts_of
from guardrail.study.attribution.fitting import FitChoices, Picture, fit, manifest_of, opened_model
from guardrail.study.attribution.keeping import PICTURE_PX, GradientRows, KeptRow

CHOICES = FitChoices(draws=4, counters=128)


def listed(images, decoys=0, asked=None):
    """The last `decoys` are decoys; `asked` notes which are read at the model's side."""

    def read(at, side_px):
        if asked is not None and side_px == SIDE:
            asked.append(at)
        times = side_px // SIDE
        return None if images[at] is None else np.repeat(np.repeat(images[at], times, 0), times, 1)

    def one(at):
        decoy = at >= len(images) - decoys
        return Picture(KeptRow(f"w{at}", label=None, decoy=decoy), lambda side: read(at, side), f"number {at}")

    return [one(at) for at in range(len(images))]


def fitted(folder, images, access=None, choices=CHOICES, decoys=0):
    access = access or PipelineAccess(tiny_pipeline())
    manifest = manifest_of(access, choices)
    rows = GradientRows(folder, manifest)
    with opened_model(access, manifest, folder) as gradients:
        return fit(gradients, listed(images, decoys), rows), access


class TestFit:
    def test_each_picture_gets_its_row(self, tmp_path):
        done, _ = fitted(tmp_path, pictures(6), decoys=2)
        assert (done.added, done.kept, done.replaced, done.unreadable) == (6, 0, 0, ())
        rows = GradientRows(tmp_path)
        assert [(row.work_id, row.decoy) for row in rows.rows] == [(f"w{at}", at >= 4) for at in range(6)]
        assert len({row.caption_sha256 for row in rows.rows}) == 6
        assert (rows.pictures()[2, :: PICTURE_PX // SIDE, :: PICTURE_PX // SIDE] == pictures(6)[2]).all()

    def test_same_seed_gives_the_same_folder_to_the_bit(self, tmp_path):
        fitted(tmp_path / "one", pictures(4))
        fitted(tmp_path / "other", pictures(4))
        for name in ("gradients-00000.bin", "rows.jsonl", "manifest.json"):
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()

    def test_what_was_stopped_goes_on_and_ends_the_same(self, tmp_path, monkeypatch):
        monkeypatch.setattr("guardrail.study.attribution.fitting._ROWS_A_FLUSH", 2)
        images, access = pictures(7), PipelineAccess(tiny_pipeline())
        manifest = manifest_of(access, CHOICES)
        rows = GradientRows(tmp_path / "stopped", manifest)

        def stopping(done, total):
            if done == 5:
                raise KeyboardInterrupt

        with opened_model(access, manifest, tmp_path) as gradients:
            with pytest.raises(KeyboardInterrupt):
                fit(gradients, listed(images), rows, stopping)
            assert len(GradientRows(tmp_path / "stopped").rows) == 4
            done = fit(gradients, listed(images), GradientRows(tmp_path / "stopped"))
        assert (done.added, done.kept) == (3, 4)
        fitted(tmp_path / "whole", images)
        assert np.array_equal(GradientRows(tmp_path / "stopped").all(), GradientRows(tmp_path / "whole").all())

    def test_picture_that_changed_is_made_again_and_no_other(self, tmp_path):
        images = pictures(4)
        _, access = fitted(tmp_path, images)
        before = GradientRows(tmp_path).all()
        images[2] = 255 - images[2]
        done, _ = fitted(tmp_path, images, access)
        assert (done.added, done.kept, done.replaced) == (1, 3, 1)
        after = GradientRows(tmp_path)
        assert [row.work_id for row in after.rows] == ["w0", "w1", "w3", "w2"]
        assert np.array_equal(after.all()[:3], before[[0, 1, 3]])
        assert not np.allclose(after.all()[3], before[2])

    def test_unreadable_picture_is_named_and_the_rest_goes_on(self, tmp_path):
        done, _ = fitted(tmp_path, [*pictures(2), None])
        assert (done.added, done.unreadable) == (2, ("default/w2",))

    def test_model_that_gives_no_number_stops_with_the_picture(self, tmp_path):
        pipeline = tiny_pipeline()
        with torch.no_grad():
            pipeline.unet.conv_out.bias[:] = float("nan")
        with pytest.raises(AttributionImpossible, match="not finite at default/w0"):
            fitted(tmp_path, pictures(2), PipelineAccess(pipeline))
        assert not GradientRows(tmp_path).rows


class TestAsk:
    def test_another_model_is_refused(self, tmp_path):
        fitted(tmp_path, pictures(3))
        other = PipelineAccess(tiny_pipeline(seed=1))
        with pytest.raises(GradientsMismatch, match="weights_sha256"), GradientIndex.open(tmp_path).asking(other):
            pass

    def test_another_size_is_refused(self, tmp_path):
        fitted(tmp_path, pictures(3))
        other = tiny_pipeline()
        other.unet.register_to_config(sample_size=8)
        with (
            pytest.raises(GradientsMismatch, match="side_px 8"),
            GradientIndex.open(tmp_path).asking(PipelineAccess(other)),
        ):
            pass

    def test_half_precision_of_the_same_weights_is_the_same_model(self, tmp_path):
        halved = tiny_pipeline()
        halved.unet.half().float()
        _, access = fitted(tmp_path, pictures(3), PipelineAccess(halved))
        half = tiny_pipeline()
        half.unet.half()
        index, image = GradientIndex.open(tmp_path), pictures(1, seed=5)[0]
        found = []
        for one in (access, PipelineAccess(half)):
            with index.asking(one) as gradients:
                found.append(gradients(image, 1))
        assert np.array_equal(*found)

    def test_works_that_an_index_knows_for_one_picture_are_credited_as_one(self, tmp_path):
        _, access = fitted(tmp_path, pictures(12), decoys=6)
        same = [[("default", "w1"), ("default", "w4"), ("elsewhere", "unknown")], [("default", "w2")]]
        index = GradientIndex.open(tmp_path, same)
        assert index.labels[:6].tolist() == [0, 1, 2, 3, 1, 4]
        with index.asking(access) as gradients:
            found = index.attribution(gradients(pictures(1, seed=5)[0], 1, parts=2))
        assert sorted(one.members for one in found.influences) == [1, 1, 1, 1, 2]

    def test_training_image_is_the_most_influential_on_itself(self, tmp_path):
        """Nearly always, though the noise it is asked with is another, and the network is not even trained."""
        images = pictures(20)
        _, access = fitted(tmp_path, images, decoys=8, choices=FitChoices(draws=10, counters=512))
        index = GradientIndex.open(tmp_path)
        with index.asking(access) as gradients:
            parts = [
                gradients(image, asked_row(image), f"number {at}", parts=5) for at, image in enumerate(images[:12])
            ]
        influences = index.influences(np.array([one.mean(0) for one in parts]))
        assert influences.training.shape == (12, 12)
        assert influences.decoys.shape == (12, 8)
        assert (influences.training.argmax(1) == np.arange(12)).sum() >= 9  # by chance it would be one

    def test_seed_of_the_image_decides_its_noise_where_it_is_known(self):
        image = pictures(1)[0]
        assert asked_row(image, 3) == asked_row(255 - image, 3) != asked_row(image, 4)
        assert asked_row(image) != asked_row(255 - image)

    @pytest.mark.parametrize(("draws", "parts"), [(10, 10), (1, 1), (20, 20), (21, 21), (22, 2), (100, 2)])
    def test_draws_are_split_evenly(self, draws, parts):
        assert parts_of(draws) == parts
        assert draws % parts == 0

    def test_parts_that_do_not_divide_the_draws_are_refused(self, tmp_path):
        _, access = fitted(tmp_path, pictures(2))
        with GradientIndex.open(tmp_path).asking(access) as gradients, pytest.raises(ValueError, match="divisor of 4"):
            gradients(pictures(1)[0], 1, parts=3)


class TestIndex:
    def test_pulls_are_the_plain_version_s(self, tmp_path):
        from guardrail.study.attribution.pulls import measured

        _, _access = fitted(tmp_path, pictures(12), decoys=5)
        index = GradientIndex.open(tmp_path)
        parts = np.random.default_rng(0).normal(size=(2, 128))
        rows = np.vstack([index.row_gradients([row.name for row in some]) for some in (index.training, index.decoys)])
        is_decoy = np.arange(12) >= 7
        expected, references = measured(rows.astype(np.float64), is_decoy, parts, index.solver.safe_damping)
        found = index.pulls(parts)
        assert np.allclose(found.influences, expected.influences, rtol=1e-6)
        assert np.allclose(found.products, expected.products, rtol=1e-6)
        assert np.allclose(found.gram, expected.gram)
        asked = np.hstack(index.reference())
        assert np.allclose(asked[~np.isnan(references)], references[~np.isnan(references)], rtol=1e-6)

    def test_decomposition_is_kept_until_rows_change(self, tmp_path, monkeypatch):
        _, _access = fitted(tmp_path, pictures(6))
        queries = np.random.default_rng(0).normal(size=(2, 128))
        first = GradientIndex.open(tmp_path).influences(queries)
        made = []
        monkeypatch.setattr("guardrail.study.attribution.asking.decomposed", lambda *_: made.append(1) or 1 / 0)
        assert np.array_equal(GradientIndex.open(tmp_path).influences(queries).training, first.training)
        rows = GradientRows(tmp_path)
        with rows.writing():
            rows.remove(["default/w5"])
        with pytest.raises(ZeroDivisionError):
            GradientIndex.open(tmp_path).influences(queries)
        assert made == [1]

    def test_large_folder_is_read_block_by_block(self, tmp_path, monkeypatch):
        fitted(tmp_path, pictures(9), decoys=3)
        queries = np.random.default_rng(0).normal(size=(2, 128))
        whole = GradientIndex.open(tmp_path)
        expected = whole.influences(queries), whole.products(queries)
        (tmp_path / "eigen.npz").unlink()
        monkeypatch.setattr("guardrail.study.attribution.asking._IN_MEMORY", 0)
        monkeypatch.setattr("guardrail.study.attribution.keeping._ROWS_A_READ", 2)
        index = GradientIndex.open(tmp_path)
        assert np.allclose(index.influences(queries).training, expected[0].training)
        assert np.allclose(index.products(queries), expected[1])

    def test_record_names_rows_as_works_and_says_the_method(self, tmp_path):
        _, _access = fitted(tmp_path, pictures(6), decoys=2)
        index = GradientIndex.open(tmp_path)
        works = [Work(work_id=row.work_id, bank=row.bank, rights_holder="Ada") for row in index.training]
        record = index.attribution(np.random.default_rng(0).normal(size=(4, 128)), works)
        assert {one.work.rights_holder for one in record.influences} == {"Ada"}
        assert (record.method.images, record.method.decoys, record.method.draws) == (4, 2, 4)
        assert record.method.damping == pytest.approx(
            0.1 * np.square(index.row_gradients([row.name for row in (*index.training, *index.decoys)])).sum() / 6,
            rel=1e-5,
        )
        assert not record.named

    def test_no_training_image_is_refused(self, tmp_path):
        fitted(tmp_path, pictures(3), decoys=3)
        with pytest.raises(AttributionImpossible, match="no training image"):
            GradientIndex.open(tmp_path).influences(np.ones((1, 128)))

    def test_equal_pixels_have_one_label(self, tmp_path):
        images = pictures(6)
        images[3] = images[0]
        fitted(tmp_path, images)
        labels = GradientIndex.open(tmp_path).labels
        assert labels[0] == labels[3]
        assert len(set(labels.tolist())) == 5
