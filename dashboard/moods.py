"""How sentiment and risk are told: in words and in numbers, with a colour only beside them."""

import html

import pandas as pd

MOODS = {
    "positive": ("good", "Positive"),
    "neutral": ("warn", "Mixed"),
    "negative": ("bad", "Negative"),
}


def mood_words(label: str | None, p_positive: float) -> str:
    """ "Positive (94 %)", "Negative (88 %)", "Mixed (52 % positive)": the probability of what the words say.

    >>> mood_words("negative", 0.12)
    'Negative (88 %)'
    """
    words = MOODS.get(label or "", ("none", "Not scored"))[1]
    if p_positive != p_positive:
        return words
    if label == "positive":
        return f"{words} ({percent(p_positive)} %)"
    if label == "negative":
        return f"{words} ({percent(1 - p_positive)} %)"
    return f"{words} ({percent(p_positive)} % positive)"


def mood_kind(label: str | None) -> str:
    return MOODS.get(label or "", ("none", ""))[0]


def percent(share: float) -> int:
    """Whole per cent that never claims certainty: between 1 and 99."""
    return min(99, max(1, round(100 * share)))


MIXED_WITHIN = 0.2  # of 0 on the scale from -1 to +1: an aspect is spoken of neither well nor ill

# Cuts of the priority, which is 0.67 at most for a review that nobody else agrees with (nlp/triage.py).
_PRIORITIES = ((0.6, "bad", "Urgent"), (0.4, "warn", "High"), (0.2, "none", "Medium"), (0.0, "none", "Low"))


def priority_words(priority: float) -> tuple[str, str, str]:
    """The sign, the word and the number (of 100) of a priority.

    >>> priority_words(0.63), priority_words(float("nan"))
    (('bad', 'Urgent', '63'), ('none', 'No priority', ''))
    """
    if priority != priority:
        return "none", "No priority", ""
    kind, word = next((kind, word) for least, kind, word in _PRIORITIES if priority >= least)
    return kind, word, f"{100 * priority:.0f}"


def confidence_words(confidence: float) -> str:
    """How sure a link to a title is.

    >>> confidence_words(0.97)
    'very likely this title (97 %)'
    """
    if confidence != confidence:
        return "not known how surely"
    words = "very likely" if confidence >= 0.95 else "likely" if confidence >= 0.75 else "perhaps"
    return f"{words} this title ({percent(confidence)} %)"


def signed(p_positive: float) -> str:
    """A probability of positive as a sentiment from -1 to +1.

    >>> signed(0.9), signed(0.1), signed(0.5)
    ('+0.80', '−0.80', '0.00')
    """
    value = round(2 * p_positive - 1, 2)
    return f"{value:+.2f}".replace("-", "−") if value else "0.00"


# The probability to come back is cut in three where the scorer gave no band.
_CUTS = ((1 / 3, "high"), (2 / 3, "medium"), (1.01, "low"))
RISKS = {
    "high": ("bad", "Likely to leave"),
    "medium": ("warn", "Undecided"),
    "low": ("good", "Likely to stay"),
}


def risk_bands(retention: pd.DataFrame) -> pd.Series:
    """The band of each member: the scorer's own where it gave one, else by thirds of the probability to come back."""
    by_cut = pd.Series("low", index=retention.index, dtype=object)
    for limit, name in reversed(_CUTS):
        by_cut = by_cut.mask(retention["p_return"] < limit, name)
    given = retention["band"].astype(object)
    return given.where(given.notna() & (given != ""), by_cut).astype(str)


def risk_words(band: str) -> str:
    """ "Likely to leave" for a known band, the band's own name with a capital for any other."""
    return RISKS[band][1] if band in RISKS else band[:1].upper() + band[1:].replace("_", " ")


def risk_kind(band: str) -> str:
    if band in RISKS:
        return RISKS[band][0]
    words = band.casefold()
    return "bad" if "leave" in words or "risk" in words else "good" if "stay" in words or "safe" in words else "warn"


def bar(label: str, share: float, count: str, colour: str) -> str:
    """HTML of one labelled bar from 0 to 1."""
    width = 100 * min(1.0, max(0.0, share))
    return (
        f'<div class="mq-bar"><span>{html.escape(label)}</span><span class="mq-track" aria-hidden="true">'
        f'<span class="mq-fill" style="display:block;width:{width:.1f}%;background:{colour}"></span></span>'
        f"<span>{html.escape(count)}</span></div>"
    )


def diverging_bar(label: str, value: float, told: str, note: str = "", mixed: float = 0.0) -> str:
    """HTML of one labelled bar from -1 (to the left, red) over 0 to +1 (to the right, green).

    Args:
        value: in -1..1.
        told: the value in words or figures, with its sign.
        note: what it counts, such as "12 reviews".
        mixed: values no farther from 0 are neither good nor bad.
    """
    length = 50 * min(1.0, abs(value))
    left = 50 - length if value < 0 else 50.0
    colour = "#F5A524" if abs(value) <= mixed else "#E5484D" if value < 0 else "#30A46C"
    return (
        f'<div class="mq-diverging"><span>{html.escape(label)}</span>'
        '<span class="mq-track mq-centred" aria-hidden="true">'
        f'<span class="mq-fill" style="left:{left:.1f}%;width:{length:.1f}%;background:{colour}"></span></span>'
        f"<span><b>{html.escape(told)}</b>{f' <small>{html.escape(note)}</small>' if note else ''}</span></div>"
    )


def aspect_bars(aspects: pd.DataFrame, counted: bool = True) -> str:
    """HTML of what is said of each aspect, as bars from -1 to +1.

    Args:
        aspects: aspect, p_positive, reviews.
        counted: whether to say how many reviews speak of it; without, the bars are small and stand side by side.
    """
    rows = "".join(
        diverging_bar(
            str(name).capitalize(),
            2 * p - 1,
            signed(p),
            f"{n:,} review{'' if n == 1 else 's'}" if counted else "",
            MIXED_WITHIN,
        )
        for name, p, n in zip(aspects["aspect"], aspects["p_positive"], aspects["reviews"], strict=True)
    )
    if not counted:
        told = '<p class="mq-compare mq-muted">Each from −1 (speaks ill of it) over 0 to +1 (speaks well of it)</p>'
        return f'<div class="mq-aspects-small">{rows}</div>{told}'
    scale = '<div class="mq-diverging mq-scale"><span></span><span><i>−1</i><i>0</i><i>+1</i></span><span></span></div>'
    return f'<div class="mq-aspects">{rows}{scale}</div>'
