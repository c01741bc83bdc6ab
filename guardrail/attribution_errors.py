"""What can go wrong when images are attributed to what a model was trained on; beside the tree of errors.py.

GuardrailError
├── AttributionImpossible  (ValueError)         a model, its pictures or an image that nothing can be attributed for
├── GradientsMissing       (FileNotFoundError)  there are no gradients at that place
├── GradientsDamaged       (ValueError)         a file of a folder of gradients is missing, edited or cut
├── GradientsMismatch      (ValueError)         gradients were made with another model or in another way
├── GradientsLocked        (OSError)            another process is writing to a folder of gradients
└── AdapterRefused         (ValueError)         an adapter that cannot be registered, or removed, like this
"""

from guardrail.errors import GuardrailError

__all__ = [
    "AdapterRefused",
    "AttributionImpossible",
    "GradientsDamaged",
    "GradientsLocked",
    "GradientsMismatch",
    "GradientsMissing",
]


class AttributionImpossible(GuardrailError, ValueError):
    """A model, its pictures or an image that cannot be attributed. Args: which, found, expected, what to do."""

    message = "cannot attribute {0!r}: found {1}, expected {2}; {3}"


class GradientsMissing(GuardrailError, FileNotFoundError):
    """No gradients at that place. Args: folder, what was found there."""

    message = "no gradients at {0!r} ({1}); make them with: guardrail attribute fit PIPELINE TRAINING --out {0}"


class GradientsDamaged(GuardrailError, ValueError):
    """A file of a folder of gradients that is missing, edited or cut. Args: file, found, expected."""

    message = "gradients file {0!r}: found {1}, expected {2}; restore it from a copy, or fit into another folder"


class GradientsMismatch(GuardrailError, ValueError):
    """Gradients of another model, or made in another way. Args: folder, found, expected."""

    message = "gradients at {0!r} were made with {2}, but found {1}; give that model, or fit into another folder"


class GradientsLocked(GuardrailError, OSError):
    """Another process is writing to a folder of gradients. Args: folder, who holds the lock."""

    message = (
        "the gradients at {0!r} are being written to by {1}, expected nobody; "
        "wait until that is done and run the same command again"
    )


class AdapterRefused(GuardrailError, ValueError):
    """An adapter that cannot be registered, or removed, like this. Args: its name, found, expected."""

    message = "adapter {0!r}: found {1}, expected {2}; the register is as it was"
