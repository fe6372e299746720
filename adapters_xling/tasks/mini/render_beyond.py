"""Word order, agreement, case and negation in Hindi, Turkish, Chinese and Swahili: one function per language.

Functions take ``(fact, style, ask)`` as in ``render_europe``.
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


@register("hi")
def hindi(f: Fact, style: int, ask: str) -> Words:
    """Verb last with auxiliary, postpositions; verbs and adjectives agree with the subject; wh-words before verbs."""
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
        hand = _t(verb[0], "VERB") + _t("给", "ADP") if verb[0] != "-" else _t("给", "VERB")
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
