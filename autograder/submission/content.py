"""The bytes of a submitted file as text, or one line about what the file is instead."""
from __future__ import annotations

from autograder.submission.problems import BadInput

MAX_FILE_BYTES = 64 << 20
"""A notebook may carry many pictures in its outputs, which nobody reads here."""

_LOOKS_LIKE = (
    (b"\x89PNG", "a PNG image"), (b"\xff\xd8\xff", "a JPEG image"), (b"GIF8", "a GIF image"), (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a zip archive (name it .zip)"), (b"\x1f\x8b", "a gzip archive"), (b"\x7fELF", "a program"),
    (b"\xff\xfe", "UTF-16 text (save it as UTF-8)"), (b"\xfe\xff", "UTF-16 text (save it as UTF-8)"),
    (b"<!doctype html", "an HTML page"), (b"<html", "an HTML page"),
)


def decoded(data: bytes, name: str, kind: str) -> str:
    """The text of a file that should be `kind` ("a notebook"), without a byte order mark."""
    if len(data) > MAX_FILE_BYTES:
        raise BadInput(name, f"larger than {MAX_FILE_BYTES >> 20} MiB; clear the outputs and save it again")
    start = data[:200].removeprefix(b"\xef\xbb\xbf").lstrip()
    # A full disk leaves files of zeros behind.
    if not data.strip(b" \t\r\n\xef\xbb\xbf\x00"):
        raise BadInput(name, "the file is empty")
    for magic, what in _LOOKS_LIKE:
        if start.lower().startswith(magic.lower()):
            raise BadInput(name, f"not {kind}: it is {what}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(name, f"line {line}: not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}") \
            from None
