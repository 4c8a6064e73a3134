"""Requests and answers in the form of the OpenAI API, and what is refused.

What a client asks for and this server cannot do is refused with a reason, never silently left out: an answer
that ignores half of its request looks like a bug of the client's.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Filled = Annotated[str, Field(min_length=1)]
Stop = Filled | Annotated[list[Filled], Field(max_length=4)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Nothing = Annotated[float, Field(ge=0, le=0)]
MOST_CHOICES = 8
MOST_TEXTS = 256


class Form(BaseModel):
    """No unknown fields, no text where a number belongs."""

    model_config = ConfigDict(extra="forbid", strict=True)


class StreamOptions(Form):
    include_usage: bool = False


class ResponseFormat(Form):
    """Only plain text: this server does not constrain what a model writes."""

    type: Literal["text"]


def _whole(text: str) -> str:
    """Refuses half a character (a lone surrogate), which no tokenizer can read."""
    text.encode()  # UnicodeEncodeError is a ValueError
    return text


Text = Annotated[str, AfterValidator(_whole)]


class TextPart(Form):
    type: Literal["text"]
    text: Text


class Message(Form):
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[TextPart], Field(min_length=1)]
    name: str | None = Field(default=None, description="Accepted, and not used.")
    refusal: None = Field(default=None, description="As answers have it, so that they can be sent back.")

    def text(self) -> str:
        """What is said, as one text."""
        return self.content if isinstance(self.content, str) else "".join(p.text for p in self.content)


class Writing(Form):
    """What chat and completions share. Defaults are OpenAI's; ``None`` is the same as leaving out."""

    model: str
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    seed: Seed | None = None
    stop: Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: Nothing | None = Field(default=None, description="Not offered: only 0.")
    frequency_penalty: Nothing | None = Field(default=None, description="Not offered: only 0.")
    user: str | None = Field(default=None, description="Accepted, and not used.")

    @model_validator(mode="after")
    def _options_need_a_stream(self) -> Writing:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only for stream=true")
        return self


class ChatRequest(Writing):
    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None

    @model_validator(mode="after")
    def _top_needs_logprobs(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs is only for logprobs=true")
        return self

    def how_many_prompts(self) -> int:
        return 1

    def most_tokens(self) -> int | None:
        """Most tokens of an answer; None: as many as fit."""
        return self.max_completion_tokens or self.max_tokens

    def how_many_logprobs(self) -> int | None:
        """Alternatives to tell for each token; None: no log-probabilities at all."""
        return (self.top_logprobs or 0) if self.logprobs else None


Token = Annotated[int, Field(ge=0)]
Prompt = (
    Text
    | Annotated[list[Text], Field(min_length=1, max_length=MOST_CHOICES)]
    | Annotated[list[Token], Field(min_length=1)]
    | Annotated[
        list[Annotated[list[Token], Field(min_length=1)]], Field(min_length=1, max_length=MOST_CHOICES)
    ]
)


class CompletionRequest(Writing):
    prompt: Prompt
    max_tokens: Annotated[int, Field(ge=1)] | None = 16
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None

    def prompts(self) -> list[str | list[int]]:
        """One text or list of tokens for each answer."""
        if isinstance(self.prompt, str) or isinstance(self.prompt[0], int):
            return [self.prompt]  # type: ignore[list-item]
        return list(self.prompt)  # type: ignore[arg-type]

    def how_many_prompts(self) -> int:
        return len(self.prompts())

    def most_tokens(self) -> int:
        return self.max_tokens or 16

    def how_many_logprobs(self) -> int | None:
        return self.logprobs


Texts = Filled | Annotated[list[Filled], Field(min_length=1, max_length=MOST_TEXTS)]


class Reading(Form):
    """What embeddings and classification share."""

    model: str
    input: Texts
    user: str | None = Field(default=None, description="Accepted, and not used.")

    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input


class EmbeddingRequest(Reading):
    encoding_format: Literal["float", "base64"] | None = None


class ClassifyRequest(Reading):
    """As vLLM's ``/classify``."""


class LoadRequest(Form):
    """Put a new version of a model beside the old one and let it take over."""

    version: Annotated[str, Field(min_length=1, pattern=r"^[\w.-]+$")]
    source: Filled


# -- answers


class Error(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """Every error has this form."""

    error: Error


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class PromptUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class ChatMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    index: int
    message: ChatMessage
    logprobs: dict[str, Any] | None = None
    finish_reason: str


class Chat(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: str


class CompletionChoice(BaseModel):
    index: int
    text: str
    logprobs: dict[str, Any] | None = None
    finish_reason: str


class Completion(BaseModel):
    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    system_fingerprint: str


class Embedding(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Embeddings(BaseModel):
    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: PromptUsage


class Class(BaseModel):
    index: int
    label: str
    probs: list[float]
    num_classes: int


class Classes(BaseModel):
    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Class]
    usage: PromptUsage


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    kind: str
    version: str
    max_model_len: int | None = None


class Models(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]
