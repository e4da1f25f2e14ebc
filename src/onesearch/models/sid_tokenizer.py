"""A tokenizer that reads and writes SIDs, for whoever opens a generator in plain transformers.

Our own prompts are written in token ids, by arithmetic: what a shopper types as "<a_7>" is text, and stays it.
"""

import json

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from onesearch.sid.vocabulary import Vocabulary


def with_sids(tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary) -> PreTrainedTokenizerBase:
    """A copy of a text tokenizer that knows the tokens of SIDs (`<a_7>`) and markers at the ids of `vocabulary`."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    as_written = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    names = [*vocabulary.spec.tokens(), *vocabulary.markers]
    backend["added_tokens"] += [
        {"id": token, "content": name, **as_written} for token, name in enumerate(names, vocabulary.num_text_tokens)
    ]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(backend)), **tokenizer.special_tokens_map
    )
