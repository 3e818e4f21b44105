"""Symbols of the first 36 elements, hydrogen to krypton; heavier ones are missing."""

_SYMBOLS = {
    "hydrogen": "H",
    "helium": "He",
    "lithium": "Li",
    "beryllium": "Be",
    "boron": "B",
    "carbon": "C",
    "nitrogen": "N",
    "oxygen": "O",
    "fluorine": "F",
    "neon": "Ne",
    "sodium": "Na",
    "magnesium": "Mg",
    "aluminium": "Al",
    "silicon": "Si",
    "phosphorus": "P",
    "sulfur": "S",
    "chlorine": "Cl",
    "argon": "Ar",
    "potassium": "K",
    "calcium": "Ca",
    "scandium": "Sc",
    "titanium": "Ti",
    "vanadium": "V",
    "chromium": "Cr",
    "manganese": "Mn",
    "iron": "Fe",
    "cobalt": "Co",
    "nickel": "Ni",
    "copper": "Cu",
    "zinc": "Zn",
    "gallium": "Ga",
    "germanium": "Ge",
    "arsenic": "As",
    "selenium": "Se",
    "bromine": "Br",
    "krypton": "Kr",
}


def find_symbol(name: object) -> dict[str, object]:
    """Chemical symbol of an element up to krypton; heavier ones raise LookupError."""
    text = str(name).strip().lower()
    if text not in _SYMBOLS:
        raise LookupError(f"name {text[:30]!r} is not among the first {len(_SYMBOLS)} elements")
    return {"symbol": _SYMBOLS[text]}
