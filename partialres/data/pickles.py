"""Read pickles that hold plain data only. Anything else is refused, because loading it could run code."""

from __future__ import annotations

import codecs
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

from partialres.files import DataError

PLAIN = {"OrderedDict": OrderedDict, "set": set, "frozenset": frozenset}  # lists, dicts and the like need no name


# Python 2 pickled strings as bytes: in the published files these are UTF-8 or Latin-1.
def _as_latin_1(error: Any) -> tuple[str, int]:
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error("as-latin-1", _as_latin_1)


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name not in PLAIN:
            raise pickle.UnpicklingError(f"{module}.{name} is not loaded, because it could run code")
        return PLAIN[name]


def read_plain(path: Path) -> Any:
    """Read a pickle, by Python 2 or 3, of plain containers, text and numbers; raises DataError for any other file."""
    with path.open("rb") as file:
        try:
            return _PlainUnpickler(file, encoding="utf-8", errors="as-latin-1").load()
        except Exception as error:  # damaged bytes can raise any exception
            raise DataError(f"{path}: not a pickle of plain data ({error}); download the published file") from error
