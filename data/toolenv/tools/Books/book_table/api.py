"""Authors and years of well-known books; the year is that of the first edition as a book."""

import unicodedata

# title: (year of publication, author)

_BOOKS: dict[str, tuple[int, str]] = {
    "Pride and Prejudice": (1813, "Jane Austen"),
    "Emma": (1815, "Jane Austen"),
    "Sense and Sensibility": (1811, "Jane Austen"),
    "Frankenstein": (1818, "Mary Shelley"),
    "Dracula": (1897, "Bram Stoker"),
    "Moby Dick": (1851, "Herman Melville"),
    "Jane Eyre": (1847, "Charlotte Bronte"),
    "Wuthering Heights": (1847, "Emily Bronte"),
    "Great Expectations": (1861, "Charles Dickens"),
    "Oliver Twist": (1838, "Charles Dickens"),
    "A Tale of Two Cities": (1859, "Charles Dickens"),
    "A Christmas Carol": (1843, "Charles Dickens"),
    "Middlemarch": (1871, "George Eliot"),
    "War and Peace": (1869, "Leo Tolstoy"),
    "Anna Karenina": (1878, "Leo Tolstoy"),
    "Crime and Punishment": (1866, "Fyodor Dostoevsky"),
    "The Idiot": (1869, "Fyodor Dostoevsky"),
    "Fathers and Sons": (1862, "Ivan Turgenev"),
    "Madame Bovary": (1857, "Gustave Flaubert"),
    "Les Miserables": (1862, "Victor Hugo"),
    "The Count of Monte Cristo": (1846, "Alexandre Dumas"),
    "The Three Musketeers": (1844, "Alexandre Dumas"),
    "Around the World in Eighty Days": (1873, "Jules Verne"),
    "Don Quixote": (1605, "Miguel de Cervantes"),
    "Robinson Crusoe": (1719, "Daniel Defoe"),
    "Gulliver's Travels": (1726, "Jonathan Swift"),
    "Candide": (1759, "Voltaire"),
    "Treasure Island": (1883, "Robert Louis Stevenson"),
    "Kidnapped": (1886, "Robert Louis Stevenson"),
    "The Picture of Dorian Gray": (1890, "Oscar Wilde"),
    "The Time Machine": (1895, "H G Wells"),
    "The War of the Worlds": (1898, "H G Wells"),
    "The Invisible Man": (1897, "H G Wells"),
    "Heart of Darkness": (1899, "Joseph Conrad"),
    "The Call of the Wild": (1903, "Jack London"),
    "White Fang": (1906, "Jack London"),
    "The Scarlet Letter": (1850, "Nathaniel Hawthorne"),
    "Walden": (1854, "Henry David Thoreau"),
    "Uncle Tom's Cabin": (1852, "Harriet Beecher Stowe"),
    "The Age of Innocence": (1920, "Edith Wharton"),
    "Ulysses": (1922, "James Joyce"),
    "Dubliners": (1914, "James Joyce"),
    "The Trial": (1925, "Franz Kafka"),
    "The Metamorphosis": (1915, "Franz Kafka"),
    "The Magic Mountain": (1924, "Thomas Mann"),
    "Siddhartha": (1922, "Hermann Hesse"),
    "Steppenwolf": (1927, "Hermann Hesse"),
    "Mrs Dalloway": (1925, "Virginia Woolf"),
    "To the Lighthouse": (1927, "Virginia Woolf"),
    "Orlando": (1928, "Virginia Woolf"),
    "A Passage to India": (1924, "E M Forster"),
    "The Great Gatsby": (1925, "F Scott Fitzgerald"),
    "The Sun Also Rises": (1926, "Ernest Hemingway"),
    "A Farewell to Arms": (1929, "Ernest Hemingway"),
    "The Old Man and the Sea": (1952, "Ernest Hemingway"),
    "The Sound and the Fury": (1929, "William Faulkner"),
    "Of Mice and Men": (1937, "John Steinbeck"),
    "The Grapes of Wrath": (1939, "John Steinbeck"),
    "East of Eden": (1952, "John Steinbeck"),
    "Brave New World": (1932, "Aldous Huxley"),
    "Animal Farm": (1945, "George Orwell"),
    "Gone with the Wind": (1936, "Margaret Mitchell"),
    "Rebecca": (1938, "Daphne du Maurier"),
    "The Hobbit": (1937, "J R R Tolkien"),
    "The Stranger": (1942, "Albert Camus"),
    "The Plague": (1947, "Albert Camus"),
    "The Little Prince": (1943, "Antoine de Saint Exupery"),
    "The Catcher in the Rye": (1951, "J D Salinger"),
    "Lord of the Flies": (1954, "William Golding"),
    "Lolita": (1955, "Vladimir Nabokov"),
    "Pale Fire": (1962, "Vladimir Nabokov"),
    "On the Road": (1957, "Jack Kerouac"),
    "Things Fall Apart": (1958, "Chinua Achebe"),
    "To Kill a Mockingbird": (1960, "Harper Lee"),
    "Silent Spring": (1962, "Rachel Carson"),
    "The Bell Jar": (1963, "Sylvia Plath"),
    "Foundation": (1951, "Isaac Asimov"),
    "The Caves of Steel": (1954, "Isaac Asimov"),
    "The Martian Chronicles": (1950, "Ray Bradbury"),
    "Casino Royale": (1953, "Ian Fleming"),
    "The Hound of the Baskervilles": (1902, "Arthur Conan Doyle"),
    "Murder on the Orient Express": (1934, "Agatha Christie"),
    "Death on the Nile": (1937, "Agatha Christie"),
    "Charlotte's Web": (1952, "E B White"),
    "Matilda": (1988, "Roald Dahl"),
    "Charlie and the Chocolate Factory": (1964, "Roald Dahl"),
    "One Hundred Years of Solitude": (1967, "Gabriel Garcia Marquez"),
    "Love in the Time of Cholera": (1985, "Gabriel Garcia Marquez"),
    "The House of the Spirits": (1982, "Isabel Allende"),
    "The Name of the Rose": (1980, "Umberto Eco"),
    "The Alchemist": (1988, "Paulo Coelho"),
    "Beloved": (1987, "Toni Morrison"),
    "Song of Solomon": (1977, "Toni Morrison"),
    "The Color Purple": (1982, "Alice Walker"),
    "Slaughterhouse Five": (1969, "Kurt Vonnegut"),
    "The Handmaid's Tale": (1985, "Margaret Atwood"),
    "Midnight's Children": (1981, "Salman Rushdie"),
    "Norwegian Wood": (1987, "Haruki Murakami"),
    "Kafka on the Shore": (2002, "Haruki Murakami"),
    "Neuromancer": (1984, "William Gibson"),
    "Carrie": (1974, "Stephen King"),
    "Misery": (1987, "Stephen King"),
    "The Kite Runner": (2003, "Khaled Hosseini"),
    "Life of Pi": (2001, "Yann Martel"),
    "The Road": (2006, "Cormac McCarthy"),
    "Blood Meridian": (1985, "Cormac McCarthy"),
    "Atonement": (2001, "Ian McEwan"),
    "Never Let Me Go": (2005, "Kazuo Ishiguro"),
    "The Remains of the Day": (1989, "Kazuo Ishiguro"),
    "Wolf Hall": (2009, "Hilary Mantel"),
    "White Teeth": (2000, "Zadie Smith"),
    "The God of Small Things": (1997, "Arundhati Roy"),
    "The Da Vinci Code": (2003, "Dan Brown"),
    "The Hunger Games": (2008, "Suzanne Collins"),
    "The Book Thief": (2005, "Markus Zusak"),
    "Catching Fire": (2009, "Suzanne Collins"),
    "A Game of Thrones": (1996, "George R R Martin"),
}


def _key(name: str) -> str:
    """A title or name without case, accents, punctuation and a leading article."""
    plain = unicodedata.normalize("NFKD", str(name)).encode("ascii", "ignore").decode().lower()
    words = "".join(c if c.isalnum() else " " for c in plain.replace("'", "")).split()
    return " ".join(words[1:] if len(words) > 1 and words[0] == "the" else words)


_BY_TITLE = {_key(title): book for title, book in _BOOKS.items()}


def _book(title: str) -> tuple[int, str]:
    """The row of a book; LookupError when it is not listed."""
    try:
        return _BY_TITLE[_key(title)]
    except KeyError:
        raise LookupError(
            f"book {str(title)[:40]!r} is not among the {len(_BOOKS)} listed books"
        ) from None


def book_author(title: str) -> dict[str, str]:
    """Author."""
    return {"author": _book(title)[1]}


def book_year(title: str) -> dict[str, int]:
    """Year of publication."""
    return {"year": _book(title)[0]}
