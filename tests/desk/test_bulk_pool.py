"""Reading spread over processes: order, bounds, and what happens when one dies, hangs or never starts."""

import os
import signal
import time
from pathlib import Path

import pytest

from guardrail.desk.bulk_pool import Lost, Spread, default_workers


def squared(number):
    return number * number


def odd_ones(number):
    """Squares, and every kind of trouble."""
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 7:
        raise ValueError("seven")
    if number == 9:
        time.sleep(60)
    return number * number


def dies_once(path):
    """As the out-of-memory killer takes a process for another's fault."""
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "read"


class Unloadable:
    """What no other process can load."""

    def __reduce__(self):
        return exit, (3,)

    def __call__(self, number):
        raise AssertionError


@pytest.mark.parametrize("workers", [0, 2])
def test_answers_come_in_the_order_asked(workers):
    assert list(Spread(squared, workers)(range(300))) == [at * at for at in range(300)]


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_asked_nothing_answered(workers):
    assert list(Spread(squared, workers)([])) == []


def test_process_that_dies_or_hangs_costs_its_own_task_and_no_other():
    answers = list(Spread(odd_ones, 2, longest_s=2)(range(40)))
    lost = {at: answer.reason for at, answer in enumerate(answers) if isinstance(answer, Lost)}
    assert set(lost) == {5, 7, 9}
    assert "SIGKILL" in lost[5]
    assert "ValueError: seven" in lost[7]
    assert "longer than 2 s" in lost[9]
    assert [answer for at, answer in enumerate(answers) if at not in lost] == [
        at * at for at in range(40) if at not in lost
    ]


def test_task_whose_process_was_killed_from_outside_is_tried_again(tmp_path):
    assert list(Spread(dies_once, 1)([tmp_path / "died"])) == ["read"]


def test_workers_that_cannot_start_are_an_error_and_no_endless_loop():
    with pytest.raises(RuntimeError, match="before it could work"):
        list(Spread(Unloadable(), 1)([1]))


def test_few_tasks_are_taken_ahead():
    taken = []

    def asked():
        for at in range(10_000):
            taken.append(at)
            yield at

    answers = Spread(squared, 1)(asked())
    assert [next(answers) for _ in range(3)] == [0, 1, 4]
    assert len(taken) < 200
    answers.close()


def test_no_process_is_left_when_the_answers_are_no_longer_wanted():
    answers = Spread(worker_id, 1)(range(100))
    worker = next(answers)
    answers.close()
    assert not Path(f"/proc/{worker}").exists()


def worker_id(_):
    return os.getpid()


def test_default_leaves_a_core_to_the_embedder():
    assert 0 <= default_workers() < (os.cpu_count() or 1)
