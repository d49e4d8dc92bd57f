"""ChatGLM3: its authors' module, and what it converts to in transformers and TransformerLens."""

from cases.limitations import RESID_MID_MISSES
from harness.case import Limitation
from harness.models.families import every_variant

POSITIONS_START_ANEW = Limitation(
    outcome="differs",
    probes=("cached_decoding",),
    sites=("blocks.0.attn.rot_q",),
    reason="without position ids, each call counts positions from 0, whatever the cache holds",
    link="docs/findings/chatglm-positions-start-anew.md",
    until="diffusers>0.42.1",
    loading_modes=("hf_eager",),
)

CASES = every_variant("chatglm", POSITIONS_START_ANEW, RESID_MID_MISSES)
