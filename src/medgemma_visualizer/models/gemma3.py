"""Gemma 3 and its kin (MedGemma 4B, 1.5 4B, 27B multimodal, the embedded demo model), by configuration alone."""

from __future__ import annotations

from typing import Any

from medgemma_visualizer.models.adapter import FAMILIES, Family


def _square(count: int) -> tuple[int, int]:
    side = round(count**0.5)
    return side, side


def _patches(config: Any) -> tuple[int, int]:
    return _square((config.vision_config.image_size // config.vision_config.patch_size) ** 2)


FAMILIES.add(
    "Gemma3ForConditionalGeneration",
    Family(
        architecture="Gemma3ForConditionalGeneration",
        tower="model.vision_tower",
        vision_layers="model.vision_tower.encoder.layers",
        projector="model.multi_modal_projector",
        text="model.language_model",
        head="lm_head",
        image_token_id=lambda config: int(config.image_token_id),
        grid=lambda config: _square(config.mm_tokens_per_image),
        patches=_patches,
        image_block=lambda processor: str(processor.full_image_sequence),
        image_mark=lambda processor: str(processor.boi_token),
        max_positions=lambda config: int(config.text_config.max_position_embeddings),
    ),
)
