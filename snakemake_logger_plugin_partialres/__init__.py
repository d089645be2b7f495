"""Print a line as each job starts and ends, with how long it took and how long the rest will take.

Snakemake finds this by its name (`logger: partialres` in a profile). The rest is estimated in seconds: a job is
expected to take as long as those of its rule have in this run or, before the first of them ends, as in
`make reproduce`, scaled to this machine.
"""

import sys
import time
from collections import Counter, defaultdict
from logging import LogRecord
from typing import Any

from snakemake.logging import DefaultFormatter, get_event
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

SECONDS = {  # of a job of `make reproduce`, by rule, on two cores
    "refshapes": 25, "prepare": 5, "cache_images": 2, "cache_features": 5, "pretrain_backbone": 100, "train_rec": 150,
    "train_res": 20, "train_res_full": 380, "retrain_res": 45, "predict_pseudo_points": 11,
}  # fmt: skip
OTHERS = 3  # seconds of a job of any other rule


class Work:
    """Counts the jobs that a run has left, and estimates how many seconds they will take."""

    def __init__(self) -> None:
        self.waiting: Counter[str] = Counter()  # rule -> jobs that have not ended
        self.took: defaultdict[str, list[float]] = defaultdict(list)  # rule -> seconds of those that have
        self.start = time.monotonic()

    def end(self, rule: str, seconds: float) -> None:
        """Count a job that has ended."""
        self.waiting[rule] -= 1
        self.took[rule].append(seconds)

    def share_and_left(self) -> tuple[float, float]:
        """Return the share of the work that is done, 0 to 1, and the seconds that the rest will take."""
        spent = sum(map(sum, self.took.values()))
        scale = spent / sum(SECONDS.get(rule, OTHERS) * len(each) for rule, each in self.took.items())
        ahead = 0.0
        for rule, number in self.waiting.items():
            own = self.took.get(rule)
            ahead += max(number, 0) * (sum(own) / len(own) if own else scale * SECONDS.get(rule, OTHERS))
        return spent / max(spent + ahead, 1e-9), ahead * (time.monotonic() - self.start) / max(spent, 1e-9)


class Lines(DefaultFormatter):
    """Formats what happens to jobs as lines of their own, and everything else as Snakemake does."""

    def __init__(self, *options: Any) -> None:
        super().__init__(*options)
        self.work, self.running = Work(), dict[int, tuple[str, str, float]]()

    def format_run_info(self, msg: dict[str, Any]) -> str:
        """Note how many jobs each rule has, and say it as Snakemake does."""
        self.work.waiting = Counter({rule: number for rule, number in msg["stats"].items() if rule != "total"})
        return str(super().format_run_info(msg))

    def format_job_info(self, msg: dict[str, Any]) -> str:
        """Say that a job starts."""
        what = (msg["rule_msg"] or msg["rule_name"]).strip()
        self.running[msg["jobid"]] = msg["rule_name"], what, time.monotonic()
        return f"{time.strftime('%H:%M:%S')} starts  {what}"

    def format_job_finished(self, msg: dict[str, Any]) -> str:
        """Say that a job has ended, how long it took and what is left."""
        rule, what, start = self.running.pop(msg["job_id"], ("", msg["msg"], time.monotonic()))
        seconds = time.monotonic() - start
        self.work.end(rule, seconds)
        share, left = self.work.share_and_left()
        return f"{time.strftime('%H:%M:%S')} {share:4.0%}    {what}: took {spoken(seconds)}, about {spoken(left)} left"

    def format_progress(self, msg: dict[str, Any]) -> str:
        """Say nothing: the line of the job has said it."""
        return ""


def spoken(seconds: float) -> str:
    """Return a time in a unit that suits it: 7 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class LogHandler(LogHandlerBase):
    """Writes the lines where Snakemake writes its own; in a dry run they are Snakemake's."""

    writes_to_stream, writes_to_file, has_filter, has_formatter, needs_rulegraph = True, False, False, True, False

    def __post_init__(self) -> None:
        settings = self.common_settings
        kind = DefaultFormatter if settings.dryrun else Lines
        self.setFormatter(kind(settings.quiet, settings.show_failed_logs))
        self.stream = sys.stdout if settings.stdout else sys.stderr

    def emit(self, record: LogRecord) -> None:
        """Write a record, if it says anything."""
        text = self.format(record)
        chatter = get_event(record) == LogEvent.JOB_STARTED or text.startswith("Select jobs")
        if text and text != "None" and not chatter:
            print(text, file=self.stream, flush=True)
