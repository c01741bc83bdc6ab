"""Make a virtual environment with nothing but Python and its packages: `environment.py FOLDER [PACKAGE...]`.

Without packages it gets this checkout, editable, with its developers' tools.

uv installs, because it links a second environment of the same packages from its cache instead of copying 7 GB.
uv does not read pip's configuration, so what a user told pip about indexes is handed on to it.
"""

import ast
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

__all__ = ["main", "uv_settings"]

_UV_NAME = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
}
_COMMA_SEPARATED = {"UV_FIND_LINKS"}


def uv_settings(pip_config: str) -> dict[str, str]:
    """What `pip config list` said, as environment variables of uv; of pip's sources its own environment wins."""
    said: dict[str, tuple[int, str]] = {}
    for line in pip_config.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.rpartition(".")
        name = _UV_NAME.get(option)
        rank = {"global": 0, "install": 1, ":env:": 2}.get(section, -1)
        if name and rank >= 0 and rank >= said.get(name, (0, ""))[0]:
            words = str(ast.literal_eval(value)).split()
            said[name] = (rank, ("," if name in _COMMA_SEPARATED else " ").join(words))
    settings = {name: value for name, (_, value) in said.items() if value}
    if "UV_INDEX" in settings:
        settings["UV_INDEX_STRATEGY"] = "unsafe-best-match"  # pip's own rule: the best version of all indexes
    return settings


def _usable(python: Path) -> bool:
    """Whether an environment is there and runs this very Python version."""
    try:
        asked = [str(python), "-c", "import sys; print(sys.version)"]
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() == sys.version
    except OSError:
        return False


def main(folder: Path, *packages: str) -> None:
    """Make the environment at `folder`, or bring it up to date."""
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if folder.exists() and not _usable(python):
        shutil.rmtree(folder)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    if not python.exists() or subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode:
        venv.create(folder, with_pip=True, prompt="guardrail")
    subprocess.run([*pip, "install", "--quiet", "uv"], check=True)
    said = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=True).stdout
    environment = {**uv_settings(said), **os.environ}
    uv = [str(python), "-m", "uv", "pip", "install", "--python", str(python)]
    subprocess.run([*uv, *(packages or ("--editable", ".", "--group", "dev"))], check=True, env=environment)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
