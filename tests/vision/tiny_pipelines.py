"""Tiny random pipelines, written by diffusers: a function for each, which saves one to a folder."""

import torch

from tests.vision.tiny import WORDS, tokenizer


def text_encoder(projected=False):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(
        CLIPTextConfig(
            vocab_size=len(WORDS),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=80,
            projection_dim=32,
            bos_token_id=2,
            eos_token_id=3,
            pad_token_id=0,
        )
    )


def t5():
    from transformers import T5Config, T5EncoderModel

    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    return T5EncoderModel(T5Config(vocab_size=len(WORDS), **sizes))


def unet(**changes):
    from diffusers import UNet2DConditionModel

    sizes = {"sample_size": 16, "in_channels": 3, "out_channels": 3, "block_out_channels": (16, 32)}
    sizes |= {"layers_per_block": 1, "norm_num_groups": 8, "attention_head_dim": 8, "cross_attention_dim": 32}
    sizes["down_block_types"] = ("DownBlock2D", "CrossAttnDownBlock2D")
    sizes["up_block_types"] = ("CrossAttnUpBlock2D", "UpBlock2D")
    return UNet2DConditionModel(**(sizes | changes))


def vae(**changes):
    from diffusers import AutoencoderKL

    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    sizes = {"block_out_channels": [8, 8, 8, 8], "norm_num_groups": 4, "sample_size": 64}
    return AutoencoderKL(latent_channels=4, **blocks, **(sizes | changes))


def deepfloyd_if(folder, **checker):
    from diffusers import DDPMScheduler, IFPipeline

    torch.manual_seed(0)
    parts = {
        "unet": unet(out_channels=6),
        "scheduler": DDPMScheduler(),
        "text_encoder": t5(),
        "tokenizer": tokenizer(length=77),
    }
    parts |= dict.fromkeys(("safety_checker", "feature_extractor", "watermarker")) | checker
    IFPipeline(**parts, requires_safety_checker=bool(checker)).save_pretrained(folder)


def safety_checker(kind):
    """A checker of pictures, and what makes its inputs. kind: its class."""
    from transformers import CLIPConfig
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision, side = (
        sizes | {"image_size": 32, "patch_size": 8, "projection_dim": 16},
        {"height": 32, "width": 32},
    )
    return {
        "safety_checker": kind(CLIPConfig(vision_config=vision, projection_dim=16)),
        "feature_extractor": CLIPImageProcessorPil(size=side, crop_size=side),
    }


def stable_diffusion(folder, **checker):
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    torch.manual_seed(0)
    StableDiffusionPipeline(
        vae=vae(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(),
        unet=unet(in_channels=4, out_channels=4, sample_size=8),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        **(dict.fromkeys(("safety_checker", "feature_extractor")) | checker),
        requires_safety_checker=bool(checker),
    ).save_pretrained(folder)


def sdxl(folder):
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    torch.manual_seed(0)
    drawn = unet(
        in_channels=4,
        out_channels=4,
        sample_size=8,
        cross_attention_dim=64,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 32,
    )
    StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=text_encoder(),
        text_encoder_2=text_encoder(projected=True),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=drawn,
        scheduler=EulerDiscreteScheduler(),
        add_watermarker=False,
    ).save_pretrained(folder)


def flux(folder, guidance_embeds=True):
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=guidance_embeds,
    )
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(shift_factor=0.1),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(),
        text_encoder_2=t5(),
        tokenizer_2=tokenizer(length=512),
        transformer=transformer,
    ).save_pretrained(folder)


def hunyuan(folder):
    from diffusers import DDPMScheduler, HunyuanDiT2DModel, HunyuanDiTPipeline
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    transformer = HunyuanDiT2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=4,
        in_channels=4,
        cross_attention_dim=32,
        cross_attention_dim_t5=32,
        pooled_projection_dim=16,
        hidden_size=32,
        activation_fn="gelu-approximate",
    )
    bert = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=80,
    )
    HunyuanDiTPipeline(
        transformer=transformer,
        vae=vae(),
        scheduler=DDPMScheduler(),
        text_encoder=BertModel(bert),
        tokenizer=tokenizer(length=77),
        text_encoder_2=t5(),
        tokenizer_2=tokenizer(length=256),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def unet2d(**changes):
    from diffusers import UNet2DModel

    sizes = {"sample_size": 16, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
    blocks = {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}
    return UNet2DModel(**(sizes | blocks | changes))


def ddpm(folder):
    from diffusers import DDPMPipeline, DDPMScheduler

    torch.manual_seed(0)
    DDPMPipeline(unet2d(), DDPMScheduler()).save_pretrained(folder)


def ddim(folder):
    from diffusers import DDIMPipeline, DDIMScheduler

    torch.manual_seed(0)
    DDIMPipeline(unet2d(), DDIMScheduler()).save_pretrained(folder)


def ldsr(folder):
    from diffusers import DDIMScheduler, LDMSuperResolutionPipeline, VQModel

    torch.manual_seed(0)
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}
    sizes = {"block_out_channels": [8, 8, 8], "norm_num_groups": 4, "latent_channels": 3}
    drawn = unet2d(in_channels=6, out_channels=3)
    LDMSuperResolutionPipeline(VQModel(**blocks, **sizes), drawn, DDIMScheduler()).save_pretrained(folder)
