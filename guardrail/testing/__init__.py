"""For tests of your own: a fake embedder, a fake pipeline, and contracts that any index backend or embedder must meet.

Subclass a contract in your test suite and give it what to test:

    class TestMyBackend(IndexContract):
        def backend(self, fingerprints, works): return MyBackend(...)
"""

from guardrail.testing.embedders import EmbedderContract
from guardrail.testing.fakes import FakeEmbedder, FakePipeline, FakePlugin
from guardrail.testing.indexes import IndexContract, WritableIndexContract, made_up_prints, made_up_rows

__all__ = [
    "EmbedderContract",
    "FakeEmbedder",
    "FakePipeline",
    "FakePlugin",
    "IndexContract",
    "WritableIndexContract",
    "made_up_prints",
    "made_up_rows",
]
