"""Release years and directors of well-known films.

The year is that of the first public release; of several directors the first credited is listed.
"""

import unicodedata

# title: (year of release, director)

_FILMS: dict[str, tuple[int, str]] = {
    "Citizen Kane": (1941, "Orson Welles"),
    "Vertigo": (1958, "Alfred Hitchcock"),
    "Psycho": (1960, "Alfred Hitchcock"),
    "Rear Window": (1954, "Alfred Hitchcock"),
    "The Birds": (1963, "Alfred Hitchcock"),
    "North by Northwest": (1959, "Alfred Hitchcock"),
    "Jaws": (1975, "Steven Spielberg"),
    "Jurassic Park": (1993, "Steven Spielberg"),
    "Schindler's List": (1993, "Steven Spielberg"),
    "Saving Private Ryan": (1998, "Steven Spielberg"),
    "Raiders of the Lost Ark": (1981, "Steven Spielberg"),
    "Lincoln": (2012, "Steven Spielberg"),
    "The Godfather": (1972, "Francis Ford Coppola"),
    "Apocalypse Now": (1979, "Francis Ford Coppola"),
    "The Conversation": (1974, "Francis Ford Coppola"),
    "Taxi Driver": (1976, "Martin Scorsese"),
    "Raging Bull": (1980, "Martin Scorsese"),
    "Goodfellas": (1990, "Martin Scorsese"),
    "The Departed": (2006, "Martin Scorsese"),
    "Hugo": (2011, "Martin Scorsese"),
    "Pulp Fiction": (1994, "Quentin Tarantino"),
    "Reservoir Dogs": (1992, "Quentin Tarantino"),
    "Inglourious Basterds": (2009, "Quentin Tarantino"),
    "Django Unchained": (2012, "Quentin Tarantino"),
    "Alien": (1979, "Ridley Scott"),
    "Blade Runner": (1982, "Ridley Scott"),
    "Gladiator": (2000, "Ridley Scott"),
    "The Martian": (2015, "Ridley Scott"),
    "Inception": (2010, "Christopher Nolan"),
    "Interstellar": (2014, "Christopher Nolan"),
    "Dunkirk": (2017, "Christopher Nolan"),
    "Memento": (2000, "Christopher Nolan"),
    "The Dark Knight": (2008, "Christopher Nolan"),
    "Oppenheimer": (2023, "Christopher Nolan"),
    "Titanic": (1997, "James Cameron"),
    "Avatar": (2009, "James Cameron"),
    "Aliens": (1986, "James Cameron"),
    "The Terminator": (1984, "James Cameron"),
    "The Shining": (1980, "Stanley Kubrick"),
    "A Clockwork Orange": (1971, "Stanley Kubrick"),
    "Barry Lyndon": (1975, "Stanley Kubrick"),
    "Full Metal Jacket": (1987, "Stanley Kubrick"),
    "Spartacus": (1960, "Stanley Kubrick"),
    "Seven Samurai": (1954, "Akira Kurosawa"),
    "Rashomon": (1950, "Akira Kurosawa"),
    "Yojimbo": (1961, "Akira Kurosawa"),
    "Spirited Away": (2001, "Hayao Miyazaki"),
    "Princess Mononoke": (1997, "Hayao Miyazaki"),
    "My Neighbor Totoro": (1988, "Hayao Miyazaki"),
    "Ponyo": (2008, "Hayao Miyazaki"),
    "Parasite": (2019, "Bong Joon-ho"),
    "Oldboy": (2003, "Park Chan-wook"),
    "Amelie": (2001, "Jean-Pierre Jeunet"),
    "The Matrix": (1999, "The Wachowskis"),
    "Star Wars": (1977, "George Lucas"),
    "American Graffiti": (1973, "George Lucas"),
    "Forrest Gump": (1994, "Robert Zemeckis"),
    "Back to the Future": (1985, "Robert Zemeckis"),
    "Cast Away": (2000, "Robert Zemeckis"),
    "Fight Club": (1999, "David Fincher"),
    "The Social Network": (2010, "David Fincher"),
    "Zodiac": (2007, "David Fincher"),
    "Gone Girl": (2014, "David Fincher"),
    "The Shawshank Redemption": (1994, "Frank Darabont"),
    "The Green Mile": (1999, "Frank Darabont"),
    "Unforgiven": (1992, "Clint Eastwood"),
    "Million Dollar Baby": (2004, "Clint Eastwood"),
    "Gran Torino": (2008, "Clint Eastwood"),
    "Annie Hall": (1977, "Woody Allen"),
    "Manhattan": (1979, "Woody Allen"),
    "Some Like It Hot": (1959, "Billy Wilder"),
    "The Apartment": (1960, "Billy Wilder"),
    "Sunset Boulevard": (1950, "Billy Wilder"),
    "Metropolis": (1927, "Fritz Lang"),
    "Modern Times": (1936, "Charlie Chaplin"),
    "City Lights": (1931, "Charlie Chaplin"),
    "The Great Dictator": (1940, "Charlie Chaplin"),
    "Lawrence of Arabia": (1962, "David Lean"),
    "Doctor Zhivago": (1965, "David Lean"),
    "Chinatown": (1974, "Roman Polanski"),
    "The Pianist": (2002, "Roman Polanski"),
    "Braveheart": (1995, "Mel Gibson"),
    "La La Land": (2016, "Damien Chazelle"),
    "Whiplash": (2014, "Damien Chazelle"),
    "Get Out": (2017, "Jordan Peele"),
    "Toy Story": (1995, "John Lasseter"),
    "Finding Nemo": (2003, "Andrew Stanton"),
    "Ratatouille": (2007, "Brad Bird"),
    "The Incredibles": (2004, "Brad Bird"),
    "Gravity": (2013, "Alfonso Cuaron"),
    "Roma": (2018, "Alfonso Cuaron"),
    "Birdman": (2014, "Alejandro Inarritu"),
    "The Revenant": (2015, "Alejandro Inarritu"),
    "Pan's Labyrinth": (2006, "Guillermo del Toro"),
    "The Shape of Water": (2017, "Guillermo del Toro"),
    "Lost in Translation": (2003, "Sofia Coppola"),
    "The Piano": (1993, "Jane Campion"),
    "Lady Bird": (2017, "Greta Gerwig"),
    "Little Women": (2019, "Greta Gerwig"),
    "Barbie": (2023, "Greta Gerwig"),
    "The Hurt Locker": (2008, "Kathryn Bigelow"),
    "Dune": (2021, "Denis Villeneuve"),
    "Arrival": (2016, "Denis Villeneuve"),
    "Sicario": (2015, "Denis Villeneuve"),
    "Fargo": (1996, "Coen brothers"),
    "The Big Lebowski": (1998, "Coen brothers"),
    "No Country for Old Men": (2007, "Coen brothers"),
    "Edward Scissorhands": (1990, "Tim Burton"),
    "Beetlejuice": (1988, "Tim Burton"),
    "Big Fish": (2003, "Tim Burton"),
    "Rushmore": (1998, "Wes Anderson"),
    "The Royal Tenenbaums": (2001, "Wes Anderson"),
    "The Grand Budapest Hotel": (2014, "Wes Anderson"),
    "Rocky": (1976, "John Avildsen"),
    "Ghostbusters": (1984, "Ivan Reitman"),
    "Groundhog Day": (1993, "Harold Ramis"),
    "Die Hard": (1988, "John McTiernan"),
    "Predator": (1987, "John McTiernan"),
    "The Silence of the Lambs": (1991, "Jonathan Demme"),
    "The Exorcist": (1973, "William Friedkin"),
    "Halloween": (1978, "John Carpenter"),
    "The Thing": (1982, "John Carpenter"),
    "Easy Rider": (1969, "Dennis Hopper"),
    "The Graduate": (1967, "Mike Nichols"),
    "West Side Story": (1961, "Robert Wise"),
    "The Sound of Music": (1965, "Robert Wise"),
    "The Sixth Sense": (1999, "M Night Shyamalan"),
    "American Beauty": (1999, "Sam Mendes"),
    "Skyfall": (2012, "Sam Mendes"),
    "Mad Max": (1979, "George Miller"),
    "Babe": (1995, "Chris Noonan"),
    "Trainspotting": (1996, "Danny Boyle"),
    "Slumdog Millionaire": (2008, "Danny Boyle"),
    "Shrek": (2001, "Andrew Adamson"),
    "Frozen": (2013, "Chris Buck"),
    "Zootopia": (2016, "Byron Howard"),
    "Coco": (2017, "Lee Unkrich"),
    "Black Panther": (2018, "Ryan Coogler"),
    "Moonlight": (2016, "Barry Jenkins"),
    "Joker": (2019, "Todd Phillips"),
    "The Hangover": (2009, "Todd Phillips"),
    "The Artist": (2011, "Michel Hazanavicius"),
    "Das Boot": (1981, "Wolfgang Petersen"),
    "Cinema Paradiso": (1988, "Giuseppe Tornatore"),
    "Life Is Beautiful": (1997, "Roberto Benigni"),
    "The Seventh Seal": (1957, "Ingmar Bergman"),
    "Wild Strawberries": (1957, "Ingmar Bergman"),
    "Persona": (1966, "Ingmar Bergman"),
    "Stalker": (1979, "Andrei Tarkovsky"),
    "Solaris": (1972, "Andrei Tarkovsky"),
    "Breathless": (1960, "Jean-Luc Godard"),
    "The Deer Hunter": (1978, "Michael Cimino"),
    "Platoon": (1986, "Oliver Stone"),
    "Wall Street": (1987, "Oliver Stone"),
    "Amadeus": (1984, "Milos Forman"),
    "The Usual Suspects": (1995, "Bryan Singer"),
    "Heat": (1995, "Michael Mann"),
    "Boogie Nights": (1997, "Paul Thomas Anderson"),
    "Magnolia": (1999, "Paul Thomas Anderson"),
    "Boyhood": (2014, "Richard Linklater"),
    "School of Rock": (2003, "Richard Linklater"),
}


def _key(name: str) -> str:
    """A title or name without case, accents, punctuation and a leading article."""
    plain = unicodedata.normalize("NFKD", str(name)).encode("ascii", "ignore").decode().lower()
    words = "".join(c if c.isalnum() else " " for c in plain.replace("'", "")).split()
    return " ".join(words[1:] if len(words) > 1 and words[0] == "the" else words)


_BY_TITLE = {_key(title): film for title, film in _FILMS.items()}


def _film(title: str) -> tuple[int, str]:
    """The row of a film; LookupError when it is not listed."""
    try:
        return _BY_TITLE[_key(title)]
    except KeyError:
        raise LookupError(
            f"film {str(title)[:40]!r} is not among the {len(_FILMS)} listed films"
        ) from None


def film_year(title: str) -> dict[str, int]:
    """Year of release."""
    return {"year": _film(title)[0]}


def film_director(title: str) -> dict[str, str]:
    """Director."""
    return {"director": _film(title)[1]}


def films_count_by_director(director: str) -> dict[str, int]:
    """How many films of a director this table lists (not how many were made)."""
    wanted = _key(director)
    count = sum(_key(name) == wanted for _, name in _FILMS.values())
    if count == 0:
        raise LookupError(f"director {str(director)[:40]!r} has no film in the table")
    return {"films": count}
