"""Whether the weights that ran are those in the model's files: proved, changed since, or not known."""

import hashlib
import os
import threading
import time
from concurrent.futures import Future

import pytest
import torch
from run_samples import SmallPipeline, add_lora, small_pipeline, small_unet
from safetensors.torch import load_file, save_file

from guardrail.intake import finish_context, read_context, remember_weights, weights
from guardrail.intake.digests_kept import KeptDigests
from guardrail.intake.model_files import files_of, files_of_part, found_at_last, found_so_far
from guardrail.settings import Settings

FILE = "diffusion_pytorch_model.safetensors"


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "model"
    small_pipeline().save_pretrained(folder)
    return folder


def replaced(path, write):
    """Put another file in the place of one: weights may be mapped from it, and would change or crash with it."""
    write(path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def found(part, name="unet", digests=None):
    return files_of_part(name, part, digests or KeptDigests()).result(timeout=60)


def loaded(folder, **said):
    from run_samples import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(folder / "unet", **said)


def test_model_as_it_was_loaded_is_in_its_files(saved):
    assert found(loaded(saved)).sha256 == (sha256(saved / "unet" / FILE),)


def test_whole_pipeline_is_in_its_files(saved, tmp_path):
    pipe = SmallPipeline.from_pretrained(saved)
    context = read_context(pipe, pipe.__call__, (), {})
    files = finish_context(context, pipe, Settings(home=tmp_path)).model_files
    assert (files.state, files.sha256) == ("as_in_files", (sha256(saved / "unet" / FILE),))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_that_loading_converted_are_those_in_the_file(saved, dtype):
    assert found(loaded(saved, torch_dtype=dtype)).state == "as_in_files"


def test_weights_that_were_converted_afterwards_are_too(saved):
    assert found(loaded(saved).to(torch.float16)).state == "as_in_files"


def test_model_in_several_files_is_known_by_all_of_them(tmp_path):
    small_unet().save_pretrained(tmp_path / "unet", max_shard_size="40KB")
    shards = sorted((tmp_path / "unet").glob("*.safetensors"))
    assert len(shards) > 1
    assert found(loaded(tmp_path)).sha256 == tuple(sha256(shard) for shard in shards)


def test_right_one_of_two_files_is_found(saved):
    small_unet(seed=3).save_pretrained(saved / "unet", variant="ema")
    names = sorted(file.name for file in (saved / "unet").glob("*.safetensors"))
    assert len(names) == 2
    assert found(loaded(saved, variant="ema")).files[0].name == "diffusion_pytorch_model.ema.safetensors"
    assert found(loaded(saved)).files[0].name == FILE


@pytest.mark.parametrize("change", ["trained", "fused", "file"])
def test_other_weights_than_those_in_the_file_are_modified(saved, change):
    pipe = SmallPipeline.from_pretrained(saved)
    if change == "trained":
        with torch.no_grad():
            pipe.unet.conv_in.weight[0, 0, 0, 0] += 1
    elif change == "fused":
        add_lora(pipe, "ink")
        pipe.fuse_lora(components=["unet"])
    else:
        tensors = load_file(saved / "unet" / FILE)
        tensors["conv_in.bias"] = tensors["conv_in.bias"] + 1
        replaced(saved / "unet" / FILE, lambda path: save_file(tensors, path))
    assert found(pipe.unet).state == "modified"


def test_lora_that_only_lies_over_a_model_modifies_nothing(saved):
    pipe = SmallPipeline.from_pretrained(saved)
    add_lora(pipe, "ink")
    assert found(pipe.unet).state == "as_in_files"


def test_change_after_a_first_look_is_noticed_and_undone(saved):
    unet, digests = loaded(saved), KeptDigests()
    bias, states = unet.conv_in.bias.detach().clone(), []
    for value in (bias, bias + 1, bias):
        with torch.no_grad():
            unet.conv_in.bias.copy_(value)
        states.append(found(unet, digests=digests).state)
    assert states == ["as_in_files", "modified", "as_in_files"]


def test_model_that_came_from_no_folder_is_unknown():
    assert (found(small_unet()).state, found(small_unet()).reason) == (
        "unknown",
        "it was not loaded from a folder of this machine",
    )


def test_file_with_other_names_is_unknown_and_not_modified(saved):
    unet = loaded(saved)
    tensors = load_file(saved / "unet" / FILE)
    tensors = {f"old.{name}": tensor for name, tensor in tensors.items()}
    replaced(saved / "unet" / FILE, lambda path: save_file(tensors, path))
    assert found(unet).state == "unknown"


def test_broken_file_is_unknown(saved):
    unet = loaded(saved)
    replaced(saved / "unet" / FILE, lambda path: path.write_bytes(b"no safetensors"))
    assert found(unet).state == "unknown"


def test_one_modified_part_modifies_the_model(saved):
    whole, part = found(loaded(saved)), found(loaded(saved))
    changed = loaded(saved)
    with torch.no_grad():
        changed.conv_in.bias += 1
    assert files_of([whole, part]).sha256 == whole.sha256 * 2
    assert files_of([found(small_unet()), found(changed), whole]).state == "modified"
    assert files_of([whole, found(small_unet())]).state == "unknown"
    assert files_of([]).state == "unknown"


def test_large_model_is_looked_at_in_the_background(saved, monkeypatch):
    monkeypatch.setattr("guardrail.intake.model_files._AT_ONCE_BYTES", 0)
    unet = loaded(saved)
    started = time.perf_counter()
    made = files_of_part("unet", unet, KeptDigests())
    assert time.perf_counter() - started < 5
    assert found_so_far(made).state in {"unknown", "as_in_files"}
    assert made.result(timeout=60).state == "as_in_files"


def test_nothing_known_yet_is_unknown():
    assert found_so_far(Future()).reason == "it is still being found out"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_forked_process_finds_out_by_itself_what_a_thread_was_at(saved, monkeypatch):
    """Threads do not come along: a child that waited for them would wait for ever."""
    go, began = threading.Event(), threading.Event()
    real = weights.named_digest

    def slow(tensors):
        began.set()
        assert go.wait(60)
        return real(tensors)

    monkeypatch.setattr(weights, "_AT_ONCE_BYTES", 0)
    monkeypatch.setattr(weights, "named_digest", slow)
    unet = loaded(saved)
    made = files_of_part("unet", unet, KeptDigests())
    assert began.wait(60)
    child = os.fork()
    if child == 0:
        go.set()
        monkeypatch.setattr(weights, "named_digest", real)
        same = files_of_part("unet", unet, KeptDigests()).result(timeout=30).state == "as_in_files"
        os._exit(0 if same else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    go.set()
    assert made.result(timeout=60).state == "as_in_files"


def test_what_is_never_found_out_is_unknown(monkeypatch):
    monkeypatch.setattr("guardrail.intake.model_files._LONGEST_WAIT_S", 0.01)
    assert found_at_last(Future()).state == "unknown"


def test_wrapping_begins_the_look(saved, tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(
        "guardrail.intake.context.files_of_part", lambda name, part, digests: begun.append((name, digests))
    )
    remember_weights(SmallPipeline.from_pretrained(saved), Settings(home=tmp_path))
    assert [name for name, _ in begun] == ["unet"]
