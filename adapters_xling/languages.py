"""One table of languages: ISO 639-1 code, English name, ISO 639-3 code, ISO 15924 script, family.

The codes are those of XTREME and XTREME-R (their `evaluate.py`); the mini world uses a subset.
"""

from __future__ import annotations

from typing import NamedTuple

from .errors import unknown


class Language(NamedTuple):
    """A language as reports and cards show it."""

    code: str
    name: str
    iso639_3: str
    script: str
    family: str


_TABLE = """
af Afrikaans afr Latn IE:Germanic
ar Arabic ara Arab Afro-Asiatic
az Azerbaijani aze Latn Turkic
bg Bulgarian bul Cyrl IE:Slavic
bn Bengali ben Beng IE:Indo-Aryan
de German deu Latn IE:Germanic
el Greek ell Grek IE:Greek
en English eng Latn IE:Germanic
es Spanish spa Latn IE:Romance
et Estonian est Latn Uralic
eu Basque eus Latn Basque
fa Persian pes Arab IE:Iranian
fi Finnish fin Latn Uralic
fr French fra Latn IE:Romance
gu Gujarati guj Gujr IE:Indo-Aryan
he Hebrew heb Hebr Afro-Asiatic
hi Hindi hin Deva IE:Indo-Aryan
ht Haitian_Creole hat Latn Creole
hu Hungarian hun Latn Uralic
id Indonesian ind Latn Austronesian
it Italian ita Latn IE:Romance
ja Japanese jpn Jpan Japonic
jv Javanese jav Latn Austronesian
ka Georgian kat Geor Kartvelian
kk Kazakh kaz Cyrl Turkic
ko Korean kor Kore Koreanic
lt Lithuanian lit Latn IE:Baltic
ml Malayalam mal Mlym Dravidian
mr Marathi mar Deva IE:Indo-Aryan
ms Malay zsm Latn Austronesian
my Burmese mya Mymr Sino-Tibetan
nl Dutch nld Latn IE:Germanic
pa Punjabi pan Guru IE:Indo-Aryan
pl Polish pol Latn IE:Slavic
pt Portuguese por Latn IE:Romance
qu Quechua que Latn Quechuan
ro Romanian ron Latn IE:Romance
ru Russian rus Cyrl IE:Slavic
sw Swahili swa Latn Niger-Congo
ta Tamil tam Taml Dravidian
te Telugu tel Telu Dravidian
th Thai tha Thai Kra-Dai
tl Tagalog tgl Latn Austronesian
tr Turkish tur Latn Turkic
uk Ukrainian ukr Cyrl IE:Slavic
ur Urdu urd Arab IE:Indo-Aryan
vi Vietnamese vie Latn Austro-Asiatic
wo Wolof wol Latn Niger-Congo
yo Yoruba yor Latn Niger-Congo
zh Chinese zho Hans Sino-Tibetan
"""

LANGUAGES: dict[str, Language] = {
    row[0]: Language(row[0], row[1].replace("_", " "), *row[2:])
    for row in (line.split() for line in _TABLE.strip().splitlines())
}


def fill(pattern: str, code: str) -> str:
    """Put a language's names into a pattern: ``{language}`` its code, ``{iso3}`` its ISO 639-3 code, ``{script}`` its
    ISO 15924 script, ``{Name}`` its English name, ``{name}`` that in lower case.

    >>> fill("{iso3}_{script}/{name}-{language} {Name}", "sw")
    'swa_Latn/swahili-sw Swahili'
    """
    found = language(code)
    names = {"Name": found.name, "name": found.name.lower()}
    for placeholder, value in {"language": code, "iso3": found.iso639_3, "script": found.script, **names}.items():
        pattern = pattern.replace("{" + placeholder + "}", value)
    return pattern


def language(code: str) -> Language:
    """Look a language up by its code.

    Raises:
        UnknownName: with the closest codes.

    >>> language("sw").name
    'Swahili'
    """
    if code not in LANGUAGES:
        raise unknown("language", code, LANGUAGES, "adapters_xling/languages.py")
    return LANGUAGES[code]
