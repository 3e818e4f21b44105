"""Distances, populations, countries and coordinates of cities.

Coordinates are rounded to 0.01 degrees (about 1 km). Populations are approximate, in millions within the
city limits where they are the usual figure, else of the urban area, as published about 2020 to 2023.
"""

import math
import unicodedata

_EARTH_RADIUS_KM = 6371.0  # mean radius R1, IUGG

# city: (country, latitude in degrees north, longitude in degrees east, population in millions)

_CITIES: dict[str, tuple[str, float, float, float]] = {
    "London": ("United Kingdom", 51.51, -0.13, 8.87),
    "Paris": ("France", 48.86, 2.35, 2.1),
    "Berlin": ("Germany", 52.52, 13.4, 3.75),
    "Madrid": ("Spain", 40.42, -3.7, 3.33),
    "Rome": ("Italy", 41.9, 12.5, 2.75),
    "Lisbon": ("Portugal", 38.72, -9.14, 0.55),
    "Dublin": ("Ireland", 53.35, -6.26, 0.59),
    "Vienna": ("Austria", 48.21, 16.37, 1.98),
    "Zurich": ("Switzerland", 47.38, 8.54, 0.43),
    "Geneva": ("Switzerland", 46.2, 6.14, 0.2),
    "Brussels": ("Belgium", 50.85, 4.35, 1.22),
    "Amsterdam": ("Netherlands", 52.37, 4.9, 0.92),
    "Copenhagen": ("Denmark", 55.68, 12.57, 0.65),
    "Stockholm": ("Sweden", 59.33, 18.07, 0.98),
    "Oslo": ("Norway", 59.91, 10.75, 0.71),
    "Helsinki": ("Finland", 60.17, 24.94, 0.66),
    "Reykjavik": ("Iceland", 64.15, -21.94, 0.14),
    "Warsaw": ("Poland", 52.23, 21.01, 1.86),
    "Prague": ("Czechia", 50.08, 14.44, 1.36),
    "Budapest": ("Hungary", 47.5, 19.04, 1.68),
    "Bucharest": ("Romania", 44.43, 26.1, 1.72),
    "Sofia": ("Bulgaria", 42.7, 23.32, 1.25),
    "Athens": ("Greece", 37.98, 23.73, 0.64),
    "Belgrade": ("Serbia", 44.79, 20.45, 1.2),
    "Zagreb": ("Croatia", 45.81, 15.98, 0.77),
    "Sarajevo": ("Bosnia and Herzegovina", 43.86, 18.41, 0.28),
    "Riga": ("Latvia", 56.95, 24.11, 0.61),
    "Vilnius": ("Lithuania", 54.69, 25.28, 0.59),
    "Tallinn": ("Estonia", 59.44, 24.75, 0.45),
    "Kyiv": ("Ukraine", 50.45, 30.52, 2.95),
    "Minsk": ("Belarus", 53.9, 27.56, 2.0),
    "Moscow": ("Russia", 55.76, 37.62, 13.1),
    "Istanbul": ("Turkey", 41.01, 28.98, 15.7),
    "Ankara": ("Turkey", 39.93, 32.86, 5.8),
    "Barcelona": ("Spain", 41.39, 2.17, 1.66),
    "Munich": ("Germany", 48.14, 11.58, 1.51),
    "Hamburg": ("Germany", 53.55, 9.99, 1.89),
    "Milan": ("Italy", 45.46, 9.19, 1.37),
    "Naples": ("Italy", 40.85, 14.27, 0.91),
    "Lyon": ("France", 45.76, 4.84, 0.52),
    "Marseille": ("France", 43.3, 5.37, 0.87),
    "Edinburgh": ("United Kingdom", 55.95, -3.19, 0.51),
    "Manchester": ("United Kingdom", 53.48, -2.24, 0.57),
    "Porto": ("Portugal", 41.15, -8.61, 0.23),
    "Krakow": ("Poland", 50.06, 19.94, 0.8),
    "Cairo": ("Egypt", 30.04, 31.24, 10.1),
    "Lagos": ("Nigeria", 6.45, 3.4, 15.4),
    "Nairobi": ("Kenya", -1.29, 36.82, 4.4),
    "Johannesburg": ("South Africa", -26.2, 28.05, 4.8),
    "Cape Town": ("South Africa", -33.92, 18.42, 4.77),
    "Casablanca": ("Morocco", 33.57, -7.59, 3.36),
    "Tunis": ("Tunisia", 36.81, 10.18, 0.64),
    "Algiers": ("Algeria", 36.75, 3.06, 2.9),
    "Tripoli": ("Libya", 32.89, 13.19, 1.17),
    "Accra": ("Ghana", 5.6, -0.19, 2.4),
    "Dakar": ("Senegal", 14.72, -17.47, 1.15),
    "Addis Ababa": ("Ethiopia", 9.03, 38.74, 3.9),
    "Kampala": ("Uganda", 0.35, 32.58, 1.68),
    "Khartoum": ("Sudan", 15.5, 32.56, 5.3),
    "Kinshasa": ("DR Congo", -4.32, 15.31, 15.6),
    "Luanda": ("Angola", -8.84, 13.23, 8.3),
    "Harare": ("Zimbabwe", -17.83, 31.05, 1.49),
    "Lusaka": ("Zambia", -15.42, 28.28, 2.2),
    "Maputo": ("Mozambique", -25.97, 32.58, 1.08),
    "Windhoek": ("Namibia", -22.56, 17.08, 0.43),
    "Tehran": ("Iran", 35.69, 51.39, 8.7),
    "Baghdad": ("Iraq", 33.31, 44.37, 7.0),
    "Jerusalem": ("Israel", 31.77, 35.22, 0.97),
    "Amman": ("Jordan", 31.95, 35.93, 4.0),
    "Beirut": ("Lebanon", 33.89, 35.5, 2.4),
    "Damascus": ("Syria", 33.51, 36.29, 2.08),
    "Riyadh": ("Saudi Arabia", 24.71, 46.68, 7.0),
    "Dubai": ("United Arab Emirates", 25.2, 55.27, 3.5),
    "Doha": ("Qatar", 25.29, 51.53, 1.19),
    "Muscat": ("Oman", 23.59, 58.41, 1.4),
    "Baku": ("Azerbaijan", 40.41, 49.87, 2.3),
    "Tbilisi": ("Georgia", 41.72, 44.79, 1.2),
    "Yerevan": ("Armenia", 40.18, 44.51, 1.09),
    "Tashkent": ("Uzbekistan", 41.3, 69.24, 3.0),
    "Almaty": ("Kazakhstan", 43.24, 76.95, 2.2),
    "Kabul": ("Afghanistan", 34.53, 69.17, 4.6),
    "Karachi": ("Pakistan", 24.86, 67.01, 20.3),
    "Lahore": ("Pakistan", 31.55, 74.34, 13.0),
    "Delhi": ("India", 28.65, 77.23, 16.8),
    "Mumbai": ("India", 19.08, 72.88, 12.4),
    "Kolkata": ("India", 22.57, 88.36, 4.5),
    "Chennai": ("India", 13.08, 80.27, 6.75),
    "Bangalore": ("India", 12.97, 77.59, 8.44),
    "Kathmandu": ("Nepal", 27.71, 85.32, 0.86),
    "Dhaka": ("Bangladesh", 23.81, 90.41, 10.3),
    "Colombo": ("Sri Lanka", 6.93, 79.86, 0.75),
    "Yangon": ("Myanmar", 16.84, 96.17, 5.2),
    "Bangkok": ("Thailand", 13.75, 100.5, 8.5),
    "Hanoi": ("Vietnam", 21.03, 105.85, 8.6),
    "Phnom Penh": ("Cambodia", 11.56, 104.92, 2.3),
    "Kuala Lumpur": ("Malaysia", 3.14, 101.69, 1.98),
    "Singapore": ("Singapore", 1.29, 103.85, 5.9),
    "Jakarta": ("Indonesia", -6.2, 106.85, 10.7),
    "Manila": ("Philippines", 14.6, 120.98, 1.85),
    "Hong Kong": ("China", 22.3, 114.17, 7.5),
    "Shanghai": ("China", 31.23, 121.47, 24.9),
    "Beijing": ("China", 39.9, 116.4, 21.9),
    "Taipei": ("Taiwan", 25.04, 121.56, 2.5),
    "Seoul": ("South Korea", 37.57, 126.98, 9.4),
    "Busan": ("South Korea", 35.18, 129.08, 3.3),
    "Tokyo": ("Japan", 35.68, 139.69, 14.1),
    "Osaka": ("Japan", 34.69, 135.5, 2.75),
    "Kyoto": ("Japan", 35.01, 135.77, 1.45),
    "Ulaanbaatar": ("Mongolia", 47.92, 106.91, 1.67),
    "Vladivostok": ("Russia", 43.12, 131.89, 0.6),
    "Sydney": ("Australia", -33.87, 151.21, 5.3),
    "Melbourne": ("Australia", -37.81, 144.96, 5.1),
    "Brisbane": ("Australia", -27.47, 153.03, 2.6),
    "Perth": ("Australia", -31.95, 115.86, 2.2),
    "Adelaide": ("Australia", -34.93, 138.6, 1.4),
    "Auckland": ("New Zealand", -36.85, 174.76, 1.66),
    "Wellington": ("New Zealand", -41.29, 174.78, 0.22),
    "Honolulu": ("United States", 21.31, -157.86, 0.35),
    "Anchorage": ("United States", 61.22, -149.9, 0.29),
    "Vancouver": ("Canada", 49.28, -123.12, 0.66),
    "Seattle": ("United States", 47.61, -122.33, 0.74),
    "San Francisco": ("United States", 37.77, -122.42, 0.87),
    "Los Angeles": ("United States", 34.05, -118.24, 3.9),
    "Denver": ("United States", 39.74, -104.99, 0.72),
    "Phoenix": ("United States", 33.45, -112.07, 1.61),
    "Dallas": ("United States", 32.78, -96.8, 1.3),
    "Houston": ("United States", 29.76, -95.37, 2.3),
    "Chicago": ("United States", 41.88, -87.63, 2.75),
    "Atlanta": ("United States", 33.75, -84.39, 0.5),
    "Miami": ("United States", 25.76, -80.19, 0.44),
    "Boston": ("United States", 42.36, -71.06, 0.68),
    "New York": ("United States", 40.71, -74.01, 8.8),
    "Philadelphia": ("United States", 39.95, -75.17, 1.6),
    "Detroit": ("United States", 42.33, -83.05, 0.64),
    "Toronto": ("Canada", 43.65, -79.38, 2.79),
    "Montreal": ("Canada", 45.5, -73.57, 1.76),
    "Ottawa": ("Canada", 45.42, -75.7, 1.02),
    "Mexico City": ("Mexico", 19.43, -99.13, 9.2),
    "Guadalajara": ("Mexico", 20.67, -103.35, 1.39),
    "Havana": ("Cuba", 23.13, -82.38, 2.1),
    "Kingston": ("Jamaica", 18.0, -76.79, 0.67),
    "Panama City": ("Panama", 8.98, -79.52, 0.88),
    "Bogota": ("Colombia", 4.71, -74.07, 7.9),
    "Medellin": ("Colombia", 6.24, -75.58, 2.5),
    "Quito": ("Ecuador", -0.18, -78.47, 1.76),
    "Lima": ("Peru", -12.05, -77.04, 10.1),
    "La Paz": ("Bolivia", -16.5, -68.15, 0.76),
    "Caracas": ("Venezuela", 10.48, -66.9, 2.9),
    "Santiago": ("Chile", -33.45, -70.67, 6.2),
    "Montevideo": ("Uruguay", -34.9, -56.16, 1.3),
    "Buenos Aires": ("Argentina", -34.6, -58.38, 3.1),
    "Sao Paulo": ("Brazil", -23.55, -46.63, 11.5),
    "Brasilia": ("Brazil", -15.79, -47.88, 2.8),
    "Canberra": ("Australia", -35.28, 149.13, 0.46),
    "Bern": ("Switzerland", 46.95, 7.45, 0.13),
    "Washington": ("United States", 38.91, -77.04, 0.68),
    "Bratislava": ("Slovakia", 48.15, 17.11, 0.48),
    "Ljubljana": ("Slovenia", 46.06, 14.51, 0.29),
    "Luxembourg": ("Luxembourg", 49.61, 6.13, 0.13),
    "Valletta": ("Malta", 35.9, 14.51, 0.006),
    "Nicosia": ("Cyprus", 35.17, 33.36, 0.33),
    "New Delhi": ("India", 28.61, 77.21, 0.25),
    "Islamabad": ("Pakistan", 33.69, 73.05, 1.1),
    "Abuja": ("Nigeria", 9.06, 7.49, 3.8),
    "Astana": ("Kazakhstan", 51.17, 71.43, 1.4),
    "Rabat": ("Morocco", 34.02, -6.83, 0.58),
    "Pretoria": ("South Africa", -25.75, 28.19, 0.74),
    "Abu Dhabi": ("United Arab Emirates", 24.45, 54.38, 1.5),
    "Kuwait City": ("Kuwait", 29.38, 47.98, 3.1),
    "San Jose": ("Costa Rica", 9.93, -84.08, 0.34),
    "Asuncion": ("Paraguay", -25.28, -57.63, 0.52),
    "Tirana": ("Albania", 41.33, 19.82, 0.42),
    "Antananarivo": ("Madagascar", -18.88, 47.51, 1.3),
    "Gaborone": ("Botswana", -24.65, 25.91, 0.25),
    "Kigali": ("Rwanda", -1.95, 30.06, 1.1),
    "Dodoma": ("Tanzania", -6.17, 35.74, 0.77),
    "Naypyidaw": ("Myanmar", 19.76, 96.08, 0.92),
    "Vientiane": ("Laos", 17.97, 102.63, 0.95),
}


def _key(name: str) -> str:
    """A title or name without case, accents, punctuation and a leading article."""
    plain = unicodedata.normalize("NFKD", str(name)).encode("ascii", "ignore").decode().lower()
    words = "".join(c if c.isalnum() else " " for c in plain.replace("'", "")).split()
    return " ".join(words[1:] if len(words) > 1 and words[0] == "the" else words)


_BY_KEY = {_key(name): name for name in _CITIES}
_BY_KEY.update(
    {"new york city": "New York", "bombay": "Mumbai", "bengaluru": "Bangalore", "kiev": "Kyiv"}
)
_BY_KEY.update({"washington dc": "Washington", "washington d c": "Washington"})


def _city(name: str) -> str:
    """The table's name of a city; LookupError when it is not listed."""
    try:
        return _BY_KEY[_key(name)]
    except KeyError:
        raise LookupError(
            f"city {str(name)[:30]!r} is not in the atlas of {len(_CITIES)} cities"
        ) from None


def distance_between_cities(first_city: str, second_city: str) -> dict[str, int | str]:
    """Great-circle distance by the haversine formula, in whole kilometres."""
    _, lat1, lon1, _ = _CITIES[_city(first_city)]
    _, lat2, lon2, _ = _CITIES[_city(second_city)]
    half_lat = math.radians(lat2 - lat1) / 2
    half_lon = math.radians(lon2 - lon1) / 2
    cosines = math.cos(math.radians(lat1)) * math.cos(math.radians(lat2))
    chord = math.sin(half_lat) ** 2 + cosines * math.sin(half_lon) ** 2
    distance = 2 * _EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, chord)))
    return {"distance": round(distance), "unit": "kilometres"}


def city_population(city: str) -> dict[str, float | str]:
    """Approximate population in millions."""
    return {"population": _CITIES[_city(city)][3], "unit": "million"}


def city_country(city: str) -> dict[str, str]:
    """Country of a city."""
    return {"country": _CITIES[_city(city)][0]}


def city_coordinates(city: str) -> dict[str, float]:
    """Latitude (north positive) and longitude (east positive) in degrees."""
    _, latitude, longitude, _ = _CITIES[_city(city)]
    return {"latitude": latitude, "longitude": longitude}
