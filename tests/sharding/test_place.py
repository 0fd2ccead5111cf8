"""Host batches on their way to the device."""

import itertools
import threading
import time

import jax
import numpy as np
import pytest

from mmjax.sharding import mesh, place


def threads() -> set[threading.Thread]:
    return set(threading.enumerate())


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threads()
    yield
    assert threads() <= before


def test_a_batch_becomes_global_arrays():
    rows = {"image": np.arange(24, dtype=np.uint8).reshape(4, 6), "group": np.asarray([3, 1, 2, 0])}
    made = place.batch(rows, mesh.make({"data": -1}, jax.devices()[:1]))
    assert made["image"].sharding.spec == mesh.ROWS
    np.testing.assert_array_equal(made["image"], rows["image"])
    np.testing.assert_array_equal(made["group"], rows["group"])


@pytest.mark.smoke
def test_items_come_prepared_and_in_order():
    ahead = place.Ahead(iter(range(20)), lambda x: x * x)
    assert list(ahead) == [x * x for x in range(20)]
    ahead.close()


def test_it_runs_ahead_by_its_depth_only():
    taken = []
    ahead = place.Ahead((taken.append(i) or i for i in itertools.count()), lambda x: x, depth=3)
    deadline = time.monotonic() + 10
    while len(taken) < 4 and time.monotonic() < deadline:  # three in the queue, one in the hand
        time.sleep(0.01)
    time.sleep(0.3)
    assert taken == [0, 1, 2, 3]
    ahead.close()


@pytest.mark.smoke
@pytest.mark.parametrize("where", ["items", "prepare"])
def test_an_error_comes_where_its_item_would_have_come(where):
    def items():
        yield from (0, 1)
        if where == "items":
            raise KeyError("broken")
        yield 2

    def prepare(x):
        if x == 2:
            raise KeyError("broken")
        return x

    ahead = place.Ahead(items(), prepare)
    coming = iter(ahead)
    assert [next(coming), next(coming)] == [0, 1]
    with pytest.raises(KeyError, match="broken"):
        next(coming)
    ahead.close()


def test_close_stops_an_endless_iterator_and_closes_it():
    closed = threading.Event()

    def endless():
        try:
            yield from itertools.count()
        finally:
            closed.set()

    ahead = place.Ahead(endless(), lambda x: x)
    assert [x for x, _ in zip(ahead, range(3), strict=False)] == [0, 1, 2]
    ahead.close()
    assert closed.is_set()
    ahead.close()  # a second time does nothing
