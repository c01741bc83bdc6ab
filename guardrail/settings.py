"""One frozen `Settings`, from a TOML file, environment variables (`GUARDRAIL_...`) or arguments."""

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

import rfc8785
from platformdirs import user_data_path
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from guardrail.attribution_settings import AttributionSettings
from guardrail.desk_settings import DeskSettings
from guardrail.errors import SettingsInvalid
from guardrail.records import Decision, InputRole, Limits, RemedyName
from guardrail.release_settings import ProvenanceSettings, WatermarkSettings

__all__ = ["AdapterSettings", "ModelSettings", "Policy", "Rule", "RunCondition", "Settings", "SignSettings"]

RuleEvidence = Literal[
    "exact_match",
    "hash_match",
    "copy_match",
    "pixel_match",
    "geometry_match",
    "semantic_match",
    "input_match",
    "memorisation_sign",
    "sign_unavailable",
    "check_failed",
]


_SIGNALS: dict[str, tuple[str, ...]] = {
    "exact_match": ("bytes", "pixels"),
    "hash_match": ("pdq", "phash"),
    "copy_match": ("copy", "tile"),
    "pixel_match": ("correlation",),
    "geometry_match": ("geometry",),
    "semantic_match": ("clip",),
    "input_match": ("pixels", "pdq", "phash", "copy"),
    "memorisation_sign": (),  # signs and checks of plugins have names of their own
    "sign_unavailable": (),
    "check_failed": (),
}
_PATHS_INSIDE = {
    "provenance": ("prompt_key", "time_stamp_anchors"),
    "watermark": ("weights",),
    "desk": ("pictures", "released"),
    "attribution": ("gradients",),
    "model": ("signature", "public_key", "certificates", "folder"),
}
_SHOULD = re.compile(r"^\w+ should (?:be|have) ")  # how the validator begins what it expects
_SHOWN_LETTERS = 60  # of a wrong value, in messages
_WITHOUT_WORK = ("input_match", "memorisation_sign", "sign_unavailable", "check_failed")


class RunCondition(BaseModel, frozen=True, extra="forbid"):
    """What a rule asks of the run, or of the work that was matched; all that is said must hold.

    Where the run is not known, or the field that is asked for could not be read, a rule applies if it is stricter than
    what would be decided without it, and does not if it is laxer.
    """

    adapter: str | None = Field(default=None, description="an adapter of this name is active (`*` and `?` as in files)")
    adapter_trained_on_fewer_than: int | None = Field(
        default=None, ge=1, description="an active adapter (of that name) was trained on fewer images, see `adapters`"
    )
    pipeline: str | None = Field(default=None, description="the pipeline's class has this name (`*` and `?` too)")
    strength_below: float | None = Field(default=None, ge=0, description="the call's `strength` is lower")
    has_input: InputRole | None = Field(
        default=None, description="the call was given such a picture: init, mask, control, ip_adapter or reference"
    )
    sign: str | None = Field(default=None, description="this sign of memorisation reaches a limit (`*` and `?` too)")
    multiplicity_at_least: int | None = Field(
        default=None, ge=1, description="the training data held so many near-duplicates of the matched work"
    )
    repeats_input: bool | None = Field(
        default=None, description="the image repeats an input of the call that is itself a copy of the matched work"
    )

    @property
    def is_about_the_work(self) -> bool:
        """Whether it can only be asked of evidence on a work."""
        return self.multiplicity_at_least is not None or self.repeats_input is not None


class Rule(BaseModel, frozen=True, extra="forbid"):
    """One rule: evidence of a kind (and a signal or check) that reaches a limit asks for a decision."""

    name: str = Field(min_length=1, description="named in the verdict when this rule decided")
    evidence: RuleEvidence = Field(description="the kind of evidence it speaks of")
    signal: str | None = Field(
        default=None, description="only this signal (`pdq`, `phash`), check (`pdq_quality`) or sign"
    )
    reaching: Decision = Field(
        default=Decision.FLAG, description="the limit that a match or sign must reach: `flag` or `block`"
    )
    when: RunCondition | None = Field(default=None, description="only on runs like this, see `RunCondition`")
    decision: Decision = Field(description="what it asks for: `accept`, `flag` or `block`")

    def require_caution(self) -> None:
        """Refuse a rule that could never fit, or that accepts what must not be.

        Raises:
            ValueError: saying what is wrong.
        """
        if self.evidence == "check_failed" and self.decision is Decision.ACCEPT:
            raise ValueError("a rule accepts images that could not be checked; use flag or block")
        if self.evidence == "exact_match" and self.decision is Decision.ACCEPT:
            raise ValueError("a rule accepts exact copies; give those works the disposition credit or ignore")
        signals = _SIGNALS[self.evidence]
        if self.signal is not None and signals and self.signal not in signals:
            raise ValueError(f"a rule on {self.evidence} names the signal {self.signal!r}; it has {', '.join(signals)}")
        if self.when is not None and self.when.is_about_the_work and self.evidence in _WITHOUT_WORK:
            raise ValueError(f"a rule on {self.evidence} asks for a matched work; leave that to rules on matches")


class Policy(BaseModel, frozen=True, extra="forbid"):
    """For each piece of evidence the first rule that fits gives an opinion; the most severe opinion wins."""

    name: str = Field(default="default", description="a name for people")
    rules: tuple[Rule, ...] = Field(
        min_length=1, description="see `Rule`; the shipped ones are in guardrail/policy.toml"
    )
    banks: dict[str, Annotated[tuple[Rule, ...], Field(min_length=1)]] = Field(
        default={}, description="rules that replace the list for one bank's works"
    )

    @model_validator(mode="after")
    def _nothing_is_waved_through(self) -> Self:
        for rules in (self.rules, *self.banks.values()):
            for rule in rules:
                rule.require_caution()
        return self

    @property
    def sha256(self) -> str:
        """Digest of the canonical JSON (RFC 8785) of the whole policy, without conditions where there are none."""
        said = self.model_dump(mode="json")
        for rule in (*said["rules"], *(rule for rules in said["banks"].values() for rule in rules)):
            if rule["when"] is None:
                del rule["when"]
        return hashlib.sha256(rfc8785.dumps(said)).hexdigest()

    @classmethod
    def shipped(cls) -> Self:
        """The policy that ships with guardrail."""
        return cls.model_validate(tomllib.loads((Path(__file__).parent / "policy.toml").read_text(encoding="utf-8")))


class AdapterSettings(BaseModel, frozen=True, extra="forbid"):
    """What is known of an adapter (LoRA and the like) that pipelines may carry."""

    sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description="digest of its weights, as a run reports it; another adapter of its name is a failed check",
    )
    trained_on: int | None = Field(default=None, ge=0, description="how many images it was trained on")
    index: str = Field(
        default="", description="index of its training images, searched when it is active: a folder or a backend's URL"
    )


class ModelSettings(BaseModel, frozen=True, extra="forbid"):
    """The signature that the model of every run must have: `[model]` in a settings file; extra `model-signing`."""

    signature: Path | None = Field(
        default=None, description="file of the signature (OpenSSF Model Signing); none: no signature is asked for"
    )
    public_key: Path | None = Field(default=None, description="PEM file of the elliptic-curve key that signed")
    certificates: Path | None = Field(
        default=None, description="PEM file of the certificates to trust, in place of a key"
    )
    folder: Path | None = Field(default=None, description="what was signed; default: where the model was loaded from")

    @model_validator(mode="after")
    def _trusts_somebody(self) -> Self:
        if self.signature is not None and (self.public_key is None) == (self.certificates is None):
            raise ValueError("a signature needs one of public_key and certificates, to say who is trusted")
        return self


class SignSettings(BaseModel, frozen=True, extra="forbid"):
    """How one sign of memorisation is looked for while a pipeline runs: `[signs.NAME]` in a settings file."""

    enabled: bool = Field(default=True, description="whether it is looked for")
    action: Literal["record", "stop", "guide_later"] = Field(
        default="record",
        description="record it only; stop the run once every image of the batch reaches the limit; or take guidance "
        "away until `guide_from` once one of them does",
    )
    act_on: Literal["flag", "block"] = Field(default="block", description="the limit from which on it acts")
    every: int = Field(default=5, ge=1, description="look-ups: at every so many steps")
    steps: int | None = Field(default=None, ge=1, description="measure the first so many steps only; default: all")
    guide_from: float = Field(default=0.4, ge=0, le=1, description="guide_later: the share of the steps without it")
    flag_above: float | None = Field(default=None, description="limit that takes the place of the calibrated one")
    block_above: float | None = Field(default=None, description="limit that takes the place of the calibrated one")
    embedder: str = Field(
        default="", description="embedding_match: the index's CLIP embedder, if it is the one of the pipeline's prior"
    )


def _default_home() -> Path:
    return user_data_path("guardrail", appauthor=False)


class Settings(BaseSettings):
    """Everything a Guard can be told. Relative paths in a file are taken from the file's folder."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="GUARDRAIL_", env_nested_delimiter="__")

    index: str = Field(default="", description="folder of the index, or a backend's URL (`scheme://...`)")
    home: Path = Field(default_factory=_default_home, description="where memory and keys lie unless said otherwise")
    memory: str = Field(default="", description="SQLAlchemy URL of ledger and queue; default: memory.db in `home`")
    keys: Path | None = Field(default=None, description="folder of the signing keys; default: keys in `home`")
    weights: Path | None = Field(
        default=None, description="folder of the model files that embedders name; default: weights in `home`"
    )
    device: str = Field(default="auto", description="torch device for fingerprints: auto, cpu, cuda, cuda:1, mps")
    search_device: str = Field(default="cpu", description="where an index in a folder is searched: cpu, cuda, cuda:1")
    organisation: str = Field(default="default", description="whose images and cases these are, see `DeskSettings`")
    neighbours: int = Field(default=5, ge=1, le=1000, description="works to look at, for each signal")
    proof: Literal["near", "always", "never"] = Field(
        default="near", description="compare local features with near works, always with the nearest three, or never"
    )
    batch: int = Field(default=16, ge=1, description="pictures fingerprinted at a time")
    on_flag: Literal["hold", "return"] = Field(
        default="hold", description="hold a flagged image for review, or return it"
    )
    on_latent: Literal["decode", "refuse"] = Field(
        default="decode",
        description="latents that a caller asked for: decode them and look at the picture, or withhold them",
    )
    frame_every: int = Field(default=8, ge=1, description="of a video at least every so many frames one is looked at")
    frame_change_above: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="a frame is looked at whose mean difference (0..1, at 16x16) from the last one looked at is larger",
    )
    on_block: Literal["replace", "raise", "regenerate"] = Field(
        default="replace", description="replace a blocked image by a card, raise, or make it anew by `remedies`"
    )
    regenerate_at_most: int = Field(default=4, ge=1, le=10, description="tries at making it anew before replacing")
    remedies: tuple[RemedyName, ...] = Field(
        default=("fresh_seed", "delayed_guidance", "prompt_noise", "away_from_work"),
        min_length=1,
        description="what to change about a blocked image's run, in order; those that do not fit a pipeline are passed",
    )
    largest_image_px: int = Field(default=64_000_000, ge=1, description="pictures of more pixels are not decoded")
    limits: Limits | None = Field(default=None, description="limits that take the place of the index's own")
    adapters: dict[str, AdapterSettings] = Field(default={}, description="what is known of adapters, by their names")
    signs: dict[str, SignSettings] = Field(
        default={}, description="signs of memorisation to look for while a pipeline runs, by name; see `SignSettings`"
    )
    sign_limits: Path | None = Field(
        default=None, description="folder of the signs' calibrations; default: signs in `home`"
    )
    model: ModelSettings = Field(
        default=ModelSettings(), description="the signature that models must have; see `ModelSettings`"
    )
    provenance: ProvenanceSettings = Field(
        default=ProvenanceSettings(), description="what accepted images carry; see `ProvenanceSettings`"
    )
    watermark: WatermarkSettings = Field(
        default=WatermarkSettings(), description="the invisible mark in them; see `WatermarkSettings`"
    )
    attribution: AttributionSettings = Field(default=AttributionSettings(), description="see `AttributionSettings`")
    desk: DeskSettings = Field(
        default=DeskSettings(), description="the review desk and the HTTP API; see `DeskSettings`"
    )
    policy: Policy = Field(default_factory=Policy.shipped, description="the rules")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment first (it is set for one run), then arguments and file."""
        return env_settings, init_settings

    @classmethod
    def load(cls, path: str | Path | None = None) -> Self:
        """The settings of a TOML file and the environment, or of the environment alone.

        Raises:
            SettingsInvalid: file or environment say something that cannot be followed.
        """
        if path is not None:
            return cls.from_file(path)
        try:
            return cls()
        except (SettingsError, ValidationError) as error:
            raise SettingsInvalid("environment variables GUARDRAIL_...", _what_is_wrong(error)) from error

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read settings from a TOML file.

        Raises:
            SettingsInvalid: the file cannot be read, is not TOML, or says something unknown.
        """
        path = Path(path)
        try:
            said = tomllib.loads(path.read_text(encoding="utf-8"))
            said |= _rooted(said, path.resolve().parent)
            return cls(**said)
        except (OSError, ValueError, SettingsError, ValidationError, TypeError) as error:
            raise SettingsInvalid(str(path), _what_is_wrong(error)) from error

    @property
    def memory_url(self) -> str:
        """The SQLAlchemy URL of ledger and queue."""
        return self.memory or f"sqlite:///{self.home / 'memory.db'}"

    @property
    def pictures_place(self) -> str | None:
        """Where pictures of cases lie, a folder or an fsspec URL; None: beside the SQLite file of `memory_url`."""
        return self.desk.pictures or (None if self.memory_url.startswith("sqlite") else str(self.home / "pictures"))

    @property
    def keys_dir(self) -> Path:
        """The folder of the signing keys."""
        return self.keys or self.home / "keys"

    @property
    def sign_limits_dir(self) -> Path:
        """The folder of the signs' calibrations."""
        return self.sign_limits or self.home / "signs"

    @property
    def prompt_key(self) -> Path:
        """The file of the key under which prompts are digested."""
        return self.provenance.prompt_key or self.home / "prompt.key"

    @property
    def weights_dir(self) -> Path:
        """The folder of the model files that embedders name."""
        return self.weights or self.home / "weights"


def _what_is_wrong(error: Exception) -> str:
    """What an error in settings says, in one line: for each setting its place, what was found, what was expected."""
    if not isinstance(error, ValidationError):
        return " ".join(str(error).split())
    found = error.errors(include_url=False)
    places = [one["loc"] for one in found]
    told = [one for one in found if one["type"] != "too_short" or not any(_is_inside(at, one["loc"]) for at in places)]
    return "; ".join(_clause(one) for one in told)


def _is_inside(place: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(place) > len(outer) and place[: len(outer)] == outer


def _clause(wrong: ErrorDetails) -> str:
    place = ".".join(str(part) for part in wrong["loc"]) or "settings"
    said = " ".join(wrong["msg"].split())
    if wrong["type"] == "extra_forbidden":
        return f"{place}: found a setting of this name, expected one that there is (see guardrail settings show)"
    if wrong["type"] == "missing":
        return f"{place}: found none, expected one"
    if wrong["type"] == "value_error":
        return f"{place}: {said.removeprefix('Value error, ')}"
    return f"{place}: found {_shown(wrong['input'])}, expected {_SHOULD.sub('', said)}"


def _shown(value: object) -> str:
    """A value as a message may show it: what is long, or may hold a password, by its type alone."""
    if isinstance(value, str) and ("://" in value or len(value) > _SHOWN_LETTERS):
        return f"a text of {len(value)} letters"
    return repr(value) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"


def _rooted(said: dict[str, object], folder: Path) -> dict[str, object]:
    """The path-valued settings, those of adapters too, taken from the folder of the file that said them."""
    rooted: dict[str, object] = {}
    for name in ("index", "home", "keys", "weights"):
        value = said.get(name)
        if isinstance(value, str) and value and "://" not in value:
            rooted[name] = str(folder / value)
    for table, paths in _PATHS_INSIDE.items():
        if isinstance(inside := said.get(table), dict):
            said_there = {name: inside[name] for name in paths if inside.get(name) and "://" not in str(inside[name])}
            rooted[table] = inside | {name: str(folder / path) for name, path in said_there.items()}
    if isinstance(adapters := said.get("adapters"), dict):
        rooted["adapters"] = {
            name: {**one, **_rooted(one, folder)} if isinstance(one, dict) else one for name, one in adapters.items()
        }
    return rooted
