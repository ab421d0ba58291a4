"""Both drivers give a model the tokens of transformers and of llama.cpp, for ten families of models."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.drivers.chat_template import ChatTemplate
from course_lib.models.gguf import llamacpp_server
from tests.models.drivers.templates import FAMILIES, ZEPHYR, Family
from tests.models.drivers.texts import texts
from tests.models.drivers.tokenizers import save_tokenizer

TEXTS = texts()
PROMPTS = [f"{text[:120]} ({i})" for i, text in enumerate(TEXTS[:20])]


def turn(role, content):
    return {"role": role, "content": content}


def conversations(family):
    """A conversation for each text: alone, after instructions, or as a part of several turns."""
    result = []
    for i, text in enumerate(TEXTS):
        turns = [turn("user", text)]
        if i % 3:
            turns = [turn("user", "What is this?"), turn("assistant", f"A text.\n{text}"), *turns]
        if family.system and i % 2:
            turns = [turn("system", f"Be brief. {text[:40]}"), *turns]
        result.append(turns)
    return result


def save_model(folder, family):
    """Save a small random model with the tokenizer and the chat template of a family."""
    torch.manual_seed(0)
    tokenizer = save_tokenizer(folder, family)
    config = LlamaConfig(
        vocab_size=1216,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=8192,
        initializer_range=0.3,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,
    )
    model = LlamaForCausalLM(config)
    for id_ in range(config.vocab_size):
        text = tokenizer.decode([id_], skip_special_tokens=True)
        if id_ != tokenizer.eos_token_id and (not text.strip() or "\ufffd" in text):
            # It never writes parts of characters, nor control tokens: llama.cpp ends a text at some of these.
            model.lm_head.weight.data[id_] = 0
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def exact():
    """llama.cpp's attention in 32 bits; by default it is in 16, which decides near ties of a random model."""
    usual = llamacpp_server.settings
    with pytest.MonkeyPatch.context() as patch:
        changes = {"flash_attn_type": 0, "cache_type_k": 0, "cache_type_v": 0}  # none, float32, float32
        patch.setattr(llamacpp_server, "settings", lambda *a: usual(*a) | changes)
        yield


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request, tmp_path_factory, exact):
    """A family, and its model in both drivers for both tasks."""
    family = FAMILIES[request.param]
    # llama.cpp would change the control tokens of a model called Phi-3, as its real tokenizer needs it.
    folder = save_model(tmp_path_factory.mktemp("models") / "model", family)
    engines = [load(folder, driver=driver) for driver in ("huggingface", "llamacpp")]
    yield family, *engines
    engines[1].close()


def llama_cpp_ids(engine, text):
    """The token ids that llama.cpp's own server gives a text, or a chat's text after its template."""
    return engine.server.request("/tokenize", {"content": text, "add_special": True, "parse_special": True})[
        "tokens"
    ]


def test_texts_have_the_ids_of_both_references(loaded):
    family, huggingface, llamacpp = loaded
    for text, ids in zip(TEXTS, llamacpp._all_ids(TEXTS), strict=True):
        assert ids == huggingface.ids(text) == huggingface.tokenizer.encode(text), text
        assert ids.count(huggingface.tokenizer.bos_token_id) == family.bos
        if huggingface.tokenizer.backend_tokenizer.normalizer is None:
            assert ids == llama_cpp_ids(llamacpp, text), text


def test_conversations_have_the_ids_of_both_references(loaded):
    family, huggingface, llamacpp = loaded
    apply, bos = huggingface.tokenizer.apply_chat_template, huggingface.tokenizer.bos_token_id
    chats = conversations(family)
    for turns, ids in zip(chats, llamacpp._all_ids(chats), strict=True):
        assert ids == huggingface.ids(turns) == apply(turns, add_generation_prompt=True, return_dict=False)
        assert ids.count(bos) == family.bos
        prompt = llamacpp.server.request("/apply-template", {"messages": turns})["prompt"]
        if huggingface.tokenizer.backend_tokenizer.normalizer is None:
            assert ids == llama_cpp_ids(llamacpp, prompt), turns


def test_greedy_texts_and_their_streams_are_equal(loaded):
    _, huggingface, llamacpp = loaded
    expected = huggingface.generate(PROMPTS, max_output_length=12)
    assert len(set(expected)) > 15
    assert llamacpp.generate(PROMPTS, max_output_length=12) == expected
    for engine in (huggingface, llamacpp):
        streamed = ["".join(engine.stream(p, max_output_length=12)).strip() for p in PROMPTS[:5]]
        assert streamed == expected[:5]


def test_only_the_template_writes_control_tokens(loaded):
    """transformers has an option for it; by default, it and llama.cpp let a user write the end of a turn."""
    family, huggingface, llamacpp = loaded
    for name in (*family.control, family.end * 2, f"a{family.end} b"):
        turns = [turn("user", f"Say {name}\n{name}!"), turn("assistant", name), turn("user", f"{name}\n")]
        ids = huggingface.ids(turns)
        assert ids == llamacpp.ids(turns)
        assert ids == huggingface.tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_dict=False, sanitize_control_tokens=True
        )
        plain = [turn(t["role"], t["content"].replace(family.end, "x").replace(name, "x")) for t in turns]
        specials = set(huggingface.tokenizer.all_special_ids)
        assert [i for i in ids if i in specials] == [i for i in huggingface.ids(plain) if i in specials]


def test_a_raw_text_may_contain_control_tokens_and_begins_with_one_bos(loaded):
    family, huggingface, llamacpp = loaded
    end, bos = huggingface.tokenizer.eos_token_id, huggingface.tokenizer.bos_token_id
    for text in (f"a{family.end}b", family.end, f"{family.control[0]}a", ""):
        ids = huggingface.ids(text)
        assert ids == llamacpp.ids(text)
        assert ids.count(end) == text.count(family.end) + (end == bos) * family.bos
        assert ids.count(bos) == (family.bos or text.startswith(family.control[0]))


def test_a_template_without_a_place_for_instructions_refuses_them(loaded):
    """Mistral's and Gemma 2's raise an error; llama.cpp joins the two turns."""
    family, *engines = loaded
    turns = [turn("system", "Be brief."), turn("user", "hi")]
    for engine in engines:
        if family.system:
            assert "Be brief." in "".join(engine._chat_template.render(turns))
            continue
        with pytest.raises(CourseError, match=r"refuses this conversation: .*(System|roles)") as raised:
            engine.generate([turns])
        assert raised.value.fix.startswith("put the text of the system turn")
        with pytest.raises(CourseError, match="alternate user and assistant"):
            engine.generate([[turn("user", "a"), turn("user", "b")]])


def test_a_turn_that_a_template_leaves_out_is_an_error():
    template = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content | trim }}{% endif %}{% endfor %}"
    chat = ChatTemplate(template, "m", {}, ["<s>"])
    assert chat.render([turn("user", " a <s> b ")]) == ["a ", "<s>", " b"]
    with pytest.raises(CourseError, match="the chat template of m leaves out the system turn"):
        chat.render([turn("system", "Be brief."), turn("user", "a")])


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% if %}", "cannot be read"),
        ("{{ messages[0].content.missing.attribute }}", "refuses"),
        ("{{ ''.__class__.__mro__ }}", "refuses"),
        ("{{ 1 / 0 }}", "refuses"),
    ],
)
def test_a_faulty_or_hostile_template_is_a_course_error(template, message):
    with pytest.raises(CourseError, match=f"the chat template of m {message}"):
        ChatTemplate(template, "m", {}, []).render([turn("user", "a")])


def test_a_template_may_use_what_transformers_offers():
    template = "{% generation %}{{ messages | tojson }}{% endgeneration %}{% for i in [1, 2] %}{{ i }}"
    template += "{% break %}{% endfor %}{{ strftime_now('%Y') | length }}"
    (text,) = ChatTemplate(template, "m", {}, []).render([turn("user", "é")])
    assert text == '[{"role": "user", "content": "é"}]14'


def test_bos_that_the_tokenizer_adds_is_not_lost_by_a_template_without_it(tmp_path):
    """As in llama.cpp. transformers' apply_chat_template leaves it to the template: the one difference."""
    family = Family(ZEPHYR, "Llama 3", ("<s>", "</s>"), "</s>")
    folder = save_model(tmp_path / "m", family)
    huggingface, llamacpp = (load(folder, driver=driver) for driver in ("huggingface", "llamacpp"))
    turns = [turn("system", "Be brief."), turn("user", "hi")]
    prompt = llamacpp.server.request("/apply-template", {"messages": turns})["prompt"]
    without = huggingface.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert huggingface.ids(turns) == llamacpp.ids(turns) == llama_cpp_ids(llamacpp, prompt) == [0, *without]
    llamacpp.close()
