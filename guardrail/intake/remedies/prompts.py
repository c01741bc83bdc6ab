"""Another prompt nearly the same: noise on its embedding, or random tokens among its words."""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from guardrail.intake.calls import BoundCall
from guardrail.intake.remedies.unfit import RemedyUnfit

__all__ = ["PromptNoise", "RandomToken"]

_NOISE_SHARE = 0.5  # standard deviation of the noise, of that of the embedding; measured in docs/remedies.md
_TOKENS = 4  # random tokens put into a prompt, the most that Somepalli et al. 2023 add
_PROMPTS = ("prompt", "prompt_2", "prompt_3", "prompt_4")
_TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
_DRAWS = 200  # tokens to look at for one that is a plain word


class PromptNoise:
    """Adds Gaussian noise to the embedding of the prompt, for one call.

    Source: Somepalli, Singla, Goldblum, Geiping, Goldstein 2023, "Understanding and mitigating copying in diffusion
    models", section 6: Gaussian noise on text embeddings. We differ in measuring the noise by the embedding's own
    spread, because text encoders differ in it. Embeddings of a whole prompt ("pooled") stay as they are.
    """

    def __init__(self, asked: BoundCall, draw_seed: Callable[[], int]) -> None:
        self._pipe = asked.pipe
        self._generator = torch.Generator().manual_seed(draw_seed())
        self._embedding = asked.said.get("prompt_embeds")
        if self._embedding is None and not _prompts_of(asked):
            raise RemedyUnfit("the call has no prompt")
        if self._embedding is None and not callable(getattr(self._pipe, "encode_prompt", None)):
            raise RemedyUnfit("the pipeline does not say where its prompt becomes an embedding (encode_prompt)")

    def said(self) -> str:
        """What was changed, for the record."""
        return f"noise of {_NOISE_SHARE} of its own spread on the prompt's embedding"

    def changed(self) -> Mapping[str, Any]:
        """Arguments to pass instead: an embedding that the caller passed, with noise."""
        return {} if self._embedding is None else {"prompt_embeds": self._noisy(self._embedding)}

    @contextmanager
    def around(self) -> Iterator[None]:
        """For one call, put noise on what `encode_prompt` gives.

        Raises:
            RemedyUnfit: out of the call, where it gives no embedding first.
        """
        if self._embedding is not None:
            yield
            return
        own = vars(self._pipe)
        before = own.get("encode_prompt")
        encode = self._pipe.encode_prompt

        def encode_prompt(*args: Any, **kwargs: Any) -> Any:
            encoded = encode(*args, **kwargs)
            if isinstance(encoded, tuple | list) and encoded:
                return type(encoded)((self._noisy(encoded[0]), *encoded[1:]))
            return self._noisy(encoded)

        own["encode_prompt"] = encode_prompt
        try:
            yield
        finally:
            if before is None:
                del own["encode_prompt"]
            else:
                own["encode_prompt"] = before

    def _noisy(self, embedding: Any) -> Any:
        """Float (B, L, D), or a list of (L, D); the same with noise, made anew."""
        if isinstance(embedding, list) and embedding:
            return [self._noisy(one) for one in embedding]
        if not isinstance(embedding, torch.Tensor) or not embedding.is_floating_point():
            raise RemedyUnfit("the prompt's embedding is not where it is with other pipelines")
        noise = torch.randn(embedding.shape, generator=self._generator, dtype=torch.float32).to(embedding.device)
        return embedding + (noise * embedding.float().std() * _NOISE_SHARE).to(embedding.dtype)


class RandomToken:
    """Puts random tokens among the words of the prompt, for one call.

    Source: Somepalli et al. 2023 (see `PromptNoise`), section 6: random token addition. We add only tokens that are
    plain words, because a prompt has to stay text on its way to several tokenizers.
    """

    def __init__(self, asked: BoundCall, draw_seed: Callable[[], int]) -> None:
        self._prompts = _prompts_of(asked)
        if not self._prompts:
            raise RemedyUnfit("the call has no prompt")
        found = (getattr(asked.pipe, name, None) for name in _TOKENIZERS)
        self._tokenizer: Any = next((one for one in found if callable(getattr(one, "decode", None))), None)
        if self._tokenizer is None:
            raise RemedyUnfit("the pipeline has no tokenizer to take tokens from")
        self._chance = random.Random(draw_seed())  # noqa: S311 - words for a prompt, no secret

    def said(self) -> str:
        """What was changed, for the record: no word of the prompt."""
        return f"{_TOKENS} random tokens put into the prompt"

    def changed(self) -> Mapping[str, Any]:
        """The prompts to pass instead; the same tokens at the same places in each of them.

        Raises:
            RemedyUnfit: the tokenizer has no plain words.
        """
        added = [(self._chance.random(), self._word()) for _ in range(_TOKENS)]
        return {
            name: _with_words(prompt, added)
            if isinstance(prompt, str)
            else [_with_words(str(one), added) for one in prompt]
            for name, prompt in self._prompts.items()
        }

    def around(self) -> AbstractContextManager[None]:
        """Nothing stands around the call: its arguments are changed."""
        return nullcontext()

    def _word(self) -> str:
        special = set(getattr(self._tokenizer, "all_special_ids", ()))
        for _ in range(_DRAWS):
            token = self._chance.randrange(len(self._tokenizer))
            word = "" if token in special else str(self._tokenizer.decode([token])).strip()
            if word.isalpha():
                return word
        raise RemedyUnfit("the tokenizer has no tokens that are plain words")


def _prompts_of(asked: BoundCall) -> dict[str, Any]:
    return {
        name: prompt for name in _PROMPTS if (prompt := asked.said.get(name)) and isinstance(prompt, str | list | tuple)
    }


def _with_words(prompt: str, added: list[tuple[float, str]]) -> str:
    """The prompt with words put in at places given as shares (0..1) of its length in words."""
    words = prompt.split()
    for share, word in added:
        words.insert(round(share * len(words)), word)
    return " ".join(words)
