"""Plausible values from field names: what makes a sample read like data.

A `Persona` is one fictional record's point of view: a name, a company, a place and a point in time.
Every value of one object is taken from the same persona, so that the e-mail fits the name, the slug
fits the title, and ``created_at`` comes before ``updated_at``. Field names are split into words and
looked up from the most to the least specific. Nothing here knows a schema: `sample` checks and
bends what it gets. All hosts are under example.com (RFC 2606), all phone numbers from the 555-01xx
range, all addresses from the documentation networks (RFC 5737, RFC 3849).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import TypeVar

__all__ = ["Dice", "Persona", "integer", "number", "of_format", "says_yes", "split_name", "text"]

_T = TypeVar("_T")


def _list(words: str) -> tuple[str, ...]:
    return tuple(words.split())


_FIRST = _list(
    "Ada Amara Boris Carla Chen Dana Elena Farid Grace Hugo Ines Jonas Kavya Leo Mara Nadia Omar "
    "Priya Quentin Rosa Samir Tara Uma Viktor Wanda Yusuf Zoe"
)
_LAST = _list(
    "Adeyemi Bauer Castillo Dubois Eriksen Fischer Garcia Haddad Ivanova Jensen Kowalski Lindgren "
    "Moreau Nakamura Okafor Patel Quinn Rossi Silva Tanaka Ueda Vargas Weber Young Zhang"
)
_ADJECTIVES = _list(
    "amber bright calm clever copper crisp eager gentle golden green hidden lively lunar "
    "mellow northern open quiet rapid silver solar steady sunny swift vivid"
)
_NOUNS = _list(
    "anchor arrow beacon bridge canyon cedar comet field forge garden harbor island lantern "
    "ledger maple meadow orchard pebble pine river signal spark summit valley willow"
)
_PLACES = (
    ("Berlin", "Berlin", "DE", "Germany", "10115", "Europe/Berlin", 52.5321, 13.3849),
    ("Lyon", "Rhone", "FR", "France", "69002", "Europe/Paris", 45.7578, 4.832),
    ("Portland", "OR", "US", "United States", "97205", "America/Los_Angeles", 45.5202, -122.6742),
    ("Toronto", "ON", "CA", "Canada", "M5V 2T6", "America/Toronto", 43.6426, -79.3871),
    ("Dublin", "Leinster", "IE", "Ireland", "D02 AF30", "Europe/Dublin", 53.3439, -6.2546),
    ("Osaka", "Osaka", "JP", "Japan", "530-0001", "Asia/Tokyo", 34.7055, 135.4983),
)
_COMPANY_ENDINGS = ("Labs", "Works", "Systems", "Studio", "Trading", "Foods", "Logistics")
_STREETS = ("Maple Street", "Harbor Road", "Station Avenue", "Garden Lane", "Mill Street")
_JOBS = ("Software Engineer", "Product Manager", "Data Analyst", "Designer", "Support Lead")
_SENTENCES = (
    "Track every {noun} from order to delivery.",
    "A {adjective} place to keep notes about the {noun}.",
    "Updated after the review of the {adjective} {noun}.",
    "The {adjective} {noun} is ready for the next step.",
    "Keeps the {noun} in step with the {adjective} plan.",
)
_EPOCH_S = 1_704_067_200  # 2024-01-01T00:00:00Z: the earliest point a persona starts from
_DAY_S = 86_400
_ALNUM = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

# When a field lies in the life of its record, in days after the record's creation.
_STAGES: tuple[tuple[frozenset[str], int], ...] = (
    (frozenset(_list("birth birthday dob born")), -12_000),
    (frozenset(_list("created create creation joined registered start started starts begin")), 0),
    (frozenset(_list("since first queued submitted requested added issued from")), 0),
    (frozenset(_list("authored committed opened invited accepted published activated")), 1),
    (frozenset(_list("updated update modified changed edited pushed last seen used")), 3),
    (frozenset(_list("closed completed complete finished ended merged resolved paid")), 5),
    (frozenset(_list("canceled cancelled failed archived deleted deactivated dismissed")), 6),
    (frozenset(_list("expires expire expiry expiration due next until end ends trial")), 30),
)


class Dice:
    """A seeded source of draws that is the same in every process and Python version.

    Only `random.Random.random` is used: the one method whose sequence Python promises to keep.
    """

    def __init__(self, seed: str) -> None:
        self._random = Random(seed)  # noqa: S311 - repeatable sample data, not a secret

    def below(self, limit: int) -> int:
        """Draw an integer in ``[0, limit)``; 0 if ``limit`` is smaller than 2."""
        return int(self._random.random() * limit) if limit > 1 else 0

    def between(self, low: int, high: int) -> int:
        """Draw an integer in ``[low, high]``."""
        return low + self.below(high - low + 1)

    def pick(self, options: Sequence[_T]) -> _T:
        """Draw one of ``options`` (not empty)."""
        return options[self.below(len(options))]

    def chars(self, alphabet: str, length: int) -> str:
        """Draw ``length`` characters of ``alphabet``."""
        return "".join(self.pick(alphabet) for _ in range(length))


@dataclass(slots=True)
class Persona:
    """One fictional record; every field is drawn from ``dice`` when it is made."""

    dice: Dice
    first: str = field(init=False)
    last: str = field(init=False)
    adjective: str = field(init=False)
    noun: str = field(init=False)
    number: int = field(init=False)
    created_s: int = field(init=False)
    place: tuple[str, str, str, str, str, str, float, float] = field(init=False)

    def __post_init__(self) -> None:
        dice = self.dice
        self.first, self.last = dice.pick(_FIRST), dice.pick(_LAST)
        self.adjective, self.noun = dice.pick(_ADJECTIVES), dice.pick(_NOUNS)
        self.number = dice.between(10_000, 9_999_999)
        self.created_s = _EPOCH_S + dice.below(300) * _DAY_S + dice.below(_DAY_S)
        self.place = dice.pick(_PLACES)

    @property
    def login(self) -> str:
        """A user name that fits the person: ``ada-weber``."""
        return f"{self.first}-{self.last}".lower()

    @property
    def slug(self) -> str:
        """A name for a thing: ``amber-harbor``."""
        return f"{self.adjective}-{self.noun}"

    @property
    def company(self) -> str:
        """A company name: ``Harbor Labs``."""
        return f"{self.noun.title()} {_COMPANY_ENDINGS[self.number % len(_COMPANY_ENDINGS)]}"

    def time_s(self, words: Sequence[str]) -> int:
        """Return Unix seconds for a field, in the right order among the fields of one record."""
        days = 1
        for word in reversed(words):
            stage = next((days for names, days in _STAGES if word in names), None)
            if stage is not None:
                days = stage
                break
        return self.created_s + days * _DAY_S + (abs(days) * 1283 % 3600 if days else 0)


def split_name(name: str) -> tuple[str, ...]:
    """Split ``createdAt``, ``created_at``, ``X-Created`` into lower-case words."""
    words: list[str] = []
    current = ""
    previous = ""
    for char in name:
        if not char.isalnum():
            words.append(current)
            current = ""
        elif char.isupper() and previous.islower():
            words.append(current)
            current = char
        else:
            current += char
        previous = char
    words.append(current)
    return tuple(word.lower() for word in words if word)


def _iso(seconds: int, form: str) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime(form)


def _hex(dice: Dice, length: int) -> str:
    return dice.chars("0123456789abcdef", length)


def _uuid(dice: Dice) -> str:
    digits = _hex(dice, 30)
    variant = dice.pick("89ab")
    return f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-{variant}{digits[15:18]}-{digits[18:30]}"


def _base64(raw: str) -> str:
    return base64.b64encode(raw.encode()).decode()


def _url(persona: Persona, words: Sequence[str]) -> str:
    stem = [word for word in words if word not in ("url", "uri", "href", "link", "urls", "html")]
    if stem and stem[-1] in ("avatar", "image", "logo", "icon", "photo", "picture", "thumbnail"):
        return f"https://example.com/images/{persona.slug}.png"
    path = "-".join(stem[:3])
    return f"https://example.com/{path or persona.slug}/{persona.number}"


def _sentence(persona: Persona) -> str:
    form = persona.dice.pick(_SENTENCES)
    return form.format(adjective=persona.adjective, noun=persona.noun)


def _identifier(persona: Persona, words: Sequence[str]) -> str:
    stem = [word for word in words if word not in ("id", "ids")]
    token = persona.dice.chars(_ALNUM, 16)
    return f"{stem[-1][:12]}_{token}" if stem else token


_Maker = Callable[[Persona, Sequence[str]], str]

# The format of a string, when the schema names one; unknown formats fall through to the name.
_FORMATS: dict[str, _Maker] = {
    "date-time": lambda p, w: _iso(p.time_s(w), "%Y-%m-%dT%H:%M:%SZ"),
    "date": lambda p, w: _iso(p.time_s(w), "%Y-%m-%d"),
    "time": lambda p, w: _iso(p.time_s(w), "%H:%M:%SZ"),
    "duration": lambda p, _: f"PT{p.dice.between(5, 55)}M",
    "email": lambda p, _: f"{p.first}.{p.last}@example.com".lower(),
    "hostname": lambda p, _: f"{p.noun}.example.com",
    "ipv4": lambda p, _: f"192.0.2.{p.dice.between(1, 254)}",
    "ipv6": lambda p, _: f"2001:db8::{p.dice.between(1, 9999)}",
    "uri": _url,
    "uri-reference": _url,
    "uri-template": lambda p, w: _url(p, w) + "{/name}",
    "uuid": lambda p, _: _uuid(p.dice),
    "json-pointer": lambda p, _: f"/{p.noun}/0",
    "relative-json-pointer": lambda p, _: f"0/{p.noun}",
    "regex": lambda p, _: f"^{p.noun}-[0-9]+$",
    "byte": lambda p, _: _base64(p.slug),
    "decimal": lambda p, _: f"{p.dice.between(1, 200)}.{p.dice.between(10, 99)}",
    "password": lambda p, _: f"{p.slug}-{p.number}",
    "unix-time": lambda p, w: str(p.time_s(w)),
}
_FORMATS |= {
    "base64": _FORMATS["byte"],
    "idn-email": _FORMATS["email"],
    "idn-hostname": _FORMATS["hostname"],
    "iri": _url,
    "iri-reference": _url,
    "url": _url,
    "datetime": _FORMATS["date-time"],
}

# A string from its field name. A key is the whole name, or its last two words, or its last word.
_BY_NAME: dict[str, _Maker] = {
    "at date_time datetime timestamp": _FORMATS["date-time"],
    "date birthday dob day": _FORMATS["date"],
    "time": _FORMATS["date-time"],
    "email mail email_address": _FORMATS["email"],
    "url uri href link homepage website site blog": _url,
    "uuid guid": _FORMATS["uuid"],
    "host hostname domain domain_name": _FORMATS["hostname"],
    "ip ip_address ipv4": _FORMATS["ipv4"],
    "first_name given_name firstname givenname": lambda p, _: p.first,
    "last_name family_name surname lastname familyname": lambda p, _: p.last,
    "full_name fullname display_name author_name user_name_full owner_name real_name": (
        lambda p, _: f"{p.first} {p.last}"
    ),
    "login username user_name screen_name handle nickname nick": lambda p, _: p.login,
    "author owner creator assignee reviewer": lambda p, _: p.login,
    "company organization organisation business_name company_name employer": (
        lambda p, _: p.company
    ),
    "job_title occupation": lambda p, _: _JOBS[p.number % len(_JOBS)],
    "name": lambda p, _: p.slug,
    "title subject headline summary": lambda p, _: f"{p.adjective} {p.noun}".capitalize(),
    "description bio about body text content message comment note notes caption excerpt": (
        lambda p, _: _sentence(p)
    ),
    "instructions prompt query question reason detail details": lambda p, _: _sentence(p),
    "phone phone_number mobile fax tel telephone": (
        lambda p, _: f"+1202555{100 + p.number % 100:04d}"
    ),
    "city town locality": lambda p, _: p.place[0],
    "state province region county": lambda p, _: p.place[1],
    "country country_code": lambda p, _: p.place[2],
    "country_name": lambda p, _: p.place[3],
    "zip zipcode zip_code postal_code postcode": lambda p, _: p.place[4],
    "timezone time_zone tz": lambda p, _: p.place[5],
    "location": lambda p, _: f"{p.place[0]}, {p.place[3]}",
    "street address line1 address_line1 street_address": (
        lambda p, _: f"{1 + p.number % 180} {_STREETS[p.number % len(_STREETS)]}"
    ),
    "line2 address_line2": lambda p, _: f"Floor {1 + p.number % 9}",
    "currency currency_code": lambda p, _: p.dice.pick(("usd", "eur", "gbp")),
    "locale": lambda p, _: p.dice.pick(("en-US", "de-DE", "fr-FR")),
    "language lang": lambda p, _: p.dice.pick(("en", "de", "fr")),
    "color colour": lambda p, _: _hex(p.dice, 6),
    "sha commit_id commit_sha": lambda p, _: _hex(p.dice, 40),
    "hash digest checksum fingerprint sha256 etag": lambda p, _: _hex(p.dice, 64),
    "md5": lambda p, _: _hex(p.dice, 32),
    "token secret password api_key access_token refresh_token client_secret": (
        lambda p, _: f"sample_{p.dice.chars(_ALNUM, 24)}"
    ),
    "cursor after before next_page_token page_token": lambda p, _: _base64(f"cursor:{p.number}"),
    "id ids": _identifier,
    "node_id": lambda p, _: _base64(f"node:{p.number}"),
    "version": lambda p, _: f"{1 + p.number % 4}.{p.number % 10}.{p.number % 7}",
    "ref": lambda p, _: f"refs/heads/{p.slug}",
    "branch default_branch": lambda _p, _w: "main",
    "path": lambda p, _: f"src/{p.noun}.py",
    "filename file_name file": lambda p, _: f"{p.noun}.txt",
    "extension": lambda _p, _w: "txt",
    "mime_type content_type media_type mimetype": lambda _p, _w: "application/json",
    "slug key label tag code identifier": lambda p, _: p.slug,
    "status": lambda _p, _w: "active",
    "model": lambda _p, _w: "sample-model-1",
    "last4": lambda _p, _w: "4242",
    "brand": lambda p, _: p.company,
    "last_digits": lambda p, _: f"{p.number % 10000:04d}",
    "price amount total balance": lambda p, _: f"{p.dice.between(5, 200)}.{p.number % 100:02d}",
    "user_agent": lambda _p, _w: "example-client/1.4",
    "gender": lambda p, _: p.dice.pick(("female", "male", "other")),
    "sku": lambda p, _: f"{p.noun[:3].upper()}-{p.number % 10000:04d}",
}
_MAKERS: dict[str, _Maker] = {
    name: maker for names, maker in _BY_NAME.items() for name in names.split()
}
_PEOPLE = frozenset(
    _list(
        "user customer person owner author member contact employee account patient student creator "
        "assignee reviewer recipient sender holder cardholder individual guest shipping"
    )
)


def of_format(name: str, persona: Persona, words: Sequence[str]) -> str | None:
    """Return a string of the JSON Schema or OpenAPI format ``name``; None for an unknown one."""
    maker = _FORMATS.get(name)
    return maker(persona, words) if maker else None


def text(persona: Persona, words: Sequence[str], parent: Sequence[str]) -> str:
    """Return a string for a field.

    Args:
        persona: The record the field belongs to.
        words: The field's name, split by `split_name`; empty for the root.
        parent: The name of the object that holds it: ``name`` in a ``customer`` is a person's.
    """
    if not words:
        return _sentence(persona)
    if words[-1] == "name" and (_PEOPLE & set(words) or _PEOPLE & set(parent[-1:])):
        return f"{persona.first} {persona.last}"
    if words == ("id",):
        words = (*parent, "id")
    singular = (*words[:-1], words[-1].removesuffix("s"))
    for candidate in (words, singular):
        for tail in (candidate, candidate[-2:], candidate[-1:]):
            maker = _MAKERS.get("_".join(tail))
            if maker:
                return maker(persona, candidate)
    return f"{persona.adjective} {persona.noun}"


def integer(persona: Persona, words: Sequence[str], format_: str | None = None) -> int:
    """Return an integer for a field: an id, a count, a year, Unix seconds, cents, a size ..."""
    dice = persona.dice
    names = set(words)
    last = words[-1] if words else ""
    is_time = last in ("at", "created", "updated", "timestamp", "expires", "modified", "date")
    if (format_ or "").replace("-", "") == "unixtime" or is_time:
        return persona.time_s(words) * (1000 if {"ms", "millis"} & names else 1)
    if last in ("ms", "millis", "milliseconds"):
        return dice.between(20, 900)
    if last in ("id", "ids"):
        return persona.number if len(words) == 1 else dice.between(10_000, 9_999_999)
    for keys, low, high in _INTEGERS:
        if keys & names:
            return dice.between(low, high)
    return dice.between(1, 100)


_INTEGERS: tuple[tuple[frozenset[str], int, int], ...] = tuple(
    (frozenset(names.split()), low, high)
    for names, low, high in (
        ("year", 2024, 2032),
        ("month", 1, 12),
        ("day", 1, 28),
        ("hour", 0, 23),
        ("minute minutes", 0, 59),
        ("status code", 200, 200),
        ("page", 1, 1),
        ("port", 8000, 8999),
        ("age", 21, 68),
        ("width height", 320, 1920),
        ("bytes size length", 512, 90_000),
        ("tokens token", 8, 900),
        ("percent percentage rating", 1, 99),
        ("amount price cost balance subtotal total fee tax cents", 500, 25_000),
        ("duration seconds timeout interval ttl", 5, 600),
        ("number", 1, 400),
        ("index position offset", 0, 9),
        ("attempts retries", 0, 3),
        ("quantity", 1, 5),
        ("count", 0, 120),
    )
)


def number(persona: Persona, words: Sequence[str]) -> float:
    """Return a non-integer number for a field: a coordinate, a ratio, a price ..."""
    names = set(words)
    if {"lat", "latitude"} & names:
        return persona.place[6]
    if {"lng", "lon", "long", "longitude"} & names:
        return persona.place[7]
    if {"ratio", "probability", "score", "confidence", "rate", "logprob", "top", "p"} & names:
        return persona.dice.between(5, 95) / 100
    if {"at", "created", "timestamp"} & names:
        return float(persona.time_s(words))
    return integer(persona, words) + persona.dice.between(0, 99) / 100


_UNUSUAL = frozenset(
    _list(
        "deleted archived disabled locked error private suspended fork blocked deprecated template "
        "hidden draft expired failed revoked banned more refunded disputed delinquent admin"
    )
)


def says_yes(words: Sequence[str], dice: Dice) -> bool:
    """Return a boolean for a field: false where true would be the unusual state."""
    return not (_UNUSUAL & set(words)) and dice.below(5) > 0
