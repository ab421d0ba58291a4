"""Tiny random picture models, each written by its own library: architecture -> a function that saves one."""

import numpy as np
import torch

from course_lib.vision.insightface import POINTS

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue", "card", "sign", "with", "number"]


def tokenizer(folder=None, length=77):
    """A word-level tokenizer of BERT's form."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, model_max_length=length, bos_token="[CLS]", eos_token="[SEP]", **marks
    )
    if folder is not None:
        made.save_pretrained(folder)
    return made


VIT: dict[str, object] = dict(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=32
)
VIT |= dict(patch_size=8, initializer_range=0.5)
SIZE = {"height": 32, "width": 32}


def vit_gpt2(folder):
    from transformers import GPT2Config, VisionEncoderDecoderConfig, VisionEncoderDecoderModel, ViTConfig
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(0)
    sizes = {"vocab_size": len(WORDS), "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 2}
    decoder = GPT2Config(**sizes, initializer_range=0.5, bos_token_id=2, eos_token_id=3)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(ViTConfig(**VIT), decoder)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 2, 0, 3
    VisionEncoderDecoderModel(config).save_pretrained(folder)
    ViTImageProcessorPil(size=SIZE).save_pretrained(folder)
    tokenizer(folder)


def swin2sr(folder, upscale=2):
    from transformers import Swin2SRConfig, Swin2SRForImageSuperResolution
    from transformers.models.swin2sr.image_processing_pil_swin2sr import Swin2SRImageProcessorPil

    torch.manual_seed(0)
    config = Swin2SRConfig(
        embed_dim=16, depths=[2, 2], num_heads=[2, 2], window_size=8, image_size=32, upscale=upscale
    )
    Swin2SRForImageSuperResolution(config).save_pretrained(folder)
    Swin2SRImageProcessorPil().save_pretrained(folder)


def vit(folder):
    from transformers import ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(0)
    ViTModel(ViTConfig(**VIT, pooler_output_size=24, pooler_act="linear")).save_pretrained(folder)
    ViTImageProcessorPil(size=SIZE).save_pretrained(folder)


def resnet(folder):
    from transformers import ResNetConfig, ResNetModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(folder)
    ViTImageProcessorPil(size=SIZE).save_pretrained(folder)


def blip(folder):
    from transformers import BlipConfig, BlipForConditionalGeneration
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    torch.manual_seed(0)
    text = {"vocab_size": len(WORDS), "hidden_size": 32, "encoder_hidden_size": 32, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "intermediate_size": 48, "max_position_embeddings": 32}
    text |= {"bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    config = BlipConfig(text_config=text | {"initializer_range": 0.5}, vision_config=VIT, projection_dim=32)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    BlipImageProcessorPil(size=SIZE).save_pretrained(folder)
    tokenizer(folder)


def git(folder):
    from transformers import GitConfig, GitForCausalLM
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    marks = {"vocab_size": len(WORDS), "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    config = GitConfig(vision_config=VIT, max_position_embeddings=64, initializer_range=0.5, **sizes, **marks)
    GitForCausalLM(config).save_pretrained(folder)
    CLIPImageProcessorPil(size=SIZE, crop_size=SIZE).save_pretrained(folder)
    tokenizer(folder)


def esrgan(folder):
    from safetensors.torch import save_file

    from course_lib.vision.upscaling import import_spandrel

    import_spandrel()
    from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet

    torch.manual_seed(0)
    folder.mkdir()
    save_file(RRDBNet(scale=4, num_filters=16, num_blocks=1).state_dict(), folder / "x4.safetensors")


def real_esrgan(folder):
    from safetensors.torch import save_file

    from course_lib.vision.upscaling import import_spandrel

    import_spandrel()
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    torch.manual_seed(0)
    folder.mkdir()
    save_file(SRVGGNetCompact(num_feat=16, num_conv=2, upscale=2).state_dict(), folder / "x2.safetensors")


def swinir(folder):
    from safetensors.torch import save_file

    from course_lib.vision.upscaling import import_spandrel

    import_spandrel()
    from spandrel.architectures.SwinIR.__arch.SwinIR import SwinIR

    torch.manual_seed(0)
    folder.mkdir()
    sizes = {"embed_dim": 24, "depths": [2, 2], "num_heads": [2, 2], "window_size": 8, "img_size": 16}
    network = SwinIR(upscale=2, upsampler="pixelshuffledirect", mlp_ratio=2, **sizes)
    save_file(network.state_dict(), folder / "x2.safetensors")


def buffalo_l(folder):
    """A detector that finds bright spots, and a random embedder, as InsightFace names and shapes them."""
    folder.mkdir()
    _detector(folder / "det_10g.onnx")
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(24, 3 * 112 * 112)).astype(np.float32) / 100
    nodes = [onnx_node("Flatten", "picture", "flat"), onnx_node("Gemm", ["flat", "w"], "vector", transB=1)]
    save_onnx(folder / "w600k_r50.onnx", nodes, {"w": weight}, 112, {"vector": (1, 24)})


def _detector(path):
    """Each place of the grid scores by the red of its 8 x 8, 16 x 16 or 32 x 32 pixels; only 32 can find."""
    nodes, weights, outputs = [], {}, {}
    for stride in (8, 16, 32):
        nodes.append(
            onnx_node(
                "AveragePool", "picture", f"mean{stride}", kernel_shape=[stride] * 2, strides=[stride] * 2
            )
        )
        for name, count in (("score", 1), ("box", 4), ("points", 10)):
            kernel = np.zeros((2 * count, 3, 1, 1), np.float32)
            bias = np.full(2 * count, -99 if name == "score" else 0, np.float32)
            if stride == 32 and name == "score":  # sure above 0.5 of the greatest red; the second place never
                kernel[0, 0], bias[0] = 20, -10
            elif name == "box":
                bias[:] = 1
            elif name == "points":  # as in an upright face, one stride wide
                bias[:] = np.tile((np.array(POINTS) / 112 * 2 - 1).ravel(), 2)
            weights |= {f"{name}k{stride}": kernel, f"{name}b{stride}": bias}
            made = f"{name}{stride}"
            nodes.append(
                onnx_node("Conv", [f"mean{stride}", f"{name}k{stride}", f"{name}b{stride}"], f"{made}c")
            )
            nodes.append(onnx_node("Transpose", f"{made}c", f"{made}t", perm=[0, 2, 3, 1]))
            weights[f"{made}s"] = np.array([-1, count], np.int64)
            nodes.append(
                onnx_node("Reshape", [f"{made}t", f"{made}s"], made if name != "score" else f"{made}r")
            )
            if name == "score":
                nodes.append(onnx_node("Sigmoid", f"{made}r", made))
            outputs[made] = (2 * (640 // stride) ** 2, count)
    ordered = {f"{n}{s}": outputs[f"{n}{s}"] for n in ("score", "box", "points") for s in (8, 16, 32)}
    save_onnx(path, nodes, weights, 640, ordered)


def onnx_node(kind, inputs, output, **attributes):
    from onnx import helper

    return helper.make_node(kind, [inputs] if isinstance(inputs, str) else inputs, [output], **attributes)


def save_onnx(path, nodes, weights, side, outputs):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, side, side])
    made = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in outputs.items()]
    held = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "tiny", [picture], made, held),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=10,
    )
    onnx.checker.check_model(model)
    onnx.save(model, path)


def spots(*places, size=(640, 640)):
    """A dark picture with a red square of 32 pixels in each of the given cells of 32 pixels."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", size)
    for column, row in places:
        box = (32 * column, 32 * row, 32 * column + 31, 32 * row + 31)
        ImageDraw.Draw(picture).rectangle(box, fill=(255, 30, 60))
    return picture
