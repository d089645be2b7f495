"""The command that says what a run will cost."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from partialres.cli.options import IN_FILE, OUT_FILE


@click.command()
@click.argument("configs", nargs=-1, type=IN_FILE)
@click.option(
    "--images",
    type=click.IntRange(min=6),
    default=240,
    help="Number of generated images to measure on; take fewer if they are large.",
)
@click.option(
    "--kept", type=click.FloatRange(0, 100), default=100, help="Per cent of the pseudo masks that step 3 trains on."
)
@click.option("--out", type=OUT_FILE, required=True, help="The JSON file to write.")
def estimate(configs: tuple[Path, ...], images: int, kept: float, out: Path) -> None:
    """Estimate what the workflow costs on this machine, with CONFIGS laid over config/config.yaml.

    Run it in a checkout. Every kind of job runs on a few generated images, which takes some minutes.
    """
    from partialres import estimate as estimates
    from partialres.files import write_json

    estimated = estimates.estimate(configs, images, kept / 100)
    write_json(estimated, out)
    click.echo(as_text(estimated))


def as_text(estimated: Mapping[str, Any]) -> str:
    """Return an estimate as Markdown tables."""
    lines = [
        "| rule | jobs | hours | longest, s | peak memory, MB | disk, GB |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in estimated["rules"]:
        lines.append(
            f"| {row['rule']} | {row['jobs']} | {row['hours']:.3g} | {row['longest_seconds']:.3g} "
            f"| {row['memory_mb']:.0f} | {row['disk_gb']:.3g} |"
        )
    total = {key: sum(row[key] for row in estimated["rules"]) for key in ("jobs", "hours", "disk_gb")}
    peak = max(row["memory_mb"] for row in estimated["rules"])
    lines.append(f"| **in all** | {total['jobs']} | {total['hours']:.3g} | | {peak:.0f} | {total['disk_gb']:.3g} |")
    lines += ["", "| workers like this machine | hours |", "| ---: | ---: |"]
    lines += [f"| {row['workers']} | {row['hours']:.3g} |" for row in estimated["workers"]]
    path = estimated["critical_path"]
    steps = ", ".join(f"{step['rule']} ({step['seconds']:.0f} s)" for step in path)
    return "\n".join([*lines, "", f"Critical path, {sum(step['seconds'] for step in path) / 3600:.3g} h: {steps}."])
