"""One small record per architecture, gathered by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.case import SYNTHETIC, Case
from harness.models.families import (
    bert,
    bloom,
    chatglm,
    cohere,
    cohere2,
    doge,
    falcon,
    gemma,
    gemma2,
    gemma3,
    glm,
    gpt2,
    gpt_bigcode,
    gpt_neo,
    gpt_neox,
    gpt_oss,
    gptj,
    granite,
    llama,
    mistral,
    mixtral,
    mpt,
    olmo,
    olmo2,
    olmo3,
    olmoe,
    opt,
    persimmon,
    phi,
    phi3,
    qwen2,
    qwen2_moe,
    qwen3,
    stablelm,
    starcoder2,
    t5,
)

if TYPE_CHECKING:
    from harness.case import Limitation
    from harness.models.family import Family

FAMILIES: Final[dict[str, Family]] = {
    record.FAMILY.name: record.FAMILY
    for record in (
        bert,
        bloom,
        chatglm,
        cohere,
        cohere2,
        doge,
        falcon,
        gemma,
        gemma2,
        gemma3,
        glm,
        gpt2,
        gpt_bigcode,
        gpt_neo,
        gpt_neox,
        gpt_oss,
        gptj,
        granite,
        llama,
        mistral,
        mixtral,
        mpt,
        olmo,
        olmo2,
        olmo3,
        olmoe,
        opt,
        persimmon,
        phi,
        phi3,
        qwen2,
        qwen2_moe,
        qwen3,
        stablelm,
        starcoder2,
        t5,
    )
}


def is_native(family: str) -> bool:
    """Say whether transformers has a class for a family; of one without a record, it has."""
    record = FAMILIES.get(family)
    return record is None or record.is_native


def every_variant(
    family: str, *limitations: Limitation, checkpoint: str = SYNTHETIC
) -> tuple[Case, ...]:
    """Give a case for each variant of a family, each with those limitations that speak of it."""
    return tuple(
        Case(
            family=family,
            variant=variant,
            checkpoint=checkpoint,
            limitations=tuple(
                item for item in limitations if not item.variants or variant in item.variants
            ),
        )
        for variant in FAMILIES[family].variant_names
    )
