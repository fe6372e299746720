"""One table of languages: ISO 639-1 code, English name, ISO 639-3 code, ISO 15924 script, family.

It holds every language with a code of two letters; XTREME, XTREME-R and the mini world use some of them, by the same
codes. A language without such a code goes by its ISO 639-3 code, and is shown by it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .errors import ConfigError, UnknownName, closest


class Language(NamedTuple):
    """A language as reports and cards show it; of one that is not in the table only the code is known, which is its
    name as well.
    """

    code: str
    name: str
    iso639_3: str
    script: str
    family: str


_TABLE = """
aa Afar aar Latn Afro-Asiatic
ab Abkhazian abk Cyrl Northwest_Caucasian
ae Avestan ave Avst IE:Iranian
af Afrikaans afr Latn IE:Germanic
ak Akan aka Latn Niger-Congo
am Amharic amh Ethi Afro-Asiatic
an Aragonese arg Latn IE:Romance
ar Arabic ara Arab Afro-Asiatic
as Assamese asm Beng IE:Indo-Aryan
av Avar ava Cyrl Northeast_Caucasian
ay Aymara aym Latn Aymaran
az Azerbaijani aze Latn Turkic
ba Bashkir bak Cyrl Turkic
be Belarusian bel Cyrl IE:Slavic
bg Bulgarian bul Cyrl IE:Slavic
bi Bislama bis Latn Creole
bm Bambara bam Latn Mande
bn Bengali ben Beng IE:Indo-Aryan
bo Tibetan bod Tibt Sino-Tibetan
br Breton bre Latn IE:Celtic
bs Bosnian bos Latn IE:Slavic
ca Catalan cat Latn IE:Romance
ce Chechen che Cyrl Northeast_Caucasian
ch Chamorro cha Latn Austronesian
co Corsican cos Latn IE:Romance
cr Cree cre Cans Algic
cs Czech ces Latn IE:Slavic
cu Church_Slavonic chu Cyrl IE:Slavic
cv Chuvash chv Cyrl Turkic
cy Welsh cym Latn IE:Celtic
da Danish dan Latn IE:Germanic
de German deu Latn IE:Germanic
dv Dhivehi div Thaa IE:Indo-Aryan
dz Dzongkha dzo Tibt Sino-Tibetan
ee Ewe ewe Latn Niger-Congo
el Greek ell Grek IE:Greek
en English eng Latn IE:Germanic
eo Esperanto epo Latn Constructed
es Spanish spa Latn IE:Romance
et Estonian est Latn Uralic
eu Basque eus Latn Basque
fa Persian pes Arab IE:Iranian
ff Fula ful Latn Niger-Congo
fi Finnish fin Latn Uralic
fj Fijian fij Latn Austronesian
fo Faroese fao Latn IE:Germanic
fr French fra Latn IE:Romance
fy Western_Frisian fry Latn IE:Germanic
ga Irish gle Latn IE:Celtic
gd Scottish_Gaelic gla Latn IE:Celtic
gl Galician glg Latn IE:Romance
gn Guarani grn Latn Tupian
gu Gujarati guj Gujr IE:Indo-Aryan
gv Manx glv Latn IE:Celtic
ha Hausa hau Latn Afro-Asiatic
he Hebrew heb Hebr Afro-Asiatic
hi Hindi hin Deva IE:Indo-Aryan
ho Hiri_Motu hmo Latn Austronesian
hr Croatian hrv Latn IE:Slavic
ht Haitian_Creole hat Latn Creole
hu Hungarian hun Latn Uralic
hy Armenian hye Armn IE:Armenian
hz Herero her Latn Niger-Congo
ia Interlingua ina Latn Constructed
id Indonesian ind Latn Austronesian
ie Interlingue ile Latn Constructed
ig Igbo ibo Latn Niger-Congo
ii Nuosu iii Yiii Sino-Tibetan
ik Inupiaq ipk Latn Eskimo-Aleut
io Ido ido Latn Constructed
is Icelandic isl Latn IE:Germanic
it Italian ita Latn IE:Romance
iu Inuktitut iku Cans Eskimo-Aleut
ja Japanese jpn Jpan Japonic
jv Javanese jav Latn Austronesian
ka Georgian kat Geor Kartvelian
kg Kongo kon Latn Niger-Congo
ki Kikuyu kik Latn Niger-Congo
kj Kwanyama kua Latn Niger-Congo
kk Kazakh kaz Cyrl Turkic
kl Greenlandic kal Latn Eskimo-Aleut
km Khmer khm Khmr Austro-Asiatic
kn Kannada kan Knda Dravidian
ko Korean kor Kore Koreanic
kr Kanuri kau Latn Nilo-Saharan
ks Kashmiri kas Arab IE:Indo-Aryan
ku Kurdish kur Latn IE:Iranian
kv Komi kom Cyrl Uralic
kw Cornish cor Latn IE:Celtic
ky Kyrgyz kir Cyrl Turkic
la Latin lat Latn IE:Italic
lb Luxembourgish ltz Latn IE:Germanic
lg Ganda lug Latn Niger-Congo
li Limburgish lim Latn IE:Germanic
ln Lingala lin Latn Niger-Congo
lo Lao lao Laoo Kra-Dai
lt Lithuanian lit Latn IE:Baltic
lu Luba-Katanga lub Latn Niger-Congo
lv Latvian lav Latn IE:Baltic
mg Malagasy mlg Latn Austronesian
mh Marshallese mah Latn Austronesian
mi Maori mri Latn Austronesian
mk Macedonian mkd Cyrl IE:Slavic
ml Malayalam mal Mlym Dravidian
mn Mongolian mon Cyrl Mongolic
mr Marathi mar Deva IE:Indo-Aryan
ms Malay zsm Latn Austronesian
mt Maltese mlt Latn Afro-Asiatic
my Burmese mya Mymr Sino-Tibetan
na Nauruan nau Latn Austronesian
nb Norwegian_Bokmål nob Latn IE:Germanic
nd Northern_Ndebele nde Latn Niger-Congo
ne Nepali nep Deva IE:Indo-Aryan
ng Ndonga ndo Latn Niger-Congo
nl Dutch nld Latn IE:Germanic
nn Norwegian_Nynorsk nno Latn IE:Germanic
no Norwegian nor Latn IE:Germanic
nr Southern_Ndebele nbl Latn Niger-Congo
nv Navajo nav Latn Na-Dene
ny Chichewa nya Latn Niger-Congo
oc Occitan oci Latn IE:Romance
oj Ojibwe oji Cans Algic
om Oromo orm Latn Afro-Asiatic
or Odia ori Orya IE:Indo-Aryan
os Ossetian oss Cyrl IE:Iranian
pa Punjabi pan Guru IE:Indo-Aryan
pi Pali pli Deva IE:Indo-Aryan
pl Polish pol Latn IE:Slavic
ps Pashto pus Arab IE:Iranian
pt Portuguese por Latn IE:Romance
qu Quechua que Latn Quechuan
rm Romansh roh Latn IE:Romance
rn Rundi run Latn Niger-Congo
ro Romanian ron Latn IE:Romance
ru Russian rus Cyrl IE:Slavic
rw Kinyarwanda kin Latn Niger-Congo
sa Sanskrit san Deva IE:Indo-Aryan
sc Sardinian srd Latn IE:Romance
sd Sindhi snd Arab IE:Indo-Aryan
se Northern_Sami sme Latn Uralic
sg Sango sag Latn Niger-Congo
si Sinhala sin Sinh IE:Indo-Aryan
sk Slovak slk Latn IE:Slavic
sl Slovenian slv Latn IE:Slavic
sm Samoan smo Latn Austronesian
sn Shona sna Latn Niger-Congo
so Somali som Latn Afro-Asiatic
sq Albanian sqi Latn IE:Albanian
sr Serbian srp Cyrl IE:Slavic
ss Swati ssw Latn Niger-Congo
st Southern_Sotho sot Latn Niger-Congo
su Sundanese sun Latn Austronesian
sv Swedish swe Latn IE:Germanic
sw Swahili swa Latn Niger-Congo
ta Tamil tam Taml Dravidian
te Telugu tel Telu Dravidian
tg Tajik tgk Cyrl IE:Iranian
th Thai tha Thai Kra-Dai
ti Tigrinya tir Ethi Afro-Asiatic
tk Turkmen tuk Latn Turkic
tl Tagalog tgl Latn Austronesian
tn Tswana tsn Latn Niger-Congo
to Tongan ton Latn Austronesian
tr Turkish tur Latn Turkic
ts Tsonga tso Latn Niger-Congo
tt Tatar tat Cyrl Turkic
tw Twi twi Latn Niger-Congo
ty Tahitian tah Latn Austronesian
ug Uyghur uig Arab Turkic
uk Ukrainian ukr Cyrl IE:Slavic
ur Urdu urd Arab IE:Indo-Aryan
uz Uzbek uzb Latn Turkic
ve Venda ven Latn Niger-Congo
vi Vietnamese vie Latn Austro-Asiatic
vo Volapük vol Latn Constructed
wa Walloon wln Latn IE:Romance
wo Wolof wol Latn Niger-Congo
xh Xhosa xho Latn Niger-Congo
yi Yiddish yid Hebr IE:Germanic
yo Yoruba yor Latn Niger-Congo
za Zhuang zha Latn Kra-Dai
zh Chinese zho Hans Sino-Tibetan
zu Zulu zul Latn Niger-Congo
"""

LANGUAGES: dict[str, Language] = {
    row[0]: Language(*(cell.replace("_", " ") for cell in row))
    for row in (line.split() for line in _TABLE.strip().splitlines())
}
_LONG = {one.iso639_3: one.code for one in LANGUAGES.values()}


def fill(pattern: str, code: str) -> str:
    """Put a language's names into a pattern: ``{language}`` its code, ``{iso3}`` its ISO 639-3 code, ``{script}`` its
    ISO 15924 script, ``{Name}`` its English name, ``{name}`` that in lower case.

    Raises:
        UnknownName: for what is no language.
        ConfigError: for the name or script of a language that is not in the table.

    >>> fill("{iso3}_{script}/{name}-{language} {Name}", "sw")
    'swa_Latn/swahili-sw Swahili'
    """
    found = language(code)
    names = {"Name": found.name, "name": found.name.lower()} if found.code in LANGUAGES else {"Name": "", "name": ""}
    for placeholder, value in {"language": code, "iso3": found.iso639_3, "script": found.script, **names}.items():
        if not value and "{" + placeholder + "}" in pattern:
            raise ConfigError(
                f"{pattern!r}: of language {code!r} only the code is known here; use {{language}} in place of "
                f"{{{placeholder}}}, or give it a source of its own (languages: [{code}])"
            )
        pattern = pattern.replace("{" + placeholder + "}", value)
    return pattern


def language(code: str) -> Language:
    """Look a language up by its code: that of ISO 639-1, or that of ISO 639-3 where it has no code of two letters.

    Which codes of three letters ISO 639-3 has is not known here (there are 7,900): any is taken.

    Raises:
        UnknownName: with the closest codes; so that a language has one code, also for the longer code of one that has a
            code of two letters.

    >>> language("sw").name, language("ha").name, language("nso").name
    ('Swahili', 'Hausa', 'nso')
    >>> language("hau")
    Traceback (most recent call last):
    ...
    adapters_xling.errors.UnknownName: unknown language 'hau'. Did you mean 'ha' (Hausa)? A language goes by its ...
    """
    if code in LANGUAGES:
        return LANGUAGES[code]
    if re.fullmatch("[a-z]{3}", code) and code not in _LONG:
        return Language(code, code, code, "", "")
    names = {one.name.lower(): one.code for one in LANGUAGES.values()}
    low = code.lower()
    same = [low] if low in LANGUAGES else [known[low] for known in (_LONG, names) if low in known]
    close = same or closest(low, LANGUAGES) or [names[name] for name in closest(low, names)]
    hint = " or ".join(f"{one!r} ({LANGUAGES[one].name})" for one in close)
    raise UnknownName(
        f"unknown language {code!r}. {f'Did you mean {hint}? ' if hint else ''}A language goes by its ISO 639-1 code, "
        "e.g. ha, or by its ISO 639-3 code where it has no code of two letters, e.g. nso"
    )
