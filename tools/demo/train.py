r"""Trains the embedded model from simulated films: one command, seeded, minutes on one GPU.

    python tools/demo/train.py --volume ct.npz --out DIR

The shipped weights are of three runs (`make demo-model VOLUME=ct.npz` does them all), each going on from the last:

    python tools/demo/train.py --volume ct.npz --out DIR --plain-wording
    python tools/demo/train.py --volume ct.npz --resume DIR --out DIR2 --films 3000 --stage1-steps 0 \
        --stage2-steps 900 --joint-steps 0 --rate 8e-4 --seed 1
    python tools/demo/train.py --volume ct.npz --resume DIR2 --out DIR3 --films 6000 --stage1-steps 0 \
        --stage2-steps 2100 --joint-steps 2100 --rate 6e-4 --tower-rate 1e-4 --erased 0.5 --seed 3

The first has the listed templates only, the second composed ones too (`wording.py`, which has grown since), and in the
third up to half of the films lose cells (`erasure.py`), so that the answer follows the evidence that is left.

1. Films are rendered, shrunk as the processor shrinks them, and kept with their masks per cell.
2. The vision tower learns which cells each finding and mark covers.
3. The text model learns to answer from its image tokens, several questions of a film in one sequence; the tower is
   frozen first and joins at a low rate at the end.
4. The folder is saved, loaded again as any checkpoint is, and judged on fresh films (evaluate.py).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import erasure  # noqa: E402
import language  # noqa: E402
import tokenizer as tokens  # noqa: E402
import wording  # noqa: E402
from erasure import CELLS  # noqa: E402

IMAGE_SIZE = 224
CHANNELS = (
    "pneumonia_left", "pneumonia_right", "pleural_effusion_left", "pleural_effusion_right", "pneumothorax_left",
    "pneumothorax_right", "cardiomegaly", "L", "R", "arrow", "pacemaker",
)  # fmt: skip
WATCHED_SEEDS = 50_000_000  # films that seeing is reported on; training films start at 0
JUDGED_SEEDS = 55_000_000  # films that the finished model is judged on
START = time.perf_counter()


def say(*words: Any) -> None:
    print(f"[{time.perf_counter() - START:6.1f} s]", *words, flush=True)


# --- films -----------------------------------------------------------------------------------------------------------


@dataclass
class Films:
    """Films as the model sees them.

    Attributes:
        images: uint8 (n, 224, 224).
        cells: uint8 (n, channels, 16, 16), share of a cell that is covered, times 255.
        body: uint8 (n, 16, 16), the same of the body.
        about: findings and marks of each.
    """

    images: torch.Tensor
    cells: torch.Tensor
    body: torch.Tensor
    about: list[dict[str, Any]]


def kept_of(film: Any) -> list[tuple[Any, Any, Any, str]]:
    """What is kept of a film: as rendered, and once more with further marks, which are small and want many examples."""
    import simulate

    wanted = simulate.draw_marks(np.random.default_rng([4, film.seed]))
    letter = any(kind in film.marks for kind in ("L", "R"))
    further = [
        mark
        for mark in wanted
        if mark["kind"] not in film.marks
        and mark["kind"] != "pacemaker"
        and not (letter and mark["kind"] in ("L", "R"))
    ]
    image, planted, styles = simulate.plant_marks(film.image, further)
    masks = {name: mask | planted[name] if name in planted else mask for name, mask in film.masks.items()}
    return [
        _shrunk(film.image, film.masks, film.findings, film.marks),
        _shrunk(image, masks, film.findings, {**film.marks, **styles}),
    ]


def _shrunk(
    image: Any, masks: dict[str, Any], findings: dict[str, str], marks: dict[str, str]
) -> tuple[Any, Any, Any, str]:
    """The picture as the processor resizes it, the shares of each cell that are covered, and what is on the film."""
    small = np.asarray(Image.fromarray(image).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR))
    share = np.stack([erasure.covered(masks[channel]) for channel in (*CHANNELS, "body")])
    cells = np.round(share * 255).astype(np.uint8)
    about = json.dumps({"findings": dict(findings), "marks": sorted(marks)})
    return small, cells[:-1], cells[-1], about


def films(volume: str, first: int, count: int, cache: Path, device: str, workers: int) -> Films:
    """Films of seeds first … first + count − 1, rendered or read from the cache."""
    import simulate

    kept = cache / f"films-{first}-{count}.npz"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        ct = simulate.load_volume(Path(volume), device)
        pairs = simulate.render_many(ct, range(first, first + count), workers, kept_of)
        columns = zip(*(shot for pair in pairs for shot in pair), strict=True)
        images, cells, body, texts = (np.stack(column) for column in columns)
        np.savez(kept, images=images, cells=cells, body=body, about=texts)
    stored = np.load(kept)
    about = [json.loads(each) for each in stored["about"]]
    return Films(*(torch.from_numpy(stored[name]) for name in ("images", "cells", "body")), about)


def augmented(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """uint8 (B, 224, 224) -> float (B, 3, 224, 224) in −1 … 1, with other exposure, grain and a few pixels' shift."""
    b, device = images.shape[0], images.device

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.empty(b, 1, 1, device=device).uniform_(low, high, generator=generator)

    x = images.float() / 255
    x = x.clamp(1e-3, 1) ** uniform(0.8, 1.25) * uniform(0.85, 1.15) + uniform(-0.06, 0.06)
    x = x + torch.randn(x.shape, device=device, generator=generator) * uniform(0, 0.02)
    dy, dx = (int(v) for v in torch.randint(-3, 4, (2,), device=device, generator=generator))
    x = torch.roll(x, (dy, dx), (1, 2))
    return (x.clamp(0, 1) * 2 - 1)[:, None].expand(-1, 3, -1, -1)


def as_seen(images: torch.Tensor) -> torch.Tensor:
    """uint8 (B, 224, 224) -> what the processor gives: float (B, 3, 224, 224) in −1 … 1."""
    return (images.float() / 127.5 - 1)[:, None].expand(-1, 3, -1, -1)


# --- model -----------------------------------------------------------------------------------------------------------


def build_model(tokenizer: Any, seed: int) -> Any:
    """A Gemma 3 in miniature with random weights; the projector, which the library leaves at zero, is drawn too."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in tokens.CONTROL}
    text: dict[str, Any] = dict(
        vocab_size=len(tokenizer), hidden_size=192, intermediate_size=640, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=48, query_pre_attn_scalar=48, sliding_window=512, max_position_embeddings=8192,
        layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        pad_token_id=ids["<pad>"], bos_token_id=ids["<bos>"], eos_token_id=ids["<end_of_turn>"],
        tie_word_embeddings=True,
    )  # fmt: skip
    vision: dict[str, Any] = dict(
        hidden_size=224, intermediate_size=768, num_hidden_layers=6, num_attention_heads=4, image_size=IMAGE_SIZE,
        patch_size=IMAGE_SIZE // CELLS, vision_use_head=False,
    )  # fmt: skip
    settings: dict[str, Any] = dict(
        text_config=text, vision_config=vision, mm_tokens_per_image=CELLS**2, image_token_id=ids["<image_soft_token>"],
        boi_token_index=ids["<start_of_image>"], eoi_token_index=ids["<end_of_image>"],
        eos_token_id=[ids["<eos>"], ids["<end_of_turn>"]], tie_word_embeddings=True,
    )  # fmt: skip
    config = Gemma3Config(**settings)
    config.image_token_id = ids["<image_soft_token>"]
    torch.manual_seed(seed)
    model = Gemma3ForConditionalGeneration(config)
    torch.nn.init.normal_(
        model.model.multi_modal_projector.mm_input_projection_weight, std=vision["hidden_size"] ** -0.5
    )
    model.generation_config.eos_token_id = [ids["<eos>"], ids["<end_of_turn>"]]
    model.generation_config.pad_token_id = ids["<pad>"]
    model.generation_config.bos_token_id = ids["<bos>"]
    model.generation_config.do_sample = False
    return model


def schedule(optimizer: torch.optim.Optimizer, steps: int, warmup: int = 100) -> Any:
    """Linear warm-up, then a cosine to zero."""

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def optimizer_of(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.02)


def auc(score: torch.Tensor, truth: torch.Tensor) -> float:
    """Area under the ROC curve by ranks."""
    ranks = score.argsort().argsort().float() + 1
    n1, n0 = truth.sum(), (~truth).sum()
    return float((ranks[truth].sum() - n1 * (n1 + 1) / 2) / (n1 * n0)) if n1 and n0 else float("nan")


# --- stage 1: see ----------------------------------------------------------------------------------------------------


def learn_to_see(model: Any, train: Films, held: Films, steps: int, device: torch.device, seed: int) -> None:
    """Per-cell coverage of every channel, by binary cross-entropy on the tower's last hidden states."""
    tower = model.model.vision_tower.train()
    head = torch.nn.Linear(tower.config.hidden_size, len(CHANNELS)).to(device)
    optimizer = optimizer_of([{"params": [*tower.parameters(), *head.parameters()], "lr": 1e-3}])
    rate = schedule(optimizer, steps, 200)
    generator = torch.Generator(device).manual_seed(seed)
    images, cells = train.images.to(device), train.cells.to(device)
    for step in range(steps):
        pick = torch.randint(0, len(images), (128,), device=device, generator=generator)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            features = tower(pixel_values=augmented(images[pick], generator)).last_hidden_state  # (B, 256, D)
        loss = seeing_loss(head, features, cells[pick].float() / 255)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimizer.step()
        rate.step()
        if step % 250 == 249 or step == steps - 1:
            say(f"stage 1 step {step + 1}/{steps} loss {loss.item():.4f}")
    tower.eval()
    _report_seeing(tower, head, held, device)


def seeing_loss(head: Any, features: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of features (B, 256, D) with the share of each cell covered (B, C, 16, 16)."""
    small = [name in ("L", "R", "arrow") for name in CHANNELS]  # few cells, so each counts for more
    weight = torch.where(torch.tensor(small, device=cells.device), 10.0, 3.0)[:, None, None]
    logits = head(features.float()).transpose(1, 2).unflatten(2, (CELLS, CELLS))  # (B, C, 16, 16)
    return F.binary_cross_entropy_with_logits(logits, cells, pos_weight=weight)


@torch.no_grad()
def _report_seeing(tower: Any, head: Any, held: Films, device: torch.device) -> None:
    scores = []
    for batch in held.images.split(128):
        features = tower(pixel_values=as_seen(batch.to(device))).last_hidden_state
        scores.append(head(features.float()).topk(3, dim=1).values.mean(1).cpu())  # (B, C)
    score, truth = torch.cat(scores), held.cells.flatten(2).max(-1).values > 127
    say("image AUC", {name: round(auc(score[:, c], truth[:, c]), 4) for c, name in enumerate(CHANNELS)})


# --- stage 2: answer -------------------------------------------------------------------------------------------------


class Packed(IterableDataset[dict[str, torch.Tensor]]):
    """Batches of films, several questions of each in one sequence: the image once, no question sees another."""

    def __init__(
        self,
        about: list[dict[str, Any]],
        processor: Any,
        batch: int,
        questions: int,
        steps: int,
        seed: int,
        wide: dict[str, tuple[str, ...]] | None = None,
        eraser: erasure.Eraser | None = None,
    ) -> None:
        self.wide, self.eraser = wide or {}, eraser
        self.about, self.batch, self.questions, self.steps, self.seed = about, batch, questions, steps, seed
        self.tokenizer = processor.tokenizer
        chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "QUESTION"}]}]
        text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        text = text.replace(processor.boi_token, processor.full_image_sequence)
        before, self.after = text.split("QUESTION")
        self.prefix = self.ids(before.removesuffix("\n\n"))
        self.lead = "\n\n"  # read together with the question, as the tokenizer does
        self.stop = self.tokenizer.convert_tokens_to_ids("<end_of_turn>")

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def __iter__(self) -> Any:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        for step in range(worker, self.steps, workers):
            yield self.make(np.random.default_rng([self.seed, step]))

    def make(self, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """ids, positions, segment, weight, each (B, S): segment 0 is the image's, −1 is padding; and what is gone."""
        asker = language.Questioner(rng, self.wide, wording.ABSENT if self.wide else language.ABSENT)
        chosen = rng.integers(0, len(self.about), self.batch)
        facts, removed = [self.about[i] for i in chosen], {}
        if self.eraser:
            facts, removed = self.eraser(rng, chosen, self.about)
        rows = [self.row(asker, about) for about in facts]
        length = max(len(row[0]) for row in rows)
        fills = (0, 0, -1, 0.0)
        columns = [
            torch.tensor([row[c] + [fills[c]] * (length - len(row[0])) for row in rows]) for c in range(len(fills))
        ]
        named = dict(zip(("ids", "positions", "segment", "weight"), columns, strict=True))
        return {**named, **removed, "film": torch.from_numpy(chosen)}

    def row(self, asker: language.Questioner, about: dict[str, Any]) -> tuple[list[Any], ...]:
        ids, n = list(self.prefix), len(self.prefix)
        positions, segment, weight = list(range(n)), [0] * n, [0.0] * n
        for s, exchange in enumerate(asker.draw(about["findings"], about["marks"], self.questions), 1):
            asked = self.ids(self.lead + exchange.question.strip() + self.after)
            said = [*self.ids(exchange.answer), self.stop]
            ids += asked + said
            positions += range(n, n + len(asked) + len(said))
            segment += [s] * (len(asked) + len(said))
            weight += [0.0] * len(asked) + [1 / len(said) ** 0.5] * len(said)  # long answers weigh more, not in full
        return ids, positions, segment, weight


def seen_by(segment: torch.Tensor, n_image: int) -> torch.Tensor:
    """Mask (B, 1, S, S): causal, each question sees the image block and itself; image tokens see each other."""
    length = segment.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segment.device).tril()
    same = segment[:, :, None] == segment[:, None, :]
    to_image = (segment == 0)[:, None, :]
    allowed = causal & (same | to_image)
    image = torch.zeros(length, dtype=torch.bool, device=segment.device)
    image[n_image:][: CELLS**2] = True
    allowed = allowed | (image[:, None] & image[None, :])
    diagonal = torch.eye(length, dtype=torch.bool, device=segment.device)
    return (allowed | diagonal)[:, None]


def answer_loss(model: Any, batch: dict[str, torch.Tensor], pixels: torch.Tensor, first_image: int) -> torch.Tensor:
    """Weighted cross-entropy of the answers' tokens, for pictures (B, 3, H, W)."""
    return loss_of_tokens(model, batch, model.model.get_image_features(pixels).pooler_output, first_image)


def loss_of_tokens(model: Any, batch: dict[str, torch.Tensor], image: torch.Tensor, first_image: int) -> torch.Tensor:
    """The same, for image tokens (B, N, D)."""
    core = model.model
    at = torch.arange(CELLS**2, device=image.device) + first_image
    ids = batch["ids"].clone()
    ids[:, at] = 0
    embeds = core.get_input_embeddings()(ids).to(image.dtype).index_copy(1, at, image)
    mask = seen_by(batch["segment"], first_image)
    states = core.language_model(
        inputs_embeds=embeds,
        attention_mask={"full_attention": mask, "sliding_attention": mask},
        position_ids=batch["positions"],
        use_cache=False,
    ).last_hidden_state
    weight = batch["weight"][:, 1:]
    chosen = weight > 0
    logits = model.lm_head(states[:, :-1][chosen]).float()
    losses = F.cross_entropy(logits, batch["ids"][:, 1:][chosen], reduction="none")
    return (losses * weight[chosen]).sum() / weight.sum()


def learn_to_answer(
    model: Any,
    processor: Any,
    train: Films,
    steps: int,
    joint: int,
    device: torch.device,
    arguments: argparse.Namespace,
) -> None:
    """The decoder and projector learn first; for the last `joint` steps the tower learns too, at a low rate.

    Where films lose cells, the tower keeps learning to see at the same time, so that it stays local: which cells each
    finding and mark covers, of what is left.
    """
    source = questions(processor, train, steps, arguments)
    loader = DataLoader(
        source, batch_size=None, num_workers=arguments.workers, prefetch_factor=4 if arguments.workers else None
    )
    tower, core = model.model.vision_tower, model.model
    head = torch.nn.Linear(tower.config.hidden_size, len(CHANNELS)).to(device)
    rest = [*core.language_model.parameters(), *core.multi_modal_projector.parameters()]
    optimizer = optimizer_of(
        [
            {"params": rest, "lr": arguments.rate},
            {"params": list(tower.parameters()), "lr": arguments.tower_rate},
            {"params": list(head.parameters()), "lr": 1e-3},
        ]
    )
    rate = schedule(optimizer, steps)
    generator = torch.Generator(device).manual_seed(arguments.seed + 1)
    films = Films(train.images.to(device), train.cells.to(device), train.body.to(device), train.about)
    first_image = source.prefix.index(model.config.image_token_id)
    model.train()
    for step, batch in enumerate(loader):
        tower.requires_grad_(step >= steps - joint)
        batch = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            pictures = augmented(films.images[batch["film"]], generator)
            if source.eraser:
                loss = erased_loss(model, head, batch, pictures, films, first_image)
            else:
                loss = answer_loss(model, batch, pictures, first_image)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        if step % 100 == 99 or step == steps - 1:
            say(f"stage 2 step {step + 1}/{steps} loss {loss.item():.4f} length {batch['ids'].shape[1]}")
    model.eval()


def questions(processor: Any, train: Films, steps: int, arguments: argparse.Namespace) -> Packed:
    """What is asked, of films that lose cells if `--erased` says so."""
    wide = {} if arguments.plain_wording else wording.wide()
    eraser = erasure.Eraser(train.cells.numpy(), CHANNELS, arguments.erased) if arguments.erased else None
    return Packed(train.about, processor, arguments.batch, arguments.questions, steps, arguments.seed, wide, eraser)


def erased_loss(
    model: Any, head: Any, batch: dict[str, torch.Tensor], pictures: torch.Tensor, films: Films, first_image: int
) -> torch.Tensor:
    """Loss of the answers to films that lost cells, and of seeing what is left of them."""
    cells, body = (kept[batch["film"]].float() / 255 for kept in (films.cells, films.body))
    tokens, features = erasure.seen(model.model, pictures, batch, body)
    answering = loss_of_tokens(model, batch, tokens, first_image)
    return answering + seeing_loss(head, features, erasure.still_covered(cells, batch))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volume", required=True, help="the cache that `simulate.py prepare` wrote")
    parser.add_argument("--out", type=Path, required=True, help="where the model folder goes")
    parser.add_argument("--films", type=int, default=15_000)
    parser.add_argument("--test-films", type=int, default=640)
    parser.add_argument("--stage1-steps", type=int, default=4200)
    parser.add_argument("--stage2-steps", type=int, default=2300)
    parser.add_argument("--joint-steps", type=int, default=700)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--tower-rate", type=float, default=1e-4)
    parser.add_argument("--erased", type=float, default=0.0, help="share of the films that lose cells (erasure.py)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=14, help="processes that render and that write questions")
    parser.add_argument("--plain-wording", action="store_true", help="listed templates only, no composed ones")
    parser.add_argument("--resume", type=Path, help="folder of a trained model to go on from (with --stage1-steps 0)")
    parser.add_argument("--cache", type=Path, default=Path("films-cache"))
    train_and_judge(parser.parse_args())


def train_and_judge(arguments: argparse.Namespace) -> None:
    device = torch.device(arguments.device)
    torch.backends.cuda.matmul.allow_tf32 = True
    workers = max(1, arguments.workers)
    made = {
        name: films(arguments.volume, first, count, arguments.cache, arguments.device, workers)
        for name, first, count in (("watched", WATCHED_SEEDS, arguments.test_films), ("train", 0, arguments.films))
    }
    say(f"rendered {len(made['train'].about)} training films and {len(made['watched'].about)} others")
    model, processor = begin(arguments, device)
    say(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} million parameters, {len(processor.tokenizer)} pieces")
    if arguments.stage1_steps:
        learn_to_see(model, made["train"], made["watched"], arguments.stage1_steps, device, arguments.seed)
    learn_to_answer(model, processor, made["train"], arguments.stage2_steps, arguments.joint_steps, device, arguments)
    save(model, processor, arguments.out)
    say("saved; judging")
    judge_saved(arguments, workers)
    say("done")


def begin(arguments: argparse.Namespace, device: torch.device) -> tuple[Any, Any]:
    """A new model and its processor, or those of `--resume`, in float32 on the device."""
    if arguments.resume:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        model = AutoModelForImageTextToText.from_pretrained(arguments.resume, dtype=torch.float32)
        return model.to(device), AutoProcessor.from_pretrained(arguments.resume)
    tokenizer = tokens.build_tokenizer(language.all_texts())
    return build_model(tokenizer, arguments.seed).to(device), tokens.build_processor(tokenizer, IMAGE_SIZE, CELLS**2)


def judge_saved(arguments: argparse.Namespace, workers: int) -> None:
    """Judges the saved folder on films of seeds of their own, and writes its card."""
    import evaluate

    seeds = range(JUDGED_SEEDS, JUDGED_SEEDS + arguments.test_films)
    films_to_judge = evaluate.fresh_films(Path(arguments.volume), seeds, arguments.device, workers)
    metrics, circumstances = evaluate.judge(arguments.out, films_to_judge, arguments.device)
    evaluate.show(metrics)
    left_out = ("out", "cache", "volume", "resume")
    settings: dict[str, Any] = {name: str(value) for name, value in vars(arguments).items() if name not in left_out}
    if arguments.resume:
        settings["resumed_from"] = evaluate.stored_training(arguments.resume)
    evaluation = {"films": len(films_to_judge), "first_seed": JUDGED_SEEDS, **circumstances}
    evaluate.write_card(arguments.out, metrics, settings, evaluation)


def save(model: Any, processor: Any, out: Path) -> None:
    """Weights in half precision to be small; they are loaded in float32 or bfloat16."""
    out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(out)
    processor.save_pretrained(out)


if __name__ == "__main__":
    main()
