"""Passwords, codes of authenticators, recovery codes and random secrets: made, kept as digests, and checked."""

import hashlib
import hmac
import re
import secrets
import threading
import unicodedata
from functools import cache

import pyotp
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from guardrail.review_errors import AccountInvalid

__all__ = [
    "LEAST_PASSWORD_LETTERS",
    "check_password",
    "digest_of",
    "hash_password",
    "new_recovery_codes",
    "new_secret",
    "new_totp_secret",
    "require_password",
    "totp_step",
    "totp_uri",
    "without_recovery_code",
]

LEAST_PASSWORD_LETTERS = 12
_MOST_PASSWORD_LETTERS = 256  # longer ones only cost time
_LEAST_OWN_LETTERS = 6  # different ones, once all that is easily guessed was taken out
_SECRET_BYTES = 32
_RECOVERY_CODES = 10
_RECOVERY_BYTES = 10  # 80 bits: nothing to try out, so a plain digest will do
_TOTP_STEP_S = 30  # RFC 6238's default
_TOTP_STEPS_OFF = (-1, 0, 1)  # clocks that are half a minute off
_HASHED_AT_ONCE = threading.BoundedSemaphore(2)  # each takes 64 MiB; more of them would let anyone fill the memory
_LEET = str.maketrans("013457@$!", "oieastasi")
_COMMON_WORDS = (  # what passwords are most often made of
    "password passwort passw0rd motdepasse contrasena wachtwoord letmein welcome willkommen iloveyou administrator "
    "admin qwertyuiop qwertzuiop qwerty qwertz azerty asdfghjkl asdfgh zxcvbnm yxcvbnm abcdefgh abcdef abcabc abc "
    "secret geheim changeme default guardrail diffusion dragon monkey football baseball superman sunshine princess "
    "master login test user root trustno correcthorsebatterystaple summer winter spring autumn sommer herbst"
)
_HASHER = PasswordHasher()  # argon2id with RFC 9106's second choice: 64 MiB, 3 passes, 4 lanes


def new_secret() -> str:
    """A random secret of 256 bits, as letters that a URL or a cookie may hold."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def digest_of(secret: str) -> str:
    """What is kept of a random secret: its SHA-256, as hex."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def require_password(password: str, email: str, name: str) -> None:
    """Refuse a password that is short, or easily guessed of this person.

    Raises:
        AccountInvalid: saying what is wrong, never the password.
    """
    letters = len(_spelled(password))
    if not LEAST_PASSWORD_LETTERS <= letters <= _MOST_PASSWORD_LETTERS:
        expected = f"{LEAST_PASSWORD_LETTERS} to {_MOST_PASSWORD_LETTERS}"
        raise AccountInvalid("password", f"{letters} letters", expected)
    if len(set(_own_letters(password, email, name))) < _LEAST_OWN_LETTERS:
        found = "one made of common words, repeated letters, your name or your email"
        raise AccountInvalid("password", found, "one that is hard to guess, such as four words that nobody links")


def _own_letters(password: str, email: str, name: str) -> str:
    """What is left of a password without common words, the person's own names, and digits."""
    left = _spelled(password).casefold()
    own = [
        *_COMMON_WORDS.split(),
        *(part for part in re.split(r"[\W_]+", f"{email} {name}".casefold()) if len(part) > 2),
    ]
    for word in sorted(set(own), key=len, reverse=True):
        left = left.replace(word, "").replace(word[::-1], "")
    plain = left.translate(_LEET)
    for word in sorted(set(own), key=len, reverse=True):
        plain = plain.replace(word, "")
    left = "".join(letter for letter in left if not letter.isdigit())
    return min(left, plain, key=lambda text: len(set(text)))


def hash_password(password: str) -> str:
    """The argon2id hash of a password, with its parameters and a salt of its own."""
    with _HASHED_AT_ONCE:
        return _HASHER.hash(_spelled(password))


def check_password(stored: str | None, password: str) -> tuple[bool, str | None]:
    """Whether a password is the one of a hash; takes the same time where there is none.

    Returns:
        Whether it is; and a new hash, if the stored one was made with other parameters than those of today.
    """
    given = _spelled(password)[: _MOST_PASSWORD_LETTERS + 1]
    with _HASHED_AT_ONCE:
        try:
            _HASHER.verify(stored or _hash_of_nobody(), given)
        except (VerificationError, InvalidHashError):
            return False, None
    if stored is None:
        return False, None
    return True, hash_password(password) if _HASHER.check_needs_rehash(stored) else None


@cache
def _hash_of_nobody() -> str:
    return _HASHER.hash(new_secret())


def _spelled(password: str) -> str:
    """As it is hashed: the same from every keyboard (NFKC)."""
    return unicodedata.normalize("NFKC", password)


def new_totp_secret() -> str:
    """A secret of 160 bits to be shared with an authenticator, in base 32."""
    return pyotp.random_base32()


def totp_uri(secret: str, email: str, desk: str) -> str:
    """What a QR code tells an authenticator: `otpauth://totp/...`."""
    return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=desk)


def totp_step(secret: str, code: str, used_step: int, at_s: float) -> int | None:
    """The step (30 s, RFC 6238) that a code is of, if it is near now and later than the last one used; else None.

    Args:
        secret: shared with the authenticator.
        code: six digits; spaces are ignored.
        used_step: the last step of which a code was taken; no step serves twice.
        at_s: seconds since 1970.
    """
    given, now, found = "".join(code.split()), int(at_s) // _TOTP_STEP_S, None
    for step in (now + off for off in _TOTP_STEPS_OFF):
        if hmac.compare_digest(pyotp.TOTP(secret).generate_otp(step).encode(), given.encode()) and step > used_step:
            found = step
    return found


def new_recovery_codes() -> tuple[tuple[str, ...], list[str]]:
    """Ten codes, each of which takes the place of an authenticator's once; and their digests."""
    spelled = [secrets.token_bytes(_RECOVERY_BYTES).hex() for _ in range(_RECOVERY_CODES)]
    shown = tuple("-".join(code[at : at + 5] for at in range(0, len(code), 5)) for code in spelled)
    return shown, [digest_of(code) for code in spelled]


def without_recovery_code(hashes: list[str], code: str) -> list[str] | None:
    """The digests of the codes that are left once this one was used; None where it is none of them."""
    digest = digest_of("".join(letter for letter in code.casefold() if letter.isalnum()))
    left = [kept for kept in hashes if not hmac.compare_digest(kept, digest)]
    return left if len(left) < len(hashes) else None
