"""Arrays handed from one process to another through a file."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from diglot.errors import BadInput
from diglot.runtime.exchange import on_disk, read_arrays, write_arrays


def some():
    generator = np.random.default_rng(0)
    kinds = ["bool", "int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64"]
    kinds.append("complex64")
    arrays = {kind: (9 * generator.random((3, 5))).astype(kind) for kind in kinds}
    arrays["strided"] = generator.standard_normal((4, 3, 2)).transpose(2, 0, 1)[:, ::2]
    arrays["scalar"], arrays["empty"] = np.array(2.5), np.zeros((0, 3))
    arrays["broadcast"] = np.broadcast_to(np.float32(1.5), (2, 3))
    return arrays


@pytest.mark.parametrize("arrays", [some(), {}], ids=["some", "none"])
def test_arrays_are_what_they_were(tmp_path, arrays):
    path = tmp_path / "a.safetensors"
    write_arrays(path, arrays)
    found = [load_file(path), read_arrays(path), read_arrays(path, remove=True), on_disk(arrays)]
    assert not path.exists()
    for read in found:
        assert set(read) == set(arrays)
        for name, array in arrays.items():
            assert read[name].dtype == array.dtype and read[name].shape == array.shape
            assert np.array_equal(read[name], array) and read[name].flags.aligned


def test_between_processes_what_safetensors_has_no_name_for(tmp_path):
    arrays = {**some(), "complex128": np.arange(6).reshape(2, 3) * (1 - 2j)}
    write_arrays(tmp_path / "a", arrays)
    read = read_arrays(tmp_path / "a", remove=True)
    assert set(read) == set(arrays) and read["complex128"].dtype == np.complex128
    assert all(np.array_equal(read[name], array) for name, array in arrays.items())
    assert all(array.flags.aligned for array in read.values())


def test_arrays_of_a_file_that_is_gone_can_be_written_to():
    first, second = on_disk(some()), on_disk(some())
    first["float64"] += 1.0
    assert np.array_equal(first["float64"], second["float64"] + 1.0)


def test_what_cannot_be_handed_over_is_refused(tmp_path):
    with pytest.raises(BadInput, match="str") as caught:
        write_arrays(tmp_path / "a", {"names": np.array(["a"])})
    assert caught.value.where == "names" and not (tmp_path / "a").exists()
    with pytest.raises(BadInput, match="could not be written"):
        write_arrays(tmp_path / "none" / "a", some())
