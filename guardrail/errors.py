"""The error tree. Every error keeps its facts in `args`, so it survives pickling; its text is made from them.

GuardrailError
├── SettingsInvalid        (ValueError)         a settings file or policy says something we cannot follow
├── ExtraMissing           (ImportError)        an optional package is not installed
├── PluginFault            (RuntimeError)       a plugin could not be registered
├── EmbedderUnknown        (LookupError)        no plugin offers an embedder of that name
├── WeightsUnusable        (ValueError)         a weights file is missing or is not the one that was pinned
├── IndexMissing           (FileNotFoundError)  there is no index at that place
├── IndexExists            (FileExistsError)    an index is already there
├── IndexDamaged           (ValueError)         a file of an index is missing, edited or cut
├── IndexMismatch          (ValueError)         an index was built with another fingerprint specification
├── IndexUnwritable        (OSError)            an index cannot be written
├── IndexLocked            (OSError)            another process is writing to an index
├── IndexUnreachable       (ConnectionError)    the server of an index does not answer
├── IndexUnsupported       (RuntimeError)       the server of an index cannot do what an index needs
├── PictureNotKept         (LookupError)        an index holds no picture of a work
├── WordsUnknown           (ValueError)         the embedders of an index turn no words into vectors
├── CalibrationUnfit       (ValueError)         the calibration beside an index was edited or is another index's
├── SignLimitsUnfit        (ValueError)         a calibration of signs was edited or cut
├── BackgroundTooSmall     (ValueError)         too few pictures to fit limits to the rate of false alarms asked for
├── WorksTableInvalid      (ValueError)         a works table cannot be read as one
├── HashListUnusable       (ValueError)         a hash list cannot be read, or does not go on from the last one
├── HashListUntrusted      (ValueError)         a hash list is not signed by anybody who is trusted
├── NothingToIndex         (ValueError)         a folder held no readable image
├── ImageUnreadable        (ValueError)         a file or array is not a picture we can check
├── OutputNotUnderstood    (TypeError)          a pipeline returned something in which no picture was found
├── PipelineNotWrappable   (TypeError)          the object given to `wrap` cannot be wrapped
├── AuditImpossible        (ValueError)         a model, its pictures or a work folder that cannot be audited
├── ModelUnsigned          (ValueError)         a model whose signature was asked for and does not hold
├── ImageBlocked           (RuntimeError)       a blocked image, where the settings say to raise
├── MemoryUnwritable       (OSError)            the ledger or the review queue cannot be written
├── LedgerBroken           (ValueError)         a row of the ledger, or the tree over its rows, does not hold
├── LedgerProofInvalid     (ValueError)         a checkpoint or proof of a ledger does not hold
├── LedgerRowMissing       (LookupError)        the ledger has no row of that number or id
├── LogUnreachable         (ConnectionError)    a transparency log did not take a checkpoint
├── KeysMissing            (FileNotFoundError)  there is no signing key
├── KeysExist              (FileExistsError)    a signing key would be overwritten
├── KeysUnusable           (ValueError)         a key or certificate is not one we may sign with
├── PromptKeyUnusable      (ValueError)         the key of prompt digests cannot be used
├── PromptUnproved         (ValueError)         a file that does not let a prompt be proved
└── ReleaseFailed          (RuntimeError)       an accepted image could not be signed, read back or written
"""

from typing import ClassVar

__all__ = [
    "AuditImpossible",
    "BackgroundTooSmall",
    "CalibrationUnfit",
    "EmbedderUnknown",
    "ExtraMissing",
    "GuardrailError",
    "HashListUntrusted",
    "HashListUnusable",
    "ImageBlocked",
    "ImageUnreadable",
    "IndexDamaged",
    "IndexExists",
    "IndexLocked",
    "IndexMismatch",
    "IndexMissing",
    "IndexUnreachable",
    "IndexUnsupported",
    "IndexUnwritable",
    "KeysExist",
    "KeysMissing",
    "KeysUnusable",
    "LedgerBroken",
    "LedgerProofInvalid",
    "LedgerRowMissing",
    "LogUnreachable",
    "MemoryUnwritable",
    "ModelUnsigned",
    "NothingToIndex",
    "OutputNotUnderstood",
    "PictureNotKept",
    "PipelineNotWrappable",
    "PluginFault",
    "PromptKeyUnusable",
    "PromptUnproved",
    "ReleaseFailed",
    "SettingsInvalid",
    "SignLimitsUnfit",
    "WeightsUnusable",
    "WordsUnknown",
    "WorksTableInvalid",
]


class GuardrailError(Exception):
    """Base of all errors guardrail raises on purpose; `message` is filled with `args` in order."""

    message: ClassVar[str] = "{0}"

    def __str__(self) -> str:
        return self.message.format(*self.args)


class SettingsInvalid(GuardrailError, ValueError):
    """Settings that cannot be followed. Args: where they stand, what is wrong with them."""

    message = "the settings in {0!r} cannot be used: {1}; correct them there"


class ExtraMissing(GuardrailError, ImportError):
    """An optional package is not installed. Args: package, extra, purpose."""

    message = "package {0!r} is needed to {2} but is not installed; run: pip install 'diffusion-guardrail[{1}]'"


class PluginFault(GuardrailError, RuntimeError):
    """A plugin that could not be registered. Args: plugin name, what went wrong."""

    message = "plugin {0!r} cannot be used: {1}; correct or uninstall it"


class EmbedderUnknown(GuardrailError, LookupError):
    """No plugin offers an embedder of that name. Args: name, the names and forms on offer."""

    message = "embedder {0!r} is not known; expected one of {1}; correct the name or install the plugin that offers it"


class WeightsUnusable(GuardrailError, ValueError):
    """A weights file that is missing or is not the pinned one. Args: path or tag, found, expected."""

    message = "weights {0!r}: found {1}, expected {2}; restore the file or correct its name"


class IndexMissing(GuardrailError, FileNotFoundError):
    """No index at that place. Args: path, what was found there."""

    message = "no index at {0!r} ({1}); build one with: guardrail index build FOLDER {0}"


class IndexExists(GuardrailError, FileExistsError):
    """An index is there already. Args: path."""

    message = "found an index at {0!r}, expected none; choose another place or pass --overwrite"


class IndexDamaged(GuardrailError, ValueError):
    """A file of an index that is missing, edited or cut. Args: file, found, expected."""

    message = "index file {0!r}: found {1}, expected {2}; restore it from a copy or rebuild the index"


class IndexMismatch(GuardrailError, ValueError):
    """An index built with another fingerprint specification. Args: index, built with, asked with."""

    message = "index {0!r} holds {1} vectors but the query is {2}; rebuild the index, or use the embedder {1}"


class IndexUnwritable(GuardrailError, OSError):
    """An index cannot be written. Args: place, what went wrong."""

    message = (
        "cannot write the index at {0!r}: {1}; make room there and run the same command, it goes on where it stopped"
    )


class IndexLocked(GuardrailError, OSError):
    """Another process is writing to an index. Args: place, who holds the lock."""

    message = (
        "the index at {0!r} is being written to by {1}, expected nobody; "
        "wait until that is done and run the same command again"
    )


class IndexUnreachable(GuardrailError, ConnectionError):
    """The server of an index does not answer, or turns us away. Args: place, what it or the network said."""

    message = (
        "the index at {0!r} cannot be asked: {1}; expected a Milvus server that answers there: start it or correct the "
        "address, and put user:password or an API key, where it wants one, in GUARDRAIL_MILVUS_TOKEN"
    )


class IndexUnsupported(GuardrailError, RuntimeError):
    """The server of an index cannot do what an index needs. Args: place, found, expected."""

    message = "the server of the index at {0!r} is {1}, expected {2}; upgrade it, or choose another structure"


class PictureNotKept(GuardrailError, LookupError):
    """An index holds no picture of a work: it came from a list of hashes, or was withdrawn. Args: place, row."""

    message = "the index {0!r} keeps no picture of row {1}; proof needs one: add the work from its file"


class WordsUnknown(GuardrailError, ValueError):
    """An index whose embedders turn no words into vectors. Args: index, embedders."""

    message = (
        "index {0!r} holds vectors of {1}, which know no words; expected one with a text tower: "
        "build the index with embedder mini or clip:<arch>/<tag>"
    )


class CalibrationUnfit(GuardrailError, ValueError):
    """A calibration that was edited, cut, or made on another index. Args: file, found, expected."""

    message = (
        "calibration {0!r}: found {1}, expected {2}; remove that file, and fit limits anew with: "
        "guardrail index calibrate"
    )


class SignLimitsUnfit(GuardrailError, ValueError):
    """A calibration of signs that was edited or cut. Args: file, found, expected."""

    message = (
        "calibration of signs {0!r}: found {1}, expected {2}; remove that file, and fit limits anew with: "
        "guardrail signs calibrate"
    )


class BackgroundTooSmall(GuardrailError, ValueError):
    """Too few pictures for the rate of false alarms asked for. Args: folder, pictures, rate, pictures needed."""

    message = (
        "background {0!r} holds {1} pictures that count, but a false-alarm rate of {2} takes at least {3}; "
        "add pictures, or ask for a higher rate"
    )


class WorksTableInvalid(GuardrailError, ValueError):
    """A works table that cannot be read. Args: file, line or column, what is wrong."""

    message = "works table {0!r}, {1}: {2}; correct the table and build again"


class HashListUnusable(GuardrailError, ValueError):
    """A hash list that cannot be read or imported. Args: file, found, expected, what to do."""

    message = "hash list {0!r}: found {1}, expected {2}; {3}"


class HashListUntrusted(GuardrailError, ValueError):
    """A hash list that nobody signed who is trusted. Args: file, found, expected."""

    message = (
        "hash list {0!r}: found {1}, expected {2}; give the root certificate of whoever signs it with --trust, or say "
        "--unsigned if you know where it comes from"
    )


class NothingToIndex(GuardrailError, ValueError):
    """A folder without one readable image. Args: folder, what was found there."""

    message = "no readable image in {0!r} ({1}); point to a folder that holds images"


class ImageUnreadable(GuardrailError, ValueError):
    """A file or array that is not a picture we can check. Args: its name, what was found."""

    message = "{0!r} cannot be checked: {1}; give a still picture, PNG, JPEG or WebP for example"


class OutputNotUnderstood(GuardrailError, TypeError):
    """A pipeline output in which no picture was found. Args: output type, what it held."""

    message = (
        "the pipeline returned {0} holding {1}, where pictures were expected; nothing was released: "
        "guard the pipeline or function that returns pictures"
    )


class PipelineNotWrappable(GuardrailError, TypeError):
    """The object cannot be wrapped. Args: its type, what is wrong."""

    message = "cannot wrap this {0}: {1}; pass a diffusers pipeline, or a callable that returns pictures"


class AuditImpossible(GuardrailError, ValueError):
    """A model, its pictures or a work folder that cannot be audited. Args: which, found, expected, what to do."""

    message = "cannot audit {0!r}: found {1}, expected {2}; {3}"


class ModelUnsigned(GuardrailError, ValueError):
    """A model whose signature was asked for and does not hold. Args: what was found."""

    message = "signature of the model: found {0}, expected weights just as they were signed; load the signed model, or \
take [model] out of the settings"


class ImageBlocked(GuardrailError, RuntimeError):
    """A blocked image, where the settings say to raise. Args: image name, explanation."""

    message = "image {0!r} was blocked: {1}; nothing of this call was released"


class MemoryUnwritable(GuardrailError, OSError):
    """The ledger or queue cannot be written. Args: place, what went wrong."""

    message = (
        "ledger and queue at {0!r} cannot be used: {1}; nothing was released, mend or move that file and run again"
    )


class LedgerBroken(GuardrailError, ValueError):
    """A row, or the tree over the rows, does not hold. Args: row number, found, expected."""

    message = "ledger row {0}: found {1}, expected {2}; the ledger was edited, restore it from a copy"


class LedgerProofInvalid(GuardrailError, ValueError):
    """A checkpoint or proof that does not hold. Args: what it is known by, found, expected."""

    message = "ledger proof {0!r}: found {1}, expected {2}; get it again from whoever keeps the ledger"


class LedgerRowMissing(GuardrailError, LookupError):
    """No such row. Args: ledger, the number or id that was asked for."""

    message = "ledger {0!r} has no row {1!r} (a number, or the id of a verdict or a manifest); correct it"


class LogUnreachable(GuardrailError, ConnectionError):
    """A transparency log that did not take a checkpoint. Args: URL, what went wrong."""

    message = "the log at {0!r} did not take the checkpoint: {1}; it is written all the same, post it again later"


class KeysMissing(GuardrailError, FileNotFoundError):
    """No signing key. Args: folder, what is missing."""

    message = "no signing key in {0!r} ({1} is missing); make development keys with: guardrail keys init --dir {0}"


class KeysExist(GuardrailError, FileExistsError):
    """A key would be overwritten. Args: folder."""

    message = "signing keys are already in {0!r}; choose another folder, they are never overwritten"


class KeysUnusable(GuardrailError, ValueError):
    """A key or certificate we may not sign with. Args: file, found, expected."""

    message = "key file {0!r}: found {1}, expected {2}; correct that, or make new keys with: guardrail keys init"


class PromptKeyUnusable(GuardrailError, ValueError):
    """A key of prompt digests that is missing, open to others or no key. Args: file, found, expected."""

    message = "prompt key file {0!r}: found {1}, expected {2}; name another as provenance.prompt_key, or set \
provenance.prompt_digest = false"


class PromptUnproved(GuardrailError, ValueError):
    """A file by which no prompt can be proved or disproved. Args: file, found."""

    message = "prompt of {0!r}: found {1}, expected an intact file that we signed with digests of its prompts; \
take the file as it was released by a guarded pipeline: what `guardrail check` signed had no prompt to keep"


class ReleaseFailed(GuardrailError, RuntimeError):
    """An accepted image that could not be signed, read back or written. Args: image name, what went wrong."""

    message = "image {0!r} was accepted but not released: {1}; correct the cause and save again"
