"""A name is found in either Unicode form, in any part of a path, by every function that takes one."""

import json
import shutil
import unicodedata
from contextlib import closing

import pytest

from course_lib.data import MODELS
from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.drivers.adapters import adapter_path
from course_lib.models.manager import ModelManager
from course_lib.models.planner import plan
from course_lib.models.schema import Adapter, ModelSpec
from course_lib.names import existing_path
from course_lib.retrieval import LSA, HybridRetriever
from tests.retrieval.conftest import Hashed

FORMS = pytest.mark.parametrize("made, asked", [("NFC", "NFD"), ("NFD", "NFC")])


def in_form(form, path):
    return unicodedata.normalize(form, str(path))


@pytest.fixture
def folder(tmp_path, made):
    path = tmp_path / in_form(made, "은행 자료") / in_form(made, "모델")
    path.mkdir(parents=True)
    return path


@FORMS
def test_each_part_of_a_path_is_taken_as_it_is_on_the_disk(folder, made, asked):
    mixed = folder / (in_form("NFD", "가") + in_form("NFC", "나"))
    mixed.touch()
    assert existing_path(in_form(asked, mixed)) == mixed
    assert existing_path(in_form(asked, folder / "none")) == folder / "none"
    assert existing_path("~nobody-of-this-name/x").parts[0] == "~nobody-of-this-name"


@FORMS
def test_a_model_below_a_folder_is_loaded_planned_and_kept_once(folder, asked):
    shutil.copytree(MODELS / "haneul-300k", folder, dirs_exist_ok=True)
    with closing(load(in_form(asked, folder))) as engine:
        assert engine.generate(["x"], max_output_length=2)
    assert plan(in_form(asked, folder)).total == plan(folder).total
    specs = [ModelSpec.parse(path) for path in (folder, type(folder)(in_form(asked, folder)))]
    assert specs[0].key() == specs[1].key()


@FORMS
def test_an_adapter_is_found(folder, asked):
    shutil.copytree(MODELS / "haneul-style", folder, dirs_exist_ok=True)
    assert adapter_path(Adapter(source=type(folder)(in_form(asked, folder)))) == folder


@FORMS
def test_a_model_in_the_folder_of_local_models_is_found_by_its_name(folder, asked, made, monkeypatch):
    shutil.copytree(MODELS / "haneul-300k", folder / in_form(made, "은행모델"))
    monkeypatch.setenv("LOCAL_MODELS_DIR", in_form(asked, folder))
    model = ModelManager().get_chat_model(in_form(asked, "은행모델"))
    assert model.spec.source.path.parent == folder


@FORMS
def test_an_index_is_loaded_and_replaced(folder, asked):
    texts = {"a": "annual fee", "b": "lost card fee"}
    HybridRetriever.from_documents(texts, LSA.fit(list(texts.values()))).save(folder)
    loaded = HybridRetriever.load(in_form(asked, folder))
    loaded.delete(["a"])
    loaded.save(in_form(asked, folder))
    assert HybridRetriever.load(folder).ids == ["b"]
    assert len(list(folder.parent.iterdir())) == 1
    assert json.loads((folder / "manifest.json").read_text())["documents"] == 1


@FORMS
def test_a_document_is_found_by_its_id_and_its_metadata(made, asked):
    doc_id, other = in_form(made, "체크카드"), in_form(asked, "체크카드")
    hybrid = HybridRetriever.from_texts(
        ["annual fee", "annual rate"], Hashed(), [{"city": in_form(made, "서울")}, {}], ids=[doc_id, "b"]
    )
    (hit,) = hybrid.search("annual", filter={"city": in_form(asked, "서울")})
    assert hit.id == doc_id and hybrid.ids == [doc_id, "b"] == [d.id for d in hybrid.documents]
    assert "'annual'" in hybrid.explain(hit)
    with pytest.raises(CourseError, match="is already in the index"):
        hybrid.add_documents({other: "x"})
    hybrid.delete([other])
    assert hybrid.ids == hybrid.lexical.ids == hybrid.dense.ids == ["b"]
