"""The examples of docs/extending.md, taken from the page and used as it says."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from documents import ROOT, blocks
from onesearch.khqe import Khqe
from onesearch.log.prepared import Log
from onesearch.main import main
from onesearch.quantize import codebooks
from onesearch.types import UserError

PAGE = ROOT / "docs" / "extending.md"
CONFIGS = ROOT / "configs"


@pytest.fixture
def written(tmp_path, monkeypatch):
    """`written(title)` puts a block of the page into a folder that Python looks in, and says where."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    texts = {block.title: block.text for language in ("python", "yaml") for block in blocks(PAGE, language)}

    def write(title: str) -> Path:
        path = tmp_path / Path(title).name
        path.write_text(texts[title], "utf-8")
        return path

    return write


def test_the_source_of_the_page_reads_its_shop(written, tmp_path):
    """Ten visits of two searches each; a product without a name and a visit whose steps are no list are refused."""
    folder = tmp_path / "data" / "visits"
    folder.mkdir(parents=True)
    products = [
        {"sku": number, "name": f"{colour} mug", "aisle": "Kitchen/Mugs", "price": "9.5", "colours": [colour]}
        for number, colour in enumerate(("red", "blue"), 1)
    ]
    lines = [json.dumps(product) for product in [*products, {"sku": 3, "name": ""}]]
    (folder / "products.jsonl").write_text("\n".join(lines), "utf-8")
    visits = []
    for day in range(1, 11):
        step = {"typed": "red mug", "shown": ["1", "2"], "clicked": ["1"]}
        steps = [{**step, "at": f"2025-03-{day:02}T10:00:00Z"}, {"typed": "mug", "at": f"2025-03-{day:02}T10:05:00Z"}]
        visits.append({"visit": f"v{day}", "who": "ann", "steps": steps})
    lines = [json.dumps(visit) for visit in [*visits, {"visit": "v11", "steps": "none"}]]
    (folder / "visits.jsonl").write_text("\n".join(lines), "utf-8")
    written("visits.py")
    main(["prepare", "--config", str(written("configs/mine/log.yaml")), "--run", "runs/mine"])

    log = Log.open(tmp_path / "runs" / "mine" / "log")
    assert log.items["item_id"].to_pylist() == ["1", "2"]
    assert log.items["attributes"].to_pylist()[0] == [("Color", ["red"])]
    searches = log.searches.to_pylist()
    assert [search["search_id"] for search in searches[:2]] == ["v1/0", "v1/1"]
    assert [len(log.contexts(split)) for split in ("train", "validation", "test")] == [12, 4, 4]
    assert (searches[0]["impressed"], searches[1]["impressed"]) == (["1", "2"], None)
    assert log.contexts("test")[0].recent_queries[-1] == "mug"
    reasons = pq.read_table(log.folder / "rejected.parquet")["reason"].to_pylist()
    assert sorted(reasons) == ["no name", "steps is no list"]


def test_the_task_of_the_page_is_learnt(written, tiny_run_copy):
    """As an overlay of the co-occurrence stage; its loss is logged under its name, and what it shows is a beginning."""
    written("typing_tasks.py")
    overlay = written("configs/mine/sft_cooccur.yaml")
    quick = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--data.init_args.batch_size", "64"]
    configs = ["-c", str(CONFIGS / "sft_cooccur.yaml"), "-c", str(overlay)]
    main(["fit", *configs, "--run", str(tiny_run_copy), *quick])
    logged = (tiny_run_copy / "training" / "sft_cooccur" / "csv" / "version_0" / "metrics.csv").read_text("utf-8")
    assert "HalfTyped" in logged.splitlines()[0]

    from typing_tasks import HalfTyped

    with pytest.raises(UserError, match="shortest 0"):
        HalfTyped(shortest=0)


def test_the_codebook_of_the_page_serves_a_run(written, tiny_run_copy, monkeypatch):
    """Put where the page says: fitted, examined, and read again with the same codes, alone and in a batch."""
    specification = importlib.util.spec_from_file_location(
        "onesearch.quantize.axes", written("src/onesearch/quantize/axes.py")
    )
    axes = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "onesearch.quantize.axes", axes)
    monkeypatch.setattr("onesearch.quantize.axes", axes, raising=False)
    specification.loader.exec_module(axes)
    monkeypatch.setitem(codebooks.KINDS, "Axes", axes.Axes)
    monkeypatch.setitem(codebooks.RECIPES, "AxesRecipe", axes.AxesRecipe)
    overlay = written("configs/mine/quantizer.yaml")
    configs = ["-c", str(CONFIGS / "quantizer.yaml"), "-c", str(overlay), "--run", str(tiny_run_copy)]
    for verb in ("fit", "validate"):
        main([verb, *configs, "--trainer.accelerator", "cpu"])

    khqe = Khqe.open(tiny_run_copy)
    assert khqe.spec.sizes == tuple(
        yaml.safe_load(overlay.read_text())["model"]["init_args"]["codebook"]["init_args"]["rq_sizes"]
    )
    assert json.loads((tiny_run_copy / "doctor.json").read_text())["figures"]["reproduced"] == 1
    alone = torch.cat([khqe.codebook.encode(row[None]) for row in khqe.item_embeddings])
    assert (alone.numpy() == khqe.item_codes).all()


def test_the_codebook_of_the_page_cuts_axes_evenly(written):
    """On a drawn cloud: as many vectors in each part, the longest axis first, and decoding nearer with finer cuts."""
    names: dict = {"__name__": "axes"}
    exec(written("src/onesearch/quantize/axes.py").read_text("utf-8"), names)
    cloud = torch.from_numpy(np.random.default_rng(0).normal(size=(640, 4)) * [4, 3, 0.2, 0.1]).float()
    errors = []
    for size in (2, 8, 32):
        codebook = names["AxesRecipe"](rq_sizes=(size, size)).fit(cloud)
        codes = codebook.encode(cloud)
        assert all((torch.bincount(codes[:, level]) == 640 // size).all() for level in (0, 1))
        errors.append(float((codebook.decode(codes) - cloud).square().sum(1).mean()))
    assert codebook.axes[0].abs().argmax() == 0
    assert codebook.axes[1].abs().argmax() == 1
    assert errors[0] > errors[1] > errors[2] > 0.05  # .2² + .1² is what the other two axes hold
    with pytest.raises(UserError, match="there are 4 axes"):
        names["AxesRecipe"](rq_sizes=(2,) * 5).fit(cloud)
