"""What is tried, in order of plausibility: the first trials of each list are made, equally many for everybody.

The first of every peer is the library's own settings. Beside what the libraries call them there are

    epochs      the most that a trial may train; `--max-minutes` may end it before
    patience    epochs without a better NDCG@10 on validation after which it ends

An epoch of the sequence models is a history of each member: eight steps of the usual 128 members on MovieLens 100K, and
for the first hundreds of steps they stay at popularity. So their patience is long; batches of 32 take more steps for
the same arithmetic.
"""

from pathlib import Path
from typing import Any, NamedTuple

Settings = dict[str, Any]

HERE = Path(__file__).parent


class Peer(NamedTuple):
    """Somebody else's software."""

    title: str
    script: Path  # what it does is told in benchmarks/peers/exchange.py
    settings: list[Settings]
    note: str = ""
    strangers: bool = True  # whether it can rank for members whom it was not trained on


_SASREC = {"epochs": 500, "patience": 60}
_SASREC_32 = {"epochs": 500, "patience": 30, "batch_size": 32}
_BERT = {"epochs": 800, "patience": 100}  # a masked title in seven teaches less in an epoch than every title does
_BERT_32 = {"epochs": 800, "patience": 50, "batch_size": 32}
_NEUMF = {"epochs": 300, "patience": 10}
_MULTVAE = {"epochs": 500, "patience": 50}
_MULTVAE_64 = {"epochs": 300, "patience": 30, "train_batch_size": 64}

PEERS: dict[str, Peer] = {
    "sasrec": Peer(
        "SASRec (RecTools)",
        HERE / "peers" / "sasrec.py",
        [
            # 256 wide, 2 blocks, 4 heads, dropout .2, the last 100 titles, softmax over the catalogue, batches of 128.
            _SASREC,
            _SASREC_32 | {"n_factors": 64, "n_heads": 2},
            _SASREC_32 | {"n_factors": 128, "n_heads": 2, "dropout_rate": 0.5},
            # The paper's for MovieLens, in smaller batches: one negative for each positive.
            _SASREC_32 | {"patience": 60, "n_factors": 64, "n_heads": 1, "session_max_len": 200, "loss": "BCE"},
            _SASREC_32 | {"n_factors": 64, "n_heads": 2, "session_max_len": 50, "n_blocks": 1},
            _SASREC_32 | {"n_factors": 64, "n_heads": 2, "session_max_len": 200, "dropout_rate": 0.5},
        ],
    ),
    "bert4rec": Peer(
        "BERT4Rec (RecTools)",
        HERE / "peers" / "bert4rec.py",
        [
            # 256 wide, 2 blocks, 4 heads, dropout .2, the last 100 titles, .15 of them masked, batches of 128.
            _BERT,
            # The paper's for MovieLens, but for the 200 titles, which cost twice the time.
            _BERT_32 | {"n_factors": 64, "n_heads": 2, "mask_prob": 0.2},
            _BERT_32 | {"n_factors": 128, "n_heads": 2, "mask_prob": 0.4},
            _BERT_32 | {"n_factors": 64, "n_heads": 2, "mask_prob": 0.2, "session_max_len": 200},
            _BERT_32 | {"n_factors": 128, "n_heads": 2, "mask_prob": 0.2, "dropout_rate": 0.5},
            _BERT_32 | {"n_factors": 64, "n_heads": 2, "session_max_len": 50, "n_blocks": 1},
        ],
    ),
    "recbole-neumf": Peer(
        "NeuMF (RecBole)",
        HERE / "peers" / "recbole_neumf.py",
        [
            # 64 wide, hidden layers 128 and 64, dropout .1, batches of 2,048, one negative for each positive.
            _NEUMF,
            _NEUMF | {"negatives": 4},  # the paper's
            _NEUMF
            | {"negatives": 4, "mf_embedding_size": 32, "mlp_embedding_size": 32, "mlp_hidden_size": [64, 32, 16]},
            _NEUMF | {"negatives": 4, "dropout_prob": 0.3, "weight_decay": 1e-6},
            _NEUMF | {"learning_rate": 5e-4, "dropout_prob": 0.3},
            _NEUMF | {"mf_embedding_size": 16, "mlp_embedding_size": 16, "mlp_hidden_size": [32, 16, 8]},
        ],
        "NeuMF (RecBole) knows a member by an embedding: it ranks the test from the training titles alone.",
        strangers=False,
    ),
    "recbole-multvae": Peer(
        "Mult-VAE (RecBole)",
        HERE / "peers" / "recbole_multvae.py",
        [
            # A hidden layer of 600, 64 latent factors, dropout .5, batches of 2,048 members, next to no annealing.
            _MULTVAE,
            # The paper's 200 factors, and more steps: a data set of some hundred members is one of those batches.
            _MULTVAE_64 | {"latent_dimension": 400},
            _MULTVAE_64 | {"total_anneal_steps": 2_000},
            _MULTVAE_64 | {"mlp_hidden_size": [200], "dropout_prob": 0.7},
            _MULTVAE_64 | {"mlp_hidden_size": [200], "weight_decay": 1e-4},
            _MULTVAE_64 | {"dropout_prob": 0.7, "learning_rate": 3e-4},
        ],
        "Mult-VAE (RecBole) looks at the titles of a history and not at their order.",
    ),
}

# HistoryNet's: arguments of its module on top of recsys/configs/quick.yaml.
OURS: list[Settings] = [
    {},
    {"hidden": 512, "dropout": 0.4},
    {"title_dropout": 0.2},
    {"neural_weight": 0.6},
    {"top_heavy": 0.0},
    {"size": 128},
]


def told(settings: Settings) -> str:
    """Settings in words.

    >>> told({"epochs": 400, "patience": 30, "n_factors": 64, "loss": "BCE"})
    'n_factors 64, loss BCE'
    """
    chosen = [f"{name} {value}" for name, value in settings.items() if name not in ("epochs", "patience")]
    return ", ".join(chosen) or "as it comes"
