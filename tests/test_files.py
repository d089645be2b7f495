"""Files are written whole or not at all, and errors name them."""

import os

import pandas as pd
import pyarrow as pa
import pytest

from partialres.files import (
    DataError,
    atomic,
    new_table,
    progress,
    read_groups,
    read_json,
    read_table,
    say,
    write_json,
    write_table,
    write_text,
)


def test_a_file_appears_under_its_name_only_when_the_block_has_ended_well(tmp_path):
    path = tmp_path / "new/folder/table.csv"
    with atomic(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent and temporary.suffix == ".csv"
    assert path.read_text() == "half"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_block_leaves_what_stood_there_and_nothing_else(tmp_path, error):
    path = tmp_path / "table.csv"
    path.write_text("before")
    with pytest.raises(error), atomic(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_has_the_permissions_that_the_umask_gives(tmp_path):
    old = os.umask(0o027)
    try:
        write_text("x", tmp_path / "x")
    finally:
        os.umask(old)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


SCHEMA = pa.schema({"ref_id": pa.int64(), "points": pa.list_(pa.list_(pa.float64())), "d": pa.float64()})


def test_a_table_that_grew_by_groups_comes_back_group_by_group_or_whole(tmp_path):
    path, groups = tmp_path / "table.parquet", [[1, 2], [], [3]]
    tables = [pd.DataFrame({"d": 0.5, "ref_id": ids, "points": [[[0.1, ref_id]] for ref_id in ids]}) for ids in groups]
    with new_table(path, SCHEMA) as append:
        for table in tables:
            append(table)
        assert not path.exists()
    assert [table["ref_id"].tolist() for table in read_groups(path, ["ref_id", "d"])] == [[1, 2], [3]]
    assert read_table(path)["ref_id"].tolist() == [1, 2, 3] and list(read_table(path)) == SCHEMA.names
    with new_table(tmp_path / "empty.parquet", SCHEMA):
        pass
    assert not list(read_groups(tmp_path / "empty.parquet", ["d"])) and read_table(tmp_path / "empty.parquet").empty


def test_a_bad_group_is_refused_by_the_row_of_the_whole_file_and_a_missing_column_by_its_name(tmp_path):
    path = tmp_path / "table.parquet"
    with new_table(path, SCHEMA) as append:
        for d in (0.5, float("inf")):
            append(pd.DataFrame({"ref_id": [1, 2], "points": [[], []], "d": d}))
    with pytest.raises(DataError, match=r"table\.parquet: row 2: d is inf"):
        list(read_groups(path, ["ref_id", "d"]))
    with pytest.raises(DataError, match=r"table\.parquet.*expression"):
        next(read_groups(path, ["ref_id", "expression"]))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match=r"table\.parquet: cannot be read"):
        next(read_groups(path, ["ref_id"]))


def test_json_comes_back_and_what_is_no_json_is_refused(tmp_path):
    value = {"b": [1, 2.5, None], "a": {"é": "ñ"}}
    write_json(value, tmp_path / "value.json")
    assert read_json(tmp_path / "value.json") == value
    assert list(read_json(tmp_path / "value.json")) == ["b", "a"]
    with pytest.raises(ValueError):
        write_json({"score": float("nan")}, tmp_path / "value.json")
    assert read_json(tmp_path / "value.json") == value


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_a_broken_json_file_is_named(tmp_path, content):
    (tmp_path / "broken.json").write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.json"):
        read_json(tmp_path / "broken.json")


def test_a_table_comes_back_whole_or_by_its_columns(tmp_path):
    table = pd.DataFrame({"ref_id": [1, 2], "points": [[[1.0, 2.0]], [[3.0, 4.0]]], "mask": ["a", None]})
    write_table(table, tmp_path / "table.parquet")
    back = read_table(tmp_path / "table.parquet")
    assert back["ref_id"].tolist() == [1, 2] and [list(p) for p in back["points"][1]] == [[3.0, 4.0]]
    assert back["mask"].isna().tolist() == [False, True]
    assert list(read_table(tmp_path / "table.parquet", ["mask", "ref_id"]).columns) == ["mask", "ref_id"]


def test_a_missing_column_and_a_file_that_is_no_table_are_named(tmp_path):
    write_table(pd.DataFrame({"ref_id": [1]}), tmp_path / "table.parquet")
    with pytest.raises(DataError, match=r"table\.parquet.*bbox"):
        read_table(tmp_path / "table.parquet", ["bbox"])
    (tmp_path / "other.parquet").write_text("no table")
    with pytest.raises(DataError, match=r"other\.parquet"):
        read_table(tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"absent\.parquet"):
        read_table(tmp_path / "absent.parquet")


def test_progress_passes_everything_on_and_says_where_it_is(capsys):
    assert list(progress(range(3), "counting", seconds=0)) == [0, 1, 2]
    said = capsys.readouterr().err.splitlines()
    assert said[1].startswith("counting: 2 of 3") and said[-1].startswith("counting: 3 done")
    assert list(progress(iter([]), "nothing")) == []


def test_what_is_said_goes_to_standard_error(capsys):
    say("hello")
    assert capsys.readouterr() == ("", "hello\n")
