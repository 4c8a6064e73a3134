"""What the server is told: models, limits, keys. From a TOML file and from variables (``KIT_SERVE_...``)."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

LOOPBACK = ("127.0.0.1", "::1", "localhost")  # nobody else can call a server that listens here


class SettingsError(ValueError):
    """Settings that cannot be; the message says which, and what was expected."""


class ModelSettings(BaseModel):
    """One model behind its name.

    ``source`` is an artifact of this kit (see ``kit build --list``) or the path of an ONNX file; ``upstream``
    models have a ``base_url`` instead, and forward the request to any server that speaks the OpenAI API.
    ``rows`` are answers at a time (at an upstream: requests), ``queue`` those that may wait besides.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    name: Annotated[str, Field(min_length=1)]
    kind: Literal["chat", "embed", "classify", "upstream"]
    source: str = ""
    version: str = "1"
    rows: Annotated[int, Field(ge=1, le=64)] = 8
    context: Annotated[int, Field(ge=16)] = 1024
    queue: Annotated[int, Field(ge=1)] = 64
    draft: Literal["", "ngram", "small", "head"] = ""
    base_url: str = ""
    upstream_model: str = ""
    upstream_key: SecretStr = SecretStr("")
    usd_per_mtok_in: Annotated[float, Field(ge=0)] = 0.0
    usd_per_mtok_out: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _fits(self) -> ModelSettings:
        if self.kind == "upstream" and not self.base_url.startswith(("http://", "https://")):
            raise ValueError(
                f"model {self.name!r}: an upstream needs a base_url, such as http://localhost:8001/v1"
            )
        if self.draft and self.kind != "chat":
            raise ValueError(f"model {self.name!r}: only a chat model can have a draft")
        if self.kind != "upstream" and not self.source:
            raise ValueError(
                f"model {self.name!r}: it needs a source, an artifact or the path of an ONNX file"
            )
        return self


HERE = (
    ModelSettings(name="smollm2", kind="chat", source="smollm2.int4"),
    ModelSettings(name="edge", kind="classify", source="intent.int8"),
    ModelSettings(name="minilm", kind="embed", source="minilm.int8"),
)


class Settings(BaseSettings):
    """All of them; defaults serve the kit's own models on this machine, without keys."""

    model_config = SettingsConfigDict(env_prefix="KIT_SERVE_", extra="forbid")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    models: tuple[ModelSettings, ...] = HERE
    keys: Path | None = Field(default=None, description="File of keys; none: anybody may call.")
    window_s: Annotated[float, Field(gt=0)] = 60.0
    deadline_s: Annotated[float, Field(gt=0)] = 120.0
    drain_s: Annotated[float, Field(gt=0)] = 130.0
    body_bytes: Annotated[int, Field(ge=1024)] = 1_000_000
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    manifest: Path | None = Field(default=None, description="Hashes that model files must have.")
    manifest_key: Path | None = Field(default=None, description="Public key of whoever signed the manifest.")
    output_filter: str = Field(
        default="", description="module:function that makes a filter, such as kit.serve.filters:redact"
    )
    log_prompts: bool = False
    trace: Literal["", "console", "otlp"] = ""
    alerts: Path | None = None
    webhook: str = ""
    threads: Annotated[int, Field(ge=1)] = 2

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        names = [m.name for m in self.models]
        if len(set(names)) < len(names):
            raise ValueError(f"two models have the same name: {', '.join(names)}")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("TLS needs both, tls_certificate and tls_key")
        if self.manifest_key and not self.manifest:
            raise ValueError("manifest_key needs a manifest: without one nothing is checked")
        if self.webhook and not self.alerts:
            raise ValueError("a webhook needs alerts, a file of rules: without one it never hears anything")
        return self


def load(path: Path | None = None, **more: Any) -> Settings:
    """Settings from a TOML file, the environment and ``more``, which wins.

    Raises:
        SettingsError: the file cannot be read, or a setting is unknown or out of range.
    """
    try:
        told = tomllib.loads(path.read_text("utf-8")) if path else {}
        return Settings(**{**told, **more})
    except (OSError, tomllib.TOMLDecodeError) as e:
        raise SettingsError(f"{path}: {e}") from None
    except ValidationError as e:
        lines = [f"{'.'.join(map(str, error['loc'])) or 'settings'}: {error['msg']}" for error in e.errors()]
        raise SettingsError(f"{path or 'settings'}: " + "; ".join(lines)) from None
