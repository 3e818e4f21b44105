"""The questions that searches ask beside the next step: one hash over all of them."""

import importlib
import pkgutil
from functools import cache

import services.planner.prompts as package
from services.planner.prompts.base import fingerprint


@cache
def questions_fingerprint() -> str:
    """SHA-256 of every text constant of this package that belongs to no profile."""
    texts: dict[str, str] = {}
    for module in pkgutil.iter_modules(package.__path__):
        name = f"{package.__name__}.{module.name}"
        if name == __name__:
            continue
        for constant, value in vars(importlib.import_module(name)).items():
            if constant.isupper() and isinstance(value, str):
                texts[f"{module.name}.{constant}"] = value
    return fingerprint(texts)
