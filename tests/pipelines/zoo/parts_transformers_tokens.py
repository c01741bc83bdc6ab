"""Tokenizers for the transformer era, made in memory: one token a letter; and the processors around them."""

import string
from functools import cache
from typing import Any

import transformers
from tokenizers import pre_tokenizers, processors

__all__ = [
    "bert_tokenizer",
    "byt5_tokenizer",
    "clip_tokenizer",
    "gemma_tokenizer",
    "llama_tokenizer",
    "pixtral_processor",
    "qwen2_tokenizer",
    "qwen2_vl_processor",
    "qwen3_vl_processor",
    "t5_tokenizer",
]

_LETTERS = tuple(string.ascii_letters + string.digits + string.punctuation)
_VL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<think>",
    "</think>",
)
_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@cache
def _alphabet() -> tuple[str, ...]:
    return tuple(sorted(pre_tokenizers.ByteLevel.alphabet()))


def _ids(*tokens: str) -> dict[str, int]:
    return {token: at for at, token in enumerate(tokens)}


def _begun(tokenizer: Any, first: str) -> Any:
    """The same tokenizer, putting its first token before every text, as published ones do; and a chat template."""
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A", special_tokens=[(first, tokenizer.convert_tokens_to_ids(first))]
    )
    tokenizer.chat_template = _CHAT
    return tokenizer


def clip_tokenizer(length: int = 77) -> Any:
    letters = _alphabet()
    ends = [f"{letter}</w>" for letter in letters]
    vocab = _ids("<|startoftext|>", "<|endoftext|>", *letters, *ends)
    return transformers.CLIPTokenizer(vocab=vocab, merges=[], model_max_length=length)


def t5_tokenizer(length: int = 64) -> Any:
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0), *((letter, -3.0) for letter in _LETTERS)]
    return transformers.T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=length)


def byt5_tokenizer() -> Any:
    return transformers.ByT5Tokenizer(extra_ids=0)


def bert_tokenizer(length: int = 77) -> Any:
    inner = [f"##{letter}" for letter in _LETTERS]
    vocab = _ids("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_LETTERS, *inner)
    return transformers.BertTokenizer(vocab=vocab, model_max_length=length)


def gemma_tokenizer(length: int = 64) -> Any:
    vocab = _ids("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", "\n", *_LETTERS)
    return _begun(transformers.GemmaTokenizer(vocab=vocab, merges=[], model_max_length=length), "<bos>")


def llama_tokenizer(length: int = 64, **said: Any) -> Any:
    vocab = _ids("<unk>", "<s>", "</s>", "<pad>", "<image>", "▁", "\n", *_LETTERS)
    tokenizer = transformers.LlamaTokenizer(
        vocab=vocab, merges=[], model_max_length=length, **{"pad_token": "<pad>", **said}
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>", "<|end_header_id|>"]})
    return _begun(tokenizer, "<s>")


def qwen2_tokenizer(length: int = 2048, extra: tuple[str, ...] = ()) -> Any:
    vocab = _ids(*_VL_TOKENS, *extra, *_alphabet())
    tokenizer = transformers.Qwen2Tokenizer(vocab=vocab, merges=[], model_max_length=length)
    tokenizer.add_special_tokens({"additional_special_tokens": [*_VL_TOKENS[1:8], *extra]})
    tokenizer.chat_template = _CHAT
    return tokenizer


def qwen2_vl_processor() -> Any:
    return transformers.Qwen2VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessor(**_PIXELS),
        tokenizer=qwen2_tokenizer(),
        video_processor=transformers.Qwen2VLVideoProcessor(**_PIXELS),
        chat_template=_CHAT,
    )


def qwen3_vl_processor() -> Any:
    return transformers.Qwen3VLProcessor(
        image_processor=transformers.Qwen2VLImageProcessor(**_PIXELS),
        tokenizer=qwen2_tokenizer(),
        video_processor=transformers.Qwen3VLVideoProcessor(**_PIXELS),
        chat_template=_CHAT,
    )


_PIXELS = {
    "patch_size": 14,
    "merge_size": 2,
    "temporal_patch_size": 2,
    "size": {"shortest_edge": 28 * 28, "longest_edge": 56 * 56},
}


def pixtral_processor() -> Any:
    tokenizer = qwen2_tokenizer(extra=("[IMG]", "[IMG_BREAK]", "[IMG_END]"))
    return transformers.PixtralProcessor(
        image_processor=transformers.PixtralImageProcessor(), tokenizer=tokenizer, chat_template=_CHAT
    )
