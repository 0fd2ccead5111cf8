import contextlib
import csv
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from mmjax.core.errors import UserError
from mmjax.data.sources import index
from mmjax.data.sources.index import Elements, Rows, keys_of

FIELD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | FIELD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELD, inner, max_size=3),
    max_leaves=6,
)


# (end of line, quoting): where lines end in \n alone, Python writes a \r without quotes.
ENDS = [("\n", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_MINIMAL)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(FIELD, min_size=2, max_size=2), max_size=6), st.sampled_from(",;|\t"), st.sampled_from(ENDS))
def test_csv_rows_come_back(tmp_path_factory, rows, sep, how):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=sep, lineterminator=how[0], quoting=how[1]).writerows([["image", "caption"], *rows])
    found = Rows(str(path), None, "utf-8", '"')
    assert found.header == ["image", "caption"]
    assert [found[i] for i in range(len(found))] == rows


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.dictionaries(FIELD, VALUES, max_size=3), max_size=5),
    st.booleans(),
    st.sampled_from([None, 1]),
    st.integers(1, 40),
)
def test_json_objects_come_back(tmp_path_factory, objects, ascii, indent, chunk):
    """In a list, in lines, under a key behind others, whatever the places at which the file's pieces are cut."""
    folder = tmp_path_factory.mktemp("json")
    written = [json.dumps(one, ensure_ascii=ascii) for one in objects]
    whole = {"info": {"x": [1, "]"]}, "others": objects, "wanted": objects, "after": 1}
    contents = {
        ("list", None): json.dumps(objects, ensure_ascii=ascii, indent=indent),
        ("lines", None): "\ufeff" + "\r\n".join(written) + "\n\n",
        ("key", "wanted"): json.dumps(whole, ensure_ascii=ascii, indent=indent),
    }
    before, index.CHUNK = index.CHUNK, chunk
    try:
        for (name, key), content in contents.items():
            (folder / name).write_text(content, encoding="utf-8", newline="")
            found = Elements(str(folder / name), key)
            assert [found[i] for i in range(len(found))] == [(one, i, 0) for i, one in enumerate(objects)]
    finally:
        index.CHUNK = before
    assert keys_of(str(folder / "key")) == list(whole)
    assert keys_of(str(folder / "list")) == []


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60) | st.text('[]{}",: \n\\ux1é', max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "a"
    path.write_bytes(content)
    for read in (lambda: Rows(str(path), None, "utf-8", '"'), lambda: Elements(str(path)), lambda: Elements(str(path), "x")):
        with contextlib.suppress(UserError):
            found = read()
            assert all(found[i] is not None for i in range(len(found)))
