"""Gradients of images through real diffusers pipelines, tiny: conditions, latents and timesteps are their own."""

import numpy as np
import pytest
import torch
from peft import LoraConfig
from zoo import SPECIMENS

from guardrail.attribution_errors import AttributionImpossible
from guardrail.study.attribution.access import PipelineAccess
from guardrail.study.attribution.fitting import FitChoices, manifest_of, opened_model

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
ASKED = {
    "DDPMPipeline": (3, 32, 32),
    "DiTPipeline": (4, 16, 16),
    "StableDiffusionPipeline": (4, 16, 16),
    "StableDiffusionXLPipeline": (4, 16, 16),
    "StableDiffusion3Pipeline": (16, 16, 16),
    "FluxPipeline": (64, 16),
    "PixArtAlphaPipeline": (4, 16, 16),
    "StableDiffusionPAGPipeline": (4, 16, 16),
    "QwenImagePipeline": (4, 16),
}
REFUSED = {
    "AmusedPipeline": "alphas_cumprod",
    "LuminaPipeline": "timestep",
    "ZImagePipeline": "list",
    "UnCLIPPipeline": "no unet",
}
CHOICES = FitChoices(draws=2, counters=64)


def opened(name):
    specimen = SPECIMENS[name]
    pipeline = specimen.made()
    return pipeline, PipelineAccess(pipeline, side_px=specimen.call().get("height"))


def picture(side, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def asked(access, folder, caption="a red fox", label=1, choices=CHOICES):
    with opened_model(access, manifest_of(access, choices), folder) as gradients:
        return gradients(picture(access.side_px), 1, caption, label)[0]


@pytest.mark.parametrize("name", ASKED)
def test_gradient_of_an_image_through(name, tmp_path):
    _, access = opened(name)
    before = {key: one.clone() for key, one in access.network.state_dict().items()}
    assert access.shape == ASKED[name]
    found = asked(access, tmp_path)
    assert np.isfinite(found).all()
    assert np.linalg.norm(found) > 0
    assert all(torch.equal(before[key], one) for key, one in access.network.state_dict().items())
    again = opened(name)[1]
    assert np.array_equal(asked(again, tmp_path), found)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused(name, tmp_path):
    with pytest.raises(AttributionImpossible, match=REFUSED[name]):
        asked(opened(name)[1], tmp_path)


def test_perturbed_attention_is_off_and_the_attention_as_it_was(tmp_path):
    pipeline = SPECIMENS["StableDiffusionPAGPipeline"].made()
    before = dict(pipeline.unet.attn_processors)
    PipelineAccess(pipeline, side_px=32)
    assert pipeline.unet.attn_processors == before


@pytest.mark.parametrize("name", ["StableDiffusionPipeline", "FluxPipeline"])
def test_caption_changes_the_gradient(name, tmp_path):
    _, access = opened(name)
    one, other = asked(access, tmp_path), asked(access, tmp_path, caption="two green birds on a fence")
    assert not np.allclose(one, other, rtol=1e-3)


def test_class_changes_the_gradient(tmp_path):
    _, access = opened("DiTPipeline")
    assert not np.allclose(asked(access, tmp_path, label=0), asked(access, tmp_path, label=1), rtol=1e-3)


def test_conditions_are_those_of_a_call_with_guidance_its_conditional_half():
    """What the pipeline itself gives its denoiser for the prompt, where it asks with and without it."""
    pipeline, access = opened("StableDiffusionXLPipeline")
    seen = []
    hook = pipeline.unet.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True)
    pipeline("a red fox", num_inference_steps=1, height=32, width=32, guidance_scale=5.0, output_type="latent")
    hook.remove()
    found = access.conditions("a red fox")
    assert torch.allclose(found["encoder_hidden_states"], seen[0]["encoder_hidden_states"][1:])
    for name in ("text_embeds", "time_ids"):
        assert torch.allclose(found["added_cond_kwargs"][name], seen[0]["added_cond_kwargs"][name][1:])


def test_prediction_is_what_the_pipeline_asks_for():
    pipeline, access = opened("FluxPipeline")
    seen = []
    hook = pipeline.transformer.register_forward_hook(
        lambda module, args, kwargs, output: seen.append((kwargs, output[0])), with_kwargs=True
    )
    generator = torch.Generator().manual_seed(0)
    pipeline(
        "a red fox",
        num_inference_steps=1,
        height=32,
        width=32,
        guidance_scale=1.0,
        output_type="latent",
        max_sequence_length=512,
        generator=generator,
    )
    hook.remove()
    said, predicted = seen[0]
    found = access.predict(said["hidden_states"], said["timestep"] * 1000, access.conditions("a red fox"))
    assert torch.allclose(found, predicted, atol=1e-5)


def test_latents_are_those_the_pipeline_would_decode():
    """A picture that its VAE knows to give back comes back: shift and scale are undone as they were done."""
    pipeline, access = opened("StableDiffusion3Pipeline")
    clean = access.encode(picture(32))
    vae = pipeline.vae
    mode = vae.encode(torch.from_numpy(picture(32)).permute(2, 0, 1)[None].float() / 127.5 - 1).latent_dist.mode()
    assert torch.allclose(clean / vae.config.scaling_factor + vae.config.shift_factor, mode[0], atol=1e-5)


def test_pipeline_leaves_the_caller_s_noise_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    opened("StableDiffusionPipeline")[1].conditions("a red fox")
    _, access = opened("DiTPipeline")
    torch.manual_seed(3)
    access.conditions(None, 1)
    assert torch.equal(torch.rand(1), expected)


class TestAdapters:
    def with_lora(self, seed=0):
        pipeline, _ = opened("StableDiffusionPipeline")
        torch.manual_seed(seed)
        pipeline.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False), "style")
        return pipeline

    def test_what_a_lora_adds_is_asked_alone(self, tmp_path):
        access = PipelineAccess(self.with_lora(), side_px=32)
        manifest = manifest_of(access, CHOICES._replace(patterns=("*lora_*",)))
        added = sum(one.numel() for name, one in access.network.named_parameters() if "lora_" in name)
        assert manifest.parameters == added
        assert np.linalg.norm(asked(access, tmp_path, choices=CHOICES._replace(patterns=("*lora_*",)))) > 0

    def test_base_model_is_the_same_with_an_adapter_over_it_and_pulls_otherwise(self, tmp_path):
        plain = PipelineAccess(opened("StableDiffusionPipeline")[0], side_px=32)
        laid = PipelineAccess(self.with_lora(), side_px=32)
        one, other = manifest_of(plain, CHOICES), manifest_of(laid, CHOICES)
        assert (one.weights_sha256, one.parameters) == (other.weights_sha256, other.parameters)
        assert not np.allclose(asked(plain, tmp_path), asked(laid, tmp_path), rtol=1e-3)

    def test_another_lora_is_another_model(self):
        patterns = CHOICES._replace(patterns=("*lora_*",))
        digests = {
            manifest_of(PipelineAccess(self.with_lora(seed), side_px=32), patterns).weights_sha256 for seed in (0, 1)
        }
        assert len(digests) == 2

    def test_adapters_are_on_as_they_were(self, tmp_path):
        pipeline = self.with_lora()
        pipeline.unet.set_adapters(["style"], [0.3])
        layer = next(one for one in pipeline.unet.modules() if hasattr(one, "lora_A"))
        scaling = dict(layer.scaling)
        asked(PipelineAccess(pipeline, side_px=32), tmp_path)
        assert dict(layer.scaling) == scaling
        assert layer.active_adapters == ["style"]


def test_weights_that_are_elsewhere_until_they_are_needed_are_refused():
    """As sequential offloading leaves them: on the device `meta`, with hooks that bring each one in."""
    from accelerate import cpu_offload

    pipeline, access = opened("StableDiffusionPipeline")
    cpu_offload(pipeline.unet, "cpu")
    with pytest.raises(AttributionImpossible, match="sequential"):
        manifest_of(access, CHOICES)


def test_hooks_that_bring_a_whole_model_in_are_fine(tmp_path):
    """As offloading of whole models does; here from the CPU to the CPU."""
    from accelerate import cpu_offload_with_hook

    pipeline, access = opened("StableDiffusionPipeline")
    expected = asked(access, tmp_path)
    cpu_offload_with_hook(pipeline.unet, "cpu")
    assert np.array_equal(asked(PipelineAccess(pipeline, side_px=32), tmp_path), expected)
