"""The commands that bring public files to the disk."""

from __future__ import annotations

from pathlib import Path

import click

from partialres.cli_options import IN_FILE, OUT


@click.command("download")
@click.argument("name")
@click.option("--table", type=IN_FILE, required=True, help="Names, addresses, sizes and checksums, tab-separated.")
@click.option("--folder", type=OUT, required=True, help="Folder for NAME and, beside it, NAME.sha256.")
def download(name: str, table: Path, folder: Path) -> None:
    """Download the file NAME of the table, going on from where an earlier call was cut off, and check it.

    A file that is there already is only checked.
    """
    from partialres.data import download as files
    from partialres.files import DataError

    items = files.read_items(table)
    if name not in items:
        raise DataError(f"{table}: has no {name}; it has {', '.join(items)}")
    files.download(items[name], folder)


@click.command("unpack")
@click.argument("archive", type=IN_FILE)
@click.argument("out", type=OUT)
@click.option("--list", "listing", type=OUT, help="File that gets the names of all files, when all are there.")
@click.option("--only", help="Unpack this file alone, to the file OUT.")
def unpack(archive: Path, out: Path, listing: Path | None, only: str | None) -> None:
    """Unpack the zip ARCHIVE into the folder OUT."""
    from partialres.data import download as files

    if (listing is None) == (only is None):
        raise click.UsageError("give either --list or --only")
    if only is not None:
        files.unpack_one(archive, only, out)
    elif listing is not None:
        click.echo(f"{files.unpack(archive, out, listing)} files of {archive} are in {out}", err=True)
