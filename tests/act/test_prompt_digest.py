"""Keyed digests of prompts: a key that only its owner can read, digests that say nothing to anybody else."""

import hashlib
import hmac
import multiprocessing
import stat

import pytest

from guardrail.act.prompts import fields_saying, load_prompt_key, prompt_digest, prompt_digests
from guardrail.errors import PromptKeyUnusable

KEY = bytes(range(32))


def test_digest_is_hmac_sha256_over_parts_with_their_lengths():
    message = b"".join(
        len(part).to_bytes(8, "big") + part for part in (b"org.guardrail.prompt.v1", b"v", b"prompt", b"a red fox")
    )
    assert prompt_digest(KEY, "v", "prompt", "a red fox") == hmac.new(KEY, message, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    "other",
    [
        (bytes(32), "v", "prompt", "a fox"),
        (KEY, "w", "prompt", "a fox"),
        (KEY, "v", "negative_prompt", "a fox"),
        (KEY, "v", "prompt", "a fox "),
        (KEY, "vp", "rompt", "a fox"),
    ],
)
def test_another_key_image_field_or_text_gives_another_digest(other):
    assert prompt_digest(*other) != prompt_digest(KEY, "v", "prompt", "a fox")


def test_every_prompt_of_a_call_is_digested():
    digests = prompt_digests(KEY, "v", {"prompt": ("a", "b"), "negative_prompt": "c"})
    assert {field: len(some) for field, some in digests.items()} == {"prompt": 2, "negative_prompt": 1}
    assert digests["prompt"][1] == prompt_digest(KEY, "v", "prompt", "b")


@pytest.mark.parametrize(
    ("text", "fields"), [("a", ("prompt",)), ("c", ("prompt", "negative_prompt")), ("d", ()), ("\ud800", ())]
)
def test_owner_of_the_key_finds_the_fields_that_say_a_text(text, fields):
    digests = prompt_digests(KEY, "v", {"prompt": ("a", "c"), "negative_prompt": "c"})
    assert fields_saying(KEY, "v", digests, text) == fields


@pytest.mark.parametrize("strange", [None, "text", ["é"], [3], {}])
def test_strange_digests_belong_to_no_text(strange):
    assert fields_saying(KEY, "v", {"prompt": strange}, "a") == ()


def test_key_is_made_once_for_its_owner_alone(tmp_path):
    path = tmp_path / "new" / "prompt.key"
    key = load_prompt_key(path)
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_prompt_key(path) == key != load_prompt_key(tmp_path / "other.key")
    assert [one.name for one in path.parent.iterdir()] == ["prompt.key"]


def test_processes_that_need_a_key_at_once_get_the_same_one(tmp_path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        keys = pool.map(load_prompt_key, [tmp_path / "prompt.key"] * 8)
    assert len(set(keys)) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_key_that_others_may_read_is_refused(tmp_path, mode):
    path = tmp_path / "prompt.key"
    load_prompt_key(path)
    path.chmod(mode)
    with pytest.raises(PromptKeyUnusable, match=r"lets others in.*chmod 600"):
        load_prompt_key(path)


@pytest.mark.parametrize("content", [b"", b"00" * 31, b"zz" * 32, b"00" * 33])
def test_file_that_holds_no_key_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "prompt.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(PromptKeyUnusable, match="64 hex digits"):
        load_prompt_key(path)
    assert path.read_bytes() == content


def test_missing_key_is_not_made_to_look_something_up(tmp_path):
    with pytest.raises(PromptKeyUnusable, match="No such file"):
        load_prompt_key(tmp_path / "prompt.key", make=False)
    assert not list(tmp_path.iterdir())


def test_key_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PromptKeyUnusable, match="found"):
        load_prompt_key(tmp_path / "file" / "prompt.key")
