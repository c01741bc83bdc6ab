"""Adapters are read from the layers: those that are on, with their weights and digests, fused and unloaded ones too."""

import gc
import json
import weakref

import pytest
import torch
from diffusers import ControlNetModel, DiffusionPipeline
from diffusers.loaders import StableDiffusionLoraLoaderMixin, TextualInversionLoaderMixin
from run_samples import WORDS, SmallPipeline, add_lora, small_pipeline

from guardrail.intake import adapter_file_digest, read_context, remember_weights


@pytest.fixture
def pipe():
    pipe = small_pipeline()
    add_lora(pipe, "a", seed=1)
    add_lora(pipe, "b", seed=2)
    return pipe


def read(pipe, *args, **kwargs):
    return read_context(pipe, pipe.__call__, args, kwargs)


def adapters(pipe, **kwargs):
    return {one.name: one for one in read(pipe, **kwargs).adapters}


def weights(pipe, **kwargs):
    return {name: one.weight for name, one in adapters(pipe, **kwargs).items()}


def test_weight_is_the_one_that_was_set(pipe):
    pipe.set_adapters(["a", "b"], [0.5, 0.25])
    assert weights(pipe) == {"a": 0.5, "b": 0.25}
    assert {one.component for one in adapters(pipe).values()} == {"unet"}


def test_weight_under_rank_stabilisation_is_the_one_that_was_set():
    pipe = small_pipeline()
    add_lora(pipe, "r", rank=4, alpha=2, rslora=True)
    pipe.set_adapters(["r"], [0.75])
    assert weights(pipe) == {"r": 0.75}


def test_scale_of_the_call_counts(pipe):
    pipe.set_adapters(["a"], [0.5])
    assert weights(pipe, cross_attention_kwargs={"scale": 0.5}) == {"a": 0.25}
    assert weights(pipe) == {"a": 0.5}


def test_only_adapters_that_are_on_are_listed(pipe):
    pipe.set_adapters(["a"], [1.0])
    assert set(adapters(pipe)) == {"a"}
    pipe.disable_lora()
    assert adapters(pipe) == {}
    pipe.enable_lora()
    pipe.set_adapters(["a", "b"], [1.0, 0.0])
    assert set(adapters(pipe)) == {"a"}
    pipe.delete_adapters("a")
    pipe.set_adapters(["b"], [1.0])
    assert set(adapters(pipe)) == {"b"}


def test_weight_that_differs_between_layers_is_unread(pipe):
    pipe.set_adapters(["a"], [1.0])
    layers = [one for one in pipe.unet.modules() if hasattr(one, "scaling")]
    layers[0].set_scale("a", 0.5)
    context = read(pipe)
    assert context.adapters[0].weight is None
    assert any("differ between the layers" in line for line in context.unread)
    assert not context.is_unread("adapters")


def test_digest_is_of_the_adapters_own_weights(pipe):
    pipe.set_adapters(["a", "b"], [0.5, 0.25])
    before = adapters(pipe)
    assert before["a"].sha256 != before["b"].sha256
    pipe.set_adapters(["a"], [1.0])
    assert adapters(pipe)["a"].sha256 == before["a"].sha256
    with torch.no_grad():
        next(one for one in pipe.unet.modules() if hasattr(one, "lora_A")).lora_A["a"].weight[0, 0] += 1
    assert adapters(pipe)["a"].sha256 != before["a"].sha256


def test_other_adapter_under_the_same_name_has_another_digest(pipe):
    pipe.set_adapters(["a"], [1.0])
    before = adapters(pipe)["a"].sha256
    pipe.set_adapters(["b"], [1.0])
    pipe.delete_adapters("a")
    add_lora(pipe, "a", seed=9)
    pipe.set_adapters(["a"], [1.0])
    assert adapters(pipe)["a"].sha256 != before


def saved_lora(pipe, folder, dtype=torch.float32):
    from peft.utils import get_peft_model_state_dict

    layers = {key: value.to(dtype) for key, value in get_peft_model_state_dict(pipe.unet, adapter_name="a").items()}
    StableDiffusionLoraLoaderMixin.save_lora_weights(folder, unet_lora_layers=layers)
    return folder / "pytorch_lora_weights.safetensors"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_file_of_an_adapter_tells_the_digest_that_a_run_reports(pipe, tmp_path, dtype):
    file = saved_lora(pipe, tmp_path, dtype)
    other = small_pipeline(seed=5)
    other.load_lora_weights(str(tmp_path), weight_name=file.name, adapter_name="loaded")
    assert adapters(other)["loaded"].sha256 == adapter_file_digest(file)


def fuse(pipe, name="a", scale=0.5):
    pipe.set_adapters([name], [1.0])
    pipe.fuse_lora(components=["unet"], lora_scale=scale, adapter_names=[name])


def test_fused_adapter_is_listed_and_the_models_weights_are_others(pipe):
    before = read(pipe).weights_sha256
    fuse(pipe)
    context = read(pipe)
    (adapter,) = context.adapters
    assert (adapter.name, adapter.fused, adapter.weight) == ("a", True, 0.5)
    assert context.weights_sha256 != before


def test_fused_adapter_that_was_unloaded_is_remembered(pipe):
    fuse(pipe)
    fused = read(pipe).adapters
    pipe.unload_lora_weights()
    assert pipe.get_list_adapters() == {}
    assert read(pipe).adapters == read(pipe).adapters == fused


def test_adapter_fused_by_the_model_itself_is_remembered_from_when_it_was_wrapped(pipe):
    pipe.set_adapters(["a"], [1.0])
    pipe.unet.fuse_lora(adapter_names=["a"])
    remember_weights(pipe)
    pipe.unet.unload_lora()
    assert not pipe.fused_loras
    assert [(one.name, one.fused) for one in read(pipe).adapters] == [("a", True)]


def test_adapter_unloaded_before_anybody_looked_is_known_by_name(pipe):
    fuse(pipe)
    pipe.unload_lora_weights()
    context = read(pipe)
    assert [(one.name, one.weight, one.fused) for one in context.adapters] == [("a", None, True)]
    assert context.is_unread("fused adapters")


def test_adapter_that_was_taken_out_again_is_forgotten(pipe):
    fuse(pipe)
    read(pipe)
    pipe.unfuse_lora(components=["unet"])
    pipe.disable_lora()
    assert read(pipe).adapters == ()
    assert not read(pipe).is_unread("adapters")


def test_second_adapter_over_a_fused_one_leaves_it_listed(pipe):
    fuse(pipe)
    read(pipe)
    pipe.unload_lora_weights()
    add_lora(pipe, "b")
    assert [(one.name, one.fused) for one in read(pipe).adapters] == [("a", True), ("b", False)]


def test_weights_that_something_nameless_changed_leave_the_adapters_unread(pipe):
    pipe.unload_lora_weights()
    assert not read(pipe).is_unread("adapters")
    for parameter in pipe.unet.parameters():
        parameter.data.mul_(1.01)
    assert read(pipe).is_unread("adapters")


def test_ip_adapter_is_listed_with_its_scale(pipe):
    from diffusers.models.attention_processor import IPAdapterAttnProcessor
    from diffusers.models.embeddings import ImageProjection, MultiIPAdapterImageProjection

    pipe = small_pipeline()
    before = read(pipe).weights_sha256
    processors = {
        name: IPAdapterAttnProcessor(hidden_size=8, cross_attention_dim=WORDS, num_tokens=(4,), scale=0.6)
        if name.endswith("attn2.processor")
        else processor
        for name, processor in pipe.unet.attn_processors.items()
    }
    pipe.unet.set_attn_processor(processors)
    projection = ImageProjection(image_embed_dim=8, cross_attention_dim=WORDS, num_image_text_embeds=4)
    pipe.unet.encoder_hid_proj = MultiIPAdapterImageProjection([projection])
    context = read(pipe)
    (adapter,) = context.adapters
    assert (adapter.name, adapter.kind, adapter.weight) == ("ip_adapter[0]", "ip_adapter", 0.6)
    assert adapter.sha256
    assert context.weights_sha256 == before
    for processor in pipe.unet.attn_processors.values():
        if isinstance(processor, IPAdapterAttnProcessor):
            processor.scale = [0.0]
    assert read(pipe).adapters == ()


def test_controlnet_is_listed_with_its_scale():
    pipe = small_pipeline()
    net = ControlNetModel(
        in_channels=3,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        cross_attention_dim=WORDS,
        attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        conditioning_embedding_out_channels=(4, 8),
    )
    controlled = SmallPipeline(pipe.unet, pipe.scheduler, controlnet=net)
    (adapter,) = read(controlled, controlnet_conditioning_scale=0.8).adapters
    assert (adapter.name, adapter.kind, adapter.weight) == ("controlnet", "controlnet", 0.8)
    assert adapter.sha256


class Inverting(DiffusionPipeline, TextualInversionLoaderMixin):
    """With words, so that textual inversions can be loaded."""

    def __init__(self, unet, tokenizer, text_encoder):
        super().__init__()
        self.register_modules(unet=unet, tokenizer=tokenizer, text_encoder=text_encoder)

    def __call__(self, prompt):
        return prompt


def test_textual_inversion_counts_where_its_token_is_in_the_prompt(tmp_path):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    words = {word: at for at, word in enumerate(["<|startoftext|>", "<|endoftext|>", "a</w>", "fox</w>"])}
    (tmp_path / "vocab.json").write_text(json.dumps(words))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=0,
        eos_token_id=1,
    )
    pipe = Inverting(small_pipeline().unet, tokenizer, CLIPTextModel(config))
    pipe.load_textual_inversion({"<cat-toy>": torch.ones(2, 8)}, token="<cat-toy>")
    assert read(pipe, "a fox").adapters == ()
    (adapter,) = read(pipe, ["a fox", "a <cat-toy>"]).adapters
    assert (adapter.name, adapter.kind, adapter.component) == ("<cat-toy>", "textual_inversion", "text_encoder")
    with torch.no_grad():
        pipe.text_encoder.get_input_embeddings().weight[-1] += 1
    assert read(pipe, "a <cat-toy>").adapters[0].sha256 != adapter.sha256


def test_unloaded_adapters_are_not_kept_in_memory(pipe):
    pipe.set_adapters(["a"], [1.0])
    adapters(pipe)
    layer = next(one for one in pipe.unet.modules() if hasattr(one, "lora_A"))
    weight = weakref.ref(layer.lora_A["a"].weight)
    del layer
    pipe.unload_lora_weights()
    assert adapters(pipe) == {}
    gc.collect()
    assert weight() is None
