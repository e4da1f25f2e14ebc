"""A tokenizer that reads and writes SIDs, for whoever opens a generator in plain transformers.

Our own prompts are written in token ids, by arithmetic: what a shopper types as "<a_7>" is text, and stays it.
"""

from copy import deepcopy

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase

from onesearch.sid.vocabulary import Vocabulary


def with_sids(tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary) -> PreTrainedTokenizerBase | None:
    """A copy of a text tokenizer that knows the tokens of SIDs (`<a_7>`) and markers at the ids of `vocabulary`.

    None where it cannot: a tokenizer that has a token of the same name, such as `<query>`, keeps that one's id.
    """
    knowing = deepcopy(tokenizer)
    names = [*vocabulary.spec.tokens(), *vocabulary.markers]
    knowing.add_tokens([AddedToken(name, normalized=False) for name in names])
    ids = list(range(vocabulary.num_text_tokens, vocabulary.size))
    return knowing if knowing.convert_tokens_to_ids(names) == ids else None
