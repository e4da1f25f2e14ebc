"""KHQE in one piece: text → keyword-enhanced embedding → semantic ID, and the catalogue's SIDs as one artefact.

    e = encoder(text),  e° = normalize(½·e + ½·mean_j e_kj) over the core keywords k_j in the text,  SID = RQ-OPQ(e°)

The quantizer stage fits and writes it; every later stage, and search, read it.
"""

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from onesearch.artifacts import verify, write_json
from onesearch.behavior.categories import Categories
from onesearch.behavior.memory import ClickMemory
from onesearch.behavior.user_id import blend_embeddings
from onesearch.keywords.fusion import fuse
from onesearch.keywords.lexicon import Lexicon
from onesearch.log.prepared import Log
from onesearch.models.reward_features import number_categories
from onesearch.models.text_encoder import TextEncoder
from onesearch.quantize.codebook import Codebook
from onesearch.quantize.codebooks import load_codebook
from onesearch.sid.encoded_texts import EncodedTexts
from onesearch.sid.spec import SidSpec
from onesearch.sid.table import SidTable, read_codes
from onesearch.sid.trie import Trie
from onesearch.sid.versions import Added, read_added
from onesearch.sid.vocabulary import Vocabulary
from onesearch.tasks.evidence import Evidence
from onesearch.tasks.prompt import MARKERS, Views
from onesearch.tasks.prompt_writer import PromptWriter
from onesearch.tasks.template import Template

MOST_BLENDED = 200_000
"""Blended SIDs that are kept: some tens of megabytes."""


class KeywordEncoder:
    """Text → e°: the aligned encoder and the core keywords it is fused with.

    Args:
        encoder: the aligned text encoder.
        lexicon: core keywords.
    """

    def __init__(self, encoder: TextEncoder, lexicon: Lexicon) -> None:
        self.encoder = encoder
        self.lexicon = lexicon
        self.matcher = lexicon.matcher()
        self.keyword_embeddings = encoder.embed(self.matcher.values)

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Fused unit vectors [len(texts), D]."""
        found = self.matcher.find_all(texts)
        rows = torch.from_numpy(found.texts), torch.from_numpy(found.keywords)
        return fuse(self.encoder.embed(texts), self.keyword_embeddings, *rows)


class Khqe:
    """The catalogue's semantic IDs, and the means to encode any other text.

    Args:
        encoder: text → e°.
        codebook: e° → codes.
        item_ids: of the catalogue, in the order of item rows.
        item_codes: [N, C].
        item_embeddings: e° of the items, [N, D].
        priority: [N] order inside a bucket, higher first.
    """

    def __init__(
        self,
        encoder: KeywordEncoder,
        codebook: Codebook,
        item_ids: Sequence[str],
        item_codes: NDArray[np.int64],
        item_embeddings: Tensor,
        priority: NDArray[np.float64],
    ) -> None:
        self.encoder = encoder
        self.codebook = codebook
        self.spec = SidSpec(codebook.rq_sizes, codebook.opq_sizes)
        self.item_ids = item_ids
        self.item_codes = item_codes
        self.item_embeddings = item_embeddings
        self.priority = priority
        self.memory: ClickMemory | None = None
        self.categories: Categories | None = None
        self.added_items: pa.Table | None = None  # those of `item_ids` that came after the fit
        self.texts = EncodedTexts()
        self._blended: dict[bytes, list[int]] = {}

    @cached_property
    def table(self) -> SidTable:
        """Items by SID."""
        return SidTable(self.item_codes, self.priority)

    @cached_property
    def trie(self) -> Trie:
        """All valid SIDs."""
        return Trie(self.item_codes, self.spec.sizes)

    @property
    def history_centroids(self) -> list[Tensor]:
        """The codebooks [K_l, D] that long histories are summed over: residual ones, or all where there are none."""
        return self.centroids[: len(self.spec.rq_sizes) or None]

    @property
    def centroids(self) -> list[Tensor]:
        """All codebooks in layer order."""
        return [self.codebook.level_centroids(level) for level in range(self.spec.num_layers)]

    def learn(self, texts: Iterable[str]) -> None:
        """Encode those of `texts` that are not known yet, in one go."""
        new = [text for text in dict.fromkeys(texts) if text not in self.texts]
        if new:
            embeddings = self.encoder.embed(new)
            self.know(new, embeddings, self.codebook.encode(embeddings).tolist())

    def knows(self, text: str) -> bool:
        """Whether a text is encoded already."""
        return text in self.texts

    def sid_of(self, text: str) -> list[int]:
        """Codes of a text, encoded now if it was never seen."""
        if text not in self.texts:
            self.learn([text])
        return self.texts[text].codes

    def embedding_of(self, text: str) -> Tensor:
        """e° of a text [D]."""
        if text not in self.texts:
            self.learn([text])
        return self.texts[text].embedding

    def relevant(self, query: str, items: Sequence[int], k: int) -> list[int]:
        """RSU: the `k` items of a long history nearest to the query, in the order of the history."""
        if len(items) <= k:
            return list(items)
        similarity = self.item_embeddings[list(items)] @ self.embedding_of(query)
        return [items[position] for position in sorted(similarity.topk(k).indices.tolist())]

    def nearest(self, query: str, k: int) -> list[int]:
        """The `k` items nearest to the query, the nearest first."""
        similarity = self.item_embeddings @ self.embedding_of(query)
        rows: list[int] = similarity.topk(min(k, len(similarity))).indices.tolist()
        return rows

    def blended_sid(self, items: Sequence[int]) -> list[int]:
        """The codes nearest to the mean of some items' embeddings, the latest of which weighs the most."""
        rows = np.array(items)
        key = hashlib.blake2b(rows.tobytes(), digest_size=16).digest()  # long histories would be long keys
        if key not in self._blended:
            if len(self._blended) >= MOST_BLENDED:
                self._blended.clear()
            blend = blend_embeddings(self.item_embeddings[rows])
            self._blended[key] = self.codebook.encode(blend[None]).tolist()[0]
        return self._blended[key]

    def writer(
        self,
        tokenizer: PreTrainedTokenizerBase,
        views: Views,
        template: Template = Template(),  # noqa: B008
    ) -> PromptWriter:
        """A prompt writer over these SIDs."""
        vocabulary = Vocabulary(len(tokenizer), self.spec, MARKERS)
        evidence = Evidence(views, self.item_codes, self.relevant, self.memory, self.categories, self.blended_sid)
        return PromptWriter(tokenizer, vocabulary, self.item_codes, self.sid_of, evidence, template)

    def remember(self, log: Log) -> None:
        """Take the queries of `log`, with what was clicked for them, as known."""
        self.learn(log.clicked_items)
        self.memory = ClickMemory(
            log.clicked_items, self.embedding_of, log.pair_counts, log.item_counts, len(self.item_ids)
        )

    def know(self, texts: Sequence[str], embeddings: Tensor, codes: Sequence[list[int]]) -> None:
        """Take texts as encoded: their e° [n, D] and codes."""
        self.texts.add(texts, embeddings, codes)

    def save(self, folder: Path, queries: Sequence[str]) -> None:
        """Write codebook, lexicon, and the SIDs of the catalogue and of `queries`."""
        self.learn(queries)
        self.codebook.save(folder / "codebook.safetensors")
        write_json(folder / "spec.json", {"rq_sizes": self.spec.rq_sizes, "opq_sizes": self.spec.opq_sizes})
        self.encoder.lexicon.save(folder / "lexicon.json")
        items = {"item_id": self.item_ids, "codes": self.item_codes.tolist(), "priority": self.priority}
        asked = [self.texts[query] for query in queries]
        known = {"query": list(queries), "codes": [text.codes for text in asked]}
        for name, table in (("items", items), ("queries", known)):
            pq.write_table(pa.table(table), folder / f"{name}.parquet", write_page_checksum=True)
        queries_matrix = torch.stack([text.embedding for text in asked]) if asked else self.item_embeddings[:0]
        save_file(
            {"items": self.item_embeddings.contiguous(), "queries": queries_matrix.contiguous()},
            folder / "embeddings.safetensors",
        )

    @classmethod
    def open(cls, run: Path, with_added: bool = False) -> "Khqe":
        """Read `run/quantizer` and the encoder that it was fitted on.

        Args:
            run: the run folder.
            with_added: take what came after the fit, too: for serving. What trains or is compared keeps to the log.
        """
        verify(run / "quantizer", "quantizer", [run / "encoder", run / "log"])
        folder = run / "quantizer"
        codebook = load_codebook(folder / "codebook.safetensors")
        sizes = codebook.rq_sizes + codebook.opq_sizes
        item_ids, item_codes = read_codes(folder / "items.parquet", sizes)
        queries, query_codes = read_codes(folder / "queries.parquet", sizes, key="query")
        embeddings = load_file(folder / "embeddings.safetensors")
        encoder = KeywordEncoder(TextEncoder.load(run / "encoder"), Lexicon.load(folder / "lexicon.json"))
        priority = pq.read_table(folder / "items.parquet", columns=["priority"])["priority"].to_numpy()
        khqe = cls(encoder, codebook, item_ids, item_codes, embeddings["items"], priority)
        khqe.know(queries, embeddings["queries"], query_codes.tolist())
        if with_added and (added := read_added(run)) is not None:
            khqe._extend(added)
        log = Log.open(run / "log")
        khqe.remember(log)
        paths = log.with_items(khqe.added_items).items["category"].to_pylist()
        khqe.categories = Categories(number_categories(paths).numpy(), khqe.nearest)
        return khqe

    def _extend(self, added: Added) -> None:
        """Append what came after the fit: items behind those of the fit, queries as known."""
        self.know(added.queries["query"].to_pylist(), added.query_embeddings, added.queries["codes"].to_pylist())
        if not len(added.items):
            return
        self.added_items = added.canonical
        self.item_ids = [*self.item_ids, *added.items["item_id"].to_pylist()]
        self.item_codes = np.concatenate([self.item_codes, added.item_codes])
        self.item_embeddings = torch.cat([self.item_embeddings, added.item_embeddings])
        self.priority = np.concatenate([self.priority, added.items["priority"].to_numpy()])


def query_embeddings(run: Path, queries: Sequence[str]) -> Tensor:
    """e° of queries as `run/quantizer` has them; those that it never saw are encoded now: [n, D].

    Args:
        run: the run folder.
        queries: normalised.
    """
    folder = run / "quantizer"
    known = pq.read_table(folder / "queries.parquet", columns=["query"])["query"].to_pylist()
    row_of = {query: row for row, query in enumerate(known)}
    new = [query for query in dict.fromkeys(queries) if query not in row_of]
    embeddings = load_file(folder / "embeddings.safetensors")["queries"]
    if new:
        verify(run / "encoder", "encoder")
        encoder = KeywordEncoder(TextEncoder.load(run / "encoder"), Lexicon.load(folder / "lexicon.json"))
        row_of |= {query: len(known) + place for place, query in enumerate(new)}
        embeddings = torch.cat([embeddings, encoder.embed(new).to(embeddings)])
    return embeddings[[row_of[query] for query in queries]]
