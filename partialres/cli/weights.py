"""Commands that convert the released implementations' checkpoints to ours and back."""

from pathlib import Path

import click

from partialres.cli.options import IN_FILE, OUT_DIR, OUT_FILE


def _beside(given: Path | None, file: Path, name: str, option: str) -> Path:
    """Return `given`, or else the file called `name` in the folder of `file`; the error names the option to use."""
    path = given or file.with_name(name)
    if not path.is_file():
        raise click.UsageError(f"there is no {name} beside {file}; give its path with {option}")
    return path


@click.command("import-weights")
@click.argument("checkpoint", type=IN_FILE)
@click.argument("out", type=OUT_DIR)
@click.option("--vocabulary", type=IN_FILE, help="Its pickled vocabulary [default: token_to_ix.pkl beside it].")
@click.option(
    "--vectors", type=IN_FILE, help="Its word vectors [default: word_emb.npz beside the vocabulary, if there is one]."
)
@click.option("--max-words", type=click.IntRange(min=1), default=15, help="max_token in its config; RefCOCOg: 20.")
@click.option("--ema/--no-ema", default=None, help="Whether to take the moving average [default: if there is one].")
def import_weights(
    checkpoint: Path, out: Path, vocabulary: Path | None, vectors: Path | None, max_words: int, ema: bool | None
) -> None:
    """Convert a released SeqTR or Partial-RES CHECKPOINT to model.safetensors and vocabulary.json in the folder OUT."""
    from partialres.checkpoints import released_files as weights

    words = _beside(vocabulary, checkpoint, weights.TOKENS, "--vocabulary")
    near = words.with_name(weights.VECTORS)
    table = vectors or (near if near.is_file() else None)
    weights.import_weights(checkpoint, words, table, out, ema=ema, max_words=max_words)


@click.command("export-weights")
@click.argument("model", type=IN_FILE)
@click.argument("out", type=OUT_FILE)
@click.option("--vocabulary", type=IN_FILE, help="Its vocabulary.json [default: the one beside it].")
def export_weights(model: Path, out: Path, vocabulary: Path | None) -> None:
    """Convert MODEL to OUT (.pth), a checkpoint for the released code, with its vocabulary and vectors beside it."""
    from partialres.checkpoints import released_files as weights

    weights.export_weights(model, _beside(vocabulary, model, weights.VOCABULARY, "--vocabulary"), out)
