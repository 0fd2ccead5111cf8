from mmjax.core.errors import UserError, printable


def test_what_a_terminal_would_obey_is_escaped():
    assert str(UserError("a\x1b[2Jb\x00 'ü中.jpg'\nset it")) == "a\\x1b[2Jb\\x00 'ü中.jpg'\nset it"
    assert printable("a\u202eb\ud800") == "a\\u202eb\\ud800"
