"""The IDX reader and writer."""

import gzip

import numpy as np
import pytest

from diglot.data.idx import parse_idx, read_idx, write_idx
from diglot.errors import BadInput


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4)])
def test_what_is_written_is_read(tmp_path, shape):
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    path = tmp_path / "a.gz"
    write_idx(path, array)
    assert np.array_equal(read_idx(path), array)
    plain = tmp_path / "a"
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    assert np.array_equal(read_idx(plain), array)


def test_the_same_array_gives_the_same_bytes(tmp_path):
    array = np.arange(9, dtype=np.uint8)
    write_idx(tmp_path / "a.gz", array)
    write_idx(tmp_path / "b.gz", array)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_only_bytes_are_written(tmp_path):
    with pytest.raises(TypeError, match="uint8"):
        write_idx(tmp_path / "a.gz", np.zeros(3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"PK\x03\x04", "not an IDX file"),
        (b"\0\0\x0d\x01\0\0\0\1....", "not an IDX file"),  # floats
        (b"\0\0\x08\x03\0\0", "ends inside its header"),
        (b"\0\0\x08\x01\0\0\0\5abc", "not as long as its header says"),
        (b"\0\0\x08\x01\0\0\0\2abc", "not as long as its header says"),
    ],
)
def test_anything_else_is_refused(content, message):
    with pytest.raises(BadInput, match=message):
        parse_idx(content, "labels")


def test_a_file_cut_short_is_refused(tmp_path):
    path = tmp_path / "a.gz"
    write_idx(path, np.random.default_rng(0).integers(0, 255, 5000).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BadInput, match="damaged or cut short"):
        read_idx(path)
    with pytest.raises(BadInput, match="cannot be read"):
        read_idx(tmp_path / "absent")
