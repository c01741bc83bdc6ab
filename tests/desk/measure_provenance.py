"""`guardrail bench provenance` beside a time stamp server of this machine, which openssl answers for.

Run `python tests/desk/measure_provenance.py --images 1000 --json`: the words are those of the command.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1] / "act"))
from key_samples import serve_time_stamps


def main():
    with TemporaryDirectory() as scratch:
        told, server = serve_time_stamps(Path(scratch))
        (Path(scratch) / "stamp-root.pem").write_bytes(told.root)
        settings = Path(scratch) / "guardrail.toml"
        anchors = f'time_stamp_anchors = "{scratch}/stamp-root.pem"'
        settings.write_text(f'[provenance]\ntime_stamp_url = "{told.url}"\n{anchors}\n', encoding="utf-8")
        command = [sys.executable, "-m", "guardrail", "bench", "provenance", "--settings", settings, *sys.argv[1:]]
        status = subprocess.run(command, check=False).returncode
        server.shutdown()
        server.server_close()
    sys.exit(status)


if __name__ == "__main__":
    main()
