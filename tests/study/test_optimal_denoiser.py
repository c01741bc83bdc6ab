import torch
from diffusers import DDIMPipeline, DDPMScheduler

from guardrail.study import OptimalDenoiser, overfitted_pipeline


def works(count=5, side=8):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def generated(pipe, count, seed=0):
    pipe.set_progress_bar_config(disable=True)
    images = pipe(
        batch_size=count, num_inference_steps=20, generator=torch.Generator().manual_seed(seed), output_type="np"
    ).images
    return torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1


def test_every_sample_is_a_training_image_and_many_are_given_back():
    training = works()
    distances = torch.cdist(generated(overfitted_pipeline(training), 32).flatten(1), training.flatten(1))
    nearest = distances.min(1)
    assert (nearest.values / (3 * 8 * 8) ** 0.5).max() < 0.01
    assert len(nearest.indices.unique()) == 5


def test_prediction_is_the_posterior_mean_worked_out_one_by_one():
    training = works(3)
    denoiser = OptimalDenoiser(images=3, sample_size=8)
    denoiser.works.data.copy_(training)
    noisy, at = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([900, 100])
    predicted = denoiser(noisy, at).sample
    kept = DDPMScheduler().alphas_cumprod
    for row in range(2):
        a = kept[at[row]].double()
        weights = torch.stack(
            [torch.exp(-((noisy[row] - a.sqrt() * w) ** 2).double().sum() / (2 * (1 - a))) for w in training]
        )
        if weights.sum() == 0:  # far from all works: the nearest has all the weight
            squares = torch.stack([((noisy[row] - a.sqrt() * w) ** 2).sum() for w in training])
            weights = torch.nn.functional.one_hot(squares.argmin(), 3).double()
        mean = (weights[:, None, None, None] / weights.sum() * training).sum(0)
        expected = (noisy[row] - a.sqrt() * mean) / (1 - a).sqrt()
        assert torch.allclose(predicted[row].double(), expected, atol=1e-4)


def test_one_training_image_is_all_there_is():
    training = works(1)
    assert torch.allclose(generated(overfitted_pipeline(training), 2), training.expand(2, -1, -1, -1), atol=0.01)


def test_pipeline_saves_and_loads(tmp_path):
    pipe = overfitted_pipeline(works())
    pipe.save_pretrained(tmp_path)
    loaded = DDIMPipeline(unet=OptimalDenoiser.from_pretrained(tmp_path / "unet"), scheduler=pipe.scheduler)
    assert torch.equal(generated(pipe, 3), generated(loaded, 3))


def test_tuple_is_returned_when_asked():
    denoiser = overfitted_pipeline(works()).unet
    noisy = torch.zeros(1, 3, 8, 8)
    assert torch.equal(denoiser(noisy, 500, return_dict=False)[0], denoiser(noisy, 500).sample)
