"""A catalogue as the linker needs it: every form of every title, and which titles share one."""

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from data.schema import GENRES, ITEM_ID
from nlp.title_genres import genre_rows
from nlp.title_names import bare, forms_of


class TitleGroups:
    """Titles that share a name ("Hamlet" of 1948 and of 1996) are one group: texts decide between them by year only.

    Args:
        items: item_id, title; year and genres may be missing as columns or values. Any number of rows, also none.

    Attributes:
        item_ids: (titles,); years: (titles,), 0 where missing; group_of_title: (titles,).
        forms: all forms without their article; group_of_form: (forms,), -1 where several groups have it as a part.
        years_of_groups: (groups,), 0 where missing or where a group has several titles.
        genres_of_groups: (groups, genres), see `genre_rows`; the mean of a group's titles.
        words: (groups,), in the shortest form; numbered: (groups,), bool, a form ends in a number.
        numeric: (groups,), bool, a form has nothing but numbers.
        members: the rows of each group's titles.
    """

    def __init__(self, items: pd.DataFrame) -> None:
        titles = items["title"].fillna("").astype(str).tolist()
        self.item_ids = items[ITEM_ID].astype(object).to_numpy()
        year = items["year"] if "year" in items else pd.Series(np.nan, index=items.index)
        self.years = pd.to_numeric(year, errors="coerce").fillna(0).to_numpy(np.int64)
        keys: dict[tuple[str, ...], int] = {}
        pairs = [
            (keys.setdefault(bare(form), len(keys)), i, kind == "part")
            for i, title in enumerate(titles)
            for form, kind in forms_of(title).items()
        ]
        table = pd.DataFrame(pairs, columns=["form", "title", "part"]).astype(np.int64)
        whole, part = table[table["part"] == 0], table[table["part"] == 1]
        self.forms = list(keys)
        n_titles, n_forms = len(titles), len(keys)
        graph = coo_matrix(
            (np.ones(len(whole)), (whole["title"], whole["form"] + n_titles)), shape=(n_titles + n_forms,) * 2
        )
        component = connected_components(graph, directed=False)[1] if n_titles else np.zeros(0, np.int64)
        _, self.group_of_title = np.unique(component[:n_titles], return_inverse=True)
        self.n = int(self.group_of_title.max()) + 1 if n_titles else 0
        # -1: part of several titles' names, so of none.
        self.group_of_form = np.full(n_forms, -1)
        self.group_of_form[whole["form"]] = self.group_of_title[whole["title"]]
        alone = part[~part["form"].isin(whole["form"]) & ~part.duplicated("form", keep=False)]
        self.group_of_form[alone["form"]] = self.group_of_title[alone["title"]]
        self.members = pd.Series(np.arange(n_titles)).groupby(self.group_of_title).agg(list)
        lone = self.members.map(len).eq(1).to_numpy() if n_titles else np.zeros(0, bool)
        first = self.members.map(lambda rows: rows[0]).to_numpy(np.int64) if n_titles else np.zeros(0, np.int64)
        self.years_of_groups = np.where(lone, self.years[first], 0) if n_titles else np.zeros(0, np.int64)
        genres = genre_rows(items[GENRES].tolist() if GENRES in items else [None] * n_titles)
        by_group = pd.DataFrame(genres).groupby(self.group_of_title).mean()  # NaN only where all are
        self.genres_of_groups = by_group.to_numpy().reshape(self.n, genres.shape[1])
        size = np.full(self.n, 99)
        known = self.group_of_form >= 0
        np.minimum.at(size, self.group_of_form[known], np.array([len(f) for f in self.forms], np.int64)[known])
        self.words = size
        # "Grease 2" is a sequel itself, so that its reviews say so tells nothing.
        numbered = [group for form, group in zip(self.forms, self.group_of_form, strict=True) if form[-1].isdigit()]
        self.numbered = np.isin(np.arange(self.n), numbered)
        numeric = [group for form, group in zip(self.forms, self.group_of_form, strict=True) if "".join(form).isdigit()]
        self.numeric = np.isin(np.arange(self.n), numeric)

    def rows_of(self, item_ids: np.ndarray) -> np.ndarray:
        """The title of each item_id as a row; -1 where the id is missing, -2 for an item that the catalogue lacks."""
        row = pd.Series(np.arange(len(self.item_ids)), index=self.item_ids)
        found = row[~row.index.duplicated()].reindex(item_ids).fillna(-2).to_numpy(np.int64)
        found[pd.isna(item_ids)] = -1
        return found

    def of_rows(self, rows: np.ndarray) -> np.ndarray:
        """The group of each title; negative rows stay as they are."""
        return np.where(rows >= 0, self.group_of_title[np.maximum(rows, 0)], rows)
