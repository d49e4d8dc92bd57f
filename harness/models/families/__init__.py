"""One small record per architecture, gathered by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.models.families import (
    bert,
    bloom,
    cohere,
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
    phi,
    phi3,
    qwen2,
    qwen3,
    stablelm,
    starcoder2,
    t5,
)

if TYPE_CHECKING:
    from harness.models.family import Family

FAMILIES: Final[dict[str, Family]] = {
    record.FAMILY.name: record.FAMILY
    for record in (
        bert,
        bloom,
        cohere,
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
        phi,
        phi3,
        qwen2,
        qwen3,
        stablelm,
        starcoder2,
        t5,
    )
}
