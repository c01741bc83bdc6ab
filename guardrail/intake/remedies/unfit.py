"""Why a remedy does not fit a pipeline or a call."""

__all__ = ["RemedyUnfit"]


class RemedyUnfit(Exception):
    """A remedy cannot be tried on this call; raised and caught inside the ladder, also out of a running pipeline."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
