"""The plan of models that draw pictures, against what their libraries build and what others measured."""

import math
import weakref
from importlib import import_module

import pytest

from course_lib import cli
from course_lib.errors import CourseError
from course_lib.models.planner import plan, plan_pictures, ways_table
from course_lib.models.planner.gpus import GPUS, usable_bytes
from course_lib.models.planner.picture_models import Component, configurations, picture_model
from course_lib.models.planner.pictures import smallest_gpu, ways
from tests.models.footprint import real_bytes

GIB = 2**30
PARTS = [(model, part) for model, fields in configurations().items() for part in fields["components"]]
SIDE = 768  # pixels; the figures in pictures.yaml were fitted at 512 and 1024


def built(fields):
    """A component on torch's meta device, where weights have sizes and take no memory."""
    import torch

    library, name = fields["class"].split(".")
    made = getattr(import_module(library), name)
    with torch.device("meta"):
        if library == "transformers":
            return made(made.config_class(**fields["config"])).to(torch.bfloat16).eval()
        return made(**fields["config"]).to(torch.bfloat16).eval()


@pytest.mark.parametrize(("model", "part"), PARTS)
def test_the_library_builds_as_many_weights_and_the_published_files_have_as_many_bytes(model, part):
    import torch

    fields = configurations()[model]["components"][part]
    sizes, module = picture_model(model).components[part], built(fields)
    keep = set(getattr(module, "_keep_in_fp32_modules", None) or ())
    kept = sum(p.numel() for name, p in module.named_parameters() if keep & set(name.split(".")))
    linear = sum(m.weight.numel() for m in module.modules() if isinstance(m, torch.nn.Linear))
    assert sum(p.numel() for p in module.parameters()) == sizes.parameters
    assert (sizes.linear, sizes.kept) == (linear - kept, kept)
    assert sizes.parameters * fields.get("bits", 16) / 8 == pytest.approx(fields["published"], rel=0.002)


def test_hunyuandit_in_one_file():
    """In 16 bits, with the embeddings of T5 twice, its tokenizer, and 120 bytes of header a tensor."""
    parts = picture_model("HunyuanDiT").components.values()
    computed = 2 * (sum(part.parameters for part in parts) + 250112 * 2048) + 4_309_802 + 2166 * 120
    assert computed == pytest.approx(8_240_228_270, rel=1e-5)


def held(call):
    """The most bytes that the results of torch's operations hold at once."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Held(TorchDispatchMode):
        live, now, peak = {}, 0, 0

        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            result = operation(*args, **(kwargs or {}))
            given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if torch.is_tensor(t)}
            for tensor in filter(torch.is_tensor, tree_leaves(result)):
                storage = tensor.untyped_storage()
                if storage._cdata not in given | self.live.keys():
                    self.live[storage._cdata] = storage.nbytes()
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self.free, storage._cdata)
            return result

        def free(self, key):
            self.now -= self.live.pop(key)

    with torch.no_grad(), Held() as found:
        call()
    return found.peak


def calls(model, tokens):
    """One pass of a component for one picture of SIDE x SIDE pixels, on the meta device."""
    import torch

    def some(*shape, dtype=torch.bfloat16):
        return torch.empty(*shape, device="meta", dtype=dtype)

    side, kind = SIDE // 8, type(model).__name__
    patches = (side // 2) ** 2
    text = {"encoder_hidden_states": some(1, 77, 1024), "text_embedding_mask": some(1, 77)}
    t5 = {"encoder_hidden_states_t5": some(1, 256, 2048), "text_embedding_mask_t5": some(1, 256)}
    inputs = {
        "AutoencoderKL": lambda: model.decode(some(1, model.config.latent_channels, side, side)),
        "FluxTransformer2DModel": lambda: model(
            hidden_states=some(1, patches, 64),
            encoder_hidden_states=some(1, 512, 4096),
            pooled_projections=some(1, 768),
            timestep=some(1),
            img_ids=some(patches, 3),
            txt_ids=some(512, 3),
            guidance=some(1),
        ),
        "UNet2DConditionModel": lambda: model(
            some(1, 4, side, side),
            some(()),
            some(1, 77, 2048),
            added_cond_kwargs={"text_embeds": some(1, 1280), "time_ids": some(1, 6)},
        ),
        "HunyuanDiT2DModel": lambda: model(
            some(1, 4, side, side), some(1), **text, **t5, image_rotary_emb=(some(patches, 88),) * 2
        ),
    }
    return inputs.get(kind, lambda: model(some(1, tokens, dtype=torch.long)))


@pytest.mark.parametrize(
    ("model", "part"), PARTS
)  # 5 s in all: a pass of each real model, without its numbers
def test_a_pass_holds_as_many_bytes_at_its_peak(model, part, monkeypatch):
    import torch

    def attention(query, key, value, *args, **options):  # as a GPU's kernel, which keeps no matrix of scores
        return query.new_empty(*query.shape[:-1], value.shape[-1])

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention)
    module = built(configurations()[model]["components"][part])
    tokens = 77 if "T5" not in type(module).__name__ else 512 if model == "FLUX.1-dev" else 256
    expected = picture_model(model).components[part].activation_bytes(SIDE**2, "bfloat16")
    assert held(calls(module, tokens)) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("model", "part", "weight_format", "gib"),
    [
        ("FLUX.1-dev", "transformer", "bfloat16", 22.6),
        ("FLUX.1-dev", "transformer", "nf4", 6.7),
        ("SDXL", "unet", "bfloat16", 5.05),
    ],
)
def test_the_plan_is_what_others_measured_on_a_gpu(model, part, weight_format, gib):
    """A pass of the transformer alone at 1024 x 1024: huggingface.co/datasets/diffusers/benchmarks."""
    planned, sizes = plan_pictures(model, weight_format), picture_model(model)
    used = planned.weights[part] + planned.activations[part] / sizes.passes
    assert used / GIB == pytest.approx(gib, rel=0.03)


@pytest.mark.parametrize(
    ("weight_format", "precision"), [("float16", "float16"), ("bfloat16", "bfloat16"), ("nf4", "bfloat16")]
)
def test_t5_is_loaded_with_its_wo_as_planned(weight_format, precision, tmp_path):
    import torch
    from transformers import BitsAndBytesConfig, T5Config, T5EncoderModel

    config = T5Config(
        d_model=64, d_ff=128, d_kv=16, num_heads=4, num_layers=2, vocab_size=100,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False,
    )  # fmt: skip
    T5EncoderModel(config).to(torch.bfloat16).save_pretrained(tmp_path)
    quantized = {"quantization_config": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")}
    dtype = getattr(torch, precision)
    options = quantized | {"device_map": "cpu"} if weight_format == "nf4" else {}
    _, found = real_bytes(lambda: T5EncoderModel.from_pretrained(tmp_path, dtype=dtype, **options))
    weights = {name: math.prod(p.shape) for name, p in T5EncoderModel(config).named_parameters()}
    kept = sum(n for name, n in weights.items() if ".wo." in name)
    linear = sum(n for name, n in weights.items() if "Attention" in name or "wi_" in name) - 32 * 4
    planned = Component(sum(weights.values()), linear, kept, (0, 0), False)
    tables = 64 * 12 if weight_format == "nf4" else 0  # 16 values for each of 12 matrices
    assert found.weights - tables == planned.weight_bytes(weight_format, precision)


def test_offloading_needs_the_largest_component_and_ram_for_all():
    whole, part = plan_pictures("FLUX.1-dev"), plan_pictures("FLUX.1-dev", offload="model")
    assert part.total == part.weights["transformer"] + part.activations["transformer"]
    assert whole.total == sum(whole.weights.values()) + whole.activations["vae"]
    assert (whole.ram, part.ram) == (0, sum(part.weights.values()))
    assert "31.42 GiB of RAM" in str(part) and "all on the GPU: 32.92 GiB" in str(whole)


def test_more_pixels_pictures_and_bits_need_more_and_guidance_twice_as_much():
    small = plan_pictures("SDXL", width=512, height=512)
    large, two = plan_pictures("SDXL"), plan_pictures("SDXL", batch=2)
    assert small.weights == large.weights and large.activations["vae"] == 4 * small.activations["vae"]
    assert two.activations["unet"] == 2 * large.activations["unet"]
    wide = plan_pictures("SDXL", "float32")
    assert wide.weights["unet"] == 2 * large.weights["unet"] and wide.weights["vae"] == large.weights["vae"]
    assert plan_pictures("SDXL", "bfloat16").activations["vae"] * 2 == large.activations["vae"], "no upcast"
    alone = picture_model("SDXL").components["unet"].activation_bytes(2**20, "float16")
    assert large.activations["unet"] == 2 * alone


def test_each_way_is_on_the_smallest_gpu_that_has_the_memory():
    for planned in ways("FLUX.1-dev"):
        gpu = smallest_gpu(planned.total)
        assert usable_bytes(gpu) >= planned.total
        smaller = [n for n in GPUS if "RAM" not in n and GPUS[n] < GPUS[gpu]]
        assert all(usable_bytes(name) < planned.total for name in smaller)
    assert smallest_gpu(10**12) is None and " none" in ways_table("FLUX.1-dev", width=8192, height=8192)


@pytest.mark.parametrize("name", ["flux.1-DEV", "black-forest-labs/FLUX.1-dev"])
def test_a_model_is_named_as_on_the_hub_in_any_case(name):
    assert plan_pictures(name) == plan_pictures("FLUX.1-dev")
    with pytest.raises(CourseError, match=r"FLUX\.1-dev draws pictures\n.*plan_pictures\(\"FLUX"):
        plan(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "FLUX.2-dev"}, "does not know a model 'FLUX.2-dev' that draws"),
        ({"weight_format": "q4_k_m"}, "'q4_k_m' is unknown"),
        ({"text_format": "float32"}, "text_format='float32': text encoders are quantized, or have bfloat16"),
        ({"offload": "sequential"}, "offload='sequential' is unknown"),
        ({"width": 1023}, "1023 x 1024 pixels: sides are divisible by 8"),
        ({"height": 0}, "1024 x 0 pixels"),
        ({"height": 1e9}, "pixels: sides"),
        ({"batch": 0}, "batch=0"),
    ],
)
def test_what_cannot_be_planned_is_refused(options, message):
    with pytest.raises(CourseError, match=message):
        plan_pictures(**{"model": "FLUX.1-dev"} | options)


def test_other_models_of_pictures_are_told_apart():
    with pytest.raises(CourseError, match="realesrgan-x4plus is for image-upscale, and the planner knows"):
        plan("realesrgan-x4plus")


def test_the_command_plans_pictures_and_refuses_options_that_do_nothing(capsys):
    command = ["models", "plan", "FLUX.1-dev", "--format=nf4", "--text-format=nf4", "--offload=model"]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert "one component on the GPU at a time: 6.70 GiB" in said and "GeForce RTX 4060, 8 GB" in said
    for wrong, message in (
        (["FLUX.1-dev", "--context=9"], "--context is for models that read or write texts"),
        (["haneul-4m", "--width=64"], "--width is for models that draw pictures"),
    ):
        assert cli.main(["models", "plan", *wrong]) != 0
        assert message in capsys.readouterr().err
