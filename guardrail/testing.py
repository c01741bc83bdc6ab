"""For tests of your own: a fake embedder, a fake pipeline, and contracts that any index backend or embedder must meet.

Subclass a contract in your test suite and give it what to test:

    class TestMyBackend(IndexContract):
        def backend(self, fingerprints, works): return MyBackend(...)
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from PIL import Image

from guardrail.carriers import Fingerprints
from guardrail.hookspecs import hookimpl
from guardrail.records import VIEWS, Disposition, EmbedderSpec, Neighbour, Signal, SimilarityLimit, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from guardrail.protocols import Embedder, IndexBackend

__all__ = ["EmbedderContract", "FakeEmbedder", "FakePipeline", "FakePlugin", "IndexContract", "made_up_prints"]

_COARSE_SIDE_PX = 8


class FakeEmbedder:
    """An embedder without weights: the picture at 8x8, mean-removed, as a unit vector of 192 dimensions."""

    def __init__(self, weights: str = "none", flag_above: float = 0.95, block_above: float = 0.99) -> None:
        self.spec = EmbedderSpec(
            name="fake",
            weights_sha256=hashlib.sha256(weights.encode()).hexdigest(),
            preprocessing="area-8",
            dimensions=3 * _COARSE_SIDE_PX**2,
        )
        self.shipped_limit = self.shipped_tile_limit = SimilarityLimit(flag_above=flag_above, block_above=block_above)

    def embed(self, pictures: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        """See `Embedder.embed`."""
        rows = [self._row(picture) for picture in pictures]
        return np.stack(rows) if rows else np.zeros((0, self.spec.dimensions), np.float32)

    def _row(self, picture: torch.Tensor) -> NDArray[np.float32]:
        coarse = torch.nn.functional.interpolate(
            picture[None].float(), size=(_COARSE_SIDE_PX, _COARSE_SIDE_PX), mode="area"
        )
        values = (coarse - coarse.mean()).flatten().cpu().numpy()
        values[0] += 1e-3  # a flat picture has a direction too
        return np.asarray(values / np.linalg.norm(values), np.float32)


class FakePlugin:
    """A plugin that offers the fake embedder as `fake`."""

    def __init__(self, embedder: FakeEmbedder | None = None) -> None:
        self.embedder = embedder or FakeEmbedder()

    @hookimpl
    def register_embedders(self) -> Mapping[str, Callable[[str, str], Embedder]]:
        """Offer it."""
        return {"fake": lambda rest, device: self.embedder}


class FakePipeline(DiffusionPipeline):  # type: ignore[misc]
    """A diffusers pipeline without a model: every call returns the next of the outputs it was given.

    Args:
        batches: what each call makes: lists of Pillow images; the last one repeats.
    """

    def __init__(self, batches: Sequence[Sequence[Image.Image]] = ()) -> None:
        super().__init__()
        self.register_to_config(batches=None)
        self.batches = [list(batch) for batch in batches]
        self.calls: list[dict[str, Any]] = []

    def __call__(
        self,
        prompt: str | None = None,
        num_inference_steps: int = 1,
        generator: torch.Generator | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> Any:
        """Return the next batch as `output_type`: pil, np, pt, or anything else for lists nested once."""
        self.calls.append({"prompt": prompt, "generator": generator})
        images: Any = self.batches[min(len(self.calls), len(self.batches)) - 1]
        if output_type in ("np", "pt"):
            images = np.stack([np.asarray(image.convert("RGB")) for image in images]).astype(np.float32) / 255
        if output_type == "pt":
            images = torch.from_numpy(images).permute(0, 3, 1, 2)
        if output_type == "nested":
            images = [images]
        return ImagePipelineOutput(images=images) if return_dict else (images,)


def made_up_prints(count: int, seed: int = 0, dimensions: int = 16) -> Fingerprints:
    """Random fingerprints of `count` images, as a search or an index sees them."""
    chance = np.random.default_rng(seed)
    vectors = chance.normal(size=(count, dimensions)).astype(np.float32)
    digests = tuple(hashlib.sha256(f"{seed}/{at}".encode()).hexdigest() for at in range(count))
    return Fingerprints(
        failures=(None,) * count,
        file_sha256=digests,
        pixels_sha256=digests,
        pdq=chance.integers(0, 256, (count, len(VIEWS), 32), np.uint8),
        pdq_quality=np.full(count, 100, np.int64),
        phash=chance.integers(0, 256, (count, len(VIEWS), 8), np.uint8),
        copy=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
    )


class IndexContract:
    """What every index backend must do, checked against brute force. Subclass it and implement `backend`."""

    @abstractmethod
    def backend(self, prints: Fingerprints, works: Sequence[Work]) -> IndexBackend:
        """An index of these works (work n has fingerprint n; its hash is that of view 0)."""

    def _made(self, count: int) -> tuple[IndexBackend, Fingerprints]:
        prints = made_up_prints(count)
        return self.backend(prints, [Work(work_id=f"work-{at}") for at in range(count)]), prints

    def test_search_agrees_with_brute_force(self) -> None:
        """The same works at the same measures, for sizes around the limit asked for."""
        for count in (1, 2, 5, 6, 63, 64, 65):
            index, prints = self._made(count)
            queries = made_up_prints(3, seed=1)
            for row, found in enumerate(index.search(queries, 5)):
                for signal in (Signal.COPY, Signal.PDQ, Signal.PHASH):
                    ours = [_measure(near) for near in found if near.signal is signal]
                    assert np.allclose(ours, _brute_force(prints, queries, row, signal)[:5], atol=1e-5), (count, signal)

    def test_a_work_finds_itself_by_every_signal(self) -> None:
        """Exact matches first, then distance 0 and similarity 1."""
        index, prints = self._made(10)
        for row, found in enumerate(index.search(prints, 1)):
            assert [near.row for near in found] == [row] * 5
            assert [near.signal for near in found[:2]] == [Signal.BYTES, Signal.PIXELS]

    def test_other_rows_never_crowd_out_a_protected_one(self) -> None:
        """More credited, generic and expired rows than the limit, all the same as one protected work: it is found."""
        prints = made_up_prints(1)
        many = _repeated(prints, 40)
        past = datetime(2020, 1, 1, tzinfo=UTC)
        works = [Work(work_id=f"owl-{at}", disposition=Disposition.CREDIT) for at in range(13)]
        works += [Work(work_id=f"sky-{at}", disposition=Disposition.IGNORE) for at in range(13)]
        works += [Work(work_id=f"old-{at}", expires_at=past) for at in range(13)]
        (found,) = self.backend(many, [*works, Work(work_id="fox")]).search(prints, 2)
        for signal in (Signal.BYTES, Signal.PIXELS, Signal.PDQ, Signal.PHASH, Signal.COPY):
            assert "fox" in {near.work.work_id for near in found if near.signal is signal}, signal

    def test_failed_row_finds_nothing(self) -> None:
        """A row that could not be fingerprinted is not searched; the others are."""
        from dataclasses import replace

        from guardrail.records import CheckFailed

        index, prints = self._made(3)
        failed = (None, CheckFailed(check="read_file", image="b", error="broken"), None)
        assert [len(found) > 0 for found in index.search(replace(prints, failures=failed), 1)] == [True, False, True]

    def test_no_query_no_answer(self) -> None:
        """A batch of none is answered with none."""
        index, _ = self._made(2)
        assert index.search(made_up_prints(0), 3) == ()


def _repeated(prints: Fingerprints, count: int) -> Fingerprints:
    """The first fingerprint, `count` times."""
    return Fingerprints(
        failures=(None,) * count,
        file_sha256=prints.file_sha256[:1] * count,
        pixels_sha256=prints.pixels_sha256[:1] * count,
        pdq=prints.pdq[:1].repeat(count, 0),
        pdq_quality=prints.pdq_quality[:1].repeat(count, 0),
        phash=prints.phash[:1].repeat(count, 0),
        copy=prints.copy[:1].repeat(count, 0),
    )


def _measure(near: Neighbour) -> float:
    return float(near.similarity if near.similarity is not None else near.distance_bits or 0)


def _brute_force(prints: Fingerprints, queries: Fingerprints, row: int, signal: Signal) -> list[float]:
    """Every work's measure, nearest first, in plain NumPy."""
    if signal is Signal.COPY:
        return sorted((prints.copy @ queries.copy[row]).tolist(), reverse=True)
    works, asked = getattr(prints, str(signal))[:, 0], getattr(queries, str(signal))[row]
    bits = np.unpackbits(works[:, None] ^ asked[None], axis=-1).sum(-1).min(1)
    return sorted(bits.tolist())


class EmbedderContract:
    """What every embedder must do. Subclass it and implement `embedder`."""

    @abstractmethod
    def embedder(self) -> Embedder:
        """The embedder to test."""

    def _pictures(self) -> list[torch.Tensor]:
        chance = torch.Generator().manual_seed(0)
        sizes = ((64, 64), (37, 211), (1, 1), (300, 20))
        return [torch.randint(0, 256, (3, *size), generator=chance, dtype=torch.uint8) for size in sizes]

    def test_rows_are_unit_vectors_of_the_stated_dimensions(self) -> None:
        """float32, finite, length 1 to 1e-5, for odd sizes and one pixel too."""
        embedder = self.embedder()
        rows = embedder.embed(self._pictures())
        assert rows.shape == (4, embedder.spec.dimensions)
        assert rows.dtype == np.float32
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)

    def test_rows_do_not_depend_on_their_batch(self) -> None:
        """Alone or with others: the same row to 1e-5."""
        embedder, pictures = self.embedder(), self._pictures()
        alone = np.concatenate([embedder.embed([picture]) for picture in pictures])
        assert np.allclose(embedder.embed(pictures), alone, atol=1e-5)

    def test_pictures_are_not_written_to(self) -> None:
        """The caller's tensors stay as they were."""
        pictures = self._pictures()
        before = [picture.clone() for picture in pictures]
        self.embedder().embed(pictures)
        assert all(torch.equal(one, other) for one, other in zip(pictures, before, strict=True))

    def test_name_holds_no_path(self) -> None:
        """The name is written into every index and verdict: no folder of this machine may be in it."""
        rest = self.embedder().spec.name.partition(":")[2]
        assert not rest.startswith("/")
        assert "//" not in rest
        assert "\\" not in rest

    def test_shipped_limits_are_in_order(self) -> None:
        """What blocks, flags too."""
        embedder = self.embedder()
        for limit in (embedder.shipped_limit, embedder.shipped_tile_limit):
            if limit.block_above is not None:
                assert limit.flag_above is not None
                assert limit.flag_above <= limit.block_above

    def test_no_pictures_no_rows(self) -> None:
        """A batch of none gives an array (0, D)."""
        embedder = self.embedder()
        assert embedder.embed([]).shape == (0, embedder.spec.dimensions)
