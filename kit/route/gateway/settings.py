"""What the gateway is told: tiers, policy, habits. From a TOML file and from variables (``KIT_GATEWAY_...``).

```toml
policy = "confidence_cascade"
options = {threshold = 0.7}
dispatch = {attempt_timeout_ms = 800, breaker_failures = 5, breaker_cooldown_s = 2}
tiers = [
  {name = "edge", kind = "device", base_url = "http://127.0.0.1:8000/v1", speaks = "classify"},
  {name = "cloud", kind = "central_cloud", base_url = "http://127.0.0.1:8001/v1", model = "big"},
]
```
"""

from __future__ import annotations

import ipaddress
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from kit.policy import DispatchSettings, Privacy, TierKind
from kit.serve.settings import SettingsError

AtLeast0 = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NoCommand = Literal["pass_on", "answer"]


class TierSettings(BaseModel):
    """One place that can answer.

    ``speaks``: "chat" hands requests on as they are; "classify" asks only for the intent of what was said
    last, and gives it back in the form that the caller asked for; what it takes for no command it passes on
    (its confidence counts as 0), or answers as it is (``no_command``). ``model`` is asked when a route names
    none, ``models`` are all that it serves, ``servers`` how many requests at a time. ``rtt_ms`` and
    ``service_ms`` are believed until they are measured. ``health`` and ``load`` are paths that are asked now
    and then, if they are not empty.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    kind: TierKind
    base_url: Annotated[str, Field(pattern=r"^https?://")]
    model: str = ""
    models: tuple[str, ...] = ()
    speaks: Literal["chat", "classify"] = "chat"
    no_command: NoCommand = "pass_on"
    key: SecretStr = SecretStr("")
    rtt_ms: AtLeast0 = 0.0
    service_ms: AtLeast0 = 0.0
    usd_per_mtok_in: AtLeast0 = 0.0
    usd_per_mtok_out: AtLeast0 = 0.0
    usd_per_request: AtLeast0 = 0.0
    servers: Annotated[int, Field(ge=1)] = 1
    health: str = "/readyz"
    load: str = "/metrics"

    @model_validator(mode="after")
    def _at_home(self) -> TierSettings:
        host = urlsplit(self.base_url).hostname or ""
        if self.kind == "device" and not _is_home(host):
            raise ValueError(
                f"tier {self.name!r} is said to be a device, where private requests may go, and {host!r} is "
                "not an address of this machine or of the home"
            )
        return self

    @property
    def serves(self) -> tuple[str, ...]:
        """All its models, the one that is asked by default first."""
        return tuple(dict.fromkeys(m for m in (self.model, *self.models) if m))

    @property
    def root(self) -> str:
        """The address without ``path``: health and load are asked there."""
        return self.base_url.rstrip("/").removesuffix("/v1")

    @property
    def path(self) -> str:
        """Where the API begins: ``/v1``, or nothing."""
        return self.base_url.rstrip("/").removeprefix(self.root)


def _is_home(host: str) -> bool:
    if host == "localhost" or host.endswith(".local"):
        return True
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False


class Settings(BaseSettings):
    """All of them.

    Attributes:
        policy: a name, ``module:Object``, or the path of a Python file (``file.py`` or ``file.py:Object``).
        options: of a policy that has a name.
        dispatch: fields of `kit.policy.DispatchSettings`.
        fallback: a tier that is put behind every route that lacks it; empty: routes stay as they are.
        privacy_first: whether `kit.policy.PrivacyFirst` stands around the policy. Without it the last line
            of defence refuses what must not leave.
        privacy: of requests that do not say theirs. ``intents``: and of what the edge takes for one of them.
        edge_first: this tier's classifier is asked before the policy decides, so that it knows intent and
            confidence; empty: no.
        policy_limit_ms: a reader's policy that takes longer is passed over.
        signals_every_s: how often the tiers are looked at, so how old a policy's view may be.
        deadline_ms: of requests that do not say theirs. ``stream_s``: a stream takes no longer.
        remember: answers kept for when nobody can give one. ``waiting``: places in the offline queue.
        kept: requests that ``/v1/records`` shows.
    """

    model_config = SettingsConfigDict(env_prefix="KIT_GATEWAY_", extra="forbid")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8010
    tiers: tuple[TierSettings, ...] = ()
    policy: str = "confidence_cascade"
    options: dict[str, Any] = {}
    dispatch: dict[str, Any] = {}
    fallback: str = ""
    privacy_first: bool = True
    privacy: Privacy = "public"
    intents: dict[str, Privacy] = {}
    edge_first: str = ""
    origin: str = "home"
    policy_limit_ms: Positive = 50.0
    signals_every_s: Positive = 1.0
    connect_timeout_ms: Positive = 1000.0
    deadline_ms: Positive = 30_000.0
    stream_s: Positive = 300.0
    most: Annotated[int, Field(ge=1)] = 1000
    remember: Annotated[int, Field(ge=0)] = 256
    waiting: Annotated[int, Field(ge=0)] = 100
    kept: Annotated[int, Field(ge=1)] = 10_000
    body_bytes: Annotated[int, Field(ge=1024)] = 1_000_000
    keys: Path | None = None
    window_s: Positive = 60.0
    seed: int = 0
    trace: Literal["", "console", "otlp"] = ""

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        names = [tier.name for tier in self.tiers]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"tiers: at least one is needed, each with a name of its own; got {names}")
        for what in ("fallback", "edge_first"):
            name = getattr(self, what)
            if name and name not in names:
                raise ValueError(f"{what}: no tier is called {name!r}; there are: {', '.join(names)}")
        if self.intents and not self.edge_first:
            raise ValueError(
                "intents: only the edge's classifier knows an intent, so edge_first must name its tier"
            )
        self.dispatching()
        return self

    def dispatching(self) -> DispatchSettings:
        """How routes are carried out. Raises ValueError."""
        known = [f.name for f in fields(DispatchSettings)]
        if unknown := set(self.dispatch) - set(known):
            raise ValueError(
                f"dispatch: {', '.join(sorted(unknown))} is not known; there are: {', '.join(known)}"
            )
        return DispatchSettings(**self.dispatch)

    def tier(self, name: str) -> TierSettings:
        """The tier called ``name``. Raises KeyError."""
        return {tier.name: tier for tier in self.tiers}[name]


def read(path: Path) -> dict[str, Any]:
    """What stands in a TOML file, unchecked. Raises SettingsError if it cannot be read."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as e:
        raise SettingsError(f"{path}: {e}") from None


def load(path: Path | None = None, **more: Any) -> Settings:
    """Settings from a TOML file, the environment and ``more``, which wins.

    Raises:
        SettingsError: the file cannot be read, or a setting is unknown or out of range.
    """
    try:
        return Settings(**{**(read(path) if path else {}), **more})
    except ValidationError as e:
        lines = [f"{'.'.join(map(str, error['loc'])) or 'settings'}: {error['msg']}" for error in e.errors()]
        raise SettingsError(f"{path or 'settings'}: " + "; ".join(lines)) from None
