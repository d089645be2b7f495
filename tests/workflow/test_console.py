"""What the console says: a line as a job starts and ends, and what is left by seconds."""

import logging
import re
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

import snakemake_logger_plugin_partialres as console


def test_what_is_left_is_weighed_by_seconds(monkeypatch):
    work = console.Work()
    monkeypatch.setattr(console.time, "monotonic", lambda: work.start + 30)
    work.waiting.update({"split": 3, "train_res_full": 1})
    for _ in range(3):
        work.end("split", 10.0)
    share, left = work.share_and_left()  # a split is a third of what it was reckoned at: so will the training be
    assert share == pytest.approx(30 / (30 + 380 * 10 / 3)) and left == pytest.approx(380 * 10 / 3)
    work.end("train_res_full", 400.0)
    assert work.share_and_left()[0] == 1


def test_two_jobs_at_once_halve_the_time_left(monkeypatch):
    work = console.Work()
    work.waiting.update({"evaluate_res": 4})
    monkeypatch.setattr(console.time, "monotonic", lambda: work.start + 10)
    for _ in range(2):
        work.end("evaluate_res", 10.0)
    assert work.share_and_left() == (0.5, pytest.approx(10))


def test_times_are_said_as_people_do():
    assert [console.spoken(each) for each in (7.4, 99, 300, 7200)] == ["7 s", "99 s", "5 min", "2.0 h"]


def test_a_run_prints_a_line_as_each_job_starts_and_ends_and_no_reasons(empty):
    output = empty("results/refshapes/refs.parquet")
    lines = output.splitlines()
    clock = r"\d\d:\d\d:\d\d"
    assert sum(bool(re.fullmatch(rf"{clock} starts  (generate|prepare) refshapes.*", line)) for line in lines) == 2
    ends = [
        line for line in lines if re.fullmatch(rf"{clock} +\d+%    .* refshapes.*: took \d+ s, about .* left", line)
    ]
    assert len(ends) == 2 and "100%" in ends[-1] and "about 0 s left" in ends[-1]
    assert "Reason:" not in output and "Execute" not in output and "Select jobs" not in output


def test_a_dry_run_is_snakemakes_own(capsys):
    settings = SimpleNamespace(dryrun=True, quiet=set(), show_failed_logs=False, stdout=True)
    handler = console.LogHandler(settings, None)
    assert type(handler.formatter) is console.DefaultFormatter
    handler.emit(logging.makeLogRecord({"msg": "hello", "event": None}))
    handler.emit(logging.makeLogRecord({"msg": "Execute 1 jobs...", "event": LogEvent.JOB_STARTED}))
    assert "hello" in capsys.readouterr().out
