"""`guardrail signs calibrate`, from a folder to limits that a run then uses."""

import json
import sys

import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

from guardrail.desk.cli import main
from guardrail.desk.signs_run import WantedSigns, calibrate_signs, read_prompts
from guardrail.errors import BackgroundTooSmall, SettingsInvalid
from guardrail.intake import read_context
from guardrail.intake.adapters import STILL_BEING_MADE
from guardrail.intake.watching import Watch, watched_call
from guardrail.plugins import build_plugins
from guardrail.records import CheckFailed, MemorisationSign
from guardrail.settings import Settings

RUNS = 200


@pytest.fixture(scope="module")
def pipeline():
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(4, 4),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=2,
        attention_head_dim=2,
    ).eval()
    pipe = DDIMPipeline(unet=unet, scheduler=DDIMScheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def calibrated(pipeline, tmp_path_factory):
    """Settings whose folder holds the calibration that the command wrote, and what it printed."""
    home = tmp_path_factory.mktemp("home")
    pipeline.save_pretrained(home / "pipe")
    settings = home / "guardrail.toml"
    settings.write_text(f'home = "{home}"\n[signs.update_norm]\n[signs.noise_magnitude]\n', encoding="utf-8")
    return home, settings


def run(capsys, *words):
    sys.argv = ["guardrail", "signs", "calibrate", *map(str, words)]
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_command_fits_limits_that_a_run_uses(calibrated, pipeline, capsys):
    home, toml = calibrated
    code, out, err = run(capsys, home / "pipe", "--steps", 2, "--settings", toml, "--json")
    assert code == 0, err
    said = json.loads(out)
    (sign,) = said["signs"]
    assert (sign["sign"], sign["runs"], said["steps"], said["pipeline"]) == ("update_norm", RUNS, 2, "DDIMPipeline")
    assert sign["lowest"] < sign["flag"]["limit"] <= sign["block"]["limit"]
    assert said["unavailable"] == {"noise_magnitude": "one prediction a step: guidance is off, or built into the model"}
    found = signs_of(pipeline, Settings.from_file(toml), 2)
    assert (found.calibration, found.flag_above) == (said["id"], sign["flag"]["limit"])
    assert found.block_above == sign["block"]["limit"]


def signs_of(pipe, settings, steps, **more):
    given = {"num_inference_steps": steps, "output_type": "np", **more}
    context = read_context(pipe, pipe.__call__, (), given)
    watch = Watch(build_plugins(), settings, context)
    found = watched_call(pipe, pipe.__call__, (), given, watch).signs_for(0, 1, "x")
    return next(one for one in found if getattr(one, "sign", "update_norm") == "update_norm" and _is_norm(one))


def _is_norm(one):
    return isinstance(one, MemorisationSign) or (isinstance(one, CheckFailed) and one.check == "sign:update_norm")


@pytest.fixture
def fitted(pipeline, tmp_path):
    """A calibration at two steps, in a home of its own."""
    settings = Settings(home=tmp_path, signs={"update_norm": {}})
    wanted = WantedSigns(seeds_each=RUNS, options={"num_inference_steps": 2})
    return settings, calibrate_signs(pipeline, wanted, settings)


def test_limits_hold_for_what_they_were_fitted_to_only(pipeline, fitted):
    settings, made = fitted
    assert signs_of(pipeline, settings, 2).calibration == made.calibration.id
    assert signs_of(pipeline, settings, 3).calibration == "uncalibrated: for 2 steps only"
    first = settings.model_copy(
        update={"signs": {"update_norm": settings.signs["update_norm"].model_copy(update={"steps": 1})}}
    )
    assert signs_of(pipeline, first, 2).calibration == "uncalibrated: this sign, at this setting of steps"
    other = DDIMPipeline(unet=type(pipeline.unet).from_config(pipeline.unet.config), scheduler=pipeline.scheduler)
    other.set_progress_bar_config(disable=True)
    found = signs_of(other, settings, 2)
    assert (found.calibration, found.flag_above) == ("uncalibrated: for other weights only", None)


def test_digest_that_was_made_during_the_run_still_counts(pipeline, fitted):
    settings, made = fitted
    given = {"num_inference_steps": 2, "output_type": "np"}
    context = read_context(pipeline, pipeline.__call__, (), given)
    early = context.model_copy(update={"weights_sha256": None, "unread": (f"weights: {STILL_BEING_MADE}",)})
    found = watched_call(pipeline, pipeline.__call__, (), given, Watch(build_plugins(), settings, early))
    assert found.signs_for(0, 1, "x")[0].calibration == made.calibration.id


def test_run_of_which_nothing_is_known_is_uncalibrated(pipeline, fitted):
    settings, _ = fitted
    found = watched_call(pipeline, pipeline.__call__, (), {"num_inference_steps": 2}, Watch(build_plugins(), settings))
    (sign,) = found.signs_for(0, 1, "x")
    assert sign.calibration == "uncalibrated: the digest of the pipeline's weights was not read"
    assert (sign.flag_above, str(sign.reaches)) == (None, "accept")


def test_settings_take_the_place_of_a_limit(pipeline, fitted):
    settings, made = fitted
    own = settings.model_copy(
        update={"signs": {"update_norm": settings.signs["update_norm"].model_copy(update={"flag_above": 0.25})}}
    )
    found = signs_of(pipeline, own, 2)
    assert found.calibration == f"{made.calibration.id}, overridden"
    assert (found.flag_above, found.block_above) == (0.25, made.calibration.signs[0].block.limit)


def test_edited_calibration_is_a_failed_check(pipeline, fitted):
    settings, made = fitted
    text = made.path.read_text(encoding="utf-8")
    made.path.write_text(text.replace('"steps": 2', '"steps": 3', 1), encoding="utf-8")
    found = signs_of(pipeline, settings, 2)
    assert isinstance(found, CheckFailed)
    assert "fit limits anew" in found.error


def test_too_few_runs_are_refused_before_any_is_made(pipeline, tmp_path):
    with pytest.raises(BackgroundTooSmall, match="199 pictures"):
        calibrate_signs(pipeline, WantedSigns(seeds_each=199), Settings(home=tmp_path))


def test_pipeline_on_which_nothing_can_be_measured_is_refused(pipeline, tmp_path):
    settings = Settings(home=tmp_path, signs={"noise_magnitude": {}})
    with pytest.raises(SettingsInvalid, match="one prediction a step"):
        calibrate_signs(pipeline, WantedSigns(seeds_each=RUNS, options={"num_inference_steps": 1}), settings)
    assert not settings.sign_limits_dir.exists()


def test_prompts_to_a_pipeline_that_takes_none_are_refused(calibrated, capsys, tmp_path):
    home, toml = calibrated
    (tmp_path / "prompts.txt").write_text("a fox\n", encoding="utf-8")
    code, _, err = run(capsys, home / "pipe", "--prompts", tmp_path / "prompts.txt", "--settings", toml)
    assert code == 1
    assert "DDIMPipeline takes no prompt" in err


def test_folder_without_a_pipeline_is_refused(calibrated, capsys, tmp_path):
    code, _, err = run(capsys, tmp_path, "--settings", calibrated[1])
    assert code == 1
    assert "no pipeline could be loaded" in err


def test_prompts_are_read_line_by_line_each_once(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("a fox\n\n  an owl \na fox\n", encoding="utf-8")
    assert read_prompts(path) == ("a fox", "an owl")
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(SettingsInvalid, match="no prompt"):
        read_prompts(path)
