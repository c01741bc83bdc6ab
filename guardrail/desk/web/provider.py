"""Signing in by an identity provider (OpenID Connect): code flow with PKCE, state and nonce; checks its ID token."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from guardrail.desk.web.security import is_loopback
from guardrail.errors import SettingsInvalid
from guardrail.extras import need
from guardrail.memory import KnownElsewhere
from guardrail.review_errors import SignInFailed

if TYPE_CHECKING:
    from guardrail.desk_settings import OidcSettings

__all__ = ["Begun", "Provider"]

_WAIT_S = 10.0  # for the provider to answer
_KEPT_S = 3600.0  # what the provider says of itself
_ANEW_AFTER_S = 10.0  # at most so often where a key is unknown: bad tokens are no way to have it asked all the time
_CLOCKS_OFF_S = 60
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
_UNREACHED = "the identity provider did not answer as it should"
_UNTOLD = "the identity provider did not say who you are"


class Begun(NamedTuple):
    """What the browser keeps while its person is at the provider; all random."""

    state: str
    nonce: str
    verifier: str


class Provider:
    """One identity provider; usable in threads.

    Args:
        settings: issuer, client id and secret.
        back: where the provider sends people back to.

    Raises:
        ExtraMissing: authlib is not installed.
        SettingsInvalid: the issuer is no https address (http on loopback will do).
    """

    def __init__(self, settings: OidcSettings, back: str) -> None:
        issuer = urlsplit(settings.issuer)
        if issuer.scheme != "https" and not (issuer.scheme == "http" and is_loopback(issuer.hostname or "")):
            raise SettingsInvalid("desk.oidc.issuer", f"found {settings.issuer!r}, expected an https:// address")
        self._settings = settings
        self._back = back
        self._clients = need("authlib.integrations.httpx_client", "oidc", "sign in by an identity provider")
        self._claims = need("authlib.oidc.core", "oidc", "sign in by an identity provider")
        self._jose = need("joserfc.jwt", "oidc", "sign in by an identity provider")
        self._keys = need("joserfc.jwk", "oidc", "sign in by an identity provider")
        self._lock = threading.Lock()
        self._said: dict[str, Any] = {}
        self._said_at = 0.0

    def begin(self) -> tuple[str, Begun]:
        """Where a browser is sent, and what it keeps meanwhile.

        Raises:
            SignInFailed: the provider cannot be reached.
        """
        begun = Begun(*(secrets.token_urlsafe(32) for _ in range(3)))
        said = self._discovered()
        with self._client() as client:
            address, _ = client.create_authorization_url(
                said["authorization_endpoint"], state=begun.state, nonce=begun.nonce, code_verifier=begun.verifier
            )
        return str(address), begun

    def finish(self, begun: Begun, query: str) -> KnownElsewhere:
        """Whom the provider names, once its answer and ID token were checked.

        Args:
            begun: what the browser kept.
            query: of the address that the provider sent it back to.

        Raises:
            SignInFailed: the answer is not to what was asked, or does not hold.
        """
        answer = {name: values[0] for name, values in parse_qs(query).items() if len(values) == 1}
        if not hmac.compare_digest(answer.get("state", "").encode(), begun.state.encode()):
            raise SignInFailed("the answer of the identity provider is not to what this browser asked")
        said = self._discovered()
        if answer.get("iss", said["issuer"]) != said["issuer"] or not answer.get("code"):  # RFC 9207
            raise SignInFailed(_UNTOLD)
        token = self._exchanged(said, answer["code"], begun)
        try:
            claims = self._checked(said, token, begun.nonce)
        except Exception as error:  # whatever a token made authlib raise, nobody is signed in by it
            raise SignInFailed(_UNTOLD) from error
        email = claims.get("email") if claims.get("email_verified") is True else ""
        return KnownElsewhere(said["issuer"], str(claims["sub"]), str(email or ""), str(claims.get("name") or ""))

    def _client(self) -> Any:
        return self._clients.OAuth2Client(
            client_id=self._settings.client_id,
            client_secret=self._settings.client_secret.get_secret_value() or None,
            redirect_uri=self._back,
            scope="openid email profile",
            code_challenge_method="S256",
            timeout=_WAIT_S,
            follow_redirects=False,
            trust_env=False,
        )

    def _exchanged(self, said: dict[str, Any], code: str, begun: Begun) -> dict[str, Any]:
        try:
            with self._client() as client:
                token = client.fetch_token(
                    said["token_endpoint"], grant_type="authorization_code", code=code, code_verifier=begun.verifier
                )
        except Exception as error:  # network, JSON and OAuth errors of several packages
            raise SignInFailed(_UNREACHED) from error
        return dict(token)

    def _checked(self, said: dict[str, Any], token: dict[str, Any], nonce: str) -> Any:
        """The claims of the ID token, which the provider signed for us, now, in answer to our nonce."""
        try:
            decoded = self._jose.decode(token["id_token"], self._key_set(said), algorithms=_ALGORITHMS)
        except Exception:  # noqa: BLE001  # its keys may have changed since they were read: once more with those of today
            decoded = self._jose.decode(
                token["id_token"], self._key_set(self._discovered(anew=True)), algorithms=_ALGORITHMS
            )
        options = {
            "iss": {"essential": True, "value": said["issuer"]},
            "aud": {"essential": True, "value": self._settings.client_id},
        }
        params = {"nonce": nonce, "client_id": self._settings.client_id, "access_token": token.get("access_token")}
        claims = self._claims.CodeIDToken(decoded.claims, decoded.header, options, params)
        claims.validate(leeway=_CLOCKS_OFF_S)
        if not isinstance(claims["sub"], str) or not claims["sub"]:
            raise ValueError("an ID token without a subject")
        return claims

    def _key_set(self, said: dict[str, Any]) -> Any:
        return self._keys.KeySet.import_key_set(said["keys"])

    def _discovered(self, *, anew: bool = False) -> dict[str, Any]:
        """What the provider says of itself, and its public keys; asked for once an hour, or where a key is unknown.

        Raises:
            SignInFailed: it does not say it, or calls itself otherwise.
        """
        with self._lock:
            age_s = time.monotonic() - self._said_at
            if self._said and age_s < (_ANEW_AFTER_S if anew else _KEPT_S):
                return self._said
            try:
                self._said, self._said_at = self._asked(), time.monotonic()
            except Exception as error:  # network and JSON errors of several packages
                raise SignInFailed(_UNREACHED) from error
            return self._said

    def _asked(self) -> dict[str, Any]:
        issuer = self._settings.issuer.rstrip("/")
        with self._client() as client:
            said = client.request("GET", f"{issuer}/.well-known/openid-configuration", withhold_token=True)
            said = said.raise_for_status().json()
            if said["issuer"].rstrip("/") != issuer:
                raise ValueError("a provider that calls itself otherwise")
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                if urlsplit(said[name]).scheme != "https" and not is_loopback(urlsplit(said[name]).hostname or ""):
                    raise ValueError("a provider that is reached without TLS")
            keys = client.request("GET", said["jwks_uri"], withhold_token=True).raise_for_status().json()
        return {**said, "keys": {"keys": [key for key in keys["keys"] if key.get("kty") != "oct"]}}
