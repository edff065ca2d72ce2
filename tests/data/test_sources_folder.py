"""Folders of pictures: with captions, as classes, with a metadata file."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from vitrail.contracts.errors import DataError
from vitrail.contracts.messages import ImagePart
from vitrail.data.dialects import dialects_of, to_conversation
from vitrail.data.sources.config import FolderConfig
from vitrail.data.sources.folder import FolderSource, Names


def opened(folder: Path, files: dict[str, str], **settings: Any) -> FolderSource:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return FolderSource(FolderConfig(folder, **settings))


def read(folder: Path, files: dict[str, str], index: int | None, **settings: Any) -> None:
    source = opened(folder, files, **settings)
    if index is not None:
        source.row(index)


def refusal(folder: Path, files: dict[str, str], index: int | None = None, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(folder, files, index, **settings)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_captions_beside_pictures(tmp_path: Path) -> None:
    files = {"b.png": "", "b.txt": "\ufeffA bird.\n", "a.JPG": "", "a.txt": "An ant.", "deep/c.webp": "", ".x.png": ""}
    source = pickle.loads(pickle.dumps(opened(tmp_path, files)))
    assert (len(source), source.layout, source.name) == (3, "captions", tmp_path.name)
    assert set(dialects_of(source)) == {"caption"}
    row = source.row(1)
    assert (row.id, row.location, row.fields) == (
        "b.png",
        str(tmp_path / "b.png"),
        {"image": "b.png", "text": "A bird."},
    )
    conversation = to_conversation(row)
    assert conversation.media == (ImagePart(tmp_path / "b.png"),)
    assert conversation.messages[1].text == "A bird."
    # A picture without a caption is lost by name, and not left out in silence.
    assert refusal(tmp_path, {}, 2) == f"{tmp_path / 'deep/c.webp'}: has no caption: 'c.txt' does not exist"
    (tmp_path / "b.txt").write_bytes(b"\xff")
    assert refusal(tmp_path, {}, 1) == f"{tmp_path / 'b.txt'}: is not UTF-8: invalid start byte at byte 0"


def test_folders_as_classes(tmp_path: Path) -> None:
    files = {"sick leaf/2.png": "", "sick leaf/1.png": "", "healthy/9.png": "", "healthy/notes.md": ""}
    source = opened(tmp_path, files, question="How is this plant?")
    assert (len(source), source.layout, set(dialects_of(source))) == (3, "classes", {"vqa"})
    messages = [to_conversation(source.row(index)).messages for index in range(3)]
    assert [message[1].text for message in messages] == ["healthy", "sick leaf", "sick leaf"]
    assert messages[0][0].text == "\nHow is this plant?"
    assert messages[1][0].parts[0] == ImagePart(tmp_path / "sick leaf/1.png")
    assert len(opened(tmp_path, {}, rows=2)) == 2


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_metadata_as_the_datasets_library_has_it(tmp_path: Path, ending: str) -> None:
    rows = [{"file_name": "sub/a.png", "text": "An ant, brown"}, {"file_name": "b.png", "text": "A bird"}]
    if ending == "jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        text = "file_name,text\r\n" + "".join(f'{row["file_name"]},"{row["text"]}"\r\n' for row in rows)
    source = pickle.loads(pickle.dumps(opened(tmp_path, {f"metadata.{ending}": text, "sub/a.png": "", "b.png": ""})))
    assert (len(source), source.layout, set(dialects_of(source))) == (2, "metadata", {"caption"})
    conversation = to_conversation(source.row(0))
    assert conversation.media == (ImagePart(tmp_path / "sub/a.png"),)
    assert conversation.messages[1].text == "An ant, brown"
    assert len(opened(tmp_path, {}, rows=1)) == 1


def test_metadata_of_conversations_with_several_pictures(tmp_path: Path) -> None:
    row = {"file_names": ["a.png", "b.png"], "messages": [{"role": "user", "content": "?"}], "id": "x"}
    source = opened(tmp_path, {"metadata.jsonl": json.dumps(row)})
    assert source.row(0).fields["images"] == ["a.png", "b.png"]
    assert (source.row(0).id, set(dialects_of(source))) == ("x", {"tags"})


def test_what_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, {"file.txt": ""}) == f"'{tmp_path}' holds no picture"
    assert refusal(tmp_path / "gone", {}) == f"'{tmp_path / 'gone'}' does not exist"
    assert refusal(tmp_path / "file.txt", {}) == f"'{tmp_path / 'file.txt'}' is not a folder"
    said = refusal(tmp_path, {"a.png": "", "c/b.png": ""})
    assert said.startswith(f"'{tmp_path}' does not say what its pictures show: put a .txt beside each")
    assert refusal(tmp_path, {}, layout="metadata") == f"'{tmp_path}' has neither metadata.jsonl nor metadata.csv"
    said = refusal(tmp_path, {"metadata.jsonl": '{"text": "x", "n": 1}'}, 0)
    assert said.endswith("metadata.jsonl:1: a row needs 'file_name' or 'file_names'; it has: text, n")
    said = refusal(tmp_path, {"metadata.jsonl": "{broken"}, 0)
    assert "metadata.jsonl:1: not JSON: " in said
    (tmp_path / "metadata.jsonl").unlink()
    for cells in ("a.png\n", "a.png,x,y\n"):
        said = refusal(tmp_path, {"metadata.csv": "file_name,text\n" + cells}, 0)
        assert said.endswith("metadata.csv:2: has another number of cells than the first line")
    assert refusal(tmp_path, {"metadata.csv": "file_name,text\n"}).endswith("has no rows")


def test_a_folder_may_be_forced_into_a_layout(tmp_path: Path) -> None:
    files = {"a.png": "", "a.txt": "x", "metadata.jsonl": '{"file_name": "a.png", "text": "y"}'}
    assert opened(tmp_path, files).row(0).fields["text"] == "y"
    assert opened(tmp_path, files, layout="captions").row(0).fields["text"] == "x"
    with pytest.raises(ValueError, match="question must not be empty"):
        FolderConfig(tmp_path, question=" ")


def test_names_are_kept_as_they_are() -> None:
    names = ["a", "", "é/\udcff.png", "日本"]
    assert list(Names(names)) == names
    assert Names(names)[0] == "a"
    assert len(Names(())) == 0
