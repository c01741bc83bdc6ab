"""Gradients of images: one backward pass is all passes, the sketch keeps inner products, the model stays as it was."""

import numpy as np
import pytest
import torch
from attributed import tiny_unet
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.models.attention_processor import AttnProcessor

from guardrail.attribution_errors import AttributionImpossible
from guardrail.study.attribution.draws import Draws, drawn_for, row_of, stratified_times
from guardrail.study.attribution.functions import function_of, noising_of
from guardrail.study.attribution.gradients import Sketching, chosen_parameters, in_float32
from guardrail.study.attribution.sketch import CountSketch, places

K = 10
SHAPE = (3, 16, 16)


def clean(seed=3):
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def sketching(network, patterns=("*",), function="noise_norm", counters=256, scheduler=None, **more):
    parameters = chosen_parameters(network, patterns)
    sketch = CountSketch([one.numel() for one in parameters.values()], counters, 0)
    return Sketching(network, parameters, noising_of(scheduler or DDPMScheduler()), sketch, function, **more)


def flat(gradient):
    return torch.cat([part.flatten() for part in gradient if part is not None])


def off(one, other):
    return float((one - other).norm() / other.norm())


class TestDraws:
    def test_each_equal_part_of_the_schedule_has_one(self):
        assert torch.equal((stratified_times(K, 5) * K).floor(), torch.arange(K, dtype=torch.float64))

    def test_same_row_and_seed_draw_the_same_and_others_do_not(self):
        one, again = drawn_for(7, SHAPE, K, 1), drawn_for(7, SHAPE, K, 1)
        assert torch.equal(one.noise, again.noise)
        assert torch.equal(one.times, again.times)
        for other in (drawn_for(8, SHAPE, K, 1), drawn_for(7, SHAPE, K, 2)):
            assert abs(float((one.noise * other.noise).mean())) < 0.05

    def test_row_of_a_name_is_the_same_everywhere(self):
        assert row_of("default/file-1") == 5111099397469283063  # of sha256sum, its first 16 digits
        assert row_of("a\udcff") != row_of("a")


class TestSketch:
    def test_same_seed_gives_the_same_sketch_to_the_bit(self):
        gradient = [torch.randn(1000, generator=torch.Generator().manual_seed(0))]
        assert torch.equal(CountSketch([1000], 64, 9)(gradient), CountSketch([1000], 64, 9)(gradient))
        assert not torch.equal(CountSketch([1000], 64, 9)(gradient), CountSketch([1000], 64, 8)(gradient))

    def test_places_are_those_of_the_plain_hash(self):
        word = (3 + 1) * 0xBF58476D1CE4E5B9 % 2**64
        seed = (word ^ (word >> 29)) * 0x94D049BB133111EB % 2**64
        expected = []
        for number in range(5, 105):
            mixed = (number * 0x9E3779B97F4A7C15 + seed) % 2**64
            mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
            mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
            expected.append(((mixed ^ (mixed >> 31)) >> 1) % (2 * 64))
        assert places(5, 100, 64, 3).tolist() == expected

    def test_every_counter_and_sign_gets_its_share(self):
        counts = np.bincount(places(0, 256_000, 64, 1).numpy(), minlength=128)
        assert np.abs(counts - 2000).max() < 6 * 2000**0.5

    def test_pieces_of_a_large_gradient_give_the_same(self, monkeypatch):
        gradient = torch.randn(5000, generator=torch.Generator().manual_seed(0))
        whole = CountSketch([2000, 3000], 64, 9)([gradient[:2000], gradient[2000:]])
        monkeypatch.setattr("guardrail.study.attribution.sketch._KEPT", 0)
        monkeypatch.setattr("guardrail.study.attribution.sketch._PIECE", 700)
        assert torch.equal(CountSketch([2000, 3000], 64, 9)([gradient[:2000], gradient[2000:]]), whole)

    def test_inner_products_are_kept_on_average(self):
        generator = torch.Generator().manual_seed(0)
        one, noise = torch.randn(4000, generator=generator), torch.randn(4000, generator=generator)
        other = one + noise
        found = [
            float(CountSketch([4000], 512, seed)([one]) @ CountSketch([4000], 512, seed)([other])) for seed in range(40)
        ]
        expected = float(one @ other)
        spread = float(one.norm() * other.norm()) / 512**0.5
        assert abs(np.mean(found) - expected) < 4 * 2**0.5 * spread / 40**0.5
        assert np.std(found) < 2 * spread

    def test_missing_part_counts_as_zero(self):
        sketch = CountSketch([10, 10], 8, 0)
        assert torch.equal(sketch([torch.ones(10), None]), sketch([torch.ones(10), torch.zeros(10)]))
        assert torch.equal(sketch([None, None]), torch.zeros(8))

    def test_gradient_of_another_size_is_refused(self):
        with pytest.raises(ValueError, match="another part 0"):
            CountSketch([10], 8, 0)([torch.ones(9)])


class TestGradient:
    @pytest.mark.parametrize("function", ["noise_norm", "loss"])
    def test_one_pass_is_the_loop_over_draws(self, function):
        network = tiny_unet()
        made, draws = sketching(network, function=function), drawn_for(1, SHAPE, K, 0)
        each = [flat(made.gradient(clean(), draws.part(slice(at, at + 1)))) for at in range(K)]
        assert off(flat(made.gradient(clean(), draws)), torch.stack(each).mean(0)) < 1e-5

    def test_one_pass_is_vmap_over_draws(self):
        network = tiny_unet().eval()
        for module in network.modules():
            if hasattr(module, "set_processor"):
                module.set_processor(AttnProcessor())  # plain: vmap knows no fused attention
        draws, parameters = drawn_for(1, SHAPE, K, 0), {name: one.detach() for name, one in network.named_parameters()}
        noising, image = noising_of(DDPMScheduler()), clean()

        def value(weights, time, noise):
            def predict(noisy, steps):
                return torch.func.functional_call(network, weights, (noisy, steps), {"return_dict": False})[0]

            return function_of(predict, noising, image, Draws(time[None], noise[None]), "noise_norm")

        each = torch.func.vmap(torch.func.grad(value), in_dims=(None, 0, 0))(parameters, draws.times, draws.noise)
        mean = flat([each[name].mean(0) for name in parameters])
        assert off(flat(sketching(network).gradient(clean(), draws)), mean) < 1e-5

    @pytest.mark.parametrize("at_once", [1, 3, 10, 99])
    def test_fewer_draws_at_once_give_the_same(self, at_once):
        network, draws = tiny_unet(), drawn_for(1, SHAPE, K, 0)
        assert off(sketching(network, at_once=at_once)(clean(), draws), sketching(network)(clean(), draws)) < 1e-5

    def test_parts_of_the_draws_average_to_the_whole(self):
        made, draws = sketching(tiny_unet()), drawn_for(1, SHAPE, K, 0)
        halves = [made(clean(), draws.part(slice(at, None, 2))) for at in range(2)]
        assert off(torch.stack(halves).mean(0), made(clean(), draws)) < 1e-5

    def test_same_question_has_the_same_answer_to_the_bit(self):
        one, other = (sketching(tiny_unet())(clean(), drawn_for(1, SHAPE, K, 0)) for _ in range(2))
        assert torch.equal(one, other)

    def test_gradient_checkpointing_gives_the_same_and_stays_on(self):
        plain, network = tiny_unet(), tiny_unet()
        network.enable_gradient_checkpointing()
        draws = drawn_for(1, SHAPE, 4, 0)
        assert off(sketching(network)(clean(), draws), sketching(plain)(clean(), draws)) < 1e-5
        assert network.is_gradient_checkpointing

    def test_it_is_asked_within_inference_mode_too(self):
        draws, made = drawn_for(1, SHAPE, 2, 0), sketching(tiny_unet())
        expected = made(clean(), draws)
        with torch.inference_mode():
            assert torch.equal(made(clean(), draws), expected)

    def test_tokens_are_images_too(self):
        class Tokens(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.line = torch.nn.Linear(4, 4)

            def forward(self, noisy, steps, return_dict=True):
                return (self.line(noisy),)

        made = sketching(Tokens(), scheduler=FlowMatchEulerDiscreteScheduler(), counters=8)
        assert torch.isfinite(made(torch.ones(6, 4), drawn_for(1, (6, 4), 3, 0))).all()


class TestModelIsAsItWas:
    def test_weights_modes_and_gradients(self):
        network = tiny_unet().train()
        network.conv_in.requires_grad_(False)
        network.conv_out.weight.grad = torch.ones_like(network.conv_out.weight)
        before = {name: one.clone() for name, one in network.state_dict().items()}
        sketching(network, ["mid_block*"])(clean(), drawn_for(1, SHAPE, 2, 0))
        assert all(torch.equal(before[name], one) for name, one in network.state_dict().items())
        assert network.training
        assert network.mid_block.training
        assert not network.conv_in.weight.requires_grad
        assert network.conv_out.weight.requires_grad
        assert torch.equal(network.conv_out.weight.grad, torch.ones_like(network.conv_out.weight))
        assert network.conv_out.bias.grad is None

    def test_after_an_error_too(self):
        network = tiny_unet().train()
        made = sketching(network, ["mid_block*"])
        network.conv_out.register_forward_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            made(clean(), drawn_for(1, SHAPE, 2, 0))
        assert network.training
        assert all(one.requires_grad for one in network.parameters())

    def test_half_precision_is_asked_in_float32_and_comes_back(self):
        network = tiny_unet().half()
        expected = tiny_unet().half().float()
        before = {name: one.clone() for name, one in network.state_dict().items()}
        draws = drawn_for(1, SHAPE, 2, 0)
        with in_float32(network):
            found = sketching(network)(clean(), draws)
        assert torch.equal(found, sketching(expected)(clean(), draws))
        assert all(one.dtype == torch.float16 for one in network.parameters())
        assert all(torch.equal(before[name], one) for name, one in network.state_dict().items())

    def test_half_precision_comes_back_after_an_error(self):
        network = tiny_unet().to(torch.bfloat16)
        with pytest.raises(ZeroDivisionError), in_float32(network):
            raise ZeroDivisionError
        assert all(one.dtype == torch.bfloat16 for one in network.parameters())


class TestChosenParameters:
    def test_blocks_by_name(self):
        chosen = chosen_parameters(tiny_unet(), ["mid_block*"])
        assert chosen
        assert all(name.startswith("mid_block") for name in chosen)

    def test_none_is_an_error_that_names_one(self):
        with pytest.raises(AttributionImpossible, match=r"no parameter like attn9\*.*such as conv_in"):
            chosen_parameters(tiny_unet(), ["attn9*"])

    def test_weights_on_meta_are_refused(self):
        with pytest.raises(AttributionImpossible, match="sequential"):
            chosen_parameters(tiny_unet().to("meta"))


class TestNoising:
    """Against the formulas, written out by hand."""

    NOISE, CLEAN = torch.randn(1, 2, 2, 2, generator=torch.Generator().manual_seed(1)), torch.full((2, 2, 2), 0.5)

    def asked(self, scheduler, predicted, function):
        seen = {}

        def predict(noisy, steps):
            seen["noisy"], seen["steps"] = noisy, steps
            return predicted

        draws = Draws(torch.tensor([0.5], dtype=torch.float64), self.NOISE)
        return float(function_of(predict, noising_of(scheduler), self.CLEAN, draws, function)), seen

    def kept(self):
        return float(DDPMScheduler().alphas_cumprod[500])

    @pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
    def test_a_perfect_prediction_has_no_loss_and_the_norm_of_the_noise(self, kind):
        a, s = self.kept() ** 0.5, (1 - self.kept()) ** 0.5
        said = {"epsilon": self.NOISE, "v_prediction": a * self.NOISE - s * self.CLEAN, "sample": self.CLEAN[None]}[
            kind
        ]
        scheduler = DDPMScheduler(prediction_type=kind)
        loss, seen = self.asked(scheduler, said, "loss")
        assert loss == pytest.approx(0, abs=1e-9)
        assert torch.allclose(seen["noisy"], a * self.CLEAN + s * self.NOISE, atol=1e-6)
        assert seen["steps"].tolist() == [500]
        assert self.asked(scheduler, said, "noise_norm")[0] == pytest.approx(float(self.NOISE.square().sum()), rel=1e-4)

    def test_flow(self):
        scheduler, velocity = FlowMatchEulerDiscreteScheduler(), self.NOISE - self.CLEAN
        loss, seen = self.asked(scheduler, velocity, "loss")
        assert loss == pytest.approx(0, abs=1e-9)
        assert torch.allclose(seen["noisy"], 0.5 * self.CLEAN + 0.5 * self.NOISE)
        assert seen["steps"].tolist() == [500]
        assert self.asked(scheduler, velocity, "noise_norm")[0] == pytest.approx(
            float(self.NOISE.square().sum()), rel=1e-5
        )

    def test_a_wrong_prediction_costs_its_squared_distance(self):
        assert self.asked(DDPMScheduler(), self.NOISE + 0.1, "loss")[0] == pytest.approx(8 * 0.01, rel=1e-3)

    def test_variance_in_further_channels_is_left_out(self):
        both = torch.cat([self.NOISE, torch.full_like(self.NOISE, 9.0)], dim=1)
        assert self.asked(DDPMScheduler(), both, "loss")[0] == pytest.approx(0, abs=1e-9)

    def test_unknown_schedules_are_refused(self):
        with pytest.raises(AttributionImpossible, match="NoneType"):
            noising_of(None)
        with pytest.raises(AttributionImpossible, match="that is no flow"):
            noising_of(FlowMatchEulerDiscreteScheduler(invert_sigmas=True))


@pytest.mark.gpu
def test_gpu_gives_the_same_gradient():
    draws = drawn_for(1, SHAPE, K, 0)
    there = tiny_unet().cuda()
    assert off(sketching(there)(clean().cuda(), draws).cpu(), sketching(tiny_unet())(clean(), draws)) < 1e-3
