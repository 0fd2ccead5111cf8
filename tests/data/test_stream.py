import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from mmjax.core.errors import UserError
from mmjax.data import stream as streams
from mmjax.data.sources.source import group_of
from mmjax.data.stream import Stream, check, check_epoch, epoch

AUGMENT = [
    {"name": "random_shift", "pixels": 2, "size": 8},
    {"name": "flip"},
    {"name": "tokenise", "tokenizer": "bytes", "length": 12},
]
TWO = [
    {"source": {"name": "synthetic", "n": 13, "size": 16}, "weight": 3},
    {"source": {"name": "synthetic", "n": 5, "size": 16, "seed": 1}, "weight": 1},
]


def make(sources=TWO, transforms=AUGMENT, batch_size=8, **keywords):
    return Stream(sources=sources, transforms=transforms, batch_size=batch_size, **keywords)


def memory(n, broken=(), **fields):
    pixel = np.zeros((1, 1, 3), np.uint8)
    records = [
        {"image": b"junk" if i in broken else pixel, "text": f"t{i}", "id": f"r{i}", "group": i, **fields} for i in range(n)
    ]
    return [{"source": {"name": "memory", "records": records}}]


PLAIN = [{"name": "decode"}, AUGMENT[-1]]


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
        assert a[name].dtype.kind == b[name].dtype.kind


def test_batch_has_its_fields():
    batch = make().batch_at(3)
    shapes = {name: (str(array.dtype), array.shape) for name, array in batch.items() if array.dtype.kind != "U"}
    assert shapes == {
        "image": ("uint8", (8, 8, 8, 3)),
        "text": ("int32", (8, 12)),
        "group": ("int32", (8,)),
        "label": ("int32", (8,)),
    }
    assert batch["caption"][0].startswith("a ")
    assert batch["id"][0].startswith("synthetic-")
    assert batch["broken"].tolist() == [""] * 8
    assert set(make(fields=("image",)).batch_at(0)) == {"image", "id", "caption", "broken"}


def test_batch_is_a_function_of_seed_and_k():
    same(make().batch_at(5), make().batch_at(5))
    for other in (make().batch_at(6), make(seed=1).batch_at(5)):
        assert (make().batch_at(5)["image"] != other["image"]).any()


def test_a_sample_is_the_beginning_of_batch_0():
    stream = make(hosts=2, host=1)
    whole, some = stream.batch_at(0), stream.sample(3)
    same({name: value[:3] for name, value in whole.items()}, some)
    assert len(stream.sample(100)["id"]) == 4


def test_transforms_vary_between_epochs_of_one_record():
    stream = make([TWO[1]], batch_size=5)
    first, second = stream.batch_at(0), stream.batch_at(1)
    a, b = np.argsort(first["id"]), np.argsort(second["id"])
    assert first["id"][a].tolist() == second["id"][b].tolist()  # an epoch each: every record once
    assert (first["image"][a] != second["image"][b]).any()


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_concatenated_equal_one_host(hosts):
    whole = make().batch_at(4)
    parts = [make(host=host, hosts=hosts).batch_at(4) for host in range(hosts)]
    same(whole, {name: np.concatenate([part[name] for part in parts]) for name in whole})


def test_mixture_draws_in_proportion_and_shuffles_each_epoch():
    stream = make(memory(6) + memory(2), PLAIN, batch_size=24, fields=("group",))
    half = make([{**memory(6)[0], "weight": 1}, {**memory(2)[0], "weight": 3}], PLAIN, batch_size=24, fields=("group",))
    assert (stream.batch_at(0)["group"] < 6).sum() == 12
    assert (half.batch_at(0)["group"] < 6).sum() == 6
    numbers = make(memory(6), PLAIN, batch_size=6, fields=("group",))
    orders = [numbers.batch_at(k)["group"].tolist() for k in range(3)]
    assert all(sorted(order) == list(range(6)) for order in orders)
    assert len({tuple(order) for order in orders}) > 1


def test_groups_of_two_sources_meet_only_where_intended():
    apart = make(memory(4) + memory(4), PLAIN, batch_size=64, fields=("group",)).batch_at(0)["group"]
    shared = [{**entry, "groups": "captions"} for entry in memory(4) + memory(4)]
    together = make(shared, PLAIN, batch_size=64, fields=("group",)).batch_at(0)["group"]
    assert len(set(apart.tolist())) == 8
    assert set(together.tolist()) == {0, 1, 2, 3}


def test_what_a_record_lacks():
    records = [{"image": np.zeros((1, 1, 3), np.uint8), "text": "a cat"}] * 2
    batch = make([{"source": {"name": "memory", "records": records}}], PLAIN, batch_size=2).batch_at(0)
    assert batch["label"].tolist() == [-1, -1]
    assert batch["group"].tolist() == [group_of("a cat")] * 2
    assert sorted(batch["id"].tolist()) == ["#0", "#1"]


def test_iteration_equals_random_access_from_any_start():
    stream = make()
    for start in (0, 7):
        batches = stream.batches(start)
        for k in range(start, start + 5):
            number, batch = next(batches)
            assert number == k
            same(batch, stream.batch_at(k))
        batches.close()


def test_worker_processes_agree_with_threads_and_end():
    entries = TWO + memory(3, broken=[1])
    entries[2]["source"]["records"][0]["image"] = np.zeros((16, 16, 3), np.uint8)
    entries[2]["source"]["records"][2]["image"] = np.ones((16, 16, 3), np.uint8)
    stream, workers = make(entries, [{"name": "decode"}, *AUGMENT]), make(entries, [{"name": "decode"}, *AUGMENT], workers=2)
    batches = workers.batches(2)
    for k in range(2, 7):
        number, batch = next(batches)
        assert number == k
        same(batch, stream.batch_at(k))
        assert type(batch["image"]) is np.ndarray
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert multiprocessing.active_children() == []


SCRIPT = """
import multiprocessing, sys, time
from mmjax.data.stream import Stream

if __name__ == "__main__":
    source = {"name": "synthetic", "n": 8, "size": 8}
    transforms = [{"name": "tokenise", "tokenizer": "bytes", "length": 8}]
    batches = Stream([{"source": source}], transforms, batch_size=4, workers=2).batches()
    next(batches)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(60 if sys.argv[1] == "wait" else 0)
"""


@pytest.mark.parametrize("end", ["killed", "leaves"])
def test_no_worker_outlives_its_parent(tmp_path, end):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(script), "wait" if end == "killed" else "go"]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2
    if end == "killed":
        parent.send_signal(signal.SIGKILL)
    _, errors = parent.communicate(timeout=30)
    if end == "leaves":  # with the stream open: in order, and without a word
        assert (parent.returncode, errors) == (0, "")
    deadline = time.monotonic() + 10
    while any(map(running, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(running, workers))


def running(pid):
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_broken_records_are_replaced_and_named():
    stream = make(memory(6, broken=[2]), PLAIN, batch_size=6)
    seen = set()
    for k in range(4):  # an epoch a batch
        batch = stream.batch_at(k)
        (row,) = np.flatnonzero(batch["broken"])
        assert batch["broken"][row].startswith("r2: UnidentifiedImageError: cannot identify image file")
        assert batch["id"][row] != "r2"
        assert batch["caption"][row] == "t" + batch["id"][row][1:]
        assert sorted(batch["id"].tolist() + ["r2"]) == sorted([f"r{i}" for i in range(6)] + [batch["id"][row]])
        seen.add(str(batch["id"][row]))
        same(batch, make(memory(6, broken=[2]), PLAIN, batch_size=6).batch_at(k))
    assert len(seen) > 1  # not one record alone stands in for it


def test_replacements_are_those_of_any_number_of_hosts():
    whole = make(memory(6, broken=[2, 3]), PLAIN, batch_size=6).batch_at(1)
    parts = [make(memory(6, broken=[2, 3]), PLAIN, batch_size=6, host=host, hosts=3).batch_at(1) for host in range(3)]
    same(whole, {name: np.concatenate([part[name] for part in parts]) for name in whole})
    assert (whole["broken"] != "").sum() == 2


def test_a_source_of_nothing_but_broken_records_is_an_error():
    with pytest.raises(UserError, match="in a row are broken, the last: r"):
        make(memory(3, broken=range(3)), PLAIN, batch_size=2).batch_at(0)
    with pytest.raises(UserError, match="holds no record"):
        make(memory(0))


def test_a_forgotten_transform_is_named():
    with pytest.raises(UserError, match="list tokenise"):
        make(memory(3), [{"name": "decode"}], batch_size=2).batch_at(0)
    with pytest.raises(UserError, match="list decode"):
        make(memory(3, broken=range(3)), AUGMENT[-1:], batch_size=2).batch_at(0)
    with pytest.raises(UserError, match="not in"):
        make(memory(3, group=2**31), PLAIN, batch_size=2).batch_at(0)


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_epoch_counts_each_example_once(hosts):
    found, shapes = [], set()
    for host in range(hosts):
        batches = epoch(memory(9)[0]["source"], PLAIN, batch_size=4, host=host, hosts=hosts)
        assert len(batches) == 3
        for batch in batches:
            shapes.add(batch["image"].shape)
            found += batch["id"][batch["mask"]].tolist()
    assert shapes == {(4 // hosts, 1, 1, 3)}
    assert sorted(found) == [f"r{i}" for i in range(9)]


def test_epoch_is_in_order_and_comes_again():
    batches = epoch(memory(5)[0]["source"], PLAIN, batch_size=2)
    for _ in range(2):
        assert [batch["group"][batch["mask"]].tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
    assert [batch["mask"].tolist() for batch in batches] == [[True, True], [True, True], [True, False]]


def test_epoch_masks_broken_records_and_names_them():
    batches = list(epoch(memory(3, broken=[0])[0]["source"], PLAIN, batch_size=4))
    assert batches[0]["mask"].tolist() == [False, True, True, False]
    assert batches[0]["broken"][0].startswith("r0: ")
    assert batches[0]["broken"][1:].tolist() == ["", "", ""]
    with pytest.raises(UserError, match="no record"):
        list(epoch(memory(2, broken=[0, 1])[0]["source"], PLAIN, batch_size=2))


def test_epoch_shows_one_record():
    batches = epoch(memory(3, broken=[1])[0]["source"], PLAIN, batch_size=2)
    assert (batches.row(2)["caption"], batches.row(2)["image"].shape) == ("t2", (1, 1, 3))
    with pytest.raises(UserError, match="broken record r1"):
        batches.row(1)


GOOD = {"sources": TWO, "transforms": AUGMENT, "batch_size": 8}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": []}, "sources is empty"),
        ({"sources": [{"source": {"name": "tfd"}}]}, r"data.sources\[0\].source: unknown name 'tfd'.*mean 'tfds'"),
        ({"sources": [{"source": {"name": "tfds", "splt": "a"}}]}, "no keyword 'splt'.*mean 'split'"),
        ({"sources": [{"source": TWO[0]["source"], "wight": 1}]}, "not 'wight'.*mean 'weight'"),
        ({"sources": [{**TWO[0], "weight": 0}]}, "weight 0 is not above 0"),
        ({"sources": [{"weight": 1}]}, "needs a 'name'"),
        ({"transforms": [{"name": "decode"}, {"name": "flop"}]}, r"data.transforms\[1\]: unknown name 'flop'.*mean 'flip'"),
        ({"fields": ["imge"]}, "unknown 'imge'.*mean 'image'"),
        ({"batch_size": 10, "hosts": 4}, "batch_size 10 is not a positive multiple of 4 hosts: use 8 or 12"),
        ({"batch_sizes": 8}, "no keyword 'batch_sizes'"),
    ],
)
def test_check_names_what_is_wrong(change, message):
    check(GOOD)
    with pytest.raises(UserError, match=message):
        check({**GOOD, **change})


def test_check_touches_no_data():
    check({**GOOD, "sources": [{"source": {"name": "tfds", "dataset": "nowhere"}}]})
    check({"sources": TWO, "transforms": AUGMENT})
    check_epoch({"source": {"name": "tfds", "dataset": "nowhere"}, "transforms": AUGMENT, "batch_size": 4})
    with pytest.raises(UserError, match=r"evaluation\.source: unknown name"):
        check_epoch({"source": {"name": "nothing"}, "transforms": [], "batch_size": 4})


@pytest.mark.parametrize("block", [1, 3, 4])
def test_blocks_stay_together_and_each_epoch_is_cut_elsewhere(block):
    records = [{"image": np.zeros((2, 2, 3), np.uint8), "text": "x", "id": str(i)} for i in range(14)]
    entry = {"source": {"name": "memory", "records": records}, "block": block}
    stream = Stream([entry], [], batch_size=block, fields=("image",))
    per_epoch, seen = 14 // block, set()
    for epoch_number in range(3):
        ids = [stream.batch_at(k)["id"].astype(int) for k in range(epoch_number * per_epoch, (epoch_number + 1) * per_epoch)]
        for batch in ids:
            assert (np.diff(batch) % 14 == 1).all()
        flat = np.concatenate(ids).tolist()
        assert len(set(flat)) == per_epoch * block  # no record twice in an epoch
        seen |= set(flat)
    assert seen == set(range(14))


def test_a_block_is_looked_up_once():
    stream = Stream([{"source": {"name": "synthetic", "n": 24, "size": 4}, "block": 4}], [], batch_size=24, fields=("image",))
    before = streams._start.cache_info().misses
    stream.batch_at(0)
    assert streams._start.cache_info().misses - before == 6


def test_a_block_larger_than_its_source_is_refused():
    entry = {"source": {"name": "synthetic", "n": 4}, "block": 5}
    with pytest.raises(UserError, match="block 5"):
        Stream([entry], [], batch_size=2)
