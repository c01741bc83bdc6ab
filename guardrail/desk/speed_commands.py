"""`guardrail bench hash` and `guardrail bench overhead`: how quick fingerprints and verdicts are, here and now."""

import importlib.util
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from guardrail.desk.console import AsJson, SettingsFile, aside, plain, print_json, progress_of, read_settings
from guardrail.desk.speed_stub import demo_pipeline, wrapped_stub
from guardrail.errors import NothingToIndex, SettingsInvalid

if TYPE_CHECKING:
    import torch

    from guardrail.guard import Guard
    from guardrail.protocols import Embedder
    from guardrail.settings import Settings
    from guardrail.study.speed import Pace, Quartiles

__all__ = ["bench_hash", "bench_overhead", "scratch_guard"]

_HASHED_TOGETHER = 4  # pictures in one call of a hash on a CPU, as the fingerprinter hands them in at 512 px
_GENERATION_STEPS = 40  # of the shipped UNet, as in the demo
_GENERATION = f"the demo's UNet at 48 px in {_GENERATION_STEPS} steps"
_WRAPPED_CALLS = 5  # in a row: the first finds its code and tables out of the processor's caches
_Batches = Annotated[str, typer.Option("--batches", help="Batch sizes, with commas.")]
_Side = Annotated[
    int, typer.Option("--side", min=8, max=4096, help="Side of the pictures, in pixels; they are squashed.")
]
_Repeats = Annotated[int, typer.Option("--repeats", min=1, help="Rounds to measure; medians are shown.")]
_CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
_CLOCK_HELP = "wall: as a user waits; cpu: processor time, where other programs keep the machine busy."
_Device = Annotated[str, typer.Option("--device", help="Device, in place of the settings': cpu, cuda, cuda:1.")]


def bench_hash(
    folder: Annotated[Path | None, typer.Argument(help="Folder of images; default: the shipped works.")] = None,
    embedder: Annotated[str, typer.Option(help="Embedder, as for index build: mini, onnx:FILE.")] = "mini",
    batches: _Batches = "1,4,16",
    side: _Side = 512,
    repeats: _Repeats = 15,
    device: _Device = "",
    clock: Annotated[Literal["wall", "cpu"], typer.Option(help=_CLOCK_HELP)] = "wall",
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Images a second of each hash and of the copy descriptor, beside pdqhash and imagehash where they are installed.

    All take turns in one run, so that what else the machine does falls on all alike; OMP_NUM_THREADS sets the threads.

    Example: guardrail bench hash my-images --batches 1,16 --device cpu

    Exit codes: 0 measured, 1 not.
    """
    from guardrail.fingerprint import resolve_device
    from guardrail.plugins import build_plugins, make_embedder
    from guardrail.study.speed import measured_ms, pace_of, times_as_fast

    sizes = _sizes(batches)
    settings = read_settings(settings_file)
    where = resolve_device(device or settings.device)
    copy = make_embedder(build_plugins(), embedder, where, settings.weights_dir)
    pictures = _pictures(folder, max(sizes), side, where)
    paces: list[Pace] = []
    ratios: list[tuple[str, int, str, Quartiles]] = []
    for size in sizes:
        works = _stages(pictures[:size], copy, where)
        peers = _peers(pictures[:size])
        with progress_of(f"batches of {size}") as progress:
            calls = works | {name: peer.work for name, peer in peers.items()}
            spent = measured_ms(calls, repeats, _settle(where), progress, _CLOCKS[clock])
        paces += [pace_of(name, size, values) for name, values in spent.items()]
        ratios += [
            (peer.ours, size, name, times_as_fast(spent[peer.ours], spent[name])) for name, peer in peers.items()
        ]
    if as_json:
        about = _machine(where, side) | {"clock": clock, "embedder": copy.spec.name}
        print_json(about | {"paces": _documents(paces), "peers": _ratio_documents(ratios)})
    else:
        _show_paces(paces, f"{copy.spec.name}, {_said_of(where, side)}, {clock} time")
        _show_ratios(ratios)


@dataclass(frozen=True, slots=True)
class _Peer:
    """Another program's work on the same pictures, and the stage of ours it is set beside."""

    work: Callable[[], object]
    ours: str


_PDQ, _PHASH = "PDQ, eight views", "pHash, eight views"


def _stages(pictures: "Sequence[torch.Tensor]", copy: "Embedder", device: str) -> dict[str, Callable[[], object]]:
    """What a fingerprint is made of, each by itself and then all together, on pictures of one size."""
    import torch

    from guardrail.carriers import ImageBatch, Picture
    from guardrail.fingerprint import Fingerprinter, hash_pdq, hash_phash, pixels_digest

    together = len(pictures) if device.startswith("cuda") else _HASHED_TOGETHER
    pieces = [pictures[start : start + together] for start in range(0, len(pictures), together)]
    batch = ImageBatch(tuple(Picture(f"images[{row}]", pixels=one) for row, one in enumerate(pictures)))
    fingerprint = Fingerprinter(copy, None, device, len(pictures))

    def each(hashed: Callable[[torch.Tensor], object]) -> Callable[[], object]:
        def work() -> object:
            with torch.inference_mode():
                return [hashed(torch.stack(list(piece))) for piece in pieces]

        return work

    return {
        "sha256 of pixels": lambda: [pixels_digest(one) for one in pictures],
        _PDQ: each(hash_pdq),
        _PHASH: each(hash_phash),
        "copy descriptor": lambda: copy.embed(pictures),
        "whole fingerprint": lambda: fingerprint(batch),
    }


def _peers(pictures: "Sequence[torch.Tensor]") -> dict[str, _Peer]:
    """What is installed of other people's hashes; they take pictures one by one, in host memory."""
    import imagehash
    from PIL import Image

    arrays = [one.permute(1, 2, 0).contiguous().cpu().numpy() for one in pictures]
    images = [Image.fromarray(array) for array in arrays]
    peers = {"imagehash, one view": _Peer(lambda: [imagehash.phash(one) for one in images], _PHASH)}
    if importlib.util.find_spec("pdqhash") is None:
        aside().print("pdqhash is not installed, so PDQ stands alone; for the comparison: pip install pdqhash")
        return peers
    import pdqhash

    peers["pdqhash, one view"] = _Peer(lambda: [pdqhash.compute(one) for one in arrays], _PDQ)
    peers["pdqhash, eight views"] = _Peer(lambda: [pdqhash.compute_dihedral(one) for one in arrays], _PDQ)
    return peers


def bench_overhead(
    index: Annotated[str, typer.Option(help="Folder of the index; default: the demo's, built for this.")] = "",
    images: Annotated[Path | None, typer.Option(help="Folder of images to judge; default: shipped ones.")] = None,
    batches: _Batches = "1,4",
    side: _Side = 512,
    repeats: _Repeats = 15,
    generation_ms: Annotated[
        float, typer.Option(min=0, help="What your pipeline takes an image; default: the demo's small UNet, measured.")
    ] = 0,
    device: _Device = "",
    settings_file: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """What a guard adds to a generation, stage by stage: from the decoded tensor (`output_type="pt"`) to the verdict.

    Example: guardrail bench overhead --index my-index --generation-ms 4000

    Exit codes: 0 measured, 1 not.
    """
    from guardrail.fingerprint import resolve_device

    sizes = _sizes(batches)
    settings = read_settings(settings_file)
    where = resolve_device(device or settings.device)
    pictures = _pictures(images, max(sizes), side, where)
    pipe = None if generation_ms else _small_pipeline(where)
    with scratch_guard(settings, index, where) as guard:
        paces = [
            pace
            for size in sizes
            for pace in _overhead(_Stages(guard, pictures[:size], _settle(where)), repeats, pipe, generation_ms)
        ]
        held, embedder = guard.index.header.works, guard.fingerprint.copy.spec.name
    said = f"{_GENERATION}, measured here" if pipe else "as given"
    shares = _shares(paces)
    if as_json:
        about = _machine(where, side) | {"works": held, "embedder": embedder, "generation": said}
        print_json(about | {"paces": _documents(paces), "share_of_generation": shares})
        return
    _show_paces(paces, f"{embedder}, an index of {held} works, {_said_of(where, side)}")
    for size, share in shares.items():
        Console(highlight=False).print(f"batch {size}: the guard adds {share:.2%} of a generation ({said})")


def _overhead(
    stages: "_Stages", repeats: int, pipe: Callable[[int], Callable[[], object]] | None, generation_ms: float
) -> "list[Pace]":
    """The paces of a guard's stages on one batch, and of the generation: measured in turn, or as given."""
    from guardrail.study.speed import measured_ms, pace_of

    size = stages.batch
    works = {"guard": stages.judge} | ({"generation": pipe(size)} if pipe else {})
    with progress_of(f"batches of {size}") as progress:
        spent = measured_ms(works, repeats, stages.settle, progress)
    paces = [pace_of(name, size, values[1:]) for name, values in stages.spent_ms.items()]  # the first does not count
    return [*paces, pace_of("generation", size, spent.get("generation", (generation_ms * size,)))]


class _Stages:
    """A guard at work on one batch of decoded pictures, with a note of what each stage took."""

    def __init__(self, guard: "Guard", pictures: "Sequence[torch.Tensor]", settle: Callable[[], object]) -> None:
        import torch

        self._guard, self.settle, self.batch = guard, settle, len(pictures)
        self._decoded = torch.stack(list(pictures)).float() / 255
        self._wrapped = wrapped_stub(guard)
        names = ("wrapper", "intake", "fingerprint", "search", "evidence", "decide and remember", "all of the guard")
        self.spent_ms: dict[str, list[float]] = {name: [] for name in names}

    def judge(self) -> None:
        """What a wrapped pipeline does with its output, once."""
        from diffusers.pipelines.pipeline_utils import ImagePipelineOutput

        from guardrail import intake

        output = ImagePipelineOutput(images=self._decoded)
        started = time.perf_counter()
        found = intake.pictures_in(intake.own_copy(output))
        self.settle()
        taken = time.perf_counter()
        verdicts = self._guard.judge(found.batch)
        self.settle()
        done = time.perf_counter()
        timings = verdicts[0].timings
        assert timings is not None, "a guard times its verdicts"
        inner = (timings.fingerprint_ms, timings.search_ms, timings.evidence_ms)
        rest = max((done - taken) * 1000 - sum(inner), 0)
        spent = (
            median(_timed_ms(self._wrapped) for _ in range(_WRAPPED_CALLS)),
            (taken - started) * 1000,
            *inner,
            rest,
            (done - started) * 1000,
        )
        for name, value in zip(self.spent_ms, spent, strict=True):
            self.spent_ms[name].append(value)


def _timed_ms(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


@contextmanager
def scratch_guard(settings: "Settings", index: str, device: str) -> "Iterator[Guard]":
    """A guard with an index, or the demo's, whose memory is thrown away afterwards."""
    from guardrail.desk.making import build_folder_index
    from guardrail.guard import Guard
    from guardrail.index import Recipe
    from guardrail.shipped import shipped_folder

    with TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        own = {"home": Path(scratch), "memory": "", "device": device, "weights": settings.weights_dir}
        settings = settings.model_copy(update=own)
        where = index or settings.index
        if not where:
            bank, where = shipped_folder("demo"), str(Path(scratch) / "index")
            recipe = Recipe.from_file(bank / "recipe.toml")
            with progress_of("building the demo's index") as progress:
                build_folder_index(bank, Path(where), settings, recipe, bank / recipe.works, progress=progress)
        guard = Guard(where, settings)
        try:
            yield guard
        finally:
            guard.memory.close()


def _small_pipeline(device: str) -> Callable[[int], Callable[[], object]]:
    """The UNet that ships with the demo, as a function that gives the making of so many images."""
    pipe = demo_pipeline(device)
    return lambda size: lambda: pipe(batch_size=size, num_inference_steps=_GENERATION_STEPS, output_type="np")


# --- what both share ------------------------------------------------------------------------------------------


def _sizes(said: str) -> tuple[int, ...]:
    """`1,4,16` as numbers, smallest first.

    Raises:
        SettingsInvalid: it is something else.
    """
    if not re.fullmatch(r"[1-9]\d{0,3}(,[1-9]\d{0,3})*", said):
        raise SettingsInvalid("--batches", f"{said!r}, where numbers from 1 to 9999 are expected, like 1,4,16")
    return tuple(sorted({int(one) for one in said.split(",")}))


def _pictures(folder: Path | None, count: int, side: int, device: str) -> "list[torch.Tensor]":
    """Pictures of a folder, uint8 (3, side, side) on the device; they come round again where there are too few.

    Raises:
        NothingToIndex: there is no image that can be read.
    """
    import torch

    from guardrail.intake import find_images, read_picture
    from guardrail.shipped import shipped_folder

    folder = folder or shipped_folder("demo") / "unindexed"
    found = []
    for name in find_images(folder)[0] if folder.is_dir() else ():
        pixels = read_picture(folder / name).pixels
        if pixels is not None:
            sized = torch.nn.functional.interpolate(pixels[None].float(), (side, side), mode="bilinear", antialias=True)
            found.append(sized[0].round().to(torch.uint8).to(device))
        if len(found) == count:
            break
    if not found:
        raise NothingToIndex(str(folder), "none that can be read")
    return [found[row % len(found)].clone() for row in range(count)]


def _settle(device: str) -> Callable[[], object]:
    """A function that waits until a device has done what it was given."""
    import torch

    return torch.cuda.synchronize if device.startswith("cuda") else lambda: None


def _machine(device: str, side: int) -> dict[str, Any]:
    import torch

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__, "side_px": side}


def _said_of(device: str, side: int) -> str:
    about = _machine(device, side)
    return f"{side}x{side} px, {about['device']}, {about['threads']} threads, torch {about['torch']}"


def _documents(paces: "Sequence[Pace]") -> list[dict[str, Any]]:
    return [pace.model_dump(mode="json") | {"images_per_second": pace.images_per_second} for pace in paces]


def _ratio_documents(ratios: "Sequence[tuple[str, int, str, Quartiles]]") -> list[dict[str, Any]]:
    return [
        {"stage": ours, "batch": size, "peer": name, "times_as_fast": found._asdict()}
        for ours, size, name, found in ratios
    ]


def _shares(paces: "Sequence[Pace]") -> dict[int, float]:
    """By batch size, what the guard takes as a share of what the generation takes."""
    took = {(pace.stage, pace.batch): pace.image_ms for pace in paces}
    return {
        size: took["all of the guard", size] / spent for (stage, size), spent in took.items() if stage == "generation"
    }


def _show_paces(paces: "Sequence[Pace]", about: str) -> None:
    table = Table("stage", "batch", "ms an image", "quartiles", "images a second", title=about, title_justify="left")
    for pace in paces:
        quartiles = f"{pace.image_ms_low:.2f} to {pace.image_ms_high:.2f}"
        table.add_row(pace.stage, str(pace.batch), f"{pace.image_ms:.2f}", quartiles, f"{pace.images_per_second:.1f}")
    Console(highlight=False).print(table)


def _show_ratios(ratios: "Sequence[tuple[str, int, str, Quartiles]]") -> None:
    table = Table("ours", "batch", "beside", "times as fast", "quartiles")
    for ours, size, name, found in ratios:
        quartiles = f"{found.low:.2f} to {found.high:.2f}"
        table.add_row(ours, str(size), plain(name), f"{found.median:.2f}", quartiles)
    Console(highlight=False).print(table)
