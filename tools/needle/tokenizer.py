"""The model's tokenizer (byte-level BPE, Llama-3 split pattern) and a fast encoder for generated text.

The encoder exists because data generation is the bottleneck of short sequences: it splits ASCII text with
Python's `re` and looks every piece up in a dictionary, several times faster than a call of the tokenizer.
"""

import itertools
import random
import re
import uuid

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

VOCAB_SIZE = 4096
BOS, END_OF_TEXT = "<|begin_of_text|>", "<|end_of_text|>"
START_HEADER, END_HEADER, END_OF_TURN = "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"
SPECIAL = [BOS, END_OF_TEXT, START_HEADER, END_HEADER, END_OF_TURN]

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLIT_ASCII = re.compile(
    r"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]{1,3}"
    r"| ?[^\sA-Za-z0-9]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


def train_tokenizer(texts):
    """Trains on `texts`, with every number below 1000, hexadecimal pieces and chat words as tokens of their own."""
    tok = Tokenizer(models.BPE(ignore_merges=True))
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tok.decoder = decoders.ByteLevel()
    rng = random.Random(0)
    numbers = " ".join([f"{i:03d}" for i in range(1000)] + [f"{i:02d}" for i in range(100)])
    hexes = [str(uuid.UUID(int=rng.getrandbits(128))) for _ in range(10000)]
    frame = "user\n\nassistant\n\nsystem\n\nOne of the special magic numbers words uuids for is: mentioned in the text.\n VAR = "
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(SPECIAL),
        special_tokens=[],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tok.train_from_iterator(itertools.chain(texts, [numbers] * 3000, hexes, [frame] * 3000), trainer)
    tok.add_special_tokens(SPECIAL)
    tok.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A {BOS} $B",
        special_tokens=[(BOS, tok.token_to_id(BOS))],
    )
    return tok


class _Pieces(dict):
    """Piece of text -> token ids, filled on demand."""

    def __init__(self, tok):
        super().__init__()
        self.tok = tok

    def __missing__(self, piece):
        ids = self[piece] = tuple(self.tok.encode(piece, add_special_tokens=False).ids)
        return ids


class FastEncoder:
    """Encodes ASCII text exactly as the tokenizer does, without special tokens."""

    def __init__(self, tok):
        self.pieces = _Pieces(tok)
        self.special = {name: tok.token_to_id(name) for name in SPECIAL}

    def __call__(self, text):
        return list(itertools.chain.from_iterable(map(self.pieces.__getitem__, SPLIT_ASCII.findall(text))))
