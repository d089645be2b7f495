"""Read pickles that hold plain data only. Anything else is refused, because loading it could run code."""

from __future__ import annotations

import codecs
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

from partialres.files import DataError


# Python 2 wrote strings as bytes: those that are not UTF-8 are Latin-1.
def _as_latin_1(error: Any) -> tuple[str, int]:
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error("as-latin-1", _as_latin_1)

_PLAIN: dict[tuple[str, str], type] = {("collections", "OrderedDict"): OrderedDict}
_PLAIN |= {(module, kind.__name__): kind for module in ("builtins", "__builtin__") for kind in (set, frozenset)}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PLAIN:
            raise DataError(f"holds {module}.{name}, which is not plain data; not loaded, for that could run code")
        return _PLAIN[module, name]


def read_plain(path: Path) -> Any:
    """Read a pickle of plain containers, text and numbers, written by Python 2 or 3.

    Raises DataError that names the file if it holds anything else or is damaged.
    """
    try:
        with path.open("rb") as file:
            return _PlainUnpickler(file, encoding="utf-8", errors="as-latin-1").load()
    except DataError as error:
        raise DataError(f"{path}: {error}. Use the file as published.") from None
    except (pickle.UnpicklingError, EOFError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as e:
        raise DataError(f"{path}: not a readable pickle ({e}); download it again") from e
