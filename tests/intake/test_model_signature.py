"""A model's signature: made by the package `model-signing` with a key or certificate of the test, and checked."""

import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
import torch
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing import hashing, signing
from pydantic import ValidationError
from run_samples import SmallPipeline, small_pipeline

from guardrail.errors import ModelUnsigned
from guardrail.intake import finish_context, read_context
from guardrail.intake import model_signature as room
from guardrail.records import GenerationContext, ModelSignature
from guardrail.settings import ModelSettings, Settings
from guardrail_hooks import model_signature as plugin

FILE = "diffusion_pytorch_model.safetensors"


def private_pem(path, key):
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(key.private_bytes(*form))
    return path


def public_pem(path, key):
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    path.write_bytes(key.public_key().public_bytes(*form))
    return path


def certified(folder, key, name="Ink Ltd"):
    """A root and a leaf under it for a key: (leaf, root), PEM files."""
    root_key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)

    def certificate(subject, public, issuer, is_root):
        names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, one)]) for one in (subject, issuer)]
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign"), False
        )
        usage |= {"digital_signature": not is_root, "key_cert_sign": is_root}
        usage |= {"encipher_only": False, "decipher_only": False}
        built = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1]).public_key(public)
        built = built.serial_number(x509.random_serial_number())
        built = built.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=9))
        built = built.add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
        built = built.add_extension(x509.KeyUsage(**usage), critical=True)
        return built.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    leaf, root = folder / "leaf.pem", folder / "root.pem"
    leaf.write_bytes(certificate(name, key.public_key(), "A root", False))
    root.write_bytes(certificate("A root", root_key.public_key(), "A root", True))
    return leaf, root


@pytest.fixture
def key():
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    small_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def asked(model, key, tmp_path):
    """A model that was signed with a key, and the settings that ask for it."""
    signature = tmp_path / "model.sig"
    config = signing.Config().use_elliptic_key_signer(private_key=private_pem(tmp_path / "signer.key", key))
    config.sign(model, signature)
    return ModelSettings(signature=signature, public_key=public_pem(tmp_path / "signer.pub", key))


def signature_of(pipe, asked, home):
    context = read_context(pipe, pipe.__call__, (), {})
    return finish_context(context, pipe, Settings(home=home / "home", model=asked)).model_signature


def test_signed_model_that_ran_as_it_is_in_its_files_is_verified(model, asked, key, tmp_path):
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    own = hashlib.sha256(key.public_key().public_bytes(*form)).hexdigest()
    found = signature_of(SmallPipeline.from_pretrained(model), asked, tmp_path)
    assert found == ModelSignature(outcome="verified", signed_by=f"key sha256:{own}")


def test_certificate_names_who_signed(model, key, tmp_path):
    leaf, root = certified(tmp_path, key)
    signature = tmp_path / "model.sig"
    own = private_pem(tmp_path / "signer.key", key)
    config = signing.Config()
    config.use_certificate_signer(private_key=own, signing_certificate=leaf, certificate_chain=[root])
    config.sign(model, signature)
    asked = ModelSettings(signature=signature, certificates=root)
    found = signature_of(SmallPipeline.from_pretrained(model), asked, tmp_path)
    assert found == ModelSignature(outcome="verified", signed_by="Ink Ltd")
    other = tmp_path / "other"
    other.mkdir()
    _, foreign_root = certified(other, ec.generate_private_key(ec.SECP256R1()))
    asked = ModelSettings(signature=signature, certificates=foreign_root)
    assert signature_of(SmallPipeline.from_pretrained(model), asked, tmp_path).outcome == "failed"


def tampered_weights(model):
    path = model / "unet" / FILE
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.with_suffix(".new").write_bytes(content)
    path.with_suffix(".new").replace(path)


def another_config(model):
    path = model / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"beta_end": 0.5}))


def a_file_more(model):
    (model / "unet" / "more.txt").write_text("more")


@pytest.mark.parametrize("change", [tampered_weights, another_config, a_file_more])
def test_folder_that_is_not_as_it_was_signed_fails(model, asked, tmp_path, change):
    change(model)
    found = signature_of(SmallPipeline.from_pretrained(model), asked, tmp_path)
    assert found.outcome == "failed"
    assert "mismatch" in found.reason


def test_change_after_a_first_check_is_noticed(model, asked, tmp_path):
    pipe = SmallPipeline.from_pretrained(model)
    assert signature_of(pipe, asked, tmp_path).outcome == "verified"
    another_config(model)
    assert signature_of(pipe, asked, tmp_path).outcome == "failed"


def test_check_is_made_once_while_nothing_changes(model, asked, tmp_path, monkeypatch):
    checked = []
    real = room.check_signature
    monkeypatch.setattr(room, "check_signature", lambda *given: checked.append(1) or real(*given))
    pipe = SmallPipeline.from_pretrained(model)
    assert [signature_of(pipe, asked, tmp_path).outcome for _ in range(3)] == ["verified"] * 3
    assert checked == [1]


def test_weights_that_are_not_in_the_files_fail_whatever_was_signed(model, asked, tmp_path):
    pipe = SmallPipeline.from_pretrained(model)
    with torch.no_grad():
        pipe.unet.conv_in.bias += 1
    assert "modified" in signature_of(pipe, asked, tmp_path).reason


def test_model_that_came_from_no_folder_fails(asked, tmp_path):
    found = signature_of(small_pipeline(), asked, tmp_path)
    assert (found.outcome, found.reason.split(":")[0]) == ("failed", "weights that are unknown")


def test_object_without_weights_fails(asked, tmp_path):
    assert signature_of(lambda: None, asked, tmp_path).reason == "weights that are found nowhere"


def test_weights_that_the_signer_left_out_fail(model, key, tmp_path):
    signature = tmp_path / "model.sig"
    config = signing.Config().use_elliptic_key_signer(private_key=private_pem(tmp_path / "signer.key", key))
    config.set_hashing_config(hashing.Config().set_ignored_paths(paths=[model / "unet" / FILE]))
    config.sign(model, signature)
    asked = ModelSettings(signature=signature, public_key=public_pem(tmp_path / "signer.pub", key))
    found = signature_of(SmallPipeline.from_pretrained(model), asked, tmp_path)
    assert (found.outcome, "not among those" in found.reason) == ("failed", True)


def test_another_key_fails(model, asked, tmp_path):
    other = public_pem(tmp_path / "other.pub", ec.generate_private_key(ec.SECP256R1()))
    found = signature_of(
        SmallPipeline.from_pretrained(model), ModelSettings(signature=asked.signature, public_key=other), tmp_path
    )
    assert found.outcome == "failed"


@pytest.mark.parametrize("content", ["", "{}", "no json", None])
def test_broken_or_missing_signature_fails(model, asked, tmp_path, content):
    if content is None:
        asked.signature.unlink()
    else:
        asked.signature.write_text(content)
    assert signature_of(SmallPipeline.from_pretrained(model), asked, tmp_path).outcome == "failed"


def test_missing_package_fails(model, asked, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "model_signing.verifying", None)
    found = signature_of(SmallPipeline.from_pretrained(model), asked, tmp_path)
    assert (found.outcome, "ExtraMissing" in found.reason) == ("failed", True)


def test_no_signature_is_looked_for_unless_asked(model, tmp_path):
    assert signature_of(SmallPipeline.from_pretrained(model), ModelSettings(), tmp_path) is None


@pytest.mark.parametrize("trusted", [{}, {"public_key": "a.pub", "certificates": "b.pem"}])
def test_settings_say_whom_to_trust(trusted):
    with pytest.raises(ValidationError, match="one of public_key and certificates"):
        ModelSettings(signature="model.sig", **trusted)


# --- what it means for an image -------------------------------------------------------------------------------------


def run(found):
    return GenerationContext(pipeline="SmallPipeline", model_signature=found)


@pytest.mark.parametrize("found", [None, ModelSignature(outcome="failed", reason="Signature mismatch")])
def test_hook_find_evidence_fails_where_a_signature_is_asked_for_and_does_not_hold(found, asked):
    with pytest.raises(ModelUnsigned, match="as they were signed"):
        plugin.find_evidence(run(found), Settings(model=asked))


def test_signature_that_holds_or_is_not_asked_for_is_no_evidence(asked):
    assert plugin.find_evidence(run(ModelSignature(outcome="verified", signed_by="x")), Settings(model=asked)) is None
    assert plugin.find_evidence(run(ModelSignature(outcome="failed")), Settings()) is None
    assert plugin.find_evidence(None, Settings(model=asked)) is None
