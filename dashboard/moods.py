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
