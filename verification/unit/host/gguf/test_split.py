"""Models in parts: whatever is not as it should be is named."""

import re
from pathlib import Path

import numpy as np
import pytest

from tailrace.gguf.split import open_parts
from tailrace.gguf.writer import tensor_of, write_gguf
from tailrace.spec.errors import ModelError
from verification.unit.host.tiny_models import split, write_model


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    return split(write_model(tmp_path / "whole.gguf"), tmp_path / "model", 3)


def refuses(path: Path, text: str) -> None:
    with pytest.raises(ModelError, match=f"^{re.escape(text)}$"):
        open_parts(path)


def test_any_part_opens_all(parts: list[Path]) -> None:
    for path in parts:
        assert [header.path for header in open_parts(path)] == parts


def test_a_file_of_its_own(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.gguf", metadata={"split.count": np.uint16(1)})
    assert [header.path for header in open_parts(path)] == [path]


def test_missing_parts(parts: list[Path]) -> None:
    parts[1].unlink()
    advice = "download all parts into one folder"
    refuses(parts[0], f"{parts[0]} is one of 3 parts of a model, and {parts[1]} is missing: {advice}")
    parts[0].unlink()
    refuses(parts[2], f"{parts[2]} is one of 3 parts of a model, and {parts[0]} and 1 more are missing: {advice}")


def test_names(parts: list[Path]) -> None:
    path = parts[1].rename(parts[1].with_name("second.gguf"))
    text = "is part 2 of 3 of a model, and is not named so: rename it to name-00002-of-00003.gguf, beside the other parts"
    refuses(path, f"{path} {text}")
    path = path.rename(parts[0])
    refuses(path, f"{path} {text}")


def test_links_of_other_names(parts: list[Path], tmp_path: Path) -> None:
    """The other parts are beside what a link leads to, if its own name is none of a part, as in caches of blobs."""
    (tmp_path / "links").mkdir()
    link, second, blob = (tmp_path / "links" / name for name in ("latest.gguf", "second.gguf", "0abc"))
    link.symlink_to(Path("..") / parts[1].name)
    second.symlink_to(link)
    for path in (link, second):
        assert [header.path.resolve() for header in open_parts(path)] == parts
    parts[1].rename(blob)
    parts[1].symlink_to(blob)
    assert [header.path for header in open_parts(parts[1])] == parts
    assert [header.path.resolve() for header in open_parts(second)] == [parts[0], blob, parts[2]]
    parts[1].unlink()
    link.unlink()
    link.symlink_to(blob)
    text = "is part 2 of 3 of a model, and is not named so: rename it to name-00002-of-00003.gguf, beside the other parts"
    refuses(second, f"{second} {text}")


def test_parts_of_different_models(parts: list[Path]) -> None:
    parts[2].write_bytes(parts[1].read_bytes())
    refuses(parts[0], f"{parts[2]} is not part 3 of 3, as its name says: download it again")
    values = {"split.no": np.uint16(2), "split.count": np.uint16(3)}
    write_gguf(parts[2], None, values, [tensor_of("output_norm.weight", np.ones(4))])
    text = f"has the tensor output_norm.weight, which is in {parts[1]} already: download both again"
    refuses(parts[0], f"{parts[2]} {text}")


def test_too_few_tensors(parts: list[Path]) -> None:
    write_gguf(parts[2], None, {"split.no": np.uint16(2), "split.count": np.uint16(3)}, [])
    with pytest.raises(ModelError, match=r"speaks of 20 tensors in its 3 parts, and they have 14: download all parts again$"):
        open_parts(parts[0])


def test_a_damaged_part(parts: list[Path]) -> None:
    parts[2].write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(ModelError, match=f"^{re.escape(str(parts[2]))} is a web page, not a model"):
        open_parts(parts[0])
