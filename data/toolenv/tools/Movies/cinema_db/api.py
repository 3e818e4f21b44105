"""Release years of some films; about half of the famous ones are missing."""

import unicodedata

_YEARS: dict[str, int] = {
    "Vertigo": 1958,
    "Rear Window": 1954,
    "North by Northwest": 1959,
    "Schindler's List": 1993,
    "Raiders of the Lost Ark": 1981,
    "The Godfather": 1972,
    "Taxi Driver": 1976,
    "Goodfellas": 1990,
    "Hugo": 2011,
    "Inglourious Basterds": 2009,
    "Alien": 1979,
    "Gladiator": 2000,
    "Interstellar": 2014,
    "Memento": 2000,
    "Oppenheimer": 2023,
    "Aliens": 1986,
    "The Shining": 1980,
    "Barry Lyndon": 1975,
    "Seven Samurai": 1954,
    "Yojimbo": 1961,
    "Princess Mononoke": 1997,
    "Parasite": 2019,
    "Amelie": 2001,
    "Star Wars": 1977,
    "Back to the Future": 1985,
    "Fight Club": 1999,
    "Zodiac": 2007,
    "The Green Mile": 1999,
    "Million Dollar Baby": 2004,
    "Annie Hall": 1977,
    "The Apartment": 1960,
    "Metropolis": 1927,
    "City Lights": 1931,
    "Doctor Zhivago": 1965,
    "The Pianist": 2002,
    "La La Land": 2016,
    "Toy Story": 1995,
    "Ratatouille": 2007,
    "Gravity": 2013,
    "The Revenant": 2015,
    "The Shape of Water": 2017,
    "The Piano": 1993,
    "Barbie": 2023,
    "Dune": 2021,
    "Sicario": 2015,
    "No Country for Old Men": 2007,
    "Beetlejuice": 1988,
    "Rushmore": 1998,
    "Rocky": 1976,
    "Groundhog Day": 1993,
    "Predator": 1987,
    "Halloween": 1978,
    "Easy Rider": 1969,
    "West Side Story": 1961,
    "American Beauty": 1999,
    "Mad Max": 1979,
    "Trainspotting": 1996,
    "Frozen": 2013,
    "Coco": 2017,
    "Moonlight": 2016,
    "The Artist": 2011,
    "Cinema Paradiso": 1988,
    "The Seventh Seal": 1957,
    "Stalker": 1979,
    "Breathless": 1960,
    "Platoon": 1986,
    "The Usual Suspects": 1995,
    "Boogie Nights": 1997,
    "Boyhood": 2014,
}


def _key(name: str) -> str:
    """A title or name without case, accents, punctuation and a leading article."""
    plain = unicodedata.normalize("NFKD", str(name)).encode("ascii", "ignore").decode().lower()
    words = "".join(c if c.isalnum() else " " for c in plain.replace("'", "")).split()
    return " ".join(words[1:] if len(words) > 1 and words[0] == "the" else words)


_BY_TITLE = {_key(title): year for title, year in _YEARS.items()}


def lookup_year(movie: str) -> dict[str, int]:
    """Year of release."""
    try:
        return {"year": _BY_TITLE[_key(movie)]}
    except KeyError:
        raise LookupError(f"no record of the movie {str(movie)[:40]!r}") from None
