"""Train one of the course's language models from scratch: `python -m pretraining.train haneul-1m`.

It can be interrupted at any time: a run writes `log.jsonl` and checkpoints, and continues from the latest
one. Matrices are optimised by Muon (`pretraining.muon`), embeddings (the vectors of the tokens) and the
factors of normalisations by AdamW. The learning rate is constant, then decays linearly. The loss counts all
tokens of answers, and a random sample of the other tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from course_lib.errors import CourseError
from pretraining import tokenizer as tok
from pretraining.grow import double_width
from pretraining.muon import Muon
from pretraining.rows import Stage, Writer

FOLDER = Path(__file__).resolve().parents[1]
RUNS = FOLDER.parent / "runs"  # folders of unfinished models, with their checkpoints


@dataclass(frozen=True)
class Size:
    """The dimensions of a model, and its number of training steps.

    hidden: numbers in a token's vector, a multiple of 32, because an attention head has 32. intermediate:
    numbers in the wider vector within a layer.
    grow_from: the smaller model from which its training starts, or '' for random weights.
    """

    hidden: int
    layers: int
    intermediate: int
    steps: int
    grow_from: str = ""


SIZES = {
    "haneul-300k": Size(64, 2, 128, 8000),
    "haneul-1m": Size(128, 4, 384, 8000),
    "haneul-4m": Size(256, 4, 768, 2500, grow_from="haneul-1m"),
}
# The stages of the training, with more and longer passages from one to the next; see `rows`.
# The last argument: (tokens of a row, rows of a batch) -> probability.
WARM = Stage("warm", 300, {"repeat": 1, "recall": 1}, {(128, 32): 1})
COPY = Stage("copy", 400, {"recall": 0.1, "copy": 0.15, "qa1": 0.7, "label": 0.05}, {(384, 14): 1})
FEW = Stage("few", 600, {"qa1": 0.5, "qa3": 0.4, "label": 0.1}, {(384, 14): 0.4, (768, 7): 0.6})
FULL = Stage(
    "full",
    10**9,
    {
        "qa1": 0.3,
        "qa3": 0.3,
        "qa5": 0.3,
        "qa8": 0.4,
        "label": 0.25,
        "prose": 0.12,
        "talk": 0.03,
        "closed": 0.03,
        "copy": 0.02,
    },
    {(384, 14): 0.42, (768, 7): 0.36, (1152, 5): 0.13, (1664, 4): 0.09},
)
# Label smoothing: this share of the target is spread over all tokens. The same few hundred passages occur
# again and again. Without smoothing, larger models memorise them, and are more surprised by Haneul Bank's
# handbook (perplexity 368 at 1.4M weights, 316 at 0.3M).
SMOOTHING = 0.1
STAGES = (WARM, COPY, FEW, FULL)


def stage_at(step: int) -> Stage:
    for stage in STAGES:
        if step < stage.steps:
            return stage
        step -= stage.steps
    raise AssertionError("the last stage has no end")


def rate_at(step: int, steps: int, decay: float = 0.45, warm_up: int = 25) -> float:
    """Return the factor of the learning rate: linear warm-up, constant, linear decay.

    decay: the share of the steps in which it decays.
    """
    return min(1.0, (step + 1) / warm_up, max(0.02, (steps - step) / (decay * steps)))


def new_model(size: Size) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=tok.VOCABULARY,
            hidden_size=size.hidden,
            intermediate_size=size.intermediate,
            num_hidden_layers=size.layers,
            num_attention_heads=size.hidden // 32,
            head_dim=32,
            max_position_embeddings=tok.CONTEXT,
            tie_word_embeddings=True,
            rms_norm_eps=1e-5,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def learn_loss(model: LlamaForCausalLM, ids: torch.Tensor, learn: torch.Tensor) -> torch.Tensor:
    """Return the mean of -log(probability) of the tokens to learn (cross-entropy), smoothed.

    Only for these tokens the output layer is computed.
    """
    hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    chosen = learn[:, 1:]
    logits = model.lm_head(hidden[chosen]).float()
    return torch.nn.functional.cross_entropy(logits, ids[:, 1:][chosen], label_smoothing=SMOOTHING)


class Run:
    """A training run, with its checkpoints in a folder.

    rate: a factor of the learning rates. skip: added to a step's number when its data are drawn. decay: the
    share of the steps in which the learning rate decays. shipped: start from the published weights in
    models/.
    """

    def __init__(
        self,
        name: str,
        steps: int,
        folder: Path,
        *,
        rate: float = 1.0,
        skip: int = 0,
        decay: float = 0.45,
        shipped: bool = False,
    ) -> None:
        self.name, self.steps, self.folder = name, steps, folder
        self.skip, self.decay, self.shipped = skip, decay, shipped
        self.tokenizer: PreTrainedTokenizerFast = tok.load_or_train(
            FOLDER / name if shipped else RUNS / "tokenizer"
        )
        self.model = self._start()
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model.to(self.device)
        named = dict(self.model.named_parameters())
        matrices = [p for n, p in named.items() if p.ndim == 2 and "embed" not in n]
        others = [p for n, p in named.items() if p.ndim == 1 or "embed" in n]
        self.optimisers = [
            Muon(matrices, lr=1e-2 * rate),
            torch.optim.AdamW(others, lr=4e-3 * rate, weight_decay=0.0),
        ]
        self.full = [[g["lr"] for g in o.param_groups] for o in self.optimisers]
        self.writer = Writer(self.tokenizer, seed=0)
        self.step = self.tokens = 0
        self.seconds = 0.0
        # The training of the published weights, if the run starts from them.
        self.earlier = {"step": 0, "tokens": 0, "seconds": 0}
        self._resume()

    def _start(self) -> LlamaForCausalLM:
        begun = (self.folder / "checkpoint.safetensors").exists() and (self.folder / "model").exists()
        if begun or self.shipped:
            folder = self.folder / "model" if begun else FOLDER / self.name
            return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
        small = SIZES[self.name].grow_from
        if not small:
            return new_model(SIZES[self.name])
        if not (RUNS / small / "model").exists():
            raise CourseError(
                f"{self.name} grows from {small}, and runs/{small} holds no model",
                f"python -m pretraining {small}",
            )
        print(f"growing {self.name} from {small}")
        return double_width(LlamaForCausalLM.from_pretrained(RUNS / small / "model", dtype=torch.float32))

    def _states(self) -> dict[str, torch.Tensor]:
        out = {f"model/{n}": p.detach() for n, p in self.model.named_parameters()}
        for i, optimiser in enumerate(self.optimisers):
            for j, state in optimiser.state_dict()["state"].items():
                out |= {f"opt/{i}/{j}/{k}": torch.as_tensor(v) for k, v in state.items()}
        return out

    def save(self) -> None:
        """Write a checkpoint, atomically, and the model folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        meta = {"step": str(self.step), "tokens": str(self.tokens), "seconds": str(self.seconds)}
        meta["earlier"] = json.dumps(self.earlier)
        save_file(
            {k: v.contiguous() for k, v in self._states().items()}, self.folder / "checkpoint.partial", meta
        )
        os.replace(self.folder / "checkpoint.partial", self.folder / "checkpoint.safetensors")
        self.model.save_pretrained(self.folder / "model")
        self.tokenizer.save_pretrained(self.folder / "model")

    def _resume(self) -> None:
        path = self.folder / "checkpoint.safetensors"
        if not path.exists():
            self._follow_shipped()
            return
        from safetensors import safe_open

        with safe_open(path, "pt") as f:
            meta = f.metadata()
        self.step, self.tokens, self.seconds = int(meta["step"]), int(meta["tokens"]), float(meta["seconds"])
        self.earlier = json.loads(meta.get("earlier", json.dumps(self.earlier)))
        tensors = load_file(path)
        for n, p in self.model.named_parameters():
            p.data.copy_(tensors[f"model/{n}"])
        for i, optimiser in enumerate(self.optimisers):
            state = optimiser.state_dict()
            for key in (k for k in tensors if k.startswith(f"opt/{i}/")):
                _, _, j, k = key.split("/")
                state["state"].setdefault(int(j), {})[k] = tensors[key]
            optimiser.load_state_dict(state)
        print(f"{self.name}: going on from step {self.step}")

    def _follow_shipped(self) -> None:
        """Continue the log of the published weights, so that the model card counts the whole training."""
        log = FOLDER / self.name / "training-log.jsonl"
        if self.shipped and log.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(log, self.folder / "log.jsonl")
            last = json.loads(log.read_text("utf-8").splitlines()[-1])
            self.earlier = {key: last[key] for key in self.earlier}

    def train_step(self) -> float:
        ids_, learn_ = self.writer.batch(stage_at(self.step + self.skip), self.step + self.skip)
        ids, learn = torch.from_numpy(ids_).to(self.device), torch.from_numpy(learn_).to(self.device)
        share = rate_at(self.step, self.steps, self.decay)
        for optimiser, full in zip(self.optimisers, self.full, strict=True):
            for group, lr in zip(optimiser.param_groups, full, strict=True):
                group["lr"] = lr * share
        with torch.autocast(self.device, dtype=torch.bfloat16):
            loss = learn_loss(self.model, ids, learn)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.tokens += ids.numel()
        self.step += 1
        return float(loss.detach())

    def train(self, save_every: float = 120.0) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        begun, saved, before = time.monotonic(), time.monotonic(), self.seconds
        recent: list[float] = []
        with (
            open(self.folder / "log.jsonl", "a") as log,
            tqdm(total=self.steps, initial=self.step, desc=self.name) as bar,
        ):
            while self.step < self.steps:
                recent.append(self.train_step())
                bar.update()
                self.seconds = before + time.monotonic() - begun
                if self.step % 50 == 0 or self.step == self.steps:
                    row = {
                        "step": self.step + self.earlier["step"],
                        "tokens": self.tokens + self.earlier["tokens"],
                        "seconds": round(self.seconds + self.earlier["seconds"]),
                        "loss": sum(recent) / len(recent),
                    }
                    log.write(json.dumps(row) + "\n")
                    log.flush()
                    bar.set_postfix(loss=f"{row['loss']:.3f}", tokens=f"{self.tokens / 1e6:.1f}M")
                    recent = []
                if time.monotonic() - saved > save_every:
                    self.save()
                    saved = time.monotonic()
        self.save()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=SIZES)
    parser.add_argument("--steps", type=int, help="steps in all (default: the size's own)")
    parser.add_argument("--rate", type=float, default=1.0, help="factor of the learning rates")
    parser.add_argument("--skip", type=int, default=0, help="skip the data of this many steps")
    parser.add_argument(
        "--decay", type=float, default=0.45, help="share of the run over which the rate falls to zero"
    )
    parser.add_argument(
        "--shipped", action="store_true", help="start from the weights in models/, if there is no run yet"
    )
    args = parser.parse_args()
    options = {k: getattr(args, k) for k in ("rate", "skip", "decay", "shipped")}
    Run(args.name, args.steps or SIZES[args.name].steps, RUNS / args.name, **options).train()


if __name__ == "__main__":
    main()
