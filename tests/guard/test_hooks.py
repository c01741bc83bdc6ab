"""Each hook, called by a real guard: what it is given, and that its answer counts."""

import json

import numpy as np
from PIL import Image

from guardrail.act import load_signing
from guardrail.carriers import Marked
from guardrail.hookspecs import hookimpl
from guardrail.plugins import build_plugins, open_index
from guardrail.records import Decision, PixelMatch, Release, Verdict, Watermark, WatermarkFound
from guardrail.testing import FakePipeline


def test_hook_register_index_backends(world):
    class Elsewhere:
        @hookimpl
        def register_index_backends(self):
            return {"shelf": lambda location, device: ("opened", location, device)}

    hooks = build_plugins([Elsewhere()])
    assert open_index(hooks, "shelf://a/b") == ("opened", "shelf://a/b", "cpu")
    assert open_index(hooks, str(world.index)).header.works == 4


def test_hook_find_evidence(make_guard, pictures):
    seen = {}

    class Looks:
        @hookimpl
        def find_evidence(self, context, picture, neighbours, index, limits):
            seen.update(locals())
            return [PixelMatch(work=neighbours[0].work, similarity=0.95)]

    guard = make_guard(Looks())
    (verdict,) = guard.check(pictures["new"]).verdicts
    assert verdict.decision is Decision.BLOCK
    assert seen["context"] is None
    assert (seen["index"].header, seen["limits"]) == (guard.index.header, guard.limits)
    assert tuple(seen["picture"].pixels.shape) == (3, 96, 96)


def test_hook_replace_image(make_guard, pictures):
    seen = {}

    class Draws:
        @hookimpl
        def replace_image(self, size_px, verdict):
            seen.update(locals())
            return Image.new("RGB", size_px, "teal")

    output = make_guard(Draws()).wrap(FakePipeline([[pictures["fox"].resize((80, 40))]]))()
    assert seen["size_px"] == (80, 40)
    assert seen["verdict"].decision is Decision.BLOCK
    assert output.images[0].getpixel((0, 0)) == (0, 128, 128)


def test_hook_describe_output(make_guard, pictures, tmp_path):
    class Says:
        @hookimpl
        def describe_output(self, verdict, context):
            return {"org.example.note": {"pipeline": context.pipeline, "image": verdict.image}}

    output = make_guard(Says()).wrap(FakePipeline([[pictures["new"]]]))()
    (path,) = output.guard.save(tmp_path / "out")
    assert b"org.example.note" in path.read_bytes()
    assert b"FakePipeline" in path.read_bytes()


def test_hook_provide_signer(make_guard, pictures, world, tmp_path):
    given = []

    class Signs:
        @hookimpl
        def provide_signer(self, settings):
            given.append(settings)
            return load_signing(world.keys)

    guard = make_guard(Signs(), keys=tmp_path / "no keys here")
    try:
        paths = guard.check(pictures["new"]).save(tmp_path / "out")
    except FileNotFoundError:
        paths = []
    assert given == [guard.settings]
    assert len(paths) == 1


def test_hook_verdict_reached(make_guard, pictures):
    seen = []

    class Watches:
        @hookimpl
        def verdict_reached(self, verdict, context):
            seen.append((verdict, context))

    guard = make_guard(Watches())
    report = guard.check([pictures["new"], pictures["fox"]])
    assert [verdict for verdict, _ in seen] == list(report.verdicts)
    stored = [row.content["verdict"]["verdict_id"] for row in guard.memory.rows()]
    assert stored == [verdict.verdict_id for verdict, _ in seen]
    assert all(isinstance(verdict, Verdict) for verdict, _ in seen)


def test_hook_output_released(make_guard, pictures, tmp_path):
    seen = []

    class Watches:
        @hookimpl
        def output_released(self, release, path):
            seen.append((release, path, path.exists()))

    guard = make_guard(Watches())
    (path,) = guard.check(pictures["new"]).save(tmp_path / "out")
    ((release, told, existed),) = seen
    assert isinstance(release, Release)
    assert (told, existed) == (path, True)
    assert (
        json.loads(json.dumps(list(guard.memory.rows())[-1].content))["release"]["file_sha256"] == release.file_sha256
    )


class _LowBits:
    """A mark for tests: the lowest bit of every value is 1."""

    def __init__(self):
        self.given = []

    @hookimpl
    def watermark_image(self, pixels, verdict, context, settings):
        self.given.append((pixels.shape, verdict, context, settings.watermark.name))
        return Marked(pixels | 1, Watermark(algorithm="test.low_bits", payload="01", bits=1, bits_found=0))

    @hookimpl
    def find_watermark(self, pixels, settings):
        self.given.append((pixels.copy(), settings.watermark.name))
        return WatermarkFound(algorithm="test.low_bits", present=bool((pixels & 1).all()), bits=1, bits_found=1)


def test_hook_watermark_image(make_guard, pictures, tmp_path):
    plugin = _LowBits()
    report = make_guard(plugin, watermark={"name": "low_bits"}).check(pictures["new"])
    (path,) = report.save(tmp_path / "out")
    assert plugin.given[0] == ((96, 96, 3), report.verdicts[0], None, "low_bits")
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), np.asarray(pictures["new"]) | 1)


def test_hook_find_watermark(make_guard, pictures, tmp_path):
    plugin = _LowBits()
    guard = make_guard(plugin, watermark={"name": "low_bits"})
    (path,) = guard.check(pictures["new"]).save(tmp_path / "out")
    (seen, name) = plugin.given[1]
    assert name == "low_bits"
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), seen)
