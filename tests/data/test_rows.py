import numpy as np
import pytest

from mmjax.core.errors import UserError
from mmjax.data.rows import SHOWN, BrokenCount, Loader, split, stack
from mmjax.data.sources.source import group_of


def test_split_keeps_strings_on_the_host():
    batch = stack([{"id": "a", "image": np.zeros((2, 2, 3), np.uint8), "group": 7}] * 2)
    arrays, strings = split(batch)
    assert {name: (a.dtype, a.shape) for name, a in arrays.items()} == {
        "image": (np.uint8, (2, 2, 2, 3)),
        "group": (np.int32, (2,)),
    }
    assert strings["id"].tolist() == ["a", "a"]


def test_stack_names_pictures_of_two_sizes():
    with pytest.raises(UserError, match=r"'image' has shapes \[\(2, 2, 3\), \(4, 2, 3\)\].*resize"):
        stack([{"image": np.zeros((n, 2, 3), np.uint8)} for n in (2, 4)])


def test_an_endless_caption_is_shown_in_part_and_grouped_in_whole():
    long = "a" * 100_000
    records = [{"id": "x" * 5000, "text": long}, {"id": "b", "text": long + "b"}, {"id": "c"}, {"id": "y" * 5000}]
    loader = Loader([records], [], ("group",), [0], seed=0)
    batch = stack([loader.row(0, i, i) for i in range(4)])
    assert batch["caption"].nbytes == batch["id"].nbytes == 4 * SHOWN * 4  # UCS-4
    assert batch["group"].tolist() == [group_of(long), group_of(long + "b"), group_of("c"), group_of("y" * 5000)]
    row, reason = loader.attempt(0, 0, 0)
    assert (row["caption"], reason) == ("a" * SHOWN, "")


def test_an_endless_error_is_shown_in_part():
    class Bad(list):
        def __getitem__(self, i):
            raise ValueError("x" * 100_000)

    assert len(Loader([Bad([0])], [], (), [0], seed=0).attempt(0, 0, 0)[1]) == SHOWN


def counted(count: BrokenCount, *hosts: list[str]) -> None:
    """One batch on each host, and their exchange, through the eyes of the first."""
    others = [BrokenCount(1.0) for _ in hosts[1:]]
    for one, broken in zip([count, *others], hosts, strict=True):
        assert one.note(np.array(broken)) == [name for name in broken if name]
    count.add(*(one.take() for one in [count, *others]))


def test_broken_records_are_counted_over_a_window():
    count = BrokenCount(limit=0.1, window=20)  # 2 of the latest 20 are accepted
    counted(count, ["", "a: bad", ""])
    counted(count, ["b: bad"])
    with pytest.raises(UserError, match=r"3 broken records among the latest 5.*\n.*a: bad; b: bad; c: worse"):
        counted(count, ["c: worse"])
    assert count.total == 3


def test_broken_records_of_all_hosts_count():
    count = BrokenCount(limit=0.1, window=20)
    counted(count, ["", "a: bad"], ["", "b: bad"])
    with pytest.raises(UserError, match=r"3 broken records among the latest 8, over max_broken 0.1 of 20"):
        counted(count, ["", ""], ["c: bad", ""])


def test_the_window_forgets():
    count = BrokenCount(limit=0.1, window=20)
    for _ in range(10):
        counted(count, ["x: bad"] + [""] * 9)  # one of ten, again and again
    assert count.total == 10


def test_more_records_than_the_window_may_come_at_once():
    count = BrokenCount(limit=0.1, window=20)
    counted(count, ["x: bad"] * 10 + [""] * 90)  # a tenth, and more than a tenth of 20
    with pytest.raises(UserError, match=r"11 broken records among the latest 100, over max_broken 0\.1 of 100"):
        counted(count, ["x: bad"] * 11 + [""] * 89)


def test_what_is_taken_is_taken_once():
    count = BrokenCount(limit=0.1)
    for names in (["a", "", "b"], ["c", "d"]):
        count.note(np.array(names))
    assert count.take() == [5, 4, ["b", "c", "d"]]
    assert count.take() == [0, 0, []]


def test_no_broken_record_is_accepted_at_limit_zero():
    with pytest.raises(UserError, match="a: bad"):
        counted(BrokenCount(limit=0.0), ["a: bad", ""])
