"""The shipped embedders are offered through the public hook."""

import pytest

from guardrail.errors import EmbedderUnknown
from guardrail.protocols import Embedder
from guardrail_hooks import embedders


def test_hook_register_embedders():
    assert set(embedders.register_embedders()) == {"mini", "clip"}


def test_mini_is_an_embedder():
    mini = embedders.register_embedders()["mini"]("", "cpu")
    assert isinstance(mini, Embedder)
    assert mini.spec.name == "mini"


def test_mini_takes_no_more_words():
    with pytest.raises(EmbedderUnknown, match="mini:large"):
        embedders.register_embedders()["mini"]("large", "cpu")


def test_clip_without_an_architecture_says_what_it_takes():
    with pytest.raises(EmbedderUnknown, match="<arch>"):
        embedders.register_embedders()["clip"]("", "cpu")
