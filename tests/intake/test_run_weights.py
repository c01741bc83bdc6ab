"""The digest of weights: made once, the same for the same weights, another as soon as they change."""

import threading

import pytest
import torch
from run_samples import add_lora, small_pipeline, small_unet

from guardrail.intake import finish_context, read_context, remember_weights, weights


@pytest.fixture
def pipe():
    return small_pipeline()


def digest(pipe):
    return read_context(pipe, pipe.__call__, (), {}).weights_sha256


def test_same_weights_have_the_same_digest(pipe):
    assert digest(pipe) == digest(small_pipeline()) != digest(small_pipeline(seed=1))


def test_digest_is_made_once(pipe, monkeypatch):
    made = []
    real = weights.named_digest
    monkeypatch.setattr(weights, "named_digest", lambda tensors: made.append(1) or real(tensors))
    assert digest(pipe) == digest(pipe)
    assert made == [1]


def in_place(unet):
    with torch.no_grad():
        unet.conv_in.weight[0, 0, 0, 0] += 1


def behind_torchs_back(unet):
    for parameter in unet.parameters():
        parameter.data.mul_(1.01)


def another_tensor(unet):
    unet.conv_out.bias = torch.nn.Parameter(torch.ones_like(unet.conv_out.bias))


def another_module(unet):
    unet.conv_in = torch.nn.Conv2d(3, 4, 3, padding=1)


def another_type(unet):
    unet.to(torch.float64)


@pytest.mark.parametrize("change", [in_place, behind_torchs_back, another_tensor, another_module, another_type])
def test_change_of_weights_gives_another_digest(pipe, change):
    before = digest(pipe)
    change(pipe.unet)
    after = digest(pipe)
    assert after != before
    fresh = small_pipeline()
    fresh.unet.load_state_dict(pipe.unet.state_dict(), assign=True)
    assert digest(fresh) == after, "what is kept equals what is made anew"


def test_change_to_one_of_many_tensors_is_seen_within_a_few_calls(pipe, monkeypatch):
    monkeypatch.setattr(weights, "_LOOKED_AT", 16)
    before = digest(pipe)
    in_place(pipe.unet)
    turns = -(-len(weights.kept_weights(pipe.unet).tensors) // 16)
    assert any(digest(pipe) != before for _ in range(turns + 1))


def test_moved_weights_keep_their_digest(pipe, monkeypatch):
    before = digest(pipe)
    monkeypatch.setattr(weights, "named_digest", lambda tensors: pytest.fail("made again"))
    for parameter in pipe.unet.parameters():
        parameter.data = parameter.data.clone()  # as moving to another device and back does
    assert digest(pipe) == before


def test_adapter_that_is_loaded_leaves_the_models_own_digest(pipe):
    before = digest(pipe)
    add_lora(pipe, "a")
    assert digest(pipe) == before
    assert pipe.unet.state_dict().keys() != small_unet().state_dict().keys()


def test_digest_does_not_depend_on_memory_layout(pipe):
    before = digest(pipe)
    pipe.unet.to(memory_format=torch.channels_last)
    assert digest(pipe) == before


def test_large_weights_are_digested_in_the_background(pipe, monkeypatch):
    expected = digest(small_pipeline())
    may_go_on = threading.Event()
    real = weights.named_digest
    monkeypatch.setattr(weights, "_AT_ONCE_BYTES", 0)
    monkeypatch.setattr(weights, "named_digest", lambda tensors: may_go_on.wait(20) and real(tensors))
    context = read_context(pipe, pipe.__call__, (), {})
    assert context.weights_sha256 is None
    assert "weights: those of unet: their digest is still being made" in context.unread
    assert finish_context(context, pipe).is_unread("weights")
    may_go_on.set()
    while weights.digest_of_module(pipe.unet).exception(20):
        pytest.fail("the digest could not be made")
    finished = finish_context(context, pipe)
    assert finished.weights_sha256 == expected
    assert not finished.is_unread("weights")


def test_digest_begun_when_wrapped_is_there_for_the_first_call(pipe, monkeypatch):
    monkeypatch.setattr(weights, "_AT_ONCE_BYTES", 0)
    remember_weights(pipe)
    weights.digest_of_module(pipe.unet).result(20)
    assert digest(pipe)


def test_weights_that_are_nowhere_are_unread():
    with torch.device("meta"):
        pipe = small_pipeline()
    context = read_context(pipe, pipe.__call__, (), {})
    assert context.weights_sha256 is None
    assert context.is_unread("weights")


def test_weights_that_a_hook_offloaded_are_found(pipe):
    from accelerate import cpu_offload

    before = digest(pipe)
    cpu_offload(pipe.unet, execution_device=torch.device("cpu"))
    assert next(pipe.unet.parameters()).is_meta
    assert digest(pipe) == before
    pipe()
    assert digest(pipe) == before


def test_several_denoisers_have_a_digest_together(pipe):
    pipe.register_modules(unet=pipe.unet, transformer=small_unet(1))
    both = digest(pipe)
    pipe.transformer = small_unet(2)
    assert digest(pipe) != both


def test_weights_made_in_inference_mode_are_read():
    with torch.inference_mode():
        pipe = small_pipeline()
    assert digest(pipe) == digest(small_pipeline())


def test_weights_that_cannot_be_hashed_are_unread(pipe, monkeypatch):
    def refuse(tensors):
        raise NotImplementedError("a tensor of its own kind")

    monkeypatch.setattr(weights, "named_digest", refuse)
    context = read_context(pipe, pipe.__call__, (), {})
    assert context.weights_sha256 is None
    assert "weights: those of unet: a tensor of its own kind" in context.unread


def test_compiled_model_has_the_digest_of_the_plain_one(pipe):
    plain = digest(pipe)
    pipe.unet = torch.compile(pipe.unet)  # nothing is compiled before it is called
    assert digest(pipe) == plain
