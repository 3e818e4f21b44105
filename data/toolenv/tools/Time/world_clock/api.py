"""Local time in well-known cities, by the IANA time zone database.

Past dates follow the rules in force then; dates beyond the database follow each zone's latest rule.
"""

import datetime as dt
import re

_ZONES = {
    "london": "Europe/London",
    "paris": "Europe/Paris",
    "berlin": "Europe/Berlin",
    "madrid": "Europe/Madrid",
    "rome": "Europe/Rome",
    "lisbon": "Europe/Lisbon",
    "dublin": "Europe/Dublin",
    "vienna": "Europe/Vienna",
    "zurich": "Europe/Zurich",
    "geneva": "Europe/Zurich",
    "brussels": "Europe/Brussels",
    "amsterdam": "Europe/Amsterdam",
    "copenhagen": "Europe/Copenhagen",
    "stockholm": "Europe/Stockholm",
    "oslo": "Europe/Oslo",
    "helsinki": "Europe/Helsinki",
    "reykjavik": "Atlantic/Reykjavik",
    "warsaw": "Europe/Warsaw",
    "prague": "Europe/Prague",
    "budapest": "Europe/Budapest",
    "bucharest": "Europe/Bucharest",
    "sofia": "Europe/Sofia",
    "athens": "Europe/Athens",
    "belgrade": "Europe/Belgrade",
    "zagreb": "Europe/Zagreb",
    "sarajevo": "Europe/Sarajevo",
    "riga": "Europe/Riga",
    "vilnius": "Europe/Vilnius",
    "tallinn": "Europe/Tallinn",
    "kyiv": "Europe/Kyiv",
    "minsk": "Europe/Minsk",
    "moscow": "Europe/Moscow",
    "istanbul": "Europe/Istanbul",
    "ankara": "Europe/Istanbul",
    "barcelona": "Europe/Madrid",
    "munich": "Europe/Berlin",
    "hamburg": "Europe/Berlin",
    "milan": "Europe/Rome",
    "naples": "Europe/Rome",
    "lyon": "Europe/Paris",
    "marseille": "Europe/Paris",
    "edinburgh": "Europe/London",
    "manchester": "Europe/London",
    "porto": "Europe/Lisbon",
    "krakow": "Europe/Warsaw",
    "cairo": "Africa/Cairo",
    "lagos": "Africa/Lagos",
    "nairobi": "Africa/Nairobi",
    "johannesburg": "Africa/Johannesburg",
    "cape town": "Africa/Johannesburg",
    "casablanca": "Africa/Casablanca",
    "tunis": "Africa/Tunis",
    "algiers": "Africa/Algiers",
    "tripoli": "Africa/Tripoli",
    "accra": "Africa/Accra",
    "dakar": "Africa/Dakar",
    "addis ababa": "Africa/Addis_Ababa",
    "kampala": "Africa/Kampala",
    "khartoum": "Africa/Khartoum",
    "kinshasa": "Africa/Kinshasa",
    "luanda": "Africa/Luanda",
    "harare": "Africa/Harare",
    "lusaka": "Africa/Lusaka",
    "maputo": "Africa/Maputo",
    "windhoek": "Africa/Windhoek",
    "tehran": "Asia/Tehran",
    "baghdad": "Asia/Baghdad",
    "jerusalem": "Asia/Jerusalem",
    "amman": "Asia/Amman",
    "beirut": "Asia/Beirut",
    "damascus": "Asia/Damascus",
    "riyadh": "Asia/Riyadh",
    "dubai": "Asia/Dubai",
    "doha": "Asia/Qatar",
    "muscat": "Asia/Muscat",
    "baku": "Asia/Baku",
    "tbilisi": "Asia/Tbilisi",
    "yerevan": "Asia/Yerevan",
    "tashkent": "Asia/Tashkent",
    "almaty": "Asia/Almaty",
    "kabul": "Asia/Kabul",
    "karachi": "Asia/Karachi",
    "lahore": "Asia/Karachi",
    "delhi": "Asia/Kolkata",
    "mumbai": "Asia/Kolkata",
    "kolkata": "Asia/Kolkata",
    "chennai": "Asia/Kolkata",
    "bangalore": "Asia/Kolkata",
    "kathmandu": "Asia/Kathmandu",
    "dhaka": "Asia/Dhaka",
    "colombo": "Asia/Colombo",
    "yangon": "Asia/Yangon",
    "bangkok": "Asia/Bangkok",
    "hanoi": "Asia/Bangkok",
    "phnom penh": "Asia/Phnom_Penh",
    "kuala lumpur": "Asia/Kuala_Lumpur",
    "singapore": "Asia/Singapore",
    "jakarta": "Asia/Jakarta",
    "manila": "Asia/Manila",
    "hong kong": "Asia/Hong_Kong",
    "shanghai": "Asia/Shanghai",
    "beijing": "Asia/Shanghai",
    "taipei": "Asia/Taipei",
    "seoul": "Asia/Seoul",
    "busan": "Asia/Seoul",
    "tokyo": "Asia/Tokyo",
    "osaka": "Asia/Tokyo",
    "kyoto": "Asia/Tokyo",
    "ulaanbaatar": "Asia/Ulaanbaatar",
    "vladivostok": "Asia/Vladivostok",
    "sydney": "Australia/Sydney",
    "melbourne": "Australia/Melbourne",
    "brisbane": "Australia/Brisbane",
    "perth": "Australia/Perth",
    "adelaide": "Australia/Adelaide",
    "auckland": "Pacific/Auckland",
    "wellington": "Pacific/Auckland",
    "honolulu": "Pacific/Honolulu",
    "anchorage": "America/Anchorage",
    "vancouver": "America/Vancouver",
    "seattle": "America/Los_Angeles",
    "san francisco": "America/Los_Angeles",
    "los angeles": "America/Los_Angeles",
    "denver": "America/Denver",
    "phoenix": "America/Phoenix",
    "dallas": "America/Chicago",
    "houston": "America/Chicago",
    "chicago": "America/Chicago",
    "atlanta": "America/New_York",
    "miami": "America/New_York",
    "boston": "America/New_York",
    "new york": "America/New_York",
    "philadelphia": "America/New_York",
    "detroit": "America/Detroit",
    "toronto": "America/Toronto",
    "montreal": "America/Toronto",
    "ottawa": "America/Toronto",
    "mexico city": "America/Mexico_City",
    "guadalajara": "America/Mexico_City",
    "havana": "America/Havana",
    "kingston": "America/Jamaica",
    "panama city": "America/Panama",
    "bogota": "America/Bogota",
    "medellin": "America/Bogota",
    "quito": "America/Guayaquil",
    "lima": "America/Lima",
    "la paz": "America/La_Paz",
    "caracas": "America/Caracas",
    "santiago": "America/Santiago",
    "montevideo": "America/Montevideo",
    "buenos aires": "America/Argentina/Buenos_Aires",
    "sao paulo": "America/Sao_Paulo",
}
_OTHER_NAMES = {
    "nyc": "new york",
    "new york city": "new york",
    "new delhi": "delhi",
    "bombay": "mumbai",
    "calcutta": "kolkata",
    "madras": "chennai",
    "bengaluru": "bangalore",
    "kiev": "kyiv",
    "ulan bator": "ulaanbaatar",
    "rangoon": "yangon",
    "cracow": "krakow",
    "la": "los angeles",
    "s\u00e3o paulo": "sao paulo",
    "bogot\u00e1": "bogota",
    "medell\u00edn": "medellin",
    "z\u00fcrich": "zurich",
    "montr\u00e9al": "montreal",
    "krak\u00f3w": "krakow",
    "reykjav\u00edk": "reykjavik",
}


def _zone_name(city: object, name: str) -> str:
    text = " ".join(str(city).lower().split())
    zone = _ZONES.get(_OTHER_NAMES.get(text, text))
    if zone is None:
        raise LookupError(f"{name} {str(city)[:30]!r} is not among the {len(_ZONES)} known cities")
    return zone


def _local(zone_name: str, day: object, time: object) -> dt.datetime:
    """The moment `day` and `time` name in a zone; the earlier one when clocks go back."""
    from zoneinfo import ZoneInfo  # costs 3 ms, which loading this module must not

    clock = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", str(time).strip(), re.ASCII)
    if clock is None:
        raise ValueError(f"time {str(time)[:20]!r} is not a time such as 14:30")
    try:
        date = dt.date.fromisoformat(str(day).strip())
    except ValueError:
        message = f"date {str(day)[:20]!r} is not a date such as 2024-03-15"
        raise ValueError(message) from None
    if not 1970 <= date.year <= 2100:
        raise ValueError(f"date {date} must lie in the years 1970 to 2100")
    return dt.datetime.combine(date, dt.time(int(clock[1]), int(clock[2])), ZoneInfo(zone_name))


def city_time_zone(city: object) -> dict[str, object]:
    """IANA time zone of a city."""
    return {"time_zone": _zone_name(city, "city")}


def city_utc_offset(city: object, date: object) -> dict[str, object]:
    """Offset from UTC at noon of a date, as hours and as text."""
    moment = _local(_zone_name(city, "city"), date, "12:00")
    offset = moment.utcoffset() or dt.timedelta()
    hours = round(offset.total_seconds() / 3600, 2)
    text = moment.strftime("%z")
    return {
        "utc_offset": f"{text[:3]}:{text[3:5]}",
        "hours": int(hours) if hours.is_integer() else hours,
    }


def convert_city_time(
    time: object, date: object, from_city: object, to_city: object
) -> dict[str, object]:
    """Local time and date in a second city at a given local time in the first."""
    from zoneinfo import ZoneInfo

    target = _zone_name(to_city, "to_city")
    moment = _local(_zone_name(from_city, "from_city"), date, time).astimezone(ZoneInfo(target))
    return {"time": moment.strftime("%H:%M"), "date": moment.date().isoformat()}
