"""A small run's workdir, and galleries with hits, near misses and far misses."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from mmjax.metrics import retrieval
from mmjax.report.pictures import Gallery

CAPTIONS = ("a red square", "<script>alert('caption')</script>", 'a "quoted" & odd caption', "左を向いた顔", "وجه")


def make_gallery(name: str, n: int, noise: float, groups: np.ndarray, shown: int = 12) -> Gallery:
    rng = np.random.default_rng(n)
    truth = rng.normal(size=(n, 8))
    texts, images = ((truth + noise * rng.normal(size=truth.shape)).astype(np.float32) for _ in range(2))
    texts, images = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (texts, images))
    t2i, i2t = retrieval.ranks(texts, images, groups, groups), retrieval.ranks(images, texts, groups, groups)
    few = np.linspace(0, n - 1, shown).astype(int)
    return Gallery(
        name=name,
        images=[rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(n)],
        texts=[f"{CAPTIONS[i % len(CAPTIONS)]} {i}" for i in range(n)],
        groups=groups,
        distinct=np.arange(n),
        t2i_top=t2i.top[:, :5],
        t2i_rank=t2i.rank,
        i2t_top=i2t.top[:, :5],
        i2t_rank=i2t.rank,
        similarity=texts[few] @ images[few].T,
        similarity_index=few,
    )


@pytest.fixture(scope="session")
def galleries() -> list[Gallery]:
    """Forty pairs that are each other's only answer, and three pairs of which two share a group."""
    return [
        make_gallery("heldout_pairs", 40, 0.9, np.arange(40)),
        make_gallery("small & odd", 3, 0.9, np.array([7, 7, 8]), shown=3),
    ]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A workdir after 200 steps, with one gap in the loss."""
    lines = []
    for step in range(5, 201, 5):
        loss = math.nan if step == 100 else 5 * math.exp(-step / 100)
        lines.append(
            {"step": step, "time": 0.0, "loss": loss, "loss/contrastive": loss, "accuracy/i2t": step / 400}
            | {"accuracy/t2i": step / 500, "logit_scale": 14 + step / 50, "learning_rate": 1e-3, "examples_per_s": 900.0}
        )
    lines += [{"step": step, "time": 0.0, "heldout_pairs/t2i/R@1": step / 400} for step in (50, 100, 150, 200)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = {"t2i/R@1": 0.5, "t2i/R@5": 0.75, "t2i/R@10": 1.0, "t2i/median_rank": 1.5, "t2i/P@5": 0.15}
    results = {"heldout_pairs": {**found, "candidates": 40}, "train_seconds": 231.4, "seed": 3, "step": 200}
    (tmp_path / "results.json").write_text(json.dumps(results))
    config = {"batch_size": 256, "task": {"name": "contrastive", "loss": {"name": "softmax"}}, "note": "</pre><b>"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path
