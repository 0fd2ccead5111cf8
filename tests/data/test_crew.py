"""Processes that go through records: what is left when one of them dies."""

import os
import signal
import time

import pytest

from mmjax.core.errors import UserError
from mmjax.data.crew import Crew


class Deadly:
    """Records 0 to 29; of these 7 kills its process, 12 leaves it, and 20 never ends."""

    def __len__(self):
        return 30

    def __getitem__(self, i):
        if i == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        if i == 12:
            os._exit(3)
        if i == 20:
            time.sleep(60)
        return i


def total(source, about, numbers):
    return about, sum(source[i] for i in numbers)


def fail(source, about, numbers):
    raise OSError(f"no room for {about}")


def all_kill(source, about, numbers):
    for _ in numbers:
        os._exit(1)


def test_the_records_that_kill_are_named_and_all_others_are_read():
    ticks = []
    chunks = [(k, range(10 * k, 10 * k + 10)) for k in range(3)]
    found = list(Crew(total, Deadly(), 2, patience=2).each(chunks, ticks.append))
    assert [result for result, _ in found] == [(0, 45 - 7), (1, 145 - 12), (2, 245 - 20)]
    assert [[d.number for d in dead] for _, dead in found] == [[7], [12], [20]]
    reasons = [dead[0].reason for _, dead in found]
    assert "SIGKILL" in reasons[0]
    assert "out of memory?" in reasons[0]
    assert "exit code 3" in reasons[1]
    assert reasons[2] == "took more than 2 s"
    assert sum(ticks) >= 27


def test_an_error_of_the_work_is_the_callers():
    with pytest.raises(OSError, match="no room for 5"):
        list(Crew(fail, Deadly(), 1).each([(5, range(2))], lambda _: None))


def test_where_every_record_kills_somebody_is_told(monkeypatch):
    monkeypatch.setattr("mmjax.data.crew.DEATHS", 2)
    with pytest.raises(UserError, match="2 records ended the process that read them, the last #1"):
        list(Crew(all_kill, Deadly(), 1).each([(0, range(30))], lambda _: None))
