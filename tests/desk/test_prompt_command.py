"""`guardrail prompt-digest`: the owner of the key can tell which prompt an image had, and nobody else."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from typer.testing import CliRunner

from guardrail import act
from guardrail.carriers import OutputPicture
from guardrail.desk.cli import app
from guardrail.errors import PromptKeyUnusable, PromptUnproved
from guardrail.records import Decision, GenerationContext, Verdict
from guardrail.settings import Settings


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("GUARDRAIL_HOME", str(tmp_path / "home"))
    act.make_development_keys(tmp_path / "home" / "keys")
    return tmp_path / "home"


def accepted():
    return Verdict(
        image="images[0]",
        pixels_sha256=None,
        at=datetime.now(UTC),
        decision=Decision.ACCEPT,
        rule="default",
        explanation="",
        evidence=(),
        nearest=(),
        index_snapshot="1" * 64,
        policy_sha256="0" * 64,
        calibration="uncalibrated",
    )


@pytest.fixture
def fox(home, tmp_path):
    """A signed file made from "a red fox", and not from "blurred"."""
    verdict = accepted()
    prompts = {"prompt": "a red fox", "negative_prompt": "blurred"}
    context = GenerationContext(pipeline="FakePipeline", prompts=prompts)
    said = act.generation_assertion(verdict, context, Settings(home=home))
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    output = OutputPicture(act.encode_image(pixels, "image/png"), "image/png", pixels)
    signed = act.sign(output, verdict, {act.GENERATION_LABEL: said}, act.load_signing(home / "keys"))
    path = tmp_path / "fox.png"
    path.write_bytes(signed.content)
    return path


def run(*words, **said):
    return CliRunner().invoke(app, ["prompt-digest", *map(str, words)], **said)


@pytest.mark.parametrize(
    ("prompt", "code", "fields"),
    [("a red fox", 0, ["prompt"]), ("blurred", 0, ["negative_prompt"]), ("a red fox ", 24, []), ("", 24, [])],
)
def test_prompt_of_an_image_is_told_from_another(fox, prompt, code, fields):
    found = run(fox, prompt, "--json")
    assert (found.exit_code, json.loads(found.stdout)["fields"]) == (code, fields)


def test_words_for_people(fox):
    assert "that was its prompt" in run(fox, "a red fox").stdout.replace("\n", " ")
    assert "none of its prompts (negative_prompt, prompt)" in run(fox, "a blue fox").stdout.replace("\n", " ")


def test_prompt_can_come_from_standard_input(fox):
    assert run(fox, "-", input="a red fox").exit_code == 0


def test_another_key_tells_nothing(fox, home):
    (home / "prompt.key").unlink()
    act.load_prompt_key(home / "prompt.key")
    assert run(fox, "a red fox").exit_code == 24


def test_no_key_is_made_to_ask(fox, home):
    (home / "prompt.key").unlink()
    found = run(fox, "a red fox")
    assert isinstance(found.exception, PromptKeyUnusable)
    assert not (home / "prompt.key").exists()


def test_changed_file_proves_nothing(fox):
    content = bytearray(fox.read_bytes())
    content[content.index(b"IDAT") + 40] ^= 1
    fox.write_bytes(content)
    assert isinstance(run(fox, "a red fox").exception, PromptUnproved)


def test_file_that_says_nothing_of_prompts_proves_nothing(fox, home):
    pixels = np.zeros((32, 32, 3), np.uint8)
    output = OutputPicture(act.encode_image(pixels, "image/png"), "image/png", pixels)
    fox.write_bytes(act.sign(output, accepted(), {}, act.load_signing(home / "keys")).content)
    found = run(fox, "a red fox")
    assert isinstance(found.exception, PromptUnproved)
    assert "says nothing of prompts, as of a picture that was only checked" in str(found.exception)
    assert "released by a guarded pipeline" in str(found.exception)
