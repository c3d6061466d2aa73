"""The components of the member's side: a shelf of title cards, the billboard above them, a grid to pick from."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from dashboard import access, artwork
from dashboard.inline import component
from dashboard.posters import colours, poster, year_text
from data.schema import GENRES, YEAR
from recsys.pages import Row
from recsys.rows import cards
from recsys.viewing import shown, title_of


def match_percent(match: float | None) -> int | None:
    """The badge's number: whole per cent, rounded down, between 1 and 99: a match is never certain."""
    return None if match is None or match != match else int(np.clip(np.floor(match * 100), 1, 99))


def reason_text(reason_item_id: str | None, catalogue: pd.DataFrame) -> str:
    """ "Because you watched Heat", or nothing when there is no reason or its title is unknown."""
    if not isinstance(reason_item_id, str) or reason_item_id not in catalogue.index:
        return ""
    return f"Because you watched {shown(catalogue, reason_item_id)}"


drawn_poster = lru_cache(maxsize=20_000)(poster)  # measuring a title's words takes as long as all else of a card


def card_data(row: Row, catalogue: pd.DataFrame) -> list[dict[str, Any]]:
    """What the component needs for each card, in order; cards without a title in the catalogue are left out."""
    at = catalogue.index.get_indexer(pd.Index(row.cards["item_id"]))
    listed, titles = row.cards[at >= 0], catalogue.iloc[at[at >= 0]]
    because = pd.Index(listed["reason_item_id"])
    real = artwork.addresses(catalogue, list(titles.index))
    reasons = catalogue["shown_title"].reindex(because.where(because.notna(), ""))
    drawn_cards = []
    columns = (titles[name] for name in ("shown_title", YEAR, GENRES))
    for card, name, year, its_genres, reason in zip(
        listed.to_dict("records"), *columns, reasons.to_numpy(object), strict=True
    ):
        drawn = drawn_poster(str(name), float(year), tuple(its_genres))
        percent = match_percent(card["match"])
        genres = ", ".join(its_genres[:3])
        spoken = [name, year_text(year), genres, f"{percent} % match" if percent else ""]
        drawn_cards.append(
            {
                "id": card["item_id"],
                "title": drawn.title,
                "shown": name,
                "foot": drawn.foot,
                "size": drawn.size,
                "background": drawn.background,
                "poster": real.get(card["item_id"], ""),
                "badge": f"{percent} %" if percent else "",
                "genres": genres,
                "note": card["note"] or (f"Because you watched {reason}" if isinstance(reason, str) else ""),
                "name": ", ".join(part for part in spoken if part),
            }
        )
    return drawn_cards


def shelf(row: Row, catalogue: pd.DataFrame, key: str) -> str | None:
    """Draw a row of cards; returns the id of the title that was just picked, else None."""
    result = component("shelf")(
        key=key,
        data={"title": row.title, "note": row.note, "cards": card_data(row, catalogue)},
        on_picked_change=lambda: None,
    )
    return result.picked


ACTIONS = {
    "watch": ("Watch", "Watch {}"),
    "list_add": ("My list", "Put {} on my list"),
    "thumb_down": ("Not for me", "{} is not for me"),
    "open": ("Details", "See details of {}"),
}


def billboard(card: pd.Series, catalogue: pd.DataFrame, key: str, on_acted: Callable[[], None]) -> str | None:
    """Draw the top pick large; returns its id when its details were just asked for.

    Args:
        on_acted: called, before anything is drawn, when another of `ACTIONS` was chosen; the session's state has it
            under `key` as `acted`.
    """
    title = title_of(catalogue, card["item_id"])
    light, dark = colours(title.genres[0] if title.genres else None)
    percent = match_percent(card["match"])
    facts = [f"{percent} % match" if percent else "", year_text(title.year), ", ".join(title.genres[:3])]
    reason = reason_text(card["reason_item_id"], catalogue) or card["note"]
    result = component("billboard")(
        key=key,
        data={
            "id": title.item_id,
            "eyebrow": "Your top pick" if percent else "Popular now",
            "title": title.shown,
            "actions": [
                {"kind": kind, "label": label, "spoken": spoken.format(title.shown)}
                for kind, (label, spoken) in ACTIONS.items()
                if kind == "open" or access.may_edit()
            ],
            "facts": "  ·  ".join(part for part in facts if part),
            "reason": f"{reason}." if reason else "",
            "background": "linear-gradient(90deg, rgba(8,8,11,.72) 0%, rgba(8,8,11,.28) 48%, rgba(8,8,11,0) 100%), "
            "linear-gradient(180deg, rgba(8,8,11,0) 40%, rgba(8,8,11,.55) 100%), "
            f"radial-gradient(90% 130% at 82% 18%, {light} 0%, {dark} 85%)",
        },
        on_picked_change=lambda: None,
        on_acted_change=on_acted,
    )
    return result.picked


def picker(
    item_ids: Sequence[str],
    chosen: Sequence[str],
    turn: int,
    catalogue: pd.DataFrame,
    key: str,
    on_picked: Callable[[], None],
) -> None:
    """Draw a grid of titles, some of them ticked.

    Args:
        turn: of the picks that `chosen` holds.
        on_picked: called when a title was ticked or unticked; the session's state has `picked` under `key`: a dict of
            all that is `chosen` by now, and its `turn`.
    """
    row = Row("pick", "", cards(np.asarray(item_ids, dtype=object)))
    component("picker")(
        key=key,
        data={"cards": card_data(row, catalogue), "chosen": list(chosen), "turn": turn},
        on_picked_change=on_picked,
    )
