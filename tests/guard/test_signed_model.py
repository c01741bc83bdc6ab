"""A guard whose settings ask for a signed model: what runs unsigned, changed or unproved is never accepted."""

import pytest
import torch
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from diffusers import DDIMScheduler, DiffusionPipeline, UNet2DModel
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from model_signing import signing

from guardrail.act import GENERATION_LABEL, sdk
from guardrail.records import CheckFailed, Decision


class PaintingPipeline(DiffusionPipeline):
    """Has a model from a folder, and shows the picture it is told to."""

    def __init__(self, unet, scheduler):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    def __call__(self, prompt=None):
        return ImagePipelineOutput(images=[self.shows])


def small_unet():
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )


@pytest.fixture
def signed_model(tmp_path):
    """A model's folder that was signed, and the settings that ask for it."""
    folder, key = tmp_path / "model", ec.generate_private_key(ec.SECP256R1())
    PaintingPipeline(small_unet(), DDIMScheduler()).save_pretrained(folder)
    pem = serialization.Encoding.PEM
    form = (pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "signer.key").write_bytes(key.private_bytes(*form))
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "signer.pub").write_bytes(public)
    config = signing.Config().use_elliptic_key_signer(private_key=tmp_path / "signer.key")
    config.sign(folder, tmp_path / "model.sig")
    return folder, {"signature": tmp_path / "model.sig", "public_key": tmp_path / "signer.pub"}


def made_by(guard, folder, picture, change=None):
    pipe = PaintingPipeline.from_pretrained(folder)
    if change is not None:
        change(pipe)
    pipe.shows = picture
    output = guard.wrap(pipe)("a fox")
    guard.unwrap(pipe)
    return output.guard


def generation_in(path, world):
    reading = sdk.read(path.read_bytes(), "image/png", [(world.keys / "root.pem").read_bytes()])
    return reading.assertions[GENERATION_LABEL]["model"]


def test_image_of_a_signed_model_leaves_and_says_so(make_guard, world, pictures, signed_model, tmp_path):
    folder, asked = signed_model
    report = made_by(make_guard(model=asked), folder, pictures["new"])
    assert report.verdicts[0].decision is Decision.ACCEPT
    (path,) = report.save(tmp_path / "out")
    said = generation_in(path, world)
    assert (said["weights"], said["signature"]) == ("as_in_files", "verified")
    assert said["signed_by"].startswith("key sha256:")
    assert len(said["files_sha256"]) == 1


def trained(pipe):
    with torch.no_grad():
        pipe.unet.conv_in.bias += 1


@pytest.mark.parametrize("tampering", ["weights in memory", "file", "key"])
def test_image_of_another_model_is_never_accepted(make_guard, pictures, signed_model, tmp_path, tampering):
    folder, asked = signed_model
    if tampering == "file":
        (folder / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "DDIMScheduler"}')
    if tampering == "key":
        other = ec.generate_private_key(ec.SECP256R1()).public_key()
        form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        asked["public_key"].write_bytes(other.public_bytes(*form))
    change = trained if tampering == "weights in memory" else None
    (verdict,) = made_by(make_guard(model=asked), folder, pictures["new"], change).verdicts
    assert verdict.decision is Decision.BLOCK
    (failed,) = (one for one in verdict.evidence if isinstance(one, CheckFailed))
    assert failed.check == "find_evidence:model_signature"


def test_nothing_is_asked_of_a_model_unless_the_settings_say_so(make_guard, world, pictures, signed_model, tmp_path):
    folder, _ = signed_model
    (path,) = made_by(make_guard(), folder, pictures["new"], trained).save(tmp_path / "out")
    said = generation_in(path, world)
    assert (said["weights"], said["signature"]) == ("modified", "not_asked")
    assert "files_sha256" not in said


def test_images_without_a_run_are_judged_as_ever(make_guard, pictures, signed_model):
    (verdict,) = make_guard(model=signed_model[1]).check(pictures["new"]).verdicts
    assert verdict.decision is Decision.ACCEPT
