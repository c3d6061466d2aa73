"""A BERT small enough to train in a test: random weights, 64 words, written as the hub would."""

from pathlib import Path

import torch
from conftest import BAD, GOOD, PLAIN
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def write_tiny_encoder(folder: Path, max_positions: int = 64) -> Path:
    """Write tokenizer, configuration and safetensors weights into `folder`; a word is one token."""
    words = [*SPECIAL, *GOOD, *BAD, *PLAIN, *(f"word{i}" for i in range(30))]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    # As the published MiniLM: a tokenizer that would cut texts unless told not to.
    tokenizer.enable_truncation(16)
    tokenizer.enable_padding(length=16)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=max_positions,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def train_tiny(config: str, encoder: Path, dataset: str = "small", *overrides: str) -> int:
    """Fit a configuration of the package on `dataset`, with the tiny encoder, on a CPU; returns the exit code."""
    from nlp.__main__ import main

    return main(
        [
            *("fit", "--config", f"nlp/configs/{config}.yaml", "--data.dataset", dataset),
            *("--data.encoder", str(encoder), "--data.max_tokens", "32", "--data.num_workers", "0"),
            *("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"),
            *("--trainer.enable_model_summary", "false", "--model.freeze_layers", "1"),
            *overrides,
        ]
    )


# Enough for random weights to learn the planted words.
LEARN = (
    *("--trainer.max_epochs", "15", "--model.freeze_layers", "0", "--model.learning_rate", "3e-3"),
    *("--model.head_learning_rate", "1e-2"),
)
