"""Signs with the PEM files in the folder that the settings name, and has a server put the time to it where they ask."""

from guardrail.act import Signing, load_signing, time_stamping
from guardrail.hookspecs import hookimpl
from guardrail.settings import Settings


@hookimpl
def provide_signer(settings: Settings) -> Signing:
    """The credential in `settings.keys_dir`.

    Raises:
        KeysMissing, KeysUnusable: there is none to sign with, or no time stamp server that could be believed.
    """
    return load_signing(settings.keys_dir, time_stamping(settings.provenance))
