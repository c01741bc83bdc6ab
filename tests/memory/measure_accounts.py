"""How long it takes to refuse a known and an unknown email, to find a session, and to note an event.

python tests/memory/measure_accounts.py
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from guardrail.memory import Memory

_ROUNDS = 25


def _median_ms(act: Callable[[], object], rounds: int) -> float:
    took = []
    for _ in range(rounds):
        start = time.perf_counter()
        act()
        took.append((time.perf_counter() - start) * 1e3)
    return statistics.median(took)


def main() -> None:
    """Print medians."""
    with tempfile.TemporaryDirectory() as folder:
        memory = Memory(f"sqlite:///{Path(folder) / 'memory.db'}")
        accounts = memory.accounts
        accounts.first_links({"default": "Default"})
        ada = accounts.open_account("default", "ada@example.org", "Ada", "viewer", "four rabbits in a tuba")
        secret = accounts.sessions.open(ada.account_id, "full", hours=12)
        accounts.signing.check_password("nobody@example.org", "warm up the hash of nobody")
        for email in ("ada@example.org", "nobody@example.org"):
            took_ms = _median_ms(lambda email=email: accounts.signing.check_password(email, "wrong"), _ROUNDS)
            print(f"refused {email:20} {took_ms:8.0f} ms")
        print(f"found a session            {_median_ms(lambda: accounts.sessions.find(secret, 60), 200):8.2f} ms")
        noted_ms = _median_ms(lambda: memory.audit.note(ada.actor, "case.seen", "case 1"), 200)
        print(f"noted an event             {noted_ms:8.1f} ms")
        memory.close()


if __name__ == "__main__":
    main()
