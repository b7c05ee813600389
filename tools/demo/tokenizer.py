"""A byte-fallback BPE tokenizer in the form of Gemma's, and the processor around it.

Any text in any script can be asked: what no piece covers is spelled in bytes. Long medical words are in pieces.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import Gemma3Processor, PreTrainedTokenizerFast
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

CONTROL = (
    "<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>",
    "<image_soft_token>",
)  # fmt: skip
PIECES = 1400
LONGEST_PIECE = 8

#: The same strings as Gemma 3's own template, in our own words: turns, the image where it occurs, a system text first.
CHAT_TEMPLATE = """{{ bos_token }}
{%- set ns = namespace(lead='') -%}
{%- for message in messages -%}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
{%- if role == 'system' -%}
{%- set ns.lead = (message['content'] if message['content'] is string else message['content'][0]['text']) + '\n\n' -%}
{%- else -%}
{{ '<start_of_turn>' + role + '\n' + ns.lead }}{%- set ns.lead = '' -%}
{%- if message['content'] is string -%}
{{ message['content'] | trim }}
{%- else -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}{{ '<start_of_image>' }}{%- elif part['type'] == 'text' -%}\
{{ part['text'] | trim }}{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{ '<end_of_turn>\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"""


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Learns merges from texts, then adds the control tokens in front and every byte."""
    learned = json.loads(_train(texts).to_str())["model"]
    pieces = [*CONTROL, *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [piece for piece in sorted(learned["vocab"], key=learned["vocab"].get) if piece not in pieces]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    merges = [tuple(merge) for merge in learned["merges"]]
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    _shape(core)
    core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        padding_side="left",
        model_max_length=8192,
        extra_special_tokens={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
    )


def _shape(core: Tokenizer) -> None:
    core.normalizer = normalizers.Replace(" ", "▁")
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("▁", "merged_with_next"),
            pre_tokenizers.Split(Regex(r"[^\w▁]"), "isolated"),
        ]
    )


def _train(texts: Iterable[str]) -> Tokenizer:
    core = Tokenizer(models.BPE())
    _shape(core)
    printable = [chr(code) for code in range(33, 127)]
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES, min_frequency=2, initial_alphabet=[*printable, "▁", "\n"], max_token_length=LONGEST_PIECE,
        limit_alphabet=120, show_progress=False,
    )  # fmt: skip
    core.train_from_iterator(texts, trainer)
    return core


def build_processor(tokenizer: PreTrainedTokenizerFast, image_size: int, image_tokens: int) -> Any:
    """Tokenizer, picture and chat template together, as AutoProcessor loads them."""
    pictures = Gemma3ImageProcessorPil(
        size={"height": image_size, "width": image_size},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
        do_pan_and_scan=False,
    )
    return Gemma3Processor(
        image_processor=pictures, tokenizer=tokenizer, chat_template=CHAT_TEMPLATE, image_seq_length=image_tokens
    )
