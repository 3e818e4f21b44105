"""Molar mass of a chemical formula, with parentheses and hydrate dots.

Atomic masses are the abridged standard atomic weights of IUPAC (2021); for elements without one,
the mass number of a long-lived isotope.
"""

import re

_GRAMS_PER_MOLE = {
    "H": 1.008,
    "He": 4.0026,
    "Li": 6.94,
    "Be": 9.0122,
    "B": 10.81,
    "C": 12.011,
    "N": 14.007,
    "O": 15.999,
    "F": 18.998,
    "Ne": 20.18,
    "Na": 22.99,
    "Mg": 24.305,
    "Al": 26.982,
    "Si": 28.085,
    "P": 30.974,
    "S": 32.06,
    "Cl": 35.45,
    "Ar": 39.95,
    "K": 39.098,
    "Ca": 40.078,
    "Sc": 44.956,
    "Ti": 47.867,
    "V": 50.942,
    "Cr": 51.996,
    "Mn": 54.938,
    "Fe": 55.845,
    "Co": 58.933,
    "Ni": 58.693,
    "Cu": 63.546,
    "Zn": 65.38,
    "Ga": 69.723,
    "Ge": 72.63,
    "As": 74.922,
    "Se": 78.971,
    "Br": 79.904,
    "Kr": 83.798,
    "Rb": 85.468,
    "Sr": 87.62,
    "Y": 88.906,
    "Zr": 91.224,
    "Nb": 92.906,
    "Mo": 95.95,
    "Tc": 97,
    "Ru": 101.07,
    "Rh": 102.91,
    "Pd": 106.42,
    "Ag": 107.87,
    "Cd": 112.41,
    "In": 114.82,
    "Sn": 118.71,
    "Sb": 121.76,
    "Te": 127.6,
    "I": 126.9,
    "Xe": 131.29,
    "Cs": 132.91,
    "Ba": 137.33,
    "La": 138.91,
    "Ce": 140.12,
    "Pr": 140.91,
    "Nd": 144.24,
    "Pm": 145,
    "Sm": 150.36,
    "Eu": 151.96,
    "Gd": 157.25,
    "Tb": 158.93,
    "Dy": 162.5,
    "Ho": 164.93,
    "Er": 167.26,
    "Tm": 168.93,
    "Yb": 173.05,
    "Lu": 174.97,
    "Hf": 178.49,
    "Ta": 180.95,
    "W": 183.84,
    "Re": 186.21,
    "Os": 190.23,
    "Ir": 192.22,
    "Pt": 195.08,
    "Au": 196.97,
    "Hg": 200.59,
    "Tl": 204.38,
    "Pb": 207.2,
    "Bi": 208.98,
    "Po": 209,
    "At": 210,
    "Rn": 222,
    "Fr": 223,
    "Ra": 226,
    "Ac": 227,
    "Th": 232.04,
    "Pa": 231.04,
    "U": 238.03,
    "Np": 237,
    "Pu": 244,
    "Am": 243,
    "Cm": 247,
    "Bk": 247,
    "Cf": 251,
    "Es": 252,
    "Fm": 257,
    "Md": 258,
    "No": 259,
    "Lr": 262,
    "Rf": 267,
    "Db": 268,
    "Sg": 269,
    "Bh": 270,
    "Hs": 269,
    "Mt": 277,
    "Ds": 281,
    "Rg": 282,
    "Cn": 285,
    "Nh": 286,
    "Fl": 290,
    "Mc": 290,
    "Lv": 293,
    "Ts": 294,
    "Og": 294,
}
_LENGTH_MAXIMUM_CHARS = 100
_TOKEN = re.compile(r"([A-Z][a-z]?)(\d*)|(\()|(\))(\d*)")


def _count(digits: str, formula: str) -> int:
    if len(digits) > 4 or digits.startswith("0"):
        raise ValueError(f"count {digits[:10]!r} in {formula[:30]!r} must be 1 to 9999")
    return int(digits or "1")


def _part_mass(part: str, formula: str) -> float:
    """Mass of one formula without dots; nested groups are summed on a stack."""
    stack = [0.0]
    position = 0
    while position < len(part):
        token = _TOKEN.match(part, position)
        if token is None:
            raise ValueError(f"formula {formula[:30]!r} is wrong at {part[position]!r}")
        symbol, atoms, opening, closing, groups = token.groups()
        if opening:
            stack.append(0.0)
        elif closing:
            if len(stack) == 1:
                raise ValueError(f"formula {formula[:30]!r} closes a parenthesis it did not open")
            inner = stack.pop()
            stack[-1] += inner * _count(groups, formula)
        elif symbol in _GRAMS_PER_MOLE:
            stack[-1] += _GRAMS_PER_MOLE[symbol] * _count(atoms, formula)
        else:
            raise LookupError(f"{symbol!r} in {formula[:30]!r} is not an element symbol")
        position = token.end()
    if len(stack) > 1:
        raise ValueError(f"formula {formula[:30]!r} leaves a parenthesis open")
    return stack[0]


def molar_mass(formula: object) -> dict[str, object]:
    """Molar mass in grams per mole, to 6 significant digits."""
    text = "".join(str(formula).split()).replace("[", "(").replace("]", ")")
    if not 1 <= len(text) <= _LENGTH_MAXIMUM_CHARS:
        raise ValueError(f"formula of {len(text)} characters; use 1 to {_LENGTH_MAXIMUM_CHARS}")
    total = 0.0
    for part in re.split(r"[.\u00b7*]", text):
        leading = re.match(r"\d*", part)
        digits = leading.group() if leading else ""
        if digits == part:
            raise ValueError(f"formula {text[:30]!r} has an empty part; use e.g. H2O")
        total += _count(digits, text) * _part_mass(part[len(digits) :], text)
    rounded = float(f"{total:.6g}")
    return {"molar_mass": int(rounded) if rounded.is_integer() else rounded, "unit": "g/mol"}
