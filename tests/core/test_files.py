"""Files are written whole or not at all."""

import os

import pytest

from mmjax.core import files


def test_the_older_file_stays_when_writing_fails(tmp_path, monkeypatch):
    path = files.write(tmp_path / "new" / "page.html", "first ö")
    assert path.read_text(encoding="utf-8") == "first ö"

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        files.write(path, "second")
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]
    assert path.read_text(encoding="utf-8") == "first ö"
