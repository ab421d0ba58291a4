"""A pipeline of diffusers for small pictures: a text-conditioned UNet on pixels, without an autoencoder.

Diffusion models: Ho et al. 2020 (arXiv:2006.11239); guidance: Ho and Salimans 2022 (arXiv:2207.12598).
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.image_processor import VaeImageProcessor


class PixelDiffusionPipeline(DiffusionPipeline):
    """Draws pictures from texts: `PixelDiffusionPipeline(unet, scheduler, text_encoder, tokenizer)`.

    unet: UNet2DConditionModel with three channels in and out. scheduler: DDIMScheduler, for example.
    text_encoder: a transformers model whose `last_hidden_state` has the UNet's `cross_attention_dim`.
    tokenizer: its tokenizer, whose `model_max_length` is the number of tokens that each prompt is padded to.
    """

    model_cpu_offload_seq = "text_encoder->unet"

    def __init__(self, unet: Any, scheduler: Any, text_encoder: Any, tokenizer: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler, text_encoder=text_encoder, tokenizer=tokenizer)
        self.image_processor = VaeImageProcessor(vae_scale_factor=1)

    def encode(self, prompts: list[str]) -> Any:
        """The hidden states of the prompts: (prompts, tokens, dimensions)."""
        tokens = self.tokenizer(
            prompts, padding="max_length", max_length=self.tokenizer.model_max_length, return_tensors="pt"
        ).to(self._execution_device)
        return self.text_encoder(**tokens).last_hidden_state

    @torch.no_grad()
    def __call__(
        self,
        prompt: list[str],
        generator: list[torch.Generator],
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float = 3.0,
        output_type: str = "pil",
    ) -> ImagePipelineOutput:
        """Draw each prompt, from the noise of its generator.

        guidance_scale: with 1 the UNet is computed once for each step, with any other twice.
        """
        size = self.unet.config.sample_size
        shape = (3, height or size, width or size)
        states = self.encode(prompt)
        if guidance_scale != 1:
            states = torch.cat([self.encode([""] * len(prompt)), states])
        noise = [torch.randn(shape, generator=g, dtype=states.dtype) for g in generator]
        sample = torch.stack(noise).to(states.device) * self.scheduler.init_noise_sigma
        self.scheduler.set_timesteps(num_inference_steps, device=states.device)
        for step in self.scheduler.timesteps:
            inputs = torch.cat([sample, sample]) if guidance_scale != 1 else sample
            predicted = self.unet(self.scheduler.scale_model_input(inputs, step), step, states).sample
            if guidance_scale != 1:
                without, with_prompt = predicted.chunk(2)
                predicted = without + guidance_scale * (with_prompt - without)
            sample = self.scheduler.step(predicted, step, sample).prev_sample
        return ImagePipelineOutput(images=self.image_processor.postprocess(sample, output_type))
