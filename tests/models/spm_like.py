"""Tokenizers as transformers converts them from SentencePiece: BPE with byte fallback and "▁" for a space."""

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from course_lib import data

SPECIAL = ["<unk>", "<s>", "</s>", "[INST]"]
SPACE = normalizers.Replace(" ", "▁")
NORMALIZERS = {
    "Gemma": SPACE,
    "Llama 2": normalizers.Sequence([normalizers.Prepend("▁"), SPACE]),
    "Mistral v3": None,  # by its pre-tokenizer, which puts "▁" before the first word only
}


def trained_pieces(size):
    """Tokens by rank, learnt from the handbook; none goes beyond a word."""
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator([p.text for p in data.load_passages().values()], trainer)
    return [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]


def save_tokenizer(folder, kind, size=700):
    """Write a tokenizer of the kind, with a merge for each way to split a token, as transformers converts."""
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *trained_pieces(size)]
    vocabulary = {token: id_ for id_, token in enumerate(dict.fromkeys(tokens))}
    merges = [
        (token[:i], token[i:])
        for token in list(vocabulary)[len(SPECIAL) + 256 :]
        for i in range(1, len(token))
        if token[:i] in vocabulary and token[i:] in vocabulary
    ]
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    if NORMALIZERS[kind] is not None:
        tokenizer.normalizer = NORMALIZERS[kind]
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        + ([] if kind == "Gemma" else [decoders.Strip(" ", 1, 0)])
    )
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    return len(vocabulary)
