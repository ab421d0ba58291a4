"""Train the tokenizer of all of the course's language models: byte-level BPE with a chat template.

BPE begins with single bytes and makes tokens of the pairs that are most frequent. The chat template puts the
turns of a conversation into one text, with a special token at the beginning and the end of each.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from bankworld.contexts import prose
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from pretraining import documents

# Special tokens: fill a short row, begin and end a text, and say who speaks in a conversation.
SPECIAL = [f"<|{name}|>" for name in ("pad", "bos", "end", "system", "user", "assistant")]
PAD, BOS, END, SYSTEM, USER, ASSISTANT = SPECIAL
VOCABULARY = 4096  # tokens
CONTEXT = 2048  # the longest text in tokens
# In the template language Jinja, as transformers reads it.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def sample_text(n: int, seed: int = 0) -> Iterator[str]:
    """Yield texts of each kind of training document, about fictional banks, to train the BPE on."""
    for i in range(n):
        rng = random.Random(f"tokenizer/{seed}/{i}")
        yield prose(rng)
        for make in (
            documents.labelling,
            documents.small_talk,
            lambda r: documents.question_answering(r, n=1, turns=6, written=0.5),
        ):
            yield "\n".join(f"{user}\n{answer}" for user, answer in make(rng))


def train(n: int = 6000) -> PreTrainedTokenizerFast:
    """Train the BPE. Digits and punctuation stay single tokens, so that amounts and codes can be copied."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Punctuation(behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sample_text(n), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def load_or_train(folder: Path) -> PreTrainedTokenizerFast:
    if not (folder / "tokenizer.json").exists():
        train().save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)
