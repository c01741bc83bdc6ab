"""Canaries: nothing of a prompt, a path, a person or a machine is in a released file, in any form it could take."""

import base64
import binascii
import io
import json
import os
import platform
import shutil
import socket
import struct
import urllib.parse
import zlib
from pathlib import Path

import cbor2
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from peft import LoraConfig
from PIL import Image, PngImagePlugin

from guardrail import plugins as tools
from guardrail.act.manifest_store import manifest_store
from guardrail.hookspecs import hookimpl
from guardrail.intake import open_input

MIMES = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
PLACES = (
    "prompt negative second model revision adapter index output user home host error metadata exif xmp names key seed"
)
CANARIES = {place: f"Kanari{place.title()}Zq7" for place in PLACES.split()}
SEED = 7263547261


class LeakyPipeline(DiffusionPipeline):
    """Has a real model from a folder, and gives back the picture it was given, metadata and all, a little changed."""

    def __init__(self, unet, scheduler):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    def __call__(
        self,
        prompt=None,
        negative_prompt=None,
        prompt_2=None,
        image=None,
        mask_image=None,
        strength=0.5,
        num_inference_steps=2,
        guidance_scale=3.0,
        generator=None,
    ):
        return ImagePipelineOutput(images=[self.shows])


def small_unet():
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        cross_attention_dim=8,
        attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )


class Unreadable(Image.Image):
    """A picture that says a secret when it is looked at."""

    size = (8, 8)
    mode = "RGB"
    has_transparency_data = False

    def convert(self, *given, **said):
        raise OSError(CANARIES["error"])


def with_metadata(image, path):
    """The picture in a file with a canary in each kind of text a PNG can hold."""
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", CANARIES["metadata"])
    text.add_text("Author", CANARIES["metadata"], zip=True)
    text.add_itxt("XML:com.adobe.xmp", f"<x>{CANARIES['xmp']}</x>")
    exif = Image.Exif()
    exif[0x010E] = CANARIES["exif"]
    image.save(path, pnginfo=text, exif=exif)
    opened = Image.open(path)
    opened.load()
    assert {"parameters", "exif"} <= opened.info.keys()
    return opened


@pytest.fixture
def secret_world(world, tmp_path, monkeypatch):
    """Folders, a user and a machine whose names are canaries."""
    home = tmp_path / CANARIES["home"]
    home.mkdir()
    for name in ("USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(name, CANARIES["user"])
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(socket, "gethostname", lambda: CANARIES["host"])
    monkeypatch.setattr(platform, "node", lambda: CANARIES["host"])
    shutil.copytree(world.index, tmp_path / CANARIES["index"])
    return tmp_path


def pipeline_in(folder):
    path = folder / CANARIES["model"]
    LeakyPipeline(small_unet(), DDIMScheduler()).save_pretrained(path)
    pipe = LeakyPipeline.from_pretrained(path)
    config = LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False)
    pipe.unet.add_adapter(config, adapter_name=f"/srv/{CANARIES['adapter']}/ink")
    return pipe


class Noisy:
    """A plugin that fails with a secret wherever that changes nothing."""

    @hookimpl
    def verdict_reached(self):
        raise RuntimeError(CANARIES["error"])

    @hookimpl
    def output_released(self):
        raise RuntimeError(CANARIES["error"])


def released(make_guard, folder, picture, mime, mark=""):
    """One picture made and released with every shipped plugin that can be on: (path, guard)."""
    guard = make_guard(
        Noisy(),
        home=folder / CANARIES["home"],
        index=str(folder / CANARIES["index"]),
        provenance={
            "mime": mime,
            "detail": "full",
            "soft_binding": True,
            "training_mining": "constrained",
            "training_mining_terms": "ask first",
            "human_oversight": "prompt_guided",
            "prompt_key": folder / f"{CANARIES['key']}.key",
        },
        watermark={"name": mark},
    )
    pipe = pipeline_in(folder)
    pipe.shows = with_metadata(picture, folder / f"{CANARIES['names']}-shown.png")
    wrapped = guard.wrap(pipe)
    output = wrapped(
        CANARIES["prompt"],
        negative_prompt=CANARIES["negative"],
        prompt_2=[CANARIES["second"]],
        image=open_input(folder / f"{CANARIES['names']}-shown.png"),
        mask_image=Unreadable(),
        generator=torch.Generator().manual_seed(SEED),
    )
    guard.unwrap(pipe)
    (path,) = output.guard.save(folder / CANARIES["output"])
    assert path is not None, output.guard.verdicts[0].explanation
    return path, guard


# --- looking ---------------------------------------------------------------------------------------------------------


def forms_of(canary):
    """The forms in which a text may lie in bytes, lower case."""
    plain = canary.encode()
    forms = {plain, canary.encode("utf-16-le"), canary.encode("utf-16-be"), canary.encode("utf-32-le")}
    forms |= {binascii.hexlify(plain), urllib.parse.quote(canary).encode(), plain[::-1]}
    for ahead in range(3):  # whatever stands before it, one of these is in the text's Base64
        coded = base64.b64encode(b"\0" * ahead + plain)
        forms.add(coded[4 if ahead else 0 : len(coded) - 4])
    return {form.lower() for form in forms}


def png_chunks(content):
    at = 8
    while at + 8 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        yield content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        at += 12 + length


def inflated(content):
    """Whatever in a file was packed with zlib, apart from a PNG's own pixels."""
    if content.startswith(b"\x89PNG"):
        for kind, chunk in png_chunks(content):
            if kind != b"IDAT":
                yield from unpacked(chunk)
        return
    yield from unpacked(content)


def unpacked(content):
    for start in (
        at for at in range(len(content) - 2) if content[at] == 0x78 and content[at + 1] in b"\x01\x5e\x9c\xda"
    ):
        try:
            yield zlib.decompressobj().decompress(content[start:], 2**20)
        except zlib.error:
            continue


def boxes(content):
    """The boxes of a JUMBF, those within boxes too: type and content."""
    at = 0
    while at + 8 <= len(content):
        size, kind = struct.unpack(">I4s", content[at : at + 8])
        if size < 8 or at + size > len(content):
            return
        yield kind, content[at + 8 : at + size]
        if kind == b"jumb":
            yield from boxes(content[at + 8 : at + size])
        at += size


def spoken(value):
    """All text and bytes in what CBOR decodes to, one after the other; packed CBOR within bytes is decoded too."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from spoken(key)
            yield from spoken(one)
    elif isinstance(value, list | tuple | set | frozenset):
        for one in value:
            yield from spoken(one)
    elif isinstance(value, cbor2.CBORTag):
        yield from spoken(value.value)
    elif isinstance(value, bytes):
        yield value
    else:
        yield str(value).encode("utf-8", "surrogatepass")


def haystack(content, mime):
    """Everything that can be read in a released file."""
    parts = [content, *inflated(content)]
    store = manifest_store(content, mime)
    decoded = [cbor2.loads(box) for kind, box in boxes(store) if kind == b"cbor"]
    assert not store or decoded
    parts += [part for one in decoded for part in spoken(one)]
    with Image.open(io.BytesIO(content)) as picture:
        parts.append(repr(sorted(picture.info.items())).encode())
    return b"\n".join(parts).lower()


def leaks(content, mime, canaries):
    text = haystack(content, mime)
    return sorted(place for place, canary in canaries.items() if any(form in text for form in forms_of(canary)))


def of_this_machine():
    """The real names, where they are long enough not to turn up by chance."""
    real = {"real host": os.uname().nodename, "this folder": str(Path(__file__).parent)}
    return {place: name for place, name in real.items() if len(name) >= 8}


# --- the tests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mime", MIMES)
def test_no_canary_is_in_a_released_file(make_guard, secret_world, pictures, mime):
    path, _ = released(make_guard, secret_world, pictures["new"], mime)
    content = path.read_bytes()
    assert leaks(content, mime, CANARIES | of_this_machine() | {"seed": str(SEED), "folder": str(secret_world)}) == []
    assert b"org.guardrail.generation" in content  # the run is described, so there was something to leak


def test_no_canary_is_in_a_marked_file(make_guard, secret_world, pictures):
    path, _ = released(make_guard, secret_world, pictures["new"].resize((256, 256)), "image/png", mark="rivagan")
    content = path.read_bytes()
    assert b"c2pa.watermarked" in content
    assert leaks(content, "image/png", CANARIES | {"folder": str(secret_world)}) == []


def test_every_shipped_plugin_that_describes_images_was_asked(make_guard, secret_world, pictures):
    _, guard = released(make_guard, secret_world, pictures["new"], "image/png")
    asked = {one.plugin_name for one in guard.plugins.hook.describe_output.get_hookimpls()}
    assert {"claims", "generation", "privacy_claim"} <= asked


def test_run_really_held_the_canaries(make_guard, secret_world, pictures, monkeypatch):
    """What the plugins were given: without it the absence of canaries would prove nothing."""
    seen = []
    real = tools.claims_of
    monkeypatch.setattr(tools, "claims_of", lambda hooks, *given: seen.append(given) or real(hooks, *given))
    released(make_guard, secret_world, pictures["new"], "image/png")
    ((_, context, _, settings),) = seen
    said = repr(context.model_dump()) + repr(settings)
    held = {place for place, canary in CANARIES.items() if canary in said}
    assert {"prompt", "negative", "second", "model", "adapter", "index", "home", "key", "error"} <= held
    assert context.seed == SEED


def test_ledger_keeps_no_prompt(make_guard, secret_world, pictures):
    """Paths are there: that of the released file, the model's folder and the adapter's name, for who runs the guard."""
    _, guard = released(make_guard, secret_world, pictures["new"], "image/jpeg")
    rows = json.dumps([row.content for row in guard.memory.rows()])
    found = {place for place, canary in CANARIES.items() if canary in rows}
    assert not {"prompt", "negative", "second", "metadata", "exif", "xmp", "user", "host", "key"} & found
    assert {"output", "model", "adapter"} <= found


def test_prompt_that_a_plugin_quotes_in_an_error_stays_out_of_the_ledger(make_guard, secret_world, pictures):
    class Quotes:
        @hookimpl
        def describe_output(self, context):
            raise RuntimeError(context.prompts["prompt"])

    guard = make_guard(Quotes(), home=secret_world / CANARIES["home"])
    pipe = pipeline_in(secret_world)
    pipe.shows = pictures["new"]
    output = guard.wrap(pipe)(CANARIES["prompt"])
    guard.unwrap(pipe)
    with pytest.raises(Exception, match="failed"):
        output.guard.save(secret_world / "out")
    assert not list((secret_world / "out").iterdir())
    assert CANARIES["prompt"] not in json.dumps([row.content for row in guard.memory.rows()])


# --- the looking itself ----------------------------------------------------------------------------------------------


def hidden(how, canary):
    plain = canary.encode()
    return {
        "plain": plain,
        "upper": plain.upper(),
        "utf-16": canary.encode("utf-16"),
        "base64": base64.b64encode(plain),
        "base64 of more": base64.b64encode(b"x" + plain + b"y"),
        "hex": binascii.hexlify(plain).upper(),
        "url": urllib.parse.quote(canary).encode(),
        "zlib": zlib.compress(b"before " + plain, 9),
    }[how]


@pytest.mark.parametrize("how", ["plain", "upper", "utf-16", "base64", "base64 of more", "hex", "url", "zlib"])
@pytest.mark.parametrize("mime", MIMES)
def test_canary_that_is_in_a_file_is_found(how, mime):
    canary = "Kanari " + CANARIES["prompt"]
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)).save(buffer, MIMES[mime])
    content = buffer.getvalue()
    assert leaks(content, mime, {"it": canary}) == []
    assert leaks(content + chunk_of(hidden(how, canary), mime), mime, {"it": canary}) == ["it"]


def chunk_of(secret, mime):
    return struct.pack(">I4s", len(secret), b"zTXt") + secret + b"\0\0\0\0" if mime == "image/png" else secret


def test_canary_that_a_plugin_says_is_found(make_guard, pictures, tmp_path):
    class Says:
        @hookimpl
        def describe_output(self):
            return {"org.example.note": {"said": base64.b64encode(CANARIES["prompt"].encode()).decode()}}

    (path,) = make_guard(Says()).check(pictures["new"]).save(tmp_path / "out")
    assert leaks(path.read_bytes(), "image/png", CANARIES) == ["prompt"]
