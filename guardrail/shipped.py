"""Where the data that ships with guardrail lies: in the wheel beside this file, in a checkout under `indexes/`."""

from pathlib import Path

__all__ = ["shipped_folder"]


def shipped_folder(name: str) -> Path:
    """The folder of a shipped bank, such as `demo`.

    Raises:
        FileNotFoundError: this installation does not hold it.
    """
    here = Path(__file__).parent
    for folder in (here / "shipped" / name, here.parent / "indexes" / name):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"the shipped bank {name!r} is not in this installation; install diffusion-guardrail anew")
