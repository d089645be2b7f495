"""Pickles that would run code, crash Python, take all memory or never end: named within seconds."""

from __future__ import annotations

import pickle
import struct
import sys
import time

import numpy as np
import pytest

from partialres.data.pickles import read_plain
from partialres.data.refer import read_refs
from partialres.files import DataError

REF = {
    "ref_id": 1, "ann_id": 11, "image_id": 5, "category_id": 3, "split": "train", "file_name": "a.jpg",
    "sentences": [{"raw": "the cat", "sent": "the cat"}],
}  # fmt: skip
GOOD = pickle.dumps([REF] * 20, protocol=2)
NOISE = np.random.default_rng(0)


def shared(depth: int, kind: bytes = b"l") -> bytes:
    """A list that holds a list twice, which holds ...: 2^depth leaves in a few bytes."""
    text = b"(l" + b"p0\n"
    for number in range(1, depth + 1):
        text += b"(lp%d\n" % number + b"g%d\na" % (number - 1) * 2
    return text + b"."


def flipped(place: int) -> bytes:
    changed = bytearray(GOOD)
    changed[place % len(changed)] ^= int(NOISE.integers(1, 256))
    return bytes(changed)


BOMBS = {
    "tuples as a key": b"}" + b"(" * 200_000 + b"t" * 200_000 + b"Ns.",
    "tuples in tuples": b"(" * 300_000 + b"t" * 300_000 + b".",
    "lists in lists": b"]" * 200_000 + b"a" * 199_999 + b".",
    "dicts in dicts": b"}" + b"K\x00}" * 100_000 + b"s" * 100_000 + b".",
    "frozen sets in frozen sets": b"\x80\x04" + b"(" * 100_000 + b"\x91" * 100_000 + b".",
    "a shared list of 2^40": shared(40), "a shared list of 2^30": shared(30),
    "a list that holds itself": b"(lp0\ng0\na.", "a dict that holds itself": b"(dp0\nI1\ng0\ns.",
    "memo of 2^31": b"Nr" + struct.pack("<I", 2**31 - 1) + b".",
    "memo of 2^30": b"Nr" + struct.pack("<I", 2**30) + b".",
    "memo of 10^18": b"Np999999999999999999\n.", "text of 2^62": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a.",
    "bytes of 2^40": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"a.",
    "bytearray of 2^40": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"a.",
    "a number of 2^31 bytes": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01.",
    "a negative length": b"\x80\x02\x8b" + struct.pack("<i", -5) + b"\x01.",
    "a frame of 2^60": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"N.", 
    "os.system": b"cos\nsystem\n(S'true'\ntR.", "eval": b"cbuiltins\neval\n(S'1'\ntR.",
    "a class": b"(iposix\nsystem\n.",
    "stack global": b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "an extension": b"\x80\x02\x82\x01.",
    "a persistent id": b"P1\n.", "a persistent object": b"NQ.", "an out-of-band buffer": b"\x80\x05\x97.",
    "OrderedDict of a module that is not its": b"csubprocess\nPopen\n(]tR.", 
    "reduce of a set": b"cbuiltins\nset\nK\x05\x85R.",
    "build": b"cbuiltins\nset\n)R}S'a'\nK\x01sb.", "protocol 200": b"\x80\xc8N.", "nothing": b"", "a stop": b".",
    "a mark": b"(", "a web page": b"<!DOCTYPE html>", "text": b"refs", "zeros": bytes(100),
    "a numpy array": pickle.dumps(np.arange(3)), "a number": b"I1\n.", "none": b"N.", "text alone": b"S'a'\n.",
    "a dict": b"}.", "a list of numbers": b"(lI1\na.", "a list of lists": b"(l(la.", "an empty list": b"(l.",
    **{f"cut at {share:.0%}": GOOD[: int(share * len(GOOD))] for share in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)},
}  # fmt: skip
BOMBS["a digit string of 10^6"] = b"I" + b"9" * 10**6 + b"\n."


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_a_pickle_of_anything_but_refs_is_named_within_seconds(tmp_path, written, content):
    path = written("refs(unc).p", content)
    (tmp_path / "instances.json").write_text('{"images": [], "annotations": []}')
    start = time.monotonic()
    with pytest.raises(DataError, match=r"refs\(unc\)\.p|no ref is left") as error:
        read_refs(tmp_path, tmp_path, "unc", on_problem="report")
    assert time.monotonic() - start < 30 and len(str(error.value)) < 1500, path


@pytest.mark.parametrize("place", NOISE.integers(0, len(GOOD), 40).tolist())
def test_a_changed_byte_gives_plain_data_or_an_error(written, place):
    try:
        assert isinstance(read_plain(written("refs(unc).p", flipped(place))), object)
    except DataError as error:
        assert "refs(unc).p" in str(error)


@pytest.mark.parametrize(
    ("key", "value"),
    [("ref_id", "1"), ("ref_id", 1.5), ("ref_id", None), ("ref_id", True), ("ref_id", 2**70), ("ann_id", b"11"),
     ("image_id", (5,)), ("category_id", 2**40), ("category_id", "3"), ("split", b"train"), ("split", None),
     ("sentences", "the cat"), ("sentences", None), ("sentences", [5]), ("sentences", [{"raw": 5}]),
     ("sentences", [{"raw": None}]), ("sentences", [{"sent": ["a"]}]), ("sentences", [{}]), ("sentences", {"raw": "a"}),
     ("sentences", [{"raw": "\ud800"}]), ("split", "tr\ud800ain")],
)  # fmt: skip
def test_a_published_ref_of_another_type_is_named_with_its_entry(tmp_path, written, key, value):
    written("refs(unc).p", pickle.dumps([REF, REF | {key: value}], protocol=4))
    (tmp_path / "instances.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(DataError, match=r"refs\(unc\)\.p: entry 1 "):
        read_refs(tmp_path, tmp_path, "unc", on_problem="report")


def test_no_limit_of_the_child_is_left_on_the_reader(written):
    path = written("refs(unc).p", GOOD)
    assert read_plain(path) == [REF] * 20
    assert sys.getrecursionlimit() >= 1000 and len(bytes(2**28)) == 2**28
