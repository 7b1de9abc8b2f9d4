"""JsonList against json.loads, the file read in pieces of a few bytes."""

import json
import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pnm.formats import json_list
from pnm.formats.json_list import JsonList, first_item, is_list

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
IN_ONE_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)


def opened(path, chunk, monkeypatch):
    monkeypatch.setattr(json_list, "_CHUNK", chunk)
    visited = []
    items = JsonList(path, "a list", lambda n, item: visited.append((n, item)))
    assert [n for n, _ in visited] == list(range(len(items)))
    return items, [item for _, item in visited]


@IN_ONE_FOLDER
@given(
    values=st.lists(VALUES, max_size=6),
    ascii_only=st.booleans(),
    mark=st.booleans(),
    indent=st.sampled_from([None, 1]),
    chunk=st.integers(1, 40),
)
def test_items_equal_those_of_json(values, ascii_only, mark, indent, chunk, tmp_path, monkeypatch):
    text = json.dumps(values, ensure_ascii=ascii_only, indent=indent)
    path = tmp_path / "list.json"
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + f" {text}\n ".encode("utf-8", "surrogatepass"))
    items, visited = opened(path, chunk, monkeypatch)
    assert visited == values and len(items) == len(values)
    backwards = range(len(values) - 1, -1, -1)
    assert list(items.read(backwards)) == values[::-1]
    assert list(pickle.loads(pickle.dumps(items)).read(range(len(values)))) == values  # for workers that are spawned
    assert is_list(path, "a list") and first_item(path, "a list") == (values or [None])[0]


@IN_ONE_FOLDER
@given(
    values=st.lists(VALUES, max_size=4),
    place=st.floats(0, 1),
    removed=st.integers(0, 3),
    added=st.sampled_from([b"", b"]", b"[", b",", b"}", b"1", b'"', b"\\", b"\xff", b"\x00", b"nul", b" "]),
    chunk=st.integers(1, 40),
)
def test_damage_is_noticed_where_json_notices_it(values, place, removed, added, chunk, tmp_path, monkeypatch):
    data = json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogatepass")
    at = int(place * len(data))
    data = data[:at] + added + data[at + removed :]
    path = tmp_path / "list.json"
    path.write_bytes(data)
    try:
        expected = json.loads(data.decode())
    except ValueError:
        expected = None
    if isinstance(expected, list):
        assert repr(opened(path, chunk, monkeypatch)[1]) == repr(expected)  # NaN doesn't equal itself
    else:
        with pytest.raises(
            ValueError, match=r"list.json is (not JSON \(.*, near byte \d+\)|not a list): expected a list"
        ):
            opened(path, chunk, monkeypatch)


def test_deep_nesting(tmp_path, monkeypatch):
    (tmp_path / "list.json").write_text("[" * 200_000)
    with pytest.raises(ValueError, match="list.json is not JSON"):
        opened(tmp_path / "list.json", 2**20, monkeypatch)


def test_file_that_changes(tmp_path):
    path = tmp_path / "list.json"
    path.write_text("[1, 2]")
    items = JsonList(path, "a list", lambda n, item: None)
    path.write_text("[1, 2, 3]")
    with pytest.raises(ValueError, match="list.json has been changed since it was opened: run the same command again"):
        list(items.read([0]))
    path.unlink()
    with pytest.raises(FileNotFoundError, match="list.json is missing: expected the file that was read before"):
        list(items.read([0]))
    with pytest.raises(ValueError, match="can't be read .*: expected a list"):
        JsonList(tmp_path, "a list", lambda n, item: None)
