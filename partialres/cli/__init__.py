"""The command line: each command parses its options, calls the package and writes to one place."""

import os
import signal
import sys
import zipfile
import zlib
from typing import Any

import click
from safetensors import SafetensorError

from partialres import __version__
from partialres.cli import data, plan, report, steps, use, weights
from partialres.config import ConfigError
from partialres.files import DataError, TrainingError

# Errors that files, disks or memory can cause in any command, and their cures.
CURES: dict[type[Exception], str] = {
    FileExistsError: "a file stands where a folder is needed; choose another name, or move the file",
    NotADirectoryError: "a file stands where a folder is needed; choose another name, or move the file",
    OSError: "check that the disk has room, and that the path is right and may be read and written",
    MemoryError: "give the job more memory, or a smaller batch",
    RecursionError: "a file is nested too deep; make it again",
    SafetensorError: "the weights are damaged or the disk is full; make them again",
    zlib.error: "the file is damaged; make or download it again",
    zipfile.BadZipFile: "the file is damaged; make or download it again",
    UnicodeError: "the text is not UTF-8; make the file again",
}

FORESEEN: tuple[type[Exception], ...] = (*CURES, RuntimeError)


class Commands(click.Group):
    """Shows errors of data, settings, training and files as messages, and everything unforeseen with its traceback.

    SIGTERM, as a scheduler sends it, ends a command as an exception does, so that no half-written file is left.
    """

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands in the order of use, each with the whole first sentence of its help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(200)) for name, each in self.commands.items()])

    def invoke(self, ctx: click.Context) -> Any:
        given, own = [*ctx._protected_args, *ctx.args], os.getpid()

        def terminated(*_: Any) -> None:
            if os.getpid() == own:  # a child process that inherited this says nothing
                click.echo(f"{given[0]}: stopped by SIGTERM", err=True)
            sys.exit(128 + signal.SIGTERM)

        before = signal.signal(signal.SIGTERM, terminated)
        try:
            return super().invoke(ctx)
        except (DataError, ConfigError, TrainingError) as error:
            raise click.ClickException(str(error)) from error
        except FORESEEN as error:
            text, cure = " ".join(str(error).split()), next((CURES[k] for k in CURES if isinstance(error, k)), None)
            if cure is None and ("PytorchStreamWriter" in text or "allocate memory" in text):
                cure = CURES[OSError]  # torch's words for a full disk or memory
            if cure is None:
                raise
            files = ", ".join(each for each in given if os.path.exists(each))  # False of a long text too
            raise click.ClickException(f"{given[0]}: {text or type(error).__name__} ({files}); {cure}") from error
        finally:
            signal.signal(signal.SIGTERM, before)


@click.group(cls=Commands, context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Referring-expression segmentation from every box and a few masks (Partial-RES, CVPR 2023).

    The commands are in the order of use; the workflow runs most of them: snakemake --cores all.
    """


for command in (
    data.download, data.download_images, data.download_backbone, data.unpack,
    data.refshapes, data.prepare, data.cache_images, data.split,
    steps.pretrain_backbone, steps.cache_features, steps.train_rec, steps.train_res,
    steps.predict, steps.gather, steps.select, steps.score_pseudo, steps.evaluate,
    weights.import_weights, weights.export_weights, report.tables, report.figures, report.manifest,
    use.segment, use.attention, use.demo, use.export_coco, use.export_card,
    plan.estimate,
):  # fmt: skip
    main.add_command(command)
