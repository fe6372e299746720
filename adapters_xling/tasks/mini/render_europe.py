"""Word order, agreement, case and negation in English, German, Spanish and Russian: one function per language.

Every function takes ``(fact, style, ask)``: ``style`` bit 0 fronts the time, bit 1 takes synonyms, ``ask`` names the
part that a question asks for ("" for a statement). Importing this module registers the functions with ``grammar``.
"""

from __future__ import annotations

from .grammar import (
    ACTS,
    CITIES,
    GIVINGS,
    JOBS,
    LOOKS,
    MEETINGS,
    MOODS,
    NOUNS,
    PLACES,
    Fact,
    Token,
    forms,
    gender,
    is_person,
    name,
    register,
    time_phrase,
    verb_cell,
)
from .grammar import words as _t

_VERBS = {"act": ACTS, "meet": MEETINGS, "give": GIVINGS}
_CITY_KINDS = ("live", "trip")
Words = list[Token]


def _prepositional(text: str) -> Words:
    """ "in der" -> ADP + DET; fused forms such as "im" are one ADP."""
    return [Token(w, "DET" if w in {"der", "die", "dem", "den", "das"} else "ADP") for w in text.split()]


@register("en")
def english(f: Fact, style: int, ask: str) -> Words:
    """Subject verb object place time; questions and negation with "does"."""
    variant = style >> 1
    the = _t("the", "DET")
    if ask == "subj":
        s = _t("who", "PRON")
    elif is_person(f.subj):
        s = name(f.subj, "en")
    else:
        s = the + _t(forms(NOUNS, f.subj, "en")[0], "NOUN", "subj")
    t = time_phrase(f, "en", ask)
    front, back = (t, []) if style & 1 else ([], t)
    no = _t("not", "PART") if f.neg else []
    inverted = ask not in ("", "subj")
    wh = {"obj": "what", "rec": "whom", "place": "where", "time": "when"}.get(ask, "")
    wh_words = _t(wh, "PRON" if ask in ("obj", "rec") else "ADV") if wh else []

    if f.kind in ("at", "job", "mood", "look"):
        if f.kind == "at":
            prep, noun = forms(PLACES, f.place, "en")
            rest = [] if ask == "place" else _t(prep, "ADP") + the + _t(noun, "NOUN", "place")
        elif f.kind == "job":
            article, noun = forms(JOBS, f.pred, "en")[0].split()
            rest = _t(article, "DET") + _t(noun, "NOUN", "pred")
        else:
            rest = _t(forms(MOODS if f.kind == "mood" else LOOKS, f.pred, "en", variant)[0], "ADJ", "pred")
        be = _t("is", "AUX")
        if inverted:
            return wh_words + be + s + rest
        return front + s + be + no + rest + back

    extra: list[str] = []
    if f.kind in _VERBS:
        verb, extra = verb_cell(_VERBS[f.kind], f.pred, "en", variant)
    else:
        verb = {"live": ["lives", "live"], "go": ["goes", "go"], "trip": ["travels", "travel"]}[f.kind]
    prep_words = _t(extra[0], "ADP") if extra and f.kind == "meet" else []
    o = the + _t(forms(NOUNS, f.obj, "en")[0], "NOUN", "obj") if f.obj and ask != "obj" else []
    r: Words = []
    if f.rec:
        target = [] if ask == "rec" else name(f.rec, "en", slot="rec")
        r = prep_words + target if f.kind == "meet" else (_t("to", "ADP") + target if target else [])
    p: Words = []
    if f.place and ask != "place":
        if f.kind in _CITY_KINDS:
            p = _t("in" if f.kind == "live" else "to", "ADP") + _t(forms(CITIES, f.place, "en")[0], "PROPN", "place")
        else:
            prep, noun = forms(PLACES, f.place, "en")
            p = _t("to" if f.kind == "go" else prep, "ADP") + the + _t(noun, "NOUN", "place")
    if inverted:
        if ask == "rec" and f.kind == "give":
            wh_words = _t("to", "ADP") + wh_words
        return wh_words + _t("does", "AUX") + s + _t(verb[1], "VERB") + o + r + p
    v = _t("does", "AUX") + no + _t(verb[1], "VERB") if f.neg else _t(verb[0], "VERB")
    return front + s + v + o + r + p + back


@register("de")
def german(f: Fact, style: int, ask: str) -> Words:
    """Verb second; "nicht" after objects and times but before places and prepositional objects."""
    variant = style >> 1
    nominative, accusative = {"m": "der", "f": "die", "n": "das"}, {"m": "den", "f": "die", "n": "das"}
    if ask == "subj":
        s = _t("wer", "PRON")
    elif is_person(f.subj):
        s = name(f.subj, "de")
    else:
        g, noun = forms(NOUNS, f.subj, "de")
        s = _t(nominative[g], "DET") + _t(noun, "NOUN", "subj")
    t = time_phrase(f, "de", ask)
    front, back = (t, []) if style & 1 else ([], t)
    no = _t("nicht", "PART") if f.neg else []
    wh: Words = []
    if ask in ("obj", "place", "time"):
        going = ask == "place" and f.kind in ("go", "trip")
        wh = _t(
            "wohin" if going else {"obj": "was", "place": "wo", "time": "wann"}[ask], "PRON" if ask == "obj" else "ADV"
        )

    extra: list[str] = []
    tag = "VERB"
    if f.kind in _VERBS:
        verb, extra = verb_cell(_VERBS[f.kind], f.pred, "de", variant)
    elif f.kind in ("live", "go", "trip"):
        verb = {"live": ["wohnt"], "go": ["geht"], "trip": ["reist"]}[f.kind]
    else:
        verb, tag = ["ist"], "AUX"
    v = _t(verb[0], tag)
    o: Words = []
    if f.obj and ask != "obj":
        g, noun = forms(NOUNS, f.obj, "de")
        o = _t(accusative[g], "DET") + _t(noun, "NOUN", "obj")
    bare: Words = []
    tail: Words = []
    if f.rec:
        prep = _t(extra[0], "ADP") if extra and extra[0] else []
        if ask == "rec":
            wh = prep + _t(extra[1] if extra else "wem", "PRON")
        elif prep:
            tail = prep + name(f.rec, "de", slot="rec")
        else:
            bare = name(f.rec, "de", slot="rec")
    if f.place and ask != "place":
        if f.kind in _CITY_KINDS:
            tail = _t("in" if f.kind == "live" else "nach", "ADP") + _t(
                forms(CITIES, f.place, "de")[0], "PROPN", "place"
            )
        else:
            at, to, noun = forms(PLACES, f.place, "de")
            tail = _prepositional(to if f.kind == "go" else at) + _t(noun, "NOUN", "place")
    if f.kind == "job":
        tail = _t(forms(JOBS, f.pred, "de")[gender(f.subj) if ask != "subj" else 0], "NOUN", "pred")
        if f.neg:
            no = _t("keine" if gender(f.subj) else "kein", "PART")
    elif f.kind in ("mood", "look"):
        tail = _t(forms(MOODS if f.kind == "mood" else LOOKS, f.pred, "de", variant)[0], "ADJ", "pred")
    middle = bare + o
    if wh:
        return wh + v + s + middle + tail
    if front:
        return front + v + s + middle + no + tail
    return s + v + middle + back + no + tail


@register("es")
def spanish(f: Fact, style: int, ask: str) -> Words:
    """Subject verb object; people as objects take "a"; ser and estar; questions invert."""
    variant = style >> 1
    feminine = gender(f.subj) if is_person(f.subj) and ask != "subj" else 0
    if ask == "subj":
        s = _t("quién", "PRON")
    elif is_person(f.subj):
        s = name(f.subj, "es")
    else:
        article, noun = forms(NOUNS, f.subj, "es")
        feminine = int(article == "la")
        s = _t(article, "DET") + _t(noun, "NOUN", "subj")
    t = time_phrase(f, "es", ask)
    front, back = (t, []) if style & 1 else ([], t)
    no = _t("no", "PART") if f.neg else []
    o = r = p = rest = []
    extra: list[str] = []
    tag = "VERB"
    if f.kind in _VERBS:
        verb, extra = verb_cell(_VERBS[f.kind], f.pred, "es", variant)
        v = verb[0]
    elif f.kind == "job":
        v, tag = "es", "AUX"
        rest = _t(forms(JOBS, f.pred, "es")[feminine], "NOUN", "pred")
    elif f.kind == "mood":
        v, tag = "está", "AUX"
        rest = _t(forms(MOODS, f.pred, "es", variant)[feminine], "ADJ", "pred")
    elif f.kind == "look":
        cell = forms(LOOKS, f.pred, "es", variant)
        v, tag = cell[0], "AUX"
        rest = _t(cell[1 + feminine], "ADJ", "pred")
    else:
        v = {"at": "está", "live": "vive", "go": "va", "trip": "viaja"}[f.kind]
        tag = "AUX" if f.kind == "at" else "VERB"
    if f.obj and ask != "obj":
        article, noun = forms(NOUNS, f.obj, "es")
        o = _t(article, "DET") + _t(noun, "NOUN", "obj")
    prep = extra[0] if extra else "a"
    if f.rec and ask != "rec":
        r = _t(prep, "ADP") + name(f.rec, "es", slot="rec")
    if f.place and ask != "place":
        if f.kind in _CITY_KINDS:
            p = _t("en" if f.kind == "live" else "a", "ADP") + _t(forms(CITIES, f.place, "es")[0], "PROPN", "place")
        else:
            article, noun = forms(PLACES, f.place, "es")
            if f.kind != "go":
                p = _t("en", "ADP") + _t(article, "DET")
            else:
                p = _t("al", "ADP") if article == "el" else _t("a", "ADP") + _t("la", "DET")
            p = p + _t(noun, "NOUN", "place")
    v_words = _t(v, tag)
    if ask == "rec":
        return _t(prep, "ADP") + _t("quién", "PRON") + v_words + s + o
    if ask in ("obj", "place", "time"):
        going = ask == "place" and f.kind in ("go", "trip")
        wh = "adónde" if going else {"obj": "qué", "place": "dónde", "time": "cuándo"}[ask]
        return _t(wh, "PRON" if ask == "obj" else "ADV") + v_words + s + o + r + p + rest
    return front + s + no + v_words + rest + o + r + p + back


@register("ru")
def russian(f: Fact, style: int, ask: str) -> Words:
    """No articles, no copula; cases on nouns and names; adjectives agree."""
    variant = style >> 1
    g = gender(f.subj) if is_person(f.subj) and ask != "subj" else 0
    if ask == "subj":
        s = _t("кто", "PRON")
    elif is_person(f.subj):
        s = name(f.subj, "ru")
    else:
        cell = forms(NOUNS, f.subj, "ru")
        g = "mfn".index(cell[0])
        s = _t(cell[1], "NOUN", "subj")
    t = time_phrase(f, "ru", ask)
    front, back = (t, []) if style & 1 else ([], t)
    no = _t("не", "PART") if f.neg else []
    v = o = r = p = rest = []
    case = "dat"
    if f.kind in _VERBS:
        verb, extra = verb_cell(_VERBS[f.kind], f.pred, "ru", variant)
        v = _t(verb[0], "VERB")
        case = extra[0] if extra else "dat"
    elif f.kind == "job":
        rest = _t(forms(JOBS, f.pred, "ru")[g], "NOUN", "pred")
        v = [] if f.neg or ask == "subj" else [Token("—", "PUNCT")]
    elif f.kind in ("mood", "look"):
        rest = _t(forms(MOODS if f.kind == "mood" else LOOKS, f.pred, "ru", variant)[g], "ADJ", "pred")
    elif f.kind != "at":
        v = _t({"live": "живёт", "go": "идёт", "trip": "едет"}[f.kind], "VERB")
    if f.obj and ask != "obj":
        o = _t(forms(NOUNS, f.obj, "ru")[2], "NOUN", "obj")
    if f.rec and ask != "rec":
        r = name(f.rec, "ru", 1 if case == "acc" else 2, "rec")
    if f.place and ask != "place":
        if f.kind in _CITY_KINDS:
            accusative, prepositional = forms(CITIES, f.place, "ru")
            p = _t("в", "ADP") + _t(prepositional if f.kind == "live" else accusative, "PROPN", "place")
        else:
            prep, noun = forms(PLACES, f.place, "ru")[1 if f.kind == "go" else 0].split()
            p = _t(prep, "ADP") + _t(noun, "NOUN", "place")
    if ask in ("obj", "rec", "place", "time"):
        going = ask == "place" and f.kind in ("go", "trip")
        plain = {"obj": "что", "rec": "кого" if case == "acc" else "кому", "place": "где", "time": "когда"}
        wh = _t("куда" if going else plain[ask], "PRON" if ask in ("obj", "rec") else "ADV")
        return wh + s + v + r + o + p + rest
    return front + s + no + v + rest + r + o + p + back
