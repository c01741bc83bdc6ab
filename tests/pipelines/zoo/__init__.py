"""A tiny pipeline for every diffusers class that returns images or frames, made from configs alone, family by family.

A family is a module here with a tuple `SPECIMENS` and a dict `NOT_BUILT` (class name -> why there is none). Modules
named `parts*` make components.
"""

import importlib
import pkgutil

from .specimen import Specimen

__all__ = ["FAMILIES", "NOT_BUILT", "SPECIMENS", "Specimen"]

SPECIMENS: dict[str, Specimen] = {}
FAMILIES: dict[str, str] = {}
NOT_BUILT: dict[str, str] = {}

for _found in pkgutil.iter_modules(__path__):
    if _found.name == "specimen" or _found.name.startswith("parts"):
        continue
    _family = importlib.import_module(f"{__name__}.{_found.name}")
    for _specimen in _family.SPECIMENS:
        assert _specimen.name not in SPECIMENS, f"{_specimen.name} is in two families"
        SPECIMENS[_specimen.name] = _specimen
        FAMILIES[_specimen.name] = _found.name
    NOT_BUILT.update(_family.NOT_BUILT)
