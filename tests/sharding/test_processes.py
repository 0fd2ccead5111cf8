"""How processes join, as far as one process can tell; tests/multi/test_two_processes.py joins two."""

import pytest

from mmjax.core.errors import UserError
from mmjax.sharding import processes


@pytest.fixture
def asked(monkeypatch):
    """What jax.distributed.initialize is asked, in place of joining; the environment says nothing."""
    calls = []
    for name in ("MMJAX_DISTRIBUTED", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "JAX_COORDINATOR_ADDRESS", *processes._LAUNCHERS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(processes.jax.distributed, "initialize", lambda **known: calls.append(known))
    monkeypatch.setattr(processes.jax.config, "update", lambda *_: None)
    monkeypatch.setattr(processes, "_on_tpu", lambda: False)
    return calls


GRACE = {"shutdown_timeout_seconds": processes.GRACE}


@pytest.mark.smoke
@pytest.mark.parametrize(
    "env, wanted",
    [
        ({}, []),
        ({"SLURM_STEP_NUM_TASKS": "1"}, []),
        ({"SLURM_STEP_NUM_TASKS": "4"}, [GRACE]),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, [GRACE]),
        ({"OMPI_COMM_WORLD_SIZE": "2", "MMJAX_DISTRIBUTED": "0"}, []),
        ({"MMJAX_DISTRIBUTED": "1"}, [GRACE]),
        (
            {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1", "JAX_COORDINATOR_ADDRESS": "a:1"},
            [{**GRACE, "num_processes": 2, "process_id": 1}],
        ),
    ],
)
def test_who_joins(asked, monkeypatch, env, wanted):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    processes.connect()
    assert asked == wanted


def test_a_number_of_processes_alone_is_refused(asked, monkeypatch):
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    with pytest.raises(UserError, match="JAX_NUM_PROCESSES=2 needs JAX_COORDINATOR_ADDRESS and JAX_PROCESS_ID"):
        processes.connect()
    assert asked == []


@pytest.mark.parametrize("insists", [False, True])
def test_a_tpu_host_whom_nobody_tells_of_others_is_alone_unless_told(asked, monkeypatch, insists):
    def nobody(**_):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(processes, "_on_tpu", lambda: True)
    processes.connect()
    assert asked == [GRACE]
    monkeypatch.setattr(processes.jax.distributed, "initialize", nobody)
    if insists:
        monkeypatch.setenv("MMJAX_DISTRIBUTED", "1")
        with pytest.raises(ValueError, match="coordinator_address"):
            processes.connect()
    else:
        processes.connect()


def test_hosts_that_see_each_other_and_have_not_joined_are_told(monkeypatch):
    monkeypatch.setattr(processes.jax, "process_count", lambda: 4)
    with pytest.raises(UserError, match="one of 4 hosts that have not joined"):
        processes.table()


def test_one_process_gathers_its_own():
    assert processes.gather({"a": [1, "ö"]}) == [{"a": [1, "ö"]}]
    assert processes.agree(None) is None
    assert processes.table().endswith("1 process, 1 here")
