"""Signs with the PEM files in the folder that the settings name."""

from guardrail.act import Signing, load_signing
from guardrail.hookspecs import hookimpl
from guardrail.settings import Settings


@hookimpl
def provide_signer(settings: Settings) -> Signing:
    """The credential in `settings.keys_dir`.

    Raises:
        KeysMissing, KeysUnusable: there is none to sign with.
    """
    return load_signing(settings.keys_dir)
