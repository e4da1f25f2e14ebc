"""Data of the encoder stage: related texts to learn from, a catalogue to search in and to embed (KHQE, method §1.1)."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from onesearch.data.alignment_batch import AlignmentCollate, Noise, Pair
from onesearch.data.cosine_filter import CosineFilter, ensure_masks, kept, read_masks
from onesearch.data.embedding_texts import ClickedQueryTexts, TextTable
from onesearch.data.hard_negatives import HardNegatives, NearItems, confusable, mine_near
from onesearch.data.relations import Relations, mine_relations
from onesearch.data.shuffled import ResumableData, Shuffled
from onesearch.data.tokenizer import ensure_tokenizer, open_tokenizer
from onesearch.log.pairs import ItemCf, PairMiner, Swing
from onesearch.log.prepared import Log
from onesearch.log.text import item_texts, normalize_query
from onesearch.types import ClickedQueries, NamedTexts


class AlignmentData(ResumableData):
    """Shared data of the encoder stage.

    Args:
        run: the run folder; reads `run/log`.
        batch_size: query–item pairs a step.
        relation_share: pairs of each other relation a step, as a share of `batch_size`.
        tokenizer: a pretrained tokenizer by name; None trains one on the log.
        vocab_size: size of the trained tokenizer.
        fit_splits: the splits of the log to learn from.
        max_length: where texts are cut, in tokens, in training and ever after.
        typo_rate: share of queries that get a typo.
        fragment_rate: share of queries that are replaced by a fragment of the clicked item's title.
        bpe_dropout: probability to drop a BPE merge in training.
        item_cf: a miner of q2q and i2i pairs; None: it is not used.
        swing: another one; the pairs of both add up.
        cosine_filter: which pairs a pretrained starting encoder keeps; None: all.
        hard: hard negatives of q2i, and which judgments are learnt from.
        embed_batch_size: texts a step where they are only embedded.
        seed: of every random choice.
    """

    def __init__(
        self,
        run: Path,
        batch_size: int = 128,
        relation_share: float = 0.25,
        tokenizer: str | None = None,
        vocab_size: int = 8000,
        fit_splits: tuple[str, ...] = ("train",),
        max_length: int = 64,
        typo_rate: float = 0.1,
        fragment_rate: float = 0.2,
        bpe_dropout: float = 0.0,
        item_cf: ItemCf | None = ItemCf(),
        swing: Swing | None = None,
        cosine_filter: CosineFilter | None = None,
        hard: HardNegatives = HardNegatives(),
        embed_batch_size: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.run = Path(run)
        self.batch_size = batch_size
        self.relation_share = relation_share
        self.tokenizer_name = tokenizer
        self.vocab_size = vocab_size
        self.fit_splits = fit_splits
        self.max_length = max_length
        self.noise_rates = (typo_rate, fragment_rate)
        self.bpe_dropout = bpe_dropout
        self.miners: list[PairMiner] = [miner for miner in (item_cf, swing) if miner is not None]
        self.cosine_filter = cosine_filter
        self.hard = hard
        self.embed_batch_size = embed_batch_size
        self.seed = seed
        self.collate: AlignmentCollate | None = None
        self.has_mined = False

    def prepare_data(self) -> None:
        """Train the tokenizer and filter the pairs, once on one process, where there is something to learn."""
        if self.trainer is not None and self.trainer.state.fn != "fit":
            return  # an encoder that stands reads its own tokenizer
        if self.tokenizer_name is None:
            ensure_tokenizer(self.run, self.vocab_size)
        if self.cosine_filter is not None:
            log = Log.open(self.run / "log")
            ensure_masks(self.run, self.cosine_filter, self._mined(log), item_texts(log.items), self._mining())

    def setup(self, stage: str) -> None:
        """Read the texts; where there is something to learn or to measure, mine the relations."""
        self.log_tables = Log.open(self.run / "log")
        self.item_texts = item_texts(self.log_tables.items)
        if stage == "fit":
            self.fit_relations = self.known_relations = self._mined(self.log_tables)
            if self.cosine_filter is not None:
                self.fit_relations = kept(self.known_relations, read_masks(self.run))
        if stage != "predict":
            contexts = self.log_tables.contexts("validation")
            self.validation_relations = mine_relations(self.log_tables, contexts, self.miners)

    def train_dataloader(self) -> DataLoader[Pair]:
        """Shuffled, noisy `AlignmentBatch`es."""
        titles = [normalize_query(title).split() for title in self.log_tables.items["title"].to_pylist()]
        noise = Noise(*self.noise_rates, titles)
        self.collate = self._collate(self.fit_relations, self.bpe_dropout, noise)
        self._take_mined(self.goes_on_from.get("mined"))
        pairs = _numbered(self.fit_relations)
        return DataLoader(
            pairs,  # type: ignore[arg-type]
            batch_size=self.batch_size,
            sampler=self.going_on(Shuffled(pairs, self.seed)),
            collate_fn=self.collate,
            drop_last=len(pairs) > self.batch_size,
        )

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """Of the validation split: clean `AlignmentBatch`es; then the catalogue, and queries to be answered from it."""
        collate = self._collate(self.validation_relations)
        pairs = _numbered(self.validation_relations)
        losses: DataLoader[Any] = DataLoader(pairs, batch_size=self.batch_size, collate_fn=collate)  # type: ignore[arg-type]
        seen = set(self.log_tables.contexts(*self.fit_splits).queries())
        queries = ClickedQueryTexts(self.validation_relations.q2i, seen)
        return [losses, self._embedded(self._items()), self._embedded(queries)]

    def predict_dataloader(self) -> list[DataLoader[Any]]:
        """All items, then all queries before the test, as `NamedTexts`."""
        queries = self.log_tables.queries["query"].to_pylist()
        return [self._embedded(self._items()), self._embedded(TextTable("queries", queries, queries))]

    def mine(self, epoch: int, embed: Callable[[Sequence[str]], Tensor]) -> None:
        """Look for hard negatives and confusable judgments with the encoder as it is at the start of an epoch."""
        assert self.collate is not None
        if not self.hard.due(epoch, self.has_mined):
            return
        self.has_mined = True
        if self.hard.num:
            self.collate.num_hard = self.hard.num
            # A click that the cosine filter dropped is no reason to push its item away.
            self.collate.near = mine_near(self.known_relations, self.item_texts, embed, self.hard)
        if self.hard.judged_share < 1:
            judged = self.fit_relations.judged
            self.collate.judged = confusable(judged, self.item_texts, embed, self.hard.judged_share)

    def state_dict(self) -> dict[str, Any]:
        """How far the epoch is, and what was mined for it: the encoder that found it is no more."""
        collate, state = self.collate, super().state_dict()
        if collate is None or not self.has_mined:
            return state
        mined: dict[str, Any] = {"judged": collate.judged} if self.hard.judged_share < 1 else {}
        if collate.near is not None:
            mined |= {"queries": list(collate.near.place), "rows": torch.from_numpy(collate.near.rows)}
        return {**state, "mined": mined}

    def _take_mined(self, mined: dict[str, Any] | None) -> None:
        """What an earlier start had mined for the epoch in which it ended, for this loader."""
        assert self.collate is not None
        self.has_mined = mined is not None
        if mined is None:
            return
        self.collate.judged = mined.get("judged", self.collate.judged)
        if "rows" in mined:
            self.collate.num_hard = self.hard.num
            self.collate.near = NearItems(mined["queries"], mined["rows"].numpy())

    def _mined(self, log: Log) -> Relations:
        return mine_relations(log, log.contexts(*self.fit_splits), self.miners)

    def _mining(self) -> dict[str, Any]:
        """What the mined pairs depend on, beside the log."""
        miners = [{"name": type(miner).__name__, **asdict(miner)} for miner in self.miners]  # type: ignore[call-overload]
        return {"fit_splits": list(self.fit_splits), "miners": miners}

    def _collate(self, relations: Relations, bpe_dropout: float = 0.0, noise: Noise | None = None) -> AlignmentCollate:
        tokenizer = open_tokenizer(self.run, self.tokenizer_name, bpe_dropout)
        return AlignmentCollate(
            relations, self.item_texts, tokenizer, self.max_length, self.relation_share, self.seed, noise
        )

    def _items(self) -> TextTable:
        return TextTable("items", self.log_tables.item_ids, self.item_texts)

    def _embedded(self, table: TextTable | ClickedQueryTexts) -> DataLoader[NamedTexts | ClickedQueries]:
        # A loader draws a seed for workers that it does not have: not from the source that training draws from.
        return DataLoader(
            range(len(table)),  # type: ignore[arg-type]
            batch_size=self.embed_batch_size,
            collate_fn=table.batch,
            generator=torch.Generator(),
        )


def _numbered(relations: Relations) -> list[Pair]:
    return [(number, query, item) for number, (query, item) in enumerate(relations.q2i)]
