"""Pickles that hold plain data only. Of any other nothing is loaded, for loading could run code."""

from __future__ import annotations

import codecs
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

from partialres.files import DataError


# In a string that Python 2 wrote, bytes that are not UTF-8 are Latin-1.
def _as_latin_1(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error("as-latin-1", _as_latin_1)


class _PlainUnpickler(pickle.Unpickler):
    """Reads only plain containers, text and numbers: a pickle of anything else could run any code."""

    plain = {(module, kind.__name__): kind for module in ("builtins", "__builtin__") for kind in (set, frozenset)} | {
        ("collections", "OrderedDict"): OrderedDict
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.plain:
            raise DataError(f"holds {module}.{name}, which is not plain data; not loaded, for that could run code")
        return self.plain[module, name]


def read_plain(path: Path) -> Any:
    """What a pickle of plain containers, text and numbers holds, written by Python 2 or 3.

    Raises DataError that names the file and what it holds beside, or that it is damaged.
    """
    try:
        with path.open("rb") as file:
            return _PlainUnpickler(file, encoding="utf-8", errors="as-latin-1").load()
    except DataError as error:
        raise DataError(f"{path}: {error}. Use the file as published.") from None
    except (
        pickle.UnpicklingError,
        EOFError,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise DataError(f"{path}: not a readable pickle ({error}); download it again") from error
