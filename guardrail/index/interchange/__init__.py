"""Hash lists in and out: what an index holds as a signed file that others read, and theirs as works of an index."""

from guardrail.index.interchange.applying import ImportReport, Trusted, import_foreign, import_list
from guardrail.index.interchange.foreign import FOREIGN_FORMATS, Dialect, guess_dialect
from guardrail.index.interchange.form import ListFoot, ListHead, ListSigner
from guardrail.index.interchange.former import FormerLists, find_former
from guardrail.index.interchange.origins import ORIGINS, Imported, Origins, read_origins
from guardrail.index.interchange.reading import HashList, Survey, is_hash_list
from guardrail.index.interchange.writing import ExportReport, Seal, Wanted, export_list

__all__ = [
    "FOREIGN_FORMATS",
    "ORIGINS",
    "Dialect",
    "ExportReport",
    "FormerLists",
    "HashList",
    "ImportReport",
    "Imported",
    "ListFoot",
    "ListHead",
    "ListSigner",
    "Origins",
    "Seal",
    "Survey",
    "Trusted",
    "Wanted",
    "export_list",
    "find_former",
    "guess_dialect",
    "import_foreign",
    "import_list",
    "is_hash_list",
    "read_origins",
]
