"""Hex codes of twenty basic colours; every other colour is missing."""

_BASIC: dict[str, str] = {
    "black": "#000000",
    "white": "#ffffff",
    "red": "#ff0000",
    "green": "#008000",
    "blue": "#0000ff",
    "yellow": "#ffff00",
    "orange": "#ffa500",
    "purple": "#800080",
    "pink": "#ffc0cb",
    "brown": "#a52a2a",
    "gray": "#808080",
    "cyan": "#00ffff",
    "magenta": "#ff00ff",
    "lime": "#00ff00",
    "navy": "#000080",
    "teal": "#008080",
    "maroon": "#800000",
    "olive": "#808000",
    "silver": "#c0c0c0",
    "gold": "#ffd700",
}


def colour_code(colour: str) -> dict[str, str]:
    """Hex code of a basic colour, `#rrggbb`."""
    name = " ".join(str(colour).lower().replace("grey", "gray").split())
    if name not in _BASIC:
        raise LookupError(
            f"colour {str(colour)[:30]!r} is not on the palette of {len(_BASIC)} basic colours"
        )
    return {"hex": _BASIC[name]}
