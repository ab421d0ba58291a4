"""Training: transformers' loss, AdamW's steps, settings of which every one acts, adapters that load."""

import json
import re
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from course_lib.errors import CourseError
from course_lib.models import load
from course_lib.models.drivers.adapters import sha256_of_weights
from course_lib.models.schema import SpecError
from course_lib.tuning.config import LoRATrainingConfig
from course_lib.tuning.dataset import BatchOrder, tokenize
from course_lib.tuning.training import train
from tests.tuning.conftest import EXAMPLES, SHORT, VALIDATION, WEIGHTS, llama, mean_loss, weights


@pytest.fixture(scope="module")
def rows(tiny):
    return tokenize(load(tiny), EXAMPLES, 2048)


@pytest.fixture(scope="module")
def plain(tiny, tmp_path_factory):
    """A short run with nothing special."""
    folder = tmp_path_factory.mktemp("adapters") / "plain"
    return train(tiny, EXAMPLES, folder, config=SHORT)


# -- what it computes


def test_losses_and_weights_are_those_of_the_textbook_loop(tiny, rows, plain):
    """peft's layers, transformers' own loss, torch's AdamW and clipping, a rate that rises and falls."""
    torch.manual_seed(0)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny),
        LoraConfig(r=4, lora_alpha=16, target_modules="all-linear"),
    )
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trainable, lr=1e-2, weight_decay=0)
    order, losses = BatchOrder([row.length for row in rows], 4, 0), []
    for step in range(6):
        optimiser.param_groups[0]["lr"] = 1e-2 * min((step + 1) / 2, (6 - step) / 6)
        loss = mean_loss(model, [rows[i] for i in order[step]])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert plain.losses == pytest.approx(losses, abs=1e-5)
    found_weights = weights(plain.folder)
    expected = {name.replace(".default", ""): p for name, p in model.named_parameters() if p.requires_grad}
    assert found_weights.keys() == expected.keys()
    assert all(torch.allclose(found_weights[name], p, atol=1e-4) for name, p in expected.items())
    assert (
        plain.parameters == sum(p.numel() for p in trainable)
        and plain.stopped == "steps"
        and plain.steps == 6
    )
    assert plain.tokens == sum(rows[i].length for step in range(6) for i in order[step])


@pytest.mark.parametrize("micro_batch_size", [1, 3])
def test_parts_of_a_batch_add_up_to_the_same_weights(short, plain, micro_batch_size):
    apart = short(micro_batch_size=micro_batch_size)
    assert (
        apart.losses == pytest.approx(plain.losses, abs=1e-5) and apart.micro_batch_size == micro_batch_size
    )
    adapter_weights, expected = weights(apart.folder), weights(plain.folder)
    assert all(torch.allclose(adapter_weights[name], expected[name], atol=1e-5) for name in expected)


def test_computing_layers_twice_gives_the_same(short, plain, monkeypatch):
    from transformers.models.llama.modeling_llama import LlamaMLP

    calls, forward = [], LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", lambda self, x: calls.append(self) or forward(self, x))
    again = short(gradient_checkpointing=True)
    assert again.losses == pytest.approx(plain.losses, abs=1e-5)
    assert len(calls) == 2 * 6 * 2  # layers, steps, and twice


def test_a_model_of_the_course_learns_answers_by_heart(short):
    result = short(examples=EXAMPLES[:4], base="haneul-300k", steps=80, learning_rate=2e-2, rank=8)
    assert result.losses[-1] < 0.1 * result.losses[0]
    prompts, answers = zip(*EXAMPLES[:4], strict=True)
    assert load("haneul-300k", adapters=[result.folder]).generate(prompts) == list(answers)
    assert load("haneul-300k").generate(prompts) != list(answers)


def test_a_seed_decides_everything(short):
    folders = [short(name, dropout=0.2, seed=seed).folder for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    a, b, c = ((folder / WEIGHTS).read_bytes() for folder in folders)
    assert a == b != c


def test_dropout_of_the_base_itself_is_drawn_by_the_seed_too(short, tmp_path):
    base = llama(tmp_path / "forgetful", attention_dropout=0.5)
    once = short("once", base=base)
    torch.rand(7)  # whatever was drawn before
    assert (short("again", base=base).folder / WEIGHTS).read_bytes() == (once.folder / WEIGHTS).read_bytes()
    assert short("other", base=base, seed=1).losses != once.losses


# -- the config

# fmt: off
CHANGES = {
    "rank": 2, "alpha": 4, "target_modules": ["q_proj"], "dropout": 0.3, "steps": 5, "batch_size": 3,
    "learning_rate": 2e-2, "warmup_steps": 4, "weight_decay": 0.5, "max_grad_norm": 1e-3,
    "precision": "bfloat16", "seed": 1,
}
TESTED_ELSEWHERE = {
    "micro_batch_size", "gradient_checkpointing", "max_length", "eval_steps", "patience", "save_seconds",
}
WRONG = [
    {"rank": 0}, {"rank": 4097}, {"alpha": 0}, {"target_modules": []}, {"target_modules": "q_proj"},
    {"dropout": 1}, {"dropout": -0.1}, {"steps": 0}, {"batch_size": 0}, {"micro_batch_size": 0},
    {"learning_rate": 0}, {"learning_rate": float("nan")}, {"warmup_steps": -1}, {"max_grad_norm": 0},
    {"weight_decay": -1}, {"max_length": 1}, {"precision": "int8"}, {"seed": -1}, {"eval_steps": 0},
    {"patience": 0}, {"save_seconds": -1}, {"gradient_checkpointing": "perhaps"}, {"epochs": 3},
]
# fmt: on


@pytest.mark.parametrize("field", CHANGES)
def test_every_field_acts(short, plain, field):
    changed = short(**{field: CHANGES[field]})
    assert (changed.folder / WEIGHTS).read_bytes() != (plain.folder / WEIGHTS).read_bytes()
    config, adapter_weights = (
        json.loads((changed.folder / "adapter_config.json").read_text()),
        weights(changed.folder),
    )
    layers = {name.split(".lora_")[0].rpartition(".")[2] for name in adapter_weights}
    assert config["r"] == (2 if field == "rank" else 4) and config["lora_alpha"] == (
        4 if field == "alpha" else 16
    )
    assert layers == (
        {"q_proj"}
        if field == "target_modules"
        else {f"{x}_proj" for x in ("q", "k", "v", "o", "gate", "up", "down")}
    )
    assert {w.dtype for w in adapter_weights.values()} == {
        torch.bfloat16 if field == "precision" else torch.float32
    }
    assert len(changed.losses) == (5 if field == "steps" else 6)


def test_no_field_is_forgotten():
    assert CHANGES.keys() | TESTED_ELSEWHERE == LoRATrainingConfig.model_fields.keys()


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_field_that_is_unknown_or_out_of_range_is_refused_by_its_name(short, tmp_path, wrong):
    with pytest.raises(SpecError, match=rf"{next(iter(wrong))}\b"):
        short(**wrong)
    assert not (tmp_path / "adapter").exists()


def test_patience_needs_something_to_look_at(short):
    with pytest.raises(SpecError, match="patience=2 needs validation examples"):
        short(patience=2)


def test_settings_are_taken_one_by_one_as_a_configuration_and_with_changes(tiny, plain, tmp_path):
    same = train(tiny, EXAMPLES, tmp_path / "same", **SHORT.model_dump())
    assert same.losses == plain.losses
    assert len(train(tiny, EXAMPLES, tmp_path / "shorter", config=SHORT, steps=3).losses) == 3


# -- validation


def test_the_best_weights_are_kept_and_not_the_last(tiny, short):
    """At so long steps the loss on other examples soon rises."""
    settings = {
        "validation": VALIDATION,
        "eval_steps": 3,
        "steps": 60,
        "learning_rate": 0.1,
        "rank": 8,
        "examples": EXAMPLES[:3],
    }
    stopped = short("early", **settings, patience=2)
    looks = list(stopped.validation)
    assert stopped.stopped == "early" and stopped.steps < 60 and looks == list(range(3, stopped.steps + 1, 3))
    assert stopped.best_step == min(stopped.validation, key=stopped.validation.get) == looks[-3]
    complete = short("whole", **settings)
    assert (
        complete.stopped == "steps"
        and list(complete.validation) == list(range(3, 61, 3))
        and complete.best_step < 60
    )
    assert {step: complete.validation[step] for step in looks} == stopped.validation
    rows = tokenize(load(tiny), VALIDATION, 2048)
    for run in (stopped, complete):
        with torch.no_grad():
            loss = float(mean_loss(load(tiny, adapters=[run.folder]).model, rows))
        assert loss == pytest.approx(run.validation[run.best_step], abs=1e-4)
        assert loss < run.validation[run.steps] - 0.01


def test_looking_changes_nothing(short, plain):
    seen = short(validation=VALIDATION, eval_steps=4)
    assert seen.losses == plain.losses and list(seen.validation) == [4, 6]  # and always at the end


# -- the adapter


def test_an_adapter_says_for_which_model_it_was_made_and_fits_no_other(tiny, plain, tmp_path):
    assert json.loads((plain.folder / "base.json").read_text()) == {
        "model": "tiny",
        "sha256": sha256_of_weights(tiny),
    }
    assert json.loads((plain.folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny"
    other = llama(tmp_path / "other", seed=1)
    with pytest.raises(CourseError, match=r"plain was made for tiny, whose weights have SHA-256"):
        load(other, adapters=[plain.folder])
    engine, alone = load(tiny, adapters=[plain.folder]), load(tiny)
    assert engine.name == "tiny+plain"
    assert engine.score(["fee?"], ["KRW 5"]) != pytest.approx(alone.score(["fee?"], ["KRW 5"]), abs=0.1)


@pytest.mark.parametrize("targets", [["lm_head"], ["lm_head", "v_proj"]])
def test_an_output_layer_that_shares_its_weights_with_the_embeddings_is_merged_alone(
    tmp_path, short, targets
):
    base = llama(tmp_path / "tied", tie_word_embeddings=True)
    result = short(base=base, target_modules=targets, validation=VALIDATION, steps=20)
    assert result.losses[-1] < 0.9 * result.losses[0]
    rows, engine = tokenize(load(base), VALIDATION, 2048), load(base, adapters=[result.folder])
    for model in (engine.model, load(engine.save(tmp_path / "saved")).model):
        with torch.no_grad():
            assert float(mean_loss(model, rows)) == pytest.approx(
                result.validation[result.best_step], abs=1e-4
            )


# -- folders


def test_what_is_finished_is_not_done_again(short):
    first = short(validation=VALIDATION, eval_steps=4)
    written = {path.name: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    assert set(written) == {"adapter_config.json", WEIGHTS, "base.json", "training-log.json"}
    assert short(validation=VALIDATION, eval_steps=4) == first
    assert {path.name: path.stat().st_mtime_ns for path in first.folder.iterdir()} == written


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.5}, r"learning_rate=0\.01, not 0\.5$"),
        ({"examples": EXAMPLES[1:]}, r"examples='[0-9a-f]+, not '[0-9a-f]+$"),
        ({"validation": VALIDATION}, "validation='"),
        ({"dropout": 0.1, "seed": 2}, r"dropout=0\.0, not 0\.1, seed=0, not 2$"),
        ({"base": "haneul-300k"}, "base={'model': 'tiny', .* not {'model': 'haneul-300k'"),
    ],
    ids=["learning_rate", "examples", "validation", "two fields", "base"],
)
def test_a_folder_of_another_run_is_refused_with_what_differs(short, change, message):
    short()
    with pytest.raises(CourseError, match="adapter holds an adapter made with") as caught:
        short(**change)
    assert re.search(message, caught.value.what)


def test_a_folder_of_something_else_is_refused_and_left_alone(short, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CourseError, match="file is a file"):
        short("file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(CourseError, match="full holds other files already"):
        short("full")
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine" and len(
        list((tmp_path / "full").iterdir())
    ) == 1
    (tmp_path / "empty").mkdir()
    assert short("empty").steps == 6


def test_a_damaged_log_is_told(short):
    folder = short().folder
    for text in ("", "{", "[]", "{}", '{"made_of": {}, "validation": 3}'):
        (folder / "training-log.json").write_text(text)
        with pytest.raises(CourseError, match=r"training-log\.json is damaged"):
            short()
    (folder / WEIGHTS).unlink()
    with pytest.raises(CourseError, match="holds other files already"):
        short()


# -- what cannot be trained


def test_an_unknown_layer_is_told_with_those_that_are_there(short):
    with pytest.raises(
        CourseError,
        match=r"no linear layer of tiny is called 'query'; its layers are q_proj, k_proj, v_proj",
    ):
        short(target_modules=["q_proj", "query"])


def test_no_examples_and_long_ones_are_refused(short, rows):
    with pytest.raises(CourseError, match="no examples to learn from"):
        short(examples=[])
    longest = max(row.length for row in rows)
    with pytest.raises(
        CourseError, match=rf"examples are longer than {longest - 1} tokens; number \d+ has {longest}"
    ):
        short(max_length=longest - 1)
    assert short(max_length=longest).steps == 6


def test_bases_that_give_no_gradients_are_refused(tiny, short, plain, tmp_path):
    language = "the base must be a language model of the driver huggingface without adapters"
    for settings in ({"driver": "llamacpp"}, {"task": "text-embedding"}, {"adapters": [str(plain.folder)]}):
        with pytest.raises(CourseError, match=language):
            short(base={"source": str(tiny)} | settings)
    with pytest.raises(
        CourseError, match="the base tiny has precision='float16', but training computes in float32"
    ):
        short(base={"source": str(tiny), "precision": "float16"})
    packed = load(tiny, quantization="int8").save(tmp_path / "packed")
    for settings in ({"source": str(tiny), "quantization": "int8"}, {"source": str(packed)}):
        with pytest.raises(
            CourseError, match=r"in int8: bitsandbytes' 8-bit layers give no gradients(.|\n)*nf4"
        ):
            short(base=settings)
    assert not (tmp_path / "adapter").exists()


def test_steps_that_are_too_long_are_told_and_the_last_checkpoint_stays(short, tmp_path):
    with pytest.raises(
        CourseError, match=r"step 2: learning_rate=1e\+30 is too high(.|\n)*learning_rate=5e\+29"
    ):
        short(learning_rate=1e30, warmup_steps=0, save_seconds=0)
    assert [path.name for path in (tmp_path / "adapter").iterdir()] == ["checkpoint.safetensors"]
    with pytest.raises(CourseError, match=r"step 2: learning_rate=1e\+30 is too high"):  # again, from there
        short(learning_rate=1e30, warmup_steps=0, save_seconds=0)
    with pytest.raises(
        CourseError, match=r"validation loss is (nan|inf) after step 1: learning_rate=1e\+30 is too high"
    ):
        short("other", learning_rate=1e30, warmup_steps=0, steps=1, validation=VALIDATION)
    assert not (tmp_path / "other").exists()


def test_a_base_that_answers_nothing_is_told(tiny, short, tmp_path):
    broken = shutil.copytree(tiny, tmp_path / "broken")
    model = AutoModelForCausalLM.from_pretrained(tiny)
    model.model.norm.weight.data[0] = float("nan")
    model.save_pretrained(broken)
    with pytest.raises(CourseError, match="loss is nan at step 1: the base itself gives it"):
        short(base=broken)
