"""What every case of the corpus must do: end with one error that names the file or key, and no traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.commands import run

Refuses = Callable[..., str]


@pytest.fixture
def refuses() -> Refuses:
    """(words that the message must have, command and options ...) -> the message of a command that refuses."""

    def call(words: list[Any], *arguments: Any) -> str:
        answer = run(*arguments)
        assert answer.exit_code not in (0, None), f"accepted: {answer.output}"
        message = answer.output.partition("Error: ")[2].strip()
        assert message and "Traceback" not in answer.output, answer.output
        assert len(message) < 4000, "a message that nobody can read"
        assert [word for word in words if str(word).lower() not in message.lower()] == [], message
        return message

    return call


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str, bytes | str], Path]:
    """(name, content) -> a new file."""

    def write(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return path

    return write
