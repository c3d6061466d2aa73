"""Which title of the catalogue a review is about: a link with a confidence, or none.

Four steps, each with numbers that were measured, not guessed, where there was something to measure on:

1. Every mention of a title in any of its forms (nlp/title_names.py), and of anything else that stands in quotes or
   capitals (nlp/title_words.py): a review of a title that the catalogue lacks mostly names it.
2. For each review and title the log odds of such a mention (where it stands, how often, in what company) under four
   readings: the review is about the title; it compares with it; the words are a character's name; it is about
   another work of the same name. Weighed against how often the mention occurs anyway.
3. A hidden Markov chain along each source (nlp/title_blocks.py), whose states are the titles in these readings and
   everything else that was named: blocks of neighbouring reviews decide together.
4. A logistic regression on each block that may be about a title: do its reviews, taken together, look like those of
   such blocks whose truth was read by hand? Its intercept follows the share of true ones (Saerens, Latinne and
   Decaestecker 2002), so that a catalogue without the reviewed titles gets fewer links. Reviews of a source without
   blocks are judged one by one (nlp/title_lone.py). What genre the texts sound like counts in both (title_genres.py).
"""

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.special import softmax

from data.schema import ITEM_ID, SOURCE, TEXT
from nlp import title_blocks as blocks
from nlp.metrics import wilson
from nlp.title_clues import Clues
from nlp.title_evidence import NOT_MENTIONED, describe_blocks, judge, weigh
from nlp.title_genres import GenreClues
from nlp.title_groups import TitleGroups
from nlp.title_lone import describe_lone, judge_lone
from nlp.title_mentions import describe, find_forms, longer_forms, summarise
from nlp.title_names import bare
from nlp.title_words import Words, marked_phrases, read_words

# The lowest hundredth with 95 % of links right on development reviews of titles held out, see docs/linking.md.
THRESHOLD = 0.79
LONE_THRESHOLD = 0.85  # where neighbours say nothing
LINK_CONFIDENCE = "link_confidence"
# Kinds of reading; of each title there is a state of each kind.
_ABOUT, _COMPARED, _NAME, _NAMESAKE = range(4)
_IN_CATALOGUE = 0.08  # of blocks are about a title of the catalogue; step 4 corrects it
_PSEUDO_TITLES = 1_000  # at least so many other titles share the rest of the prior
_MARKED_SHARE = 0.15  # of the texts that have a phrase must mark it, or it is no title (titles: 40 %, names: under 5 %)
_CANDIDATE_ODDS = 3.0  # of a mention, to put its title in question for the texts around
_LEAST_CHAIN = 0.25  # posterior of a title, in any reading but a name, for a text to belong to its block
_TWINS_ALIKE, _TWIN = 0.15, 0.97  # cosine of two blocks' rare words; what such a block is worth of the other's sureness
_KNOWN_ODDS, _OTHER_KNOWN_ODDS = 14.0, -8.0
_YEAR_AFTER = 3.0  # a year right behind the title, against one that the catalogue contradicts


class TitleLinker:
    """Links reviews to a catalogue.

    Args:
        items: item_id, title; year and genres may be missing as columns or values. Any number of rows, also none.
        threshold: the least confidence of a link.
        lone_threshold: the same where neighbours say nothing.
    """

    def __init__(
        self, items: pd.DataFrame, threshold: float = THRESHOLD, lone_threshold: float = LONE_THRESHOLD
    ) -> None:
        self.threshold = threshold
        self.lone_threshold = lone_threshold
        self.titles = TitleGroups(items)

    def link(self, reviews: pd.DataFrame) -> pd.DataFrame:
        """The title of each review, if it can be told.

        Args:
            reviews: text, source and item_id (the last two may be missing as columns or values). The order of the
                rows is that of the source: neighbours help each other. The more rows at a time, the better; some
                thousands suffice.

        Returns:
            With the index of `reviews`: item_id (None: no link) and link_confidence (NaN: no candidate; 1 where the
            review had an id, which it keeps).
        """
        n = len(reviews)
        given = reviews[ITEM_ID].astype(object).to_numpy() if ITEM_ID in reviews else np.full(n, None, object)
        has_id = pd.notna(given)
        item, confidence = np.full(n, None, dtype=object), np.full(n, np.nan)
        if n and self.titles.n and not has_id.all():
            source = reviews[SOURCE].astype(object).fillna("") if SOURCE in reviews else pd.Series([""] * n)
            codes = pd.factorize(source.to_numpy(object))[0]
            order = np.argsort(codes, kind="stable")
            texts = reviews[TEXT].astype(object).to_numpy()[order]
            title, sure, least = self._decide(texts, codes[order], given[order])
            back = order[title >= 0]
            confidence[back] = sure[title >= 0]
            linked = (title >= 0) & (sure >= least)
            item[order[linked]] = self.titles.item_ids[title[linked]]
        item[has_id], confidence[has_id] = given[has_id], 1.0
        return pd.DataFrame({ITEM_ID: pd.Series(item, dtype=object), LINK_CONFIDENCE: confidence}).set_axis(
            reviews.index
        )

    def _decide(
        self, texts: np.ndarray, sources: np.ndarray, given: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row of the likeliest title of each text (-1: no candidate), its confidence and the least for a link. All:
        (texts,)."""
        n, groups = len(texts), self.titles.n
        words = read_words(texts.tolist())
        pairs, n_forms, n_rivals = self._pairs(words, n)
        group = np.append(self.titles.group_of_form, -1)[np.minimum(pairs["form"].to_numpy(), len(self.titles.forms))]
        own = pairs.assign(group=group)[group >= 0].sort_values("about", ascending=False, kind="stable")
        own = own.drop_duplicates(["text", "group"])
        other = pairs[group < 0]
        known_rows = self.titles.rows_of(given)
        known = self.titles.of_rows(known_rows)
        own = _with_known(own, known)
        vectors = blocks.name_vectors(words, n)
        stays = blocks.staying(vectors, sources)
        same = (known[1:] >= 0) & (known[:-1] >= 0)
        stays[1:][same] = np.where(known[1:] == known[:-1], 0.999, 0.001)[same]
        stays[np.append(True, sources[1:] != sources[:-1])] = 0
        clues = Clues(words, n)
        n_states = 4 * groups + n_forms
        codes, evidence = self._evidence(own, other, n_states, sources, stays, clues, known)
        state, text = codes % n_states, codes // n_states
        prior = self._prior(own, words, state, n, n_rivals)
        likely = blocks.posterior(codes, n_states, evidence, prior, 0.4, stays)
        genres = GenreClues(words, n)
        title, sure = self._judge(
            own, pairs, group, text, state, likely, stays, clues, genres, known_rows, words, vectors
        )
        lone_title, lone_sure = self._judge_alone(own, pairs, clues, genres, n)
        lone = (title < 0) | ((sure < self.threshold) & (lone_sure >= self.lone_threshold))
        least = np.where(lone, self.lone_threshold, self.threshold)
        return np.where(lone, lone_title, title), np.where(lone, lone_sure, sure), least

    def _pairs(self, words: Words, n: int) -> tuple[pd.DataFrame, int, int]:
        """Every (text, form) with its log odds, the number of forms, and how many of them are not the catalogue's."""
        described = describe(words, find_forms(words, self.titles.forms))
        own = set(self.titles.forms)
        longer = {bare(form) for form in longer_forms(words, described, self.titles.forms)} - own
        marked = {bare(form) for form in marked_phrases(words)} - own - longer
        # Sorted, because the order of a set differs from run to run.
        forms = self.titles.forms + sorted(longer) + sorted(marked)
        pairs = summarise(describe(words, find_forms(words, forms)), len(forms))
        form = pairs["form"].to_numpy(np.int64)
        good = np.bincount(form[pairs["good"] > 0], minlength=len(forms))
        marks = np.bincount(form[(pairs["quoted"] > 0) | (pairs["shouted"] > 0)], minlength=len(forms))
        kept = np.arange(len(forms)) < len(own) + len(longer)
        kept |= marks >= _MARKED_SHARE * good
        pairs = weigh(pairs[kept[form]].reset_index(drop=True), n, len(own))
        return pairs, len(forms), int(kept[len(own) + len(longer) :].sum())

    def _evidence(
        self,
        own: pd.DataFrame,
        other: pd.DataFrame,
        n_states: int,
        sources: np.ndarray,
        stays: np.ndarray,
        clues: Clues,
        known: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Codes of the states in question (text * n_states + state) and the log odds of their texts. Both: (codes,).

        States: kind * groups + group for the four kinds of reading, then 4 * groups + form for other titles.
        """
        groups = self.titles.n
        reach = blocks.REACH if stays.any() else 0
        text, group = own["text"].to_numpy(np.int64), own["group"].to_numpy(np.int64)
        o_text, o_state = other["text"].to_numpy(np.int64), 4 * groups + other["form"].to_numpy(np.int64)
        strong, o_strong = (frame["about"].to_numpy() > _CANDIDATE_ODDS for frame in (own, other))
        mine = blocks.in_question(text[strong], group[strong], n_states, sources, reach)
        theirs = blocks.in_question(o_text[o_strong], o_state[o_strong], n_states, sources, reach)
        codes = np.unique(np.concatenate([mine + kind * groups for kind in range(4)] + [theirs]))
        state, of_text = codes % n_states, codes // n_states
        kind = np.minimum(state // max(groups, 1), 4)
        evidence = np.full(len(codes), NOT_MENTIONED[0])
        columns = {_ABOUT: "about", _COMPARED: "compared", _NAME: "name", _NAMESAKE: "about"}
        for k, column in columns.items():
            here = kind == k
            at = text * n_states + group + k * groups
            evidence[here] = _look_up(codes[here], at, own[column].to_numpy(), NOT_MENTIONED[k])
        here = kind == 4
        at = o_text * n_states + o_state
        evidence[here] = _look_up(codes[here], at, other["about"].to_numpy(), NOT_MENTIONED[0])
        g = np.where(kind < 4, state % max(groups, 1), 0)
        about, compared, namesake = kind == _ABOUT, kind == _COMPARED, kind == _NAMESAKE
        base = of_text * n_states + g
        year = self.titles.years_of_groups[g]
        after = _look_up(base, text * n_states + group, own["year"].to_numpy(), 0)
        match, clash = _year_behind(after, year)
        longer = _look_up(base, text * n_states + group, (own["extended"] > 0).to_numpy(float), 0)
        evidence += np.where(about, clues.year_odds(of_text, year) + _YEAR_AFTER * (match * 0.7 - clash) - longer, 0)
        # A year behind a title is how a review names another film than its own.
        evidence += np.where(compared, _YEAR_AFTER * match, 0)
        sequel, version = clues.sequel[of_text] & ~self.titles.numbered[g], clues.version[of_text]
        evidence += np.where(about, -0.5 * sequel - 0.3 * version, 0)
        evidence += np.where(compared, 0.4 * sequel, 0) + np.where(namesake, 0.15 * version - 0.1 * sequel, 0)
        own_id = known[of_text]
        evidence += np.where((own_id != -1) & ~(about & (own_id == g)), _OTHER_KNOWN_ODDS, 0)
        return codes, evidence

    def _prior(self, own: pd.DataFrame, words: Words, state: np.ndarray, n: int, n_rivals: int) -> np.ndarray:
        """P(state) where a block begins. Shape: (states,)."""
        groups = self.titles.n
        rate = np.full(groups, 0.5 / (n + 5_000))
        np.maximum.at(rate, own["group"].to_numpy(np.int64), own["rate"].to_numpy())
        single = self.titles.words == 1
        # An ordinary word is the name of many works: count it in small letters, the rarest word of a form.
        small = np.bincount(words.word, ~words.capital, len(words.vocabulary)) * 25_000 / (n + 1_000)
        count = dict(zip(words.vocabulary.tolist(), small.tolist(), strict=True))
        common = np.zeros(groups)
        for form, group in zip(self.titles.forms, self.titles.group_of_form, strict=True):
            if group >= 0:
                common[group] = max(common[group], min(count.get(word, 0.0) for word in form))
        namesake = np.where(single, np.clip(0.05 + 0.04 * np.log1p(common), 0, 0.4), 0.04)
        two = self.titles.words == 2
        namesake = np.where(two, np.clip(0.03 + 0.015 * np.log1p(common), 0, 0.15), namesake)
        each = _IN_CATALOGUE / groups
        by_kind = np.concatenate(
            [each * (1 - namesake), 0.5 * rate + each, np.where(single, 0.75, 0.2) * rate, each * namesake]
        )
        rest = (1 - _IN_CATALOGUE) * 0.5 / max(n_rivals, _PSEUDO_TITLES)
        return np.append(by_kind, rest)[np.minimum(state, 4 * groups)]

    def _judge(
        self,
        own: pd.DataFrame,
        pairs: pd.DataFrame,
        group_of_pair: np.ndarray,
        text: np.ndarray,
        state: np.ndarray,
        likely: np.ndarray,
        stays: np.ndarray,
        clues: Clues,
        genres: GenreClues,
        known_rows: np.ndarray,
        words: Words,
        vectors: csr_matrix,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The chain's blocks, each judged as a whole; see `_decide` for what comes back."""
        n, groups = len(stays), self.titles.n
        title, confidence = np.full(n, -1), np.zeros(n)
        some = (state < 4 * groups) & (state // groups != _NAME)
        chain = pd.DataFrame({"text": text[some], "group": state[some] % groups, "member": likely[some]})
        chain["chain"] = np.where(state[some] < groups, likely[some], 0.0)
        best = (
            chain.groupby(["text", "group"], as_index=False).sum().sort_values("member", ascending=False, kind="stable")
        )
        best = best.drop_duplicates("text").set_index("text").reindex(range(n))
        group = best["group"].where(best["member"] > _LEAST_CHAIN, -1).fillna(-1).to_numpy(np.int64)
        begins = np.append(True, (group[1:] != group[:-1]) | (stays[1:] < 0.2))
        rows = pd.DataFrame(
            {
                "text": np.arange(n),
                "group": group,
                "block": np.cumsum(begins),
                "member": best["member"].fillna(0).to_numpy(),
                "chain": best["chain"].fillna(0).to_numpy(),
            }
        )
        rows = rows[rows["group"] >= 0]
        if rows.empty:
            return title, confidence
        columns = ["good", "extended", "lead", "rank", "named", "rate"]
        rows = rows.merge(own[["text", "group", *columns]], how="left", on=["text", "group"])
        rows["year"] = clues.mentions(rows["text"].to_numpy(), self.titles.years_of_groups[rows["group"]])
        rows["sequel"] = clues.sequel[rows["text"]] & ~self.titles.numbered[rows["group"]]
        rows["genre"] = genres.odds(rows["text"].to_numpy(), self.titles.genres_of_groups[rows["group"]])
        there = pairs[["text", "form", "good"]].assign(other=group_of_pair)
        there = there[there["good"] > 0].merge(rows[["text", "group", "block"]], on="text")
        rivals = there[there["other"] != there["group"]].groupby(["block", "form"]).size().groupby("block").max()
        sure = judge(describe_blocks(rows, rivals))
        sure = self._with_twins(sure, rows, words, vectors)
        known_here = (self.titles.of_rows(known_rows)[rows["text"]] == rows["group"]).groupby(rows["block"]).any()
        sure = sure.where(~known_here.reindex(sure.index), 0.97)
        most = rows.groupby("block")["member"].transform("max")
        at = rows["text"].to_numpy()
        confidence[at] = rows["block"].map(sure) * rows["member"] / most
        for _, inside in rows.groupby("block"):
            members = self.titles.members[inside["group"].iloc[0]]
            row, share = members[0], 1.0
            if len(members) > 1:
                row, share = self._by_year(members, inside["text"].to_numpy(), clues, known_rows)
            title[inside["text"]] = row
            confidence[inside["text"]] *= share
        return title, confidence

    def _judge_alone(
        self,
        own: pd.DataFrame,
        pairs: pd.DataFrame,
        clues: Clues,
        genres: GenreClues,
        n: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """What each text says without its neighbours; see `_decide` for the first two that come back."""
        title, confidence = np.full(n, -1), np.zeros(n)
        # "8 1/2" without quotes may well be a mark; a title that is named for a likeness only is not the review's.
        own = own[(own["apart"] > 0) & ((own["quoted"] > 0) | ~self.titles.numeric[own["group"]])]
        if own.empty:
            return title, confidence
        text, group = own["text"].to_numpy(np.int64), own["group"].to_numpy(np.int64)
        year, after = self.titles.years_of_groups[group], own["year"].to_numpy()
        match, clash = _year_behind(after, year)
        own = own.assign(
            match=match,
            clash=clash,
            sequel=clues.sequel[text] & ~self.titles.numbered[group],
            genre=genres.odds(text, self.titles.genres_of_groups[group]),
        )
        features = describe_lone(own, pairs[pairs["text"].isin(text)])
        sure = judge_lone(features, text, group, n, self.titles.n)
        order = np.argsort(-sure, kind="stable")
        order = order[np.unique(text[order], return_index=True)[1]]  # the surest of each text
        text, group, after, sure = text[order], group[order], after[order], sure[order]
        for _, inside in pd.Series(np.arange(len(text))).groupby(group):
            of = inside.to_numpy()
            members = self.titles.members[group[of[0]]]
            odds = np.stack([clues.year_odds(text[of], np.full(len(of), self.titles.years[row])) for row in members])
            odds += _YEAR_AFTER * (self.titles.years[members][:, None] == after[of])
            share = softmax(odds, axis=0)
            title[text[of]] = np.array(members)[share.argmax(0)]
            confidence[text[of]] = sure[of] * share.max(0)
        return title, confidence

    def _with_twins(self, sure: pd.Series, rows: pd.DataFrame, words: Words, vectors: csr_matrix) -> pd.Series:
        """Blocks of one title that share rare words besides its own are one: each is nearly as sure as the surest."""
        first = rows.groupby("block")["group"].first()
        index = {word: i for i, word in enumerate(words.vocabulary.tolist())}
        own_words: dict[int, list[int]] = {}
        for form, group in zip(self.titles.forms, self.titles.group_of_form, strict=True):
            own_words.setdefault(group, []).extend(index[word] for word in form if word in index)
        lifted = sure.copy()
        for group, numbers in first[first.duplicated(keep=False)].groupby(first):
            inside = rows[rows["block"].isin(numbers.index)]
            code, names = pd.factorize(inside["block"])
            sums = csr_matrix((np.ones(len(code)), (code, inside["text"].to_numpy())), (len(names), vectors.shape[0]))
            kept = np.ones(vectors.shape[1])
            kept[own_words.get(group, [])] = 0
            means = (sums @ vectors).multiply(kept).tocsr()
            length = np.sqrt(np.asarray(means.multiply(means).sum(axis=1)).ravel())
            alike = (means @ means.T).toarray() / np.maximum(np.outer(length, length), 1e-9) > _TWINS_ALIKE
            chance = sure.reindex(names).to_numpy()
            lifted[names] = np.maximum(chance, (np.where(alike, chance[None, :], 0)).max(axis=1) * _TWIN)
        return lifted

    def _by_year(self, members: list[int], texts: np.ndarray, clues: Clues, known: np.ndarray) -> tuple[int, float]:
        """Which of the titles of one name a block is about, by the years in its texts, and how sure that is.

        `known` are the rows of the titles that the texts came with: one outweighs all years.
        """
        odds = np.array([clues.year_odds(texts, np.full(len(texts), self.titles.years[row])).sum() for row in members])
        odds += _KNOWN_ODDS * np.isin(members, known[texts])
        share = softmax(odds)
        return members[int(share.argmax())], float(share.max())


def _year_behind(after: np.ndarray, year: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether the year behind a mention (0: none) is the title's (0: not known), and whether it is another one."""
    both = (after > 0) & (year > 0)
    same = np.abs(after - year) <= 1
    return both & same, both & ~same


def _with_known(own: pd.DataFrame, known: np.ndarray) -> pd.DataFrame:
    """`own` with a sure mention for each text whose title is known."""
    text = np.flatnonzero(known >= 0)
    if len(text) == 0:
        return own
    sure = pd.DataFrame({"text": text, "group": known[text], "sure": 1})
    merged = own.merge(sure, how="outer", on=["text", "group"])
    is_sure = merged["sure"] == 1
    merged["about"] = merged["about"].where(~is_sure, _KNOWN_ODDS)
    merged[["compared", "name"]] = merged[["compared", "name"]].fillna(0.0)
    merged[["year", "extended"]] = merged[["year", "extended"]].fillna(0)
    merged["rate"] = merged["rate"].fillna(1e-4)
    return merged.drop(columns="sure")


def _look_up(wanted: np.ndarray, at: np.ndarray, value: np.ndarray, absent: float) -> np.ndarray:
    """`value` where `at` is `wanted`, else `absent`. Shape: that of `wanted`."""
    if len(at) == 0:
        return np.full(len(wanted), absent)
    order = np.argsort(at)
    place = np.minimum(np.searchsorted(at[order], wanted), len(at) - 1)
    return np.where(at[order][place] == wanted, value[order][place], absent)


def evaluate_links(labels: pd.DataFrame, links: pd.DataFrame) -> dict[str, float]:
    """How good links are on reviews whose title is known.

    precision = links to the right title / links; recall = links to the right title / reviews whose title is in the
    catalogue. Without any link, or any such review, the figure is NaN. Ranges with `_low` and `_high`: 95 % intervals
    (Wilson 1927).

    Args:
        labels: review_id and item_id (missing: the title is not in the catalogue), a row for each review.
        links: review_id and item_id (missing: no link). Reviews without a row have no link.

    >>> labels = pd.DataFrame({"review_id": ["a", "b", "c"], "item_id": ["1", "2", None]})
    >>> links = pd.DataFrame({"review_id": ["a", "b", "c"], "item_id": ["1", None, "7"]})
    >>> found = evaluate_links(labels, links)
    >>> found["precision"], found["recall"], found["links"], found["in_catalogue"]
    (0.5, 0.5, 2, 2)
    """
    link = links.drop_duplicates("review_id").set_index("review_id")[ITEM_ID].astype(object)
    truth = labels[ITEM_ID].astype(object).to_numpy()
    found = link.reindex(labels["review_id"]).to_numpy(object)
    linked, there = pd.notna(found), pd.notna(truth)
    right = np.array(
        [a and b and str(x) == str(y) for a, b, x, y in zip(linked, there, found, truth, strict=True)], bool
    )
    result: dict[str, float] = {
        "reviews": len(labels),
        "in_catalogue": int(there.sum()),
        "links": int(linked.sum()),
        "right": int(right.sum()),
    }
    for name, of in (("precision", int(linked.sum())), ("recall", int(there.sum()))):
        low, high = map(float, wilson(right.sum(), np.array(of))) if of else (np.nan, np.nan)
        result |= {name: float(right.sum()) / of if of else float("nan"), f"{name}_low": low, f"{name}_high": high}
    return result
