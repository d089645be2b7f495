"""Read pickles that hold plain data only. Anything else is refused, because loading it could run code.

A child process reads them within limits, because a few bytes can demand any depth, memory or time, or crash Python.
Run as a program, this file is that child: it writes the content as a pickle in which nothing is shared.
"""

import io
import pickle
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

PLAIN = {"OrderedDict": dict, "set": set, "frozenset": frozenset}  # lists, dicts and the like need no name
ROOM, TIMES, SECONDS = 2**26, 60, 300  # reading may take ROOM bytes plus TIMES the file's size, and SECONDS of a core


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name not in PLAIN:
            raise pickle.UnpicklingError(f"{module}.{name} is not loaded, because it could run code")
        return PLAIN[name]


def read_plain(path: Path) -> Any:
    """Read a pickle, by Python 2 or 3, of plain containers, text and numbers; raises DataError for any other file."""
    from partialres.files import DataError

    child = subprocess.run([sys.executable, "-I", "-S", __file__, path], capture_output=True)
    if child.returncode == 0:
        return _PlainUnpickler(io.BytesIO(child.stdout)).load()
    reason = child.stderr.decode(errors="replace").strip() or f"reading it ended with signal {-child.returncode}"
    raise DataError(f"{path}: not a pickle of plain data ({reason}); download it again, as published")


def main() -> None:
    """Read the pickle that is named and write it for `read_plain`; raise SystemExit with the reason if it is none."""
    import codecs

    # Python 2 wrote strings as bytes: those that are not UTF-8 are Latin-1.
    latin = lambda error: (error.object[error.start : error.end].decode("latin-1"), error.end)  # noqa: E731
    codecs.register_error("as-latin-1", latin)
    with open(sys.argv[1], "rb") as file:
        resource.setrlimit(resource.RLIMIT_AS, (ROOM + TIMES * Path(file.name).stat().st_size,) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        try:
            content = _PlainUnpickler(file, encoding="utf-8", errors="as-latin-1").load()
            written = io.BytesIO()  # counts as memory
            pickler = pickle.Pickler(written, protocol=4)
            pickler.fast = True  # what is shared is written each time, so that a bomb bursts here
            pickler.dump(content)
            sys.stdout.buffer.write(written.getbuffer())
        except Exception as error:  # damaged bytes can raise any exception
            sys.exit(f"{error or type(error).__name__}"[:500])


if __name__ == "__main__":
    main()
