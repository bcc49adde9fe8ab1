"""Text of Python's standard library: parts without a file in common, characters and words by hand."""

from pathlib import Path

import pytest
import torch

from erlangen.data import CHARACTERS, character_ids, common_words, library_text, word_ids, words
from erlangen.errors import DataError, ErlangenError


def test_parts_of_a_folder_by_hand(tmp_path: Path) -> None:
    for name, text in (("a", "one\t1é\n"), ("b", "two\n"), ("c", "three")):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    assert library_text(0, 2, folder=tmp_path) == "one    1\nthree"
    assert library_text(1, 2, folder=tmp_path) == "two\n"
    with pytest.raises(DataError, match="has 3 files of Python; give one with 4"):
        library_text(0, 4, folder=tmp_path)
    with pytest.raises(ErlangenError, match="part"):
        library_text(2, 2, folder=tmp_path)


def test_the_standard_library() -> None:
    first, second = library_text(0, 2), library_text(1, 2)
    assert min(len(first), len(second)) > 1_000_000
    assert set(first) == set(CHARACTERS)
    assert "import" in first
    assert first[:1000] not in second


def test_characters_by_hand() -> None:
    assert len(CHARACTERS) == 96
    assert character_ids("\n ~").tolist() == [0, 1, 95]
    assert "".join(CHARACTERS[i] for i in character_ids("def f(x):\n")) == "def f(x):\n"
    assert character_ids("").tolist() == []
    with pytest.raises(DataError, match="'é'"):
        character_ids("é")


def test_words_by_hand() -> None:
    found = words("The cat; the DOG_the cat")
    assert found == ["the", "cat", "the", "dog", "the", "cat"]
    assert common_words(found, 2) == ["the", "cat"]
    assert torch.equal(word_ids(found, ["the", "cat"]), torch.tensor([1, 2, 1, 0, 1, 2]))
    assert common_words(found, 3)[-1] == "dog"
    assert common_words(["b", "a"], 2) == ["a", "b"]
    for n in (0, -1):
        with pytest.raises(ErlangenError, match=f"n = {n}"):
            common_words(found, n)
    with pytest.raises(DataError, match="3 different words"):
        common_words(found, 4)
