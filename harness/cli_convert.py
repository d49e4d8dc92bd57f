"""The command `harness convert`: a checkpoint in the format of another architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(convert)


def convert(
    kind: Annotated[Literal["chatglm"], typer.Argument(help="what FOLDER holds")],
    folder: Annotated[Path, typer.Argument(help="a checkpoint, in the hub's format")],
    out: Annotated[Path, typer.Argument(help="the new folder, which may not be there yet")],
) -> None:
    """Convert a ChatGLM3 checkpoint to GLM, which transformers and TransformerLens can load.

    Bit for bit, and strict: what GLM cannot represent is refused (exit code 2).
    """
    from harness.models.conversion import convert_folder

    convert_folder(folder, out)
    print(f"{kind} → glm: {out} (load it with transformers.GlmForCausalLM.from_pretrained)")
