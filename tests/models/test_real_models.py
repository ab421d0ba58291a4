"""The packaged models as they are on the package index."""

import pytest

from course_lib.models import catalog, load


def test_a_pulled_model_loads_by_its_name_in_llama_cpp(smollm2, monkeypatch):
    monkeypatch.setenv("COURSE_MODELS_DIR", str(smollm2.parent.parent))
    model = load("smollm2-135m-instruct", context_length=128)
    assert (model.spec.driver, model.spec.name) == ("llamacpp", "smollm2-135m-instruct")
    assert model.parameters == catalog.entry("smollm2-135m-instruct").parameters


def test_the_catalogue_counts_the_weights_of_the_packaged_file(smollm2):
    from gguf import GGUFReader

    entry = catalog.entry("smollm2-135m-instruct")
    reader = GGUFReader(smollm2)
    assert sum(int(tensor.n_elements) for tensor in reader.tensors) == entry.parameters
    assert reader.fields["llama.context_length"].contents() == entry.context


def test_an_unpacked_model_loads_by_its_name(e5, monkeypatch):
    monkeypatch.setenv("COURSE_MODELS_DIR", str(e5.parent))
    entry = catalog.entry("multilingual-e5-small-q4")
    model = load("multilingual-e5-small-q4")
    assert (model.spec.name, model.parameters) == (entry.model, entry.parameters)
    sizes = [path.stat().st_size for path in e5.rglob("*")]
    assert sum(sizes) == pytest.approx(entry.package.unpacked_bytes, rel=0.01)
