"""Blocks of neighbouring texts about one title: how likely a block goes on, and what is likely true along it.

Sources list reviews of a film one after the other. Two neighbours that share rare names (of characters and actors) are
about one film even where neither says which. A hidden Markov chain runs along the source: the hidden state of a text is
what it is about; from one text to the next the state stays with probability `stays[i]`, else it is drawn anew from the
prior. The forward-backward recursion gives the posterior of each state at each text (Rabiner 1989, "A tutorial on
hidden Markov models"). Jumps do not depend on where they come from, so a step costs as much as there are states in
question, which are few: those with a mention at most `REACH` texts away.
"""

import numpy as np
import scipy.sparse as sparse

from nlp.title_words import Words

REACH = 6
ABSENT = 0.4  # P(no mention | about it) / P(no mention | not about it), beyond the reach of a mention
_RARE_SHARE = 0.004  # of texts that a telling word may be in
_PRIOR_TEXTS = 1_000  # among few texts a shared name would seem common
_FAR = 500  # texts apart: about different titles
_SIMILAR = 0.03
# Measured on the 25,000 IMDb training reviews (neighbours against texts 500 apart): 45 % of neighbours, 0.8 % of far
# pairs and by that 56 % of neighbours in one block are more similar than 0.03.
_SIMILAR_IN_BLOCK = 0.56
_MOST_STAY = 0.85
_LEAST_BLOCKS = 0.02  # a source whose neighbours are less often alike has no blocks
_PRIOR_PAIRS, _PRIOR_STAY = 20, 0.05  # of a source of few texts we do not believe that it has


def name_vectors(words: Words, n_texts: int) -> sparse.csr_matrix:
    """Each text's rare words, names above all; no row is longer than 1. Shape: (texts, vocabulary)."""
    n_words = len(words.vocabulary)
    ones = np.ones(len(words.word), np.float32)
    counts = sparse.coo_matrix((ones, (words.text, words.word)), shape=(n_texts, n_words)).tocsr()
    counts.data[:] = 1
    holds = np.bincount(counts.indices, minlength=n_words)
    capital = np.bincount(words.word, words.capital, n_words) / np.maximum(
        np.bincount(words.word, minlength=n_words), 1
    )
    is_name = capital > 0.7
    most = _RARE_SHARE * n_texts
    rare = (holds >= 2) & (holds <= np.where(is_name, max(10.0, most), most))
    weight = np.log((n_texts + _PRIOR_TEXTS) / np.maximum(holds, 1)) * np.where(is_name, 1.0, 0.4) * rare
    vectors = (counts @ sparse.diags(weight.astype(np.float32))).tocsr()
    vectors.eliminate_zeros()
    # The 3 keeps texts with a single rare word from being wholly alike.
    length = np.sqrt(np.asarray(vectors.multiply(vectors).sum(axis=1)).ravel()) + 3
    return (sparse.diags(1 / length) @ vectors).tocsr()


def staying(vectors: sparse.csr_matrix, sources: np.ndarray) -> np.ndarray:
    """Probability that each text is about the same title as the one before it; 0 at the start of a source.

    Two texts up to three apart that are alike bind those between them, too: blocks have no holes.

    Args:
        vectors: of the texts in their order, see `name_vectors`.
        sources: which source each text is of; texts of one source stand together. Shape: (texts,), int.
    """
    stays = np.zeros(len(sources))
    for source in np.unique(sources):
        rows = np.flatnonzero(sources == source)
        stays[rows] = _staying(vectors[rows[0] : rows[-1] + 1])
    return stays


def _staying(vectors: sparse.csr_matrix) -> np.ndarray:
    n = vectors.shape[0]
    link = np.zeros(n)  # of text i with text i - 1
    for apart, trust in ((1, 1.0), (2, 0.8), (3, 0.7)):
        if n > apart:
            alike = _cosine(vectors, apart) * trust
            for step in range(1, apart + 1):
                link[step : n - apart + step] = np.maximum(link[step : n - apart + step], alike)
    far = (_cosine(vectors, _FAR) > _SIMILAR).mean() if n > 1.5 * _FAR else 0.01
    near = (_cosine(vectors, 1) > _SIMILAR).sum() - far * (n - 1) if n > 1 else 0.0
    blocks = (near / _SIMILAR_IN_BLOCK + _PRIOR_PAIRS * _PRIOR_STAY) / (n - 1 + _PRIOR_PAIRS)
    if blocks < _LEAST_BLOCKS:
        return np.zeros(n)
    blocks = min(blocks, _MOST_STAY)
    # Log of P(similarity | same title) / P(similarity | other), a straight line through the measured bins.
    evidence = np.where(link < 0.012, -1.0, np.clip(0.8 + 40 * link, 0, 6))
    stays = 1 / (1 + np.exp(-np.log(blocks / (1 - blocks)) - evidence))
    stays[0] = 0
    return stays


def _cosine(vectors: sparse.csr_matrix, apart: int) -> np.ndarray:
    return np.asarray(vectors[:-apart].multiply(vectors[apart:]).sum(axis=1)).ravel()


def in_question(text: np.ndarray, state: np.ndarray, n_states: int, sources: np.ndarray, reach: int) -> np.ndarray:
    """Codes text * n_states + state for every text at most `reach` away in its source; sorted, each once."""
    codes = []
    for step in range(-reach, reach + 1):
        there = text + step
        kept = (there >= 0) & (there < len(sources))
        kept[kept] = sources[there[kept]] == sources[text[kept]]
        codes.append(there[kept] * n_states + state[kept])
    return np.unique(np.concatenate(codes))


def posterior(
    codes: np.ndarray, n_states: int, evidence: np.ndarray, prior: np.ndarray, rest: float, stays: np.ndarray
) -> np.ndarray:
    """P(text is in state | all texts) for each code. Shape: (codes,).

    Args:
        codes: text * n_states + state, sorted; the other states of a text are one state "none of them".
        evidence: log of P(text | state) / P(text | none of them). Shape: (codes,).
        prior: P(state) where a block begins. Shape: (codes,).
        rest: P(none of them) where a block begins.
        stays: see `staying`. Shape: (texts,).
    """
    if len(codes) == 0:
        return np.zeros(0)
    n = len(stays)
    text = codes // n_states
    start = np.searchsorted(text, np.arange(n + 1))
    before, has_before = _where(codes, codes - n_states)
    after, has_after = _where(codes, codes + n_states)
    likelihood = np.exp(evidence)
    forward, backward = np.zeros(len(codes)), np.ones(len(codes))
    none = np.zeros(n)
    last_none = 1.0
    for i in range(n):
        here = slice(start[i], start[i + 1])
        stay = stays[i]
        came = np.where(has_before[here], forward[before[here]], 0.0)
        a = likelihood[here] * (stay * came + (1 - stay) * prior[here])
        a_none = stay * last_none + (1 - stay) * rest
        total = a.sum() + a_none
        forward[here] = a / total
        none[i] = last_none = a_none / total
    for i in range(n - 2, -1, -1):  # `backward` is relative to that of "none of them"
        here, there = slice(start[i], start[i + 1]), slice(start[i + 1], start[i + 2])
        stay = stays[i + 1]
        ahead = likelihood[there] * backward[there]
        jump = (1 - stay) * ((prior[there] * ahead).sum() + rest)
        place = np.where(has_after[here], after[here] - start[i + 1], len(ahead))
        backward[here] = (stay * np.append(ahead, ABSENT)[place] + jump) / (stay + jump)
    joint = forward * backward
    return joint / (np.bincount(text, joint, n) + none)[text]


def _where(codes: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    return place, codes[place] == wanted
