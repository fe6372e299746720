"""Word order, agreement, case and negation of each language: one function per language.

Every function takes ``(fact, style, ask)``: ``style`` bit 0 fronts the time, bit 1 takes synonyms, ``ask`` names the part
that a question asks for ("" for a statement). Importing this module registers the functions with ``grammar``.
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
    words,
)

_VERBS = {"act": ACTS, "meet": MEETINGS, "give": GIVINGS}
_CITY_KINDS = ("live", "trip")
Words = list[Token]


def _t(text: str, tag: str, slot: str = "") -> Words:
    return words(text, tag, slot)


def _prepositional(text: str) -> Words:
    """"in der" -> ADP + DET; fused forms such as "im" are one ADP."""
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
        wh = _t("wohin" if going else {"obj": "was", "place": "wo", "time": "wann"}[ask], "PRON" if ask == "obj" else "ADV")

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
            tail = _t("in" if f.kind == "live" else "nach", "ADP") + _t(forms(CITIES, f.place, "de")[0], "PROPN", "place")
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


@register("hi")
def hindi(f: Fact, style: int, ask: str) -> Words:
    """Verb last with auxiliary, postpositions, verbs and adjectives agree with the subject; wh-words before the verb."""
    variant = style >> 1
    g = gender(f.subj) if is_person(f.subj) and ask != "subj" else 0
    s = name(f.subj, "hi") if is_person(f.subj) else []
    if not is_person(f.subj):
        cell = forms(NOUNS, f.subj, "hi")
        g = int(cell[0] == "f")
        s = _t(cell[1], "NOUN", "subj")
    t = time_phrase(f, "hi", ask)
    no = _t("नहीं", "PART") if f.neg else []
    be = _t("है", "AUX")
    o = r = p = rest = wh = []
    post = "को"
    light: Words = []
    v: Words = []
    if f.kind in _VERBS:
        verb, extra = verb_cell(_VERBS[f.kind], f.pred, "hi", variant)
        post = extra[0] if extra else "को"
        tokens = _t(verb[g], "VERB")
        light, v = tokens[:-1], tokens[-1:]
    elif f.kind == "job":
        rest = _t(forms(JOBS, f.pred, "hi")[g], "NOUN", "pred")
    elif f.kind in ("mood", "look"):
        rest = _t(forms(MOODS if f.kind == "mood" else LOOKS, f.pred, "hi", variant)[g], "ADJ", "pred")
    elif f.kind != "at":
        v = _t(("रहता", "रहती")[g] if f.kind == "live" else ("जाता", "जाती")[g], "VERB")
    if f.obj and ask != "obj":
        o = _t(forms(NOUNS, f.obj, "hi")[1], "NOUN", "obj")
    if f.rec and ask != "rec":
        r = name(f.rec, "hi", slot="rec") + _t(post, "ADP")
    if f.place and ask != "place":
        if f.kind in _CITY_KINDS:
            p = _t(forms(CITIES, f.place, "hi")[0], "PROPN", "place") + (_t("में", "ADP") if f.kind == "live" else [])
        else:
            noun, adposition = forms(PLACES, f.place, "hi")
            p = _t(noun, "NOUN", "place") + _t(adposition, "ADP")
    if ask == "subj":
        return p + r + o + _t("कौन", "PRON") + rest + light + v + be
    if ask == "rec":
        fused = {"को": "किसको", "से": "किससे", "की": "किसकी", "का": "किसका", "के लिए": "किसके लिए|ADP", "पर": "किस पर|ADP"}
        wh = [Token(*w.split("|")) if "|" in w else Token(w, "PRON") for w in fused[post].split()]
    elif ask:
        wh = _t({"obj": "क्या", "place": "कहाँ", "time": "कब"}[ask], "PRON" if ask == "obj" else "ADV")
    start = t + s if style & 1 else s + t
    return start + p + r + o + wh + rest + light + no + v + be


@register("tr")
def turkish(f: Fact, style: int, ask: str) -> Words:
    """Verb last, case suffixes, negation inside the verb or "değil"."""
    variant = style >> 1
    s = name(f.subj, "tr") if is_person(f.subj) else _t(forms(NOUNS, f.subj, "tr")[0], "NOUN", "subj")
    t = time_phrase(f, "tr", ask)
    no: Words = []
    o = r = p = rest = v = wh = []
    case = "dat"
    if f.kind in _VERBS:
        verb, extra = verb_cell(_VERBS[f.kind], f.pred, "tr", variant)
        case = extra[0] if extra else "dat"
        v = _t(verb[int(f.neg)], "VERB")
    elif f.kind in ("live", "go", "trip"):
        pair = {
            "live": ("yaşıyor", "yaşamıyor"),
            "go": ("gidiyor", "gitmiyor"),
            "trip": ("seyahat|NOUN ediyor", "seyahat|NOUN etmiyor"),
        }
        v = _t(pair[f.kind][int(f.neg)], "VERB")
    else:
        no = _t("değil", "PART") if f.neg else []
        if f.kind == "job":
            rest = _t(forms(JOBS, f.pred, "tr")[0], "NOUN", "pred")
        elif f.kind != "at":
            rest = _t(forms(MOODS if f.kind == "mood" else LOOKS, f.pred, "tr", variant)[0], "ADJ", "pred")
    if f.obj and ask != "obj":
        o = _t(forms(NOUNS, f.obj, "tr")[1], "NOUN", "obj")
    if f.rec and ask != "rec":
        r = name(f.rec, "tr", 1 if case == "acc" else 2, "rec")
    if f.place and ask != "place":
        table, tag = (CITIES, "PROPN") if f.kind in _CITY_KINDS else (PLACES, "NOUN")
        p = _t(forms(table, f.place, "tr")[1 if f.kind in ("go", "trip") else 0], tag, "place")
    if ask == "subj":
        who = _t("kim", "PRON")
        return who + p + rest if f.kind in ("at", "job", "mood") else p + r + o + who + v
    if ask == "time":
        wh = _t("ne|PRON zaman", "NOUN")
    elif ask == "place":
        wh = _t("nereye" if f.kind in ("go", "trip") else "nerede", "ADV")
    elif ask:
        wh = _t("neyi" if ask == "obj" else "kimi" if case == "acc" else "kime", "PRON")
    start = t + s if style & 1 else s + t
    if f.kind == "at" and ask == "time":
        return start + wh + p
    return start + p + r + o + wh + rest + no + v


@register("zh")
def chinese(f: Fact, style: int, ask: str) -> Words:
    """Time and place before the verb, wh-words in place, things handed over with 把."""
    variant = style >> 1
    if ask == "subj":
        s = _t("谁", "PRON")
    else:
        s = name(f.subj, "zh") if is_person(f.subj) else _t(forms(NOUNS, f.subj, "zh")[0], "NOUN", "subj")
    t = _t("什么时候", "ADV") if ask == "time" else time_phrase(f, "zh", ask)
    no = _t("不", "PART") if f.neg else []
    o = r = p = []
    if f.obj:
        o = _t("什么", "PRON") if ask == "obj" else _t(forms(NOUNS, f.obj, "zh")[0], "NOUN", "obj")
    if f.rec:
        r = _t("谁", "PRON") if ask == "rec" else name(f.rec, "zh", slot="rec")
    if f.place:
        if ask == "place":
            p = _t("哪里", "ADV")
        elif f.kind in _CITY_KINDS:
            p = _t(forms(CITIES, f.place, "zh")[0], "PROPN", "place")
        else:
            p = _t(forms(PLACES, f.place, "zh")[0], "NOUN", "place") + (_t("里", "ADP") if f.kind != "go" else [])
    if f.kind in ("act", "meet"):
        verb, _ = verb_cell(_VERBS[f.kind], f.pred, "zh", variant)
        v = (_t("在", "ADP") + p if p else []) + _t(verb[int(f.neg)], "VERB") + o + r
    elif f.kind == "give":
        verb, _ = verb_cell(GIVINGS, f.pred, "zh", variant)
        hand = _t(verb[0], "VERB") + _t("给", "ADP") if verb[0] else _t("给", "VERB")
        v = no + _t("把", "ADP") + o + hand + r
    elif f.kind == "job":
        v = _t("不是" if f.neg else "是", "AUX") + _t(forms(JOBS, f.pred, "zh")[0], "NOUN", "pred")
    elif f.kind in ("mood", "look"):
        v = _t(forms(MOODS if f.kind == "mood" else LOOKS, f.pred, "zh", variant)[int(f.neg)], "ADJ", "pred")
    elif f.kind == "at":
        v = no + _t("在", "AUX") + p
    elif f.kind == "live":
        v = no + _t("住", "VERB") + _t("在", "ADP") + p
    else:
        v = no + _t("去", "VERB") + p + (_t("旅行", "VERB") if f.kind == "trip" else [])
    return (t + s if style & 1 and ask != "time" else s + t) + v


@register("sw")
def swahili(f: Fact, style: int, ask: str) -> Words:
    """Subject and object marked on the verb, negative verb forms, locative nouns, adjectives agree in class."""
    variant = style >> 1
    if ask == "subj":
        s = _t("nani", "PRON")
    else:
        s = name(f.subj, "sw") if is_person(f.subj) else _t(forms(NOUNS, f.subj, "sw")[1], "NOUN", "subj")
    t = time_phrase(f, "sw", ask)
    front, back = (t, []) if style & 1 else ([], t)
    o = r = p = rest = []
    if f.kind in _VERBS:
        verb, _ = verb_cell(_VERBS[f.kind], f.pred, "sw", variant)
        v = _t(verb[int(f.neg)], "VERB")
    elif f.kind == "mood":
        v = _t(forms(MOODS, f.pred, "sw", variant)[int(f.neg)], "VERB")
    elif f.kind in ("job", "look"):
        v = _t("si" if f.neg else "ni", "AUX")
        if f.kind == "job":
            rest = _t(forms(JOBS, f.pred, "sw")[0], "NOUN", "pred")
        else:
            noun_class = forms(NOUNS, f.subj, "sw")[0]
            rest = _t(forms(LOOKS, f.pred, "sw", variant)["3579".index(noun_class)], "ADJ", "pred")
    else:
        pair = {"at": ("yuko", "hayuko"), "live": ("anaishi", "haishi"), "go": ("anaenda", "haendi")}
        if f.kind == "trip":
            v = _t("hasafiri" if f.neg else "anasafiri", "VERB") + (_t("kwenda", "VERB") if ask != "place" else [])
        else:
            v = _t(pair[f.kind][int(f.neg)], "AUX" if f.kind == "at" else "VERB")
    if f.obj:
        o = _t("nini", "PRON") if ask == "obj" else _t(forms(NOUNS, f.obj, "sw")[1], "NOUN", "obj")
    if f.rec:
        r = _t("nani", "PRON") if ask == "rec" else name(f.rec, "sw", slot="rec")
    if f.place:
        if ask == "place":
            p = _t("wapi", "ADV")
        elif f.kind in _CITY_KINDS:
            p = _t(forms(CITIES, f.place, "sw")[0], "PROPN", "place")
        else:
            p = _t(forms(PLACES, f.place, "sw")[0], "NOUN", "place")
    when = _t("lini", "ADV") if ask == "time" else []
    return front + s + v + rest + r + o + p + back + when
