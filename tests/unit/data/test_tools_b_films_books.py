"""Film and book tables against facts of other sources than the table: awards and first editions."""

import importlib.util
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

_TOOLS = Path(__file__).resolve().parents[3] / "data" / "toolenv" / "tools"
_FIRST_FILM_YEAR, _LAST_FILM_YEAR = 1927, 2023


def _load(tool: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(tool.replace("/", "_"), _TOOLS / tool / "api.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


films = _load("Movies/film_table")
cinema = _load("Movies/cinema_db")
books = _load("Books/book_table")


@pytest.mark.parametrize(
    ("title", "year", "director"),
    # Academy Award for Best Picture: ceremony year less one, and its director
    [
        ("The Godfather", 1972, "Francis Ford Coppola"),
        ("titanic", 1997, "James Cameron"),
        ("gladiator", 2000, "Ridley Scott"),
        ("Parasite", 2019, "Bong Joon-ho"),
        ("Oppenheimer", 2023, "Christopher Nolan"),
        ("The Departed", 2006, "Martin Scorsese"),
        ("amadeus", 1984, "Milos Forman"),
        ("Schindlers List", 1993, "Steven Spielberg"),
    ],
)
def test_best_picture_winners_have_their_year_and_director(
    title: str, year: int, director: str
) -> None:
    assert films.film_year(title) == {"year": year}
    assert films.film_director(title) == {"director": director}


def test_number_of_films_of_each_director_is_that_of_the_rows() -> None:
    rows = Counter(director for _, director in films._FILMS.values())
    assert {name: films.films_count_by_director(name.upper())["films"] for name in rows} == rows


def test_film_table_is_large_and_its_years_are_possible() -> None:
    years = [year for year, _ in films._FILMS.values()]
    assert len(years) >= 80
    assert (min(years), max(years)) == (_FIRST_FILM_YEAR, _LAST_FILM_YEAR)


def test_cinema_database_lacks_about_half_and_agrees_on_the_rest() -> None:
    assert 0.35 <= len(cinema._YEARS) / len(films._FILMS) <= 0.6
    assert all(cinema.lookup_year(t) == films.film_year(t) for t in cinema._YEARS)


@pytest.mark.parametrize(
    ("title", "year", "author"),
    # first editions as the British Library and the Library of Congress catalogue them
    [
        ("Pride and Prejudice", 1813, "Jane Austen"),
        ("frankenstein", 1818, "Mary Shelley"),
        ("The Hobbit", 1937, "J R R Tolkien"),
        ("great gatsby", 1925, "F Scott Fitzgerald"),
        ("Don Quixote", 1605, "Miguel de Cervantes"),
        ("Animal Farm", 1945, "George Orwell"),
        ("The Handmaid's Tale", 1985, "Margaret Atwood"),
    ],
)
def test_books_have_their_year_and_author(title: str, year: int, author: str) -> None:
    assert books.book_year(title) == {"year": year}
    assert books.book_author(title) == {"author": author}


def test_book_table_is_large_enough() -> None:
    assert len(books._BOOKS) >= 70


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: films.film_year("No Such Film"), "film 'No Such Film' is not among"),
        (lambda: films.film_director("No Such Film"), "film 'No Such Film' is not among"),
        (lambda: films.films_count_by_director("Nobody"), "director 'Nobody' has no film"),
        (lambda: cinema.lookup_year("No Such Film"), "no record of the movie 'No Such Film'"),
        (lambda: books.book_author("No Such Book"), "book 'No Such Book' is not among"),
        (lambda: books.book_year("No Such Book"), "book 'No Such Book' is not among"),
    ],
)
def test_unlisted_titles_and_names_are_lookup_errors(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(LookupError, match=message):
        call()
