"""An index on a Milvus server or cluster: the same answers as the folder index, from many machines."""

from guardrail.index.milvus.backend import MilvusIndex, open_milvus
from guardrail.index.milvus.copying import Copied, CopySource, copy_index
from guardrail.index.milvus.layout import STRUCTURES, Structure
from guardrail.index.milvus.place import MilvusPlace

__all__ = [
    "STRUCTURES",
    "Copied",
    "CopySource",
    "MilvusIndex",
    "MilvusPlace",
    "Structure",
    "copy_index",
    "open_milvus",
]
