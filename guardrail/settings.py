"""One frozen `Settings`, from a TOML file, environment variables (`GUARDRAIL_...`) or arguments."""

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

import rfc8785
from platformdirs import user_data_path
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from guardrail.errors import SettingsInvalid
from guardrail.records import Decision, Limits

__all__ = ["Policy", "Rule", "Settings"]

RuleEvidence = Literal[
    "exact_match", "hash_match", "copy_match", "pixel_match", "geometry_match", "semantic_match", "check_failed"
]


_SIGNALS: dict[str, tuple[str, ...]] = {
    "exact_match": ("bytes", "pixels"),
    "hash_match": ("pdq", "phash"),
    "copy_match": ("copy", "tile"),
    "pixel_match": ("correlation",),
    "geometry_match": ("geometry",),
    "semantic_match": ("clip",),
    "check_failed": (),  # checks of plugins have names of their own
}


class Rule(BaseModel, frozen=True, extra="forbid"):
    """One rule: evidence of a kind (and a signal or check) that reaches a limit asks for a decision."""

    name: str = Field(min_length=1, description="named in the verdict when this rule decided")
    evidence: RuleEvidence = Field(description="the kind of evidence it speaks of")
    signal: str | None = Field(default=None, description="only this signal (`pdq`, `phash`) or check (`pdq_quality`)")
    reaching: Decision = Field(
        default=Decision.FLAG, description="the limit that a match must reach: `flag` or `block`"
    )
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
        """Digest of the canonical JSON (RFC 8785) of the whole policy."""
        return hashlib.sha256(rfc8785.dumps(self.model_dump(mode="json"))).hexdigest()

    @classmethod
    def shipped(cls) -> Self:
        """The policy that ships with guardrail."""
        return cls.model_validate(tomllib.loads((Path(__file__).parent / "policy.toml").read_text(encoding="utf-8")))


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
    neighbours: int = Field(default=5, ge=1, le=1000, description="works to look at, for each signal")
    proof: Literal["near", "always", "never"] = Field(
        default="near", description="compare local features with near works, always with the nearest three, or never"
    )
    batch: int = Field(default=16, ge=1, description="pictures fingerprinted at a time")
    on_flag: Literal["hold", "return"] = Field(
        default="hold", description="hold a flagged image for review, or return it"
    )
    on_block: Literal["replace", "raise", "regenerate"] = Field(
        default="replace", description="replace a blocked image by a card, raise, or try again with a fresh seed"
    )
    regenerate_at_most: int = Field(default=2, ge=1, le=10, description="fresh seeds to try before replacing")
    largest_image_px: int = Field(default=64_000_000, ge=1, description="pictures of more pixels are not decoded")
    limits: Limits | None = Field(default=None, description="limits that take the place of the index's own")
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
            raise SettingsInvalid("environment variables GUARDRAIL_...", str(error)) from error

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
        except (
            OSError,
            UnicodeDecodeError,
            tomllib.TOMLDecodeError,
            SettingsError,
            ValidationError,
            TypeError,
        ) as error:
            raise SettingsInvalid(str(path), str(error)) from error

    @property
    def memory_url(self) -> str:
        """The SQLAlchemy URL of ledger and queue."""
        return self.memory or f"sqlite:///{self.home / 'memory.db'}"

    @property
    def keys_dir(self) -> Path:
        """The folder of the signing keys."""
        return self.keys or self.home / "keys"

    @property
    def weights_dir(self) -> Path:
        """The folder of the model files that embedders name."""
        return self.weights or self.home / "weights"


def _rooted(said: dict[str, object], folder: Path) -> dict[str, object]:
    """The path-valued settings, taken from the folder of the file that said them."""
    rooted: dict[str, object] = {}
    for name in ("index", "home", "keys", "weights"):
        value = said.get(name)
        if isinstance(value, str) and value and "://" not in value:
            rooted[name] = str(folder / value)
    return rooted
