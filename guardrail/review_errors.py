"""What can go wrong at the review desk and at the HTTP API; beside the tree of errors.py.

GuardrailError
├── CaseMissing      (LookupError)      there is no such case in the actor's organisation
├── CaseTaken        (RuntimeError)     somebody else has the case, or decided it meanwhile
├── ChangeRefused    (ValueError)       a change of the filter that cannot be made as things stand
├── DecisionRefused  (ValueError)       a decision that cannot be taken on a case as it is
├── QueryInvalid     (ValueError)       a page or filter of the queue that cannot be followed
├── NotAllowed       (PermissionError)  the actor's role or token does not allow it
├── SignInFailed     (PermissionError)  who signs in could not be told
├── AccountInvalid   (ValueError)       an account that cannot be made or changed like this
├── AccountMissing   (LookupError)      there is no such account, token or browser in the actor's organisation
└── PictureMissing   (LookupError)      a picture of a case is not kept, or not any more
"""

from guardrail.errors import GuardrailError

__all__ = [
    "AccountInvalid",
    "AccountMissing",
    "CaseMissing",
    "CaseTaken",
    "ChangeRefused",
    "DecisionRefused",
    "NotAllowed",
    "PictureMissing",
    "QueryInvalid",
    "SignInFailed",
]


class CaseMissing(GuardrailError, LookupError):
    """No such case, or one of another organisation, which is said no otherwise. Args: what was asked for."""

    message = "found no case {0!r} here, expected one of your organisation; look it up in the queue"


class CaseTaken(GuardrailError, RuntimeError):
    """Somebody else was quicker. Args: case, what was found."""

    message = "case {0} cannot be taken: {1}; take the next one, or look at it again later"


class DecisionRefused(GuardrailError, ValueError):
    """A decision that cannot be taken. Args: case, what was found, what was expected."""

    message = "case {0}: found {1}, expected {2}; nothing was decided"


class ChangeRefused(GuardrailError, ValueError):
    """A change of the filter that cannot be made as things stand. Args: what of, what was found, what was expected."""

    message = "{0}: found {1}, expected {2}; the filter is as it was"


class QueryInvalid(GuardrailError, ValueError):
    """A page or filter of the queue that cannot be followed. Args: what was given, found, expected."""

    message = "{0}: found {1}, expected {2}; nothing was changed"


class NotAllowed(GuardrailError, PermissionError):
    """Role or token do not allow it. Args: what was asked for, what is needed."""

    message = "{0} needs {1}; ask an admin of your organisation"


class SignInFailed(GuardrailError, PermissionError):
    """Who signs in could not be told. Args: why, in words that give nothing away."""

    message = "not signed in: {0}; try again, or ask an admin for a new link"


class AccountInvalid(GuardrailError, ValueError):
    """An account that cannot be made or changed like this. Args: field, what was found, what was expected."""

    message = "{0}: found {1}, expected {2}; the account is as it was"


class AccountMissing(GuardrailError, LookupError):
    """No such account, token or browser, or one of another organisation. Args: what was asked for."""

    message = "found no account {0!r} here, expected one of your organisation; look it up in the list"


class PictureMissing(GuardrailError, LookupError):
    """A picture that is not kept. Args: its digest or case, why."""

    message = "the picture of {0} is not here: {1}; its verdict and decisions still are"
