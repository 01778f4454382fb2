"""A packed results file is read, and gone on from, as the plain one."""

from benchmarks.results_file import appended, pack, whole_rows

COLUMNS = ["name", "value"]


def test_a_packed_file_is_read_and_gone_on_from(tmp_path) -> None:
    path = tmp_path / "runs.csv"
    for _ in appended([{"name": "a", "value": 1}], path, COLUMNS):
        pass
    plain = path.read_bytes()
    packed = pack(path)
    assert not path.exists() and packed.name == "runs.csv.gz"
    assert whole_rows(path, COLUMNS).to_numpy().tolist() == [["a", "1"]]
    first = packed.read_bytes()
    for _ in appended([{"name": "b", "value": 2}], path, COLUMNS):
        pass
    assert not packed.exists() and path.read_bytes().startswith(plain)
    assert whole_rows(path, COLUMNS)["name"].tolist() == ["a", "b"]
    path.write_bytes(plain)
    assert pack(path).read_bytes() == first  # no time, no name of a system: one packed form
