"""Examples of the SFT stages, written when they are asked for, and as batches."""

import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from onesearch.bpe_dropout import draw_segmentation
from onesearch.data.mixture import Example
from onesearch.tasks.collation import collate_prompts
from onesearch.tasks.prompt_writer import PromptWriter
from onesearch.tasks.task import Corpus, Sample, Task, task_names
from onesearch.types import GeneratorBatch


class Written(NamedTuple):
    """An example as prompt and answer."""

    task: int
    sample: Sample


class Examples:
    """Writes examples; what is drawn twice in an epoch is written anew, by its own chance.

    Args:
        tasks: what is asked.
        corpus: what they draw from.
        writer: of the prompts.
        seed: of every chance.
    """

    def __init__(self, tasks: Sequence[Task], corpus: Corpus, writer: PromptWriter, seed: int) -> None:
        self.tasks, self.corpus, self.writer, self.seed = tasks, corpus, writer, seed

    def write(self, example: Example) -> Written:
        """Prompt and answer, the same whenever they are asked for."""
        chance = f"{self.seed}/{example.epoch}/{example.task}/{example.draw}"
        draw_segmentation(self.writer.tokenizer, chance)
        task = self.tasks[example.task]
        return Written(example.task, task.sample(self.corpus, self.writer, example.number, random.Random(chance)))


class Collator:
    """Examples of one kind → a batch.

    Args:
        tasks: what is asked, in the order of their numbers.
        item_codes: [N, C] SIDs of the catalogue.
        pad: id of the padding token.
    """

    def __init__(self, tasks: Sequence[Task], item_codes: NDArray[np.integer], pad: int) -> None:
        self.writes = [task.writes for task in tasks]
        self.names = task_names(tasks)
        self.item_codes = item_codes
        self.pad = pad

    def __call__(self, examples: Sequence[Written]) -> GeneratorBatch:
        """Prompts, answers, and whose they are."""
        prompt = collate_prompts([sample.prompt for _, sample in examples], self.item_codes, self.pad)
        tasks = torch.tensor([task for task, _ in examples])
        answers = [sample.answer for _, sample in examples]
        if self.writes[examples[0].task] == "sid":
            return GeneratorBatch(prompt, torch.tensor(answers), None, tasks, self.names)
        width = max(map(len, answers))
        labels = torch.tensor([answer + [-100] * (width - len(answer)) for answer in answers])
        return GeneratorBatch(prompt, None, labels, tasks, self.names)
