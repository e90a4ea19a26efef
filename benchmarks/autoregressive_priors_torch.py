"""The side of PyTorch in `autoregressive_priors.py`: LlamaGen's own class, and its loop with a cache."""

from __future__ import annotations

import contextlib
import importlib
import json
import pathlib
import sys
from typing import Any
from unittest import mock

import torch
from autoregressive_priors import CLASSES, VOCABULARY, Setup
from sides import Step, respond


def serve(setup: Setup) -> None:
    """Times what is asked for."""
    torch.set_num_threads(setup.threads)
    torch.manual_seed(0)
    here = str(pathlib.Path(__file__).resolve().parent)  # whose autoregressive.py would hide the authors' folder
    sys.path[:] = [setup.llamagen, *(place for place in sys.path if place != here)]
    models = importlib.import_module("autoregressive.models.gpt")
    loops = importlib.import_module("autoregressive.models.generate")

    def network(codes: int) -> Any:
        options = models.ModelArgs(
            dim=768, n_layer=setup.depth, n_head=12, num_classes=CLASSES, vocab_size=VOCABULARY, block_size=codes
        )
        return models.Transformer(options)

    def training(codes: int, n: int) -> Step:
        model, drawn = network(codes).train(), torch.randint(0, VOCABULARY, (n, codes))
        matrices, vectors = ([p for p in model.parameters() if (p.dim() > 1) == two] for two in (True, False))
        groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.95), fused=True)

        def one() -> None:
            model(idx=drawn[:, :-1], cond_idx=torch.arange(n), targets=drawn)[1].backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return one

    def sampling(codes: int, n: int) -> Step:
        model = network(codes).eval()
        # A setting for GPUs, by which the loop chooses a kernel: newer versions of torch have it no more.
        kernel = mock.patch.object(
            torch.backends.cuda, "sdp_kernel", lambda **settings: contextlib.nullcontext(), create=True
        )

        def one() -> None:
            with kernel, torch.inference_mode():
                loops.generate(model, torch.arange(n), codes)

        return one

    count = sum(p.numel() for p in network(256).parameters())
    made = {"step": training, "sample": sampling}

    def ready(case: str) -> Step:
        what, codes, n = case.split()
        return made[what](int(codes), int(n))

    respond({"parameters": count, "torch": torch.__version__}, ready)


if __name__ == "__main__":
    serve(Setup(**json.loads(sys.argv[1])))
