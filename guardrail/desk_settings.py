"""How the review desk and the HTTP API run, and what people's decisions lead to."""

from pathlib import Path

from pydantic import BaseModel, Field, SecretStr

__all__ = ["DeskSettings", "OidcSettings", "OrganisationSettings"]


class OrganisationSettings(BaseModel, frozen=True, extra="forbid"):
    """What one organisation has of its own: `[desk.organisations.NAME]`."""

    title: str = Field(default="", description="its name for people; default: the name of this table")
    index: str = Field(
        default="", description="its index, a folder or a backend's URL; the first organisation's is `index`"
    )


class OidcSettings(BaseModel, frozen=True, extra="forbid"):
    """Signing in by an identity provider (OpenID Connect): `[desk.oidc]`."""

    issuer: str = Field(default="", description="the provider's URL (https); empty: local accounts only")
    client_id: str = Field(default="", description="as the provider knows this desk")
    client_secret: SecretStr = Field(default=SecretStr(""), description="better set as GUARDRAIL_DESK__OIDC__...")
    organisation: str = Field(default="default", description="organisation whose accounts sign in by it")


class DeskSettings(BaseModel, frozen=True, extra="forbid"):
    """The review desk and the HTTP API: `[desk]` in a settings file."""

    host: str = Field(default="127.0.0.1", description="address to listen at; any but loopback needs `public_url`")
    port: int = Field(default=8787, ge=0, le=65535, description="port to listen at; 0: one that is free")
    public_url: str = Field(default="", description="where browsers reach it, behind a proxy with TLS; https://...")
    pictures: str = Field(
        default="",
        description="where pictures of cases lie: a folder, or an fsspec URL (s3://...); default: beside a SQLite file",
    )
    released: Path | None = Field(
        default=None, description="folder of images that people released; default: released in `home`"
    )
    lease_minutes: float = Field(default=15, gt=0, description="a case comes back to the queue after so long")
    second_review_share: float = Field(
        default=0.1, ge=0, le=1, description="share of the decisions that a second person takes too, without seeing it"
    )
    retention_days: int | None = Field(
        default=None, ge=0, description="pictures and prompts of decided cases are deleted after so long; default: kept"
    )
    group_within_bits: int = Field(
        default=31, ge=0, le=128, description="cases whose pictures are as near by PDQ, of 256 bits, are shown as one"
    )
    sensitive_banks: tuple[str, ...] = Field(
        default=(), description="banks such that an image that is nearest to one of their works may be sensitive"
    )
    session_hours: float = Field(default=12, gt=0, description="after so long one signs in again")
    session_idle_minutes: float = Field(default=60, gt=0, description="so also after so long without a request")
    token_requests_per_minute: int = Field(default=6000, ge=1, description="of one API token; a quarter of it at once")
    upload_mb: float = Field(default=32, gt=0, description="largest file that may be uploaded, in MiB")
    request_files: int = Field(default=32, ge=1, description="most files in one request")
    checks_waiting: int = Field(default=256, ge=1, description="most images that wait to be checked; then 503")
    webhook_private: bool = Field(default=False, description="whether webhooks may go to private addresses")
    metrics_token: SecretStr = Field(
        default=SecretStr(""),
        description="with it /metrics may be read from elsewhere; better set as GUARDRAIL_DESK__...",
    )
    organisations: dict[str, OrganisationSettings] = Field(
        default={"default": OrganisationSettings()}, description="organisations; each sees only what is its own"
    )
    oidc: OidcSettings = Field(default=OidcSettings(), description="see `OidcSettings`")
