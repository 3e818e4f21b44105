"""Facts about countries: capital, population, area, currency (ISO 4217) and continent.

Populations are approximate mid-2023 figures in millions; areas are total areas in square kilometres.
A country on two continents is listed on the one most atlases name first.
"""

import unicodedata

# country: (capital, population in millions, area in km2, ISO 4217 currency code, continent)

_COUNTRIES: dict[str, tuple[str, float, int, str, str]] = {
    "United Kingdom": ("London", 67.6, 243610, "GBP", "Europe"),
    "France": ("Paris", 68.0, 643801, "EUR", "Europe"),
    "Germany": ("Berlin", 84.4, 357022, "EUR", "Europe"),
    "Spain": ("Madrid", 48.0, 505990, "EUR", "Europe"),
    "Italy": ("Rome", 58.9, 301340, "EUR", "Europe"),
    "Portugal": ("Lisbon", 10.4, 92212, "EUR", "Europe"),
    "Ireland": ("Dublin", 5.2, 70273, "EUR", "Europe"),
    "Austria": ("Vienna", 9.1, 83879, "EUR", "Europe"),
    "Switzerland": ("Bern", 8.8, 41285, "CHF", "Europe"),
    "Belgium": ("Brussels", 11.7, 30528, "EUR", "Europe"),
    "Netherlands": ("Amsterdam", 17.8, 41543, "EUR", "Europe"),
    "Denmark": ("Copenhagen", 5.9, 43094, "DKK", "Europe"),
    "Sweden": ("Stockholm", 10.5, 450295, "SEK", "Europe"),
    "Norway": ("Oslo", 5.5, 385207, "NOK", "Europe"),
    "Finland": ("Helsinki", 5.6, 338145, "EUR", "Europe"),
    "Iceland": ("Reykjavik", 0.38, 103000, "ISK", "Europe"),
    "Poland": ("Warsaw", 37.6, 312685, "PLN", "Europe"),
    "Czechia": ("Prague", 10.8, 78867, "CZK", "Europe"),
    "Hungary": ("Budapest", 9.6, 93028, "HUF", "Europe"),
    "Romania": ("Bucharest", 19.1, 238397, "RON", "Europe"),
    "Greece": ("Athens", 10.4, 131957, "EUR", "Europe"),
    "Serbia": ("Belgrade", 6.6, 77474, "RSD", "Europe"),
    "Croatia": ("Zagreb", 3.9, 56594, "EUR", "Europe"),
    "Latvia": ("Riga", 1.9, 64589, "EUR", "Europe"),
    "Lithuania": ("Vilnius", 2.9, 65300, "EUR", "Europe"),
    "Estonia": ("Tallinn", 1.4, 45228, "EUR", "Europe"),
    "Slovakia": ("Bratislava", 5.4, 49035, "EUR", "Europe"),
    "Slovenia": ("Ljubljana", 2.1, 20273, "EUR", "Europe"),
    "Luxembourg": ("Luxembourg", 0.66, 2586, "EUR", "Europe"),
    "Malta": ("Valletta", 0.54, 316, "EUR", "Europe"),
    "Albania": ("Tirana", 2.8, 28748, "ALL", "Europe"),
    "Ukraine": ("Kyiv", 37.0, 603550, "UAH", "Europe"),
    "Belarus": ("Minsk", 9.2, 207600, "BYN", "Europe"),
    "Russia": ("Moscow", 144.4, 17098242, "RUB", "Europe"),
    "Turkey": ("Ankara", 85.3, 783562, "TRY", "Asia"),
    "Cyprus": ("Nicosia", 1.3, 9251, "EUR", "Europe"),
    "Egypt": ("Cairo", 112.7, 1002450, "EGP", "Africa"),
    "Nigeria": ("Abuja", 223.8, 923768, "NGN", "Africa"),
    "Kenya": ("Nairobi", 55.1, 580367, "KES", "Africa"),
    "South Africa": ("Pretoria", 60.4, 1219090, "ZAR", "Africa"),
    "Morocco": ("Rabat", 37.8, 446550, "MAD", "Africa"),
    "Tunisia": ("Tunis", 12.5, 163610, "TND", "Africa"),
    "Algeria": ("Algiers", 45.6, 2381741, "DZD", "Africa"),
    "Libya": ("Tripoli", 6.9, 1759540, "LYD", "Africa"),
    "Ghana": ("Accra", 34.1, 238533, "GHS", "Africa"),
    "Senegal": ("Dakar", 17.8, 196722, "XOF", "Africa"),
    "Ethiopia": ("Addis Ababa", 126.5, 1104300, "ETB", "Africa"),
    "Uganda": ("Kampala", 48.6, 241038, "UGX", "Africa"),
    "Sudan": ("Khartoum", 48.1, 1861484, "SDG", "Africa"),
    "Angola": ("Luanda", 36.7, 1246700, "AOA", "Africa"),
    "Zambia": ("Lusaka", 20.6, 752618, "ZMW", "Africa"),
    "Mozambique": ("Maputo", 33.9, 799380, "MZN", "Africa"),
    "Namibia": ("Windhoek", 2.6, 824292, "NAD", "Africa"),
    "Botswana": ("Gaborone", 2.7, 581730, "BWP", "Africa"),
    "Rwanda": ("Kigali", 14.1, 26338, "RWF", "Africa"),
    "Tanzania": ("Dodoma", 67.4, 947300, "TZS", "Africa"),
    "Madagascar": ("Antananarivo", 30.3, 587041, "MGA", "Africa"),
    "Iran": ("Tehran", 89.2, 1648195, "IRR", "Asia"),
    "Iraq": ("Baghdad", 45.5, 438317, "IQD", "Asia"),
    "Jordan": ("Amman", 11.3, 89342, "JOD", "Asia"),
    "Lebanon": ("Beirut", 5.4, 10400, "LBP", "Asia"),
    "Syria": ("Damascus", 23.2, 185180, "SYP", "Asia"),
    "Saudi Arabia": ("Riyadh", 36.9, 2149690, "SAR", "Asia"),
    "United Arab Emirates": ("Abu Dhabi", 9.5, 83600, "AED", "Asia"),
    "Qatar": ("Doha", 2.7, 11586, "QAR", "Asia"),
    "Oman": ("Muscat", 4.6, 309500, "OMR", "Asia"),
    "Kuwait": ("Kuwait City", 4.3, 17818, "KWD", "Asia"),
    "Azerbaijan": ("Baku", 10.1, 86600, "AZN", "Asia"),
    "Georgia": ("Tbilisi", 3.7, 69700, "GEL", "Asia"),
    "Armenia": ("Yerevan", 2.8, 29743, "AMD", "Asia"),
    "Uzbekistan": ("Tashkent", 35.2, 447400, "UZS", "Asia"),
    "Kazakhstan": ("Astana", 19.6, 2724900, "KZT", "Asia"),
    "Afghanistan": ("Kabul", 42.2, 652230, "AFN", "Asia"),
    "Pakistan": ("Islamabad", 240.5, 796095, "PKR", "Asia"),
    "India": ("New Delhi", 1428.6, 3287263, "INR", "Asia"),
    "Nepal": ("Kathmandu", 30.9, 147181, "NPR", "Asia"),
    "Bangladesh": ("Dhaka", 173.0, 147570, "BDT", "Asia"),
    "Myanmar": ("Naypyidaw", 54.6, 676578, "MMK", "Asia"),
    "Laos": ("Vientiane", 7.6, 236800, "LAK", "Asia"),
    "Thailand": ("Bangkok", 71.8, 513120, "THB", "Asia"),
    "Vietnam": ("Hanoi", 98.9, 331210, "VND", "Asia"),
    "Cambodia": ("Phnom Penh", 16.9, 181035, "KHR", "Asia"),
    "Malaysia": ("Kuala Lumpur", 34.3, 329847, "MYR", "Asia"),
    "Singapore": ("Singapore", 5.9, 719, "SGD", "Asia"),
    "Indonesia": ("Jakarta", 277.5, 1904569, "IDR", "Asia"),
    "Philippines": ("Manila", 117.3, 300000, "PHP", "Asia"),
    "China": ("Beijing", 1410.7, 9596961, "CNY", "Asia"),
    "Taiwan": ("Taipei", 23.4, 35980, "TWD", "Asia"),
    "South Korea": ("Seoul", 51.7, 99720, "KRW", "Asia"),
    "Japan": ("Tokyo", 124.5, 377975, "JPY", "Asia"),
    "Mongolia": ("Ulaanbaatar", 3.4, 1564116, "MNT", "Asia"),
    "Australia": ("Canberra", 26.6, 7741220, "AUD", "Oceania"),
    "New Zealand": ("Wellington", 5.2, 268838, "NZD", "Oceania"),
    "United States": ("Washington", 334.9, 9833517, "USD", "North America"),
    "Canada": ("Ottawa", 40.1, 9984670, "CAD", "North America"),
    "Mexico": ("Mexico City", 128.5, 1964375, "MXN", "North America"),
    "Cuba": ("Havana", 11.2, 110860, "CUP", "North America"),
    "Jamaica": ("Kingston", 2.8, 10991, "JMD", "North America"),
    "Panama": ("Panama City", 4.5, 75420, "PAB", "North America"),
    "Costa Rica": ("San Jose", 5.2, 51100, "CRC", "North America"),
    "Colombia": ("Bogota", 52.1, 1138910, "COP", "South America"),
    "Ecuador": ("Quito", 18.2, 283561, "USD", "South America"),
    "Peru": ("Lima", 34.4, 1285216, "PEN", "South America"),
    "Venezuela": ("Caracas", 28.8, 912050, "VES", "South America"),
    "Chile": ("Santiago", 19.6, 756102, "CLP", "South America"),
    "Uruguay": ("Montevideo", 3.4, 176215, "UYU", "South America"),
    "Paraguay": ("Asuncion", 6.9, 406752, "PYG", "South America"),
    "Argentina": ("Buenos Aires", 46.7, 2780400, "ARS", "South America"),
    "Brazil": ("Brasilia", 216.4, 8515767, "BRL", "South America"),
    "Bosnia and Herzegovina": ("Sarajevo", 3.2, 51197, "BAM", "Europe"),
    "DR Congo": ("Kinshasa", 102.3, 2344858, "CDF", "Africa"),
    "Bulgaria": ("Sofia", 6.4, 110879, "EUR", "Europe"),
}


def _key(name: str) -> str:
    """A title or name without case, accents, punctuation and a leading article."""
    plain = unicodedata.normalize("NFKD", str(name)).encode("ascii", "ignore").decode().lower()
    words = "".join(c if c.isalnum() else " " for c in plain.replace("'", "")).split()
    return " ".join(words[1:] if len(words) > 1 and words[0] == "the" else words)


_BY_KEY = {_key(name): facts for name, facts in _COUNTRIES.items()}
_ALIASES = {"uk": "united kingdom", "great britain": "united kingdom", "usa": "united states"}
_ALIASES |= {
    "united states of america": "united states",
    "us": "united states",
    "uae": "united arab emirates",
}
_ALIASES |= {
    "holland": "netherlands",
    "czech republic": "czechia",
    "turkiye": "turkey",
    "burma": "myanmar",
}


def _facts(country: str) -> tuple[str, float, int, str, str]:
    """The row of a country; LookupError when it is not listed."""
    key = _key(country)
    try:
        return _BY_KEY[_ALIASES.get(key, key)]
    except KeyError:
        raise LookupError(
            f"country {str(country)[:30]!r} is not among the {len(_COUNTRIES)} known"
        ) from None


def capital_of(country: str) -> dict[str, str]:
    """Capital city."""
    return {"capital": _facts(country)[0]}


def population_of(country: str) -> dict[str, float | str]:
    """Approximate population in millions."""
    return {"population": _facts(country)[1], "unit": "million"}


def area_of(country: str) -> dict[str, int | str]:
    """Total area in square kilometres."""
    return {"area": _facts(country)[2], "unit": "square kilometres"}


def currency_of(country: str) -> dict[str, str]:
    """ISO 4217 code of the currency."""
    return {"currency": _facts(country)[3]}


def continent_of(country: str) -> dict[str, str]:
    """Continent."""
    return {"continent": _facts(country)[4]}
