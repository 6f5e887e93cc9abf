from __future__ import annotations

import pytest

from crashfree.server.multipart import BadMultipart, parse

TYPE = "multipart/form-data; boundary=xyz"


def test_parts_are_taken_apart() -> None:
    body = (
        b"preamble\r\n--xyz\r\n"
        b'Content-Disposition: form-data; name="name"\r\n\r\n~/a.js\r\n'
        b"--xyz  \r\n"
        b'content-disposition: form-data; name="file"; filename="a b.js"\r\n'
        b"Content-Type: text/plain\r\n\r\nline\r\n--xy\r\n\r\n"
        b"--xyz--\r\nepilogue"
    )
    name, file = parse(body, TYPE)
    assert (name.name, name.filename, name.text) == ("name", None, "~/a.js")
    assert (file.name, file.filename, bytes(file.data)) == (
        "file",
        "a b.js",
        b"line\r\n--xy\r\n",
    )


def test_an_empty_part_and_no_part() -> None:
    body = b'--xyz\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n--xyz--'
    assert parse(body, 'multipart/form-data; boundary="xyz"')[0].text == ""
    assert parse(b"--xyz--\r\n", TYPE) == []


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", TYPE),
        (b"--xyz--", "application/json"),
        (b"--xyz--", "multipart/form-data"),
        (b"--xyz--", ""),
        (b"--xyz\r\n\r\nno headers\r\n--xyz--", TYPE),
        (b'--xyz\r\nContent-Disposition: form-data; name="a"\r\n\r\nopen', TYPE),
        (b"--xyz\r\nContent-Disposition: form-data\r\n\r\nx\r\n--xyz--", TYPE),
        (b"--xyz\r\nX: y\r\n--xyz--", TYPE),
        (b"--xyzzy\r\n", TYPE),
        (b"--xyz", TYPE),
    ],
)
def test_what_is_not_well_formed_is_refused(body: bytes, content_type: str) -> None:
    with pytest.raises(BadMultipart):
        parse(body, content_type)


def test_the_number_of_parts_is_bounded() -> None:
    part = b'--xyz\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n'
    with pytest.raises(BadMultipart, match="too many"):
        parse(part * 1001 + b"--xyz--", TYPE)
