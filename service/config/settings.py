"""The settings, each with its default, unit and meaning. Read once, from the environment and from mounted files."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as UnusableSource

from service.config.values import API_KEY, ApiAddress, Headers, HeaderSecret, HeaderValue, Origin, Text

Seconds = Annotated[float, Field(ge=0, le=86_400)]
PositiveSeconds = Annotated[float, Field(gt=0, le=86_400)]
Api = Literal["chat", "folyam", "llama.cpp", "responses"]
Door = Literal["chat", "responses", "ui", "ag-ui", "streams"]


SECRETS = Path("/run/secrets")
"""The directory in which container platforms mount one file for each secret."""

NEVER_EMPTY = frozenset({"FOLYAM_API_KEYS", "FOLYAM_API_KEYS_FILE"})
"""Variables that are rejected if they are set and empty: a key that got lost on its way must not open the service.

Any other empty variable or file counts as unset, also if it has only blanks and line ends.
"""


class SettingsError(Exception):
    """A setting is invalid. The text names the setting and never shows its value."""


class Settings(BaseSettings):
    """The settings: `FOLYAM_<NAME>` in the environment, or OpenAI's variables under their usual names.

    A variable that is not set is read from the file of its name, in lower case, in the directory of secrets.
    """

    model_config = SettingsConfigDict(
        env_prefix="FOLYAM_", env_ignore_empty=True, frozen=True, extra="ignore", hide_input_in_errors=True
    )

    openai_api_key: HeaderSecret = Field(
        SecretStr(""), validation_alias=AliasChoices("OPENAI_API_KEY"), description="API key of the upstream."
    )
    openai_base_url: ApiAddress = Field(
        "https://api.openai.com/v1",
        validation_alias=AliasChoices("OPENAI_BASE_URL"),
        description="Base URL of the upstream, up to and including `/v1`.",
    )
    openai_org_id: HeaderValue = Field(
        "", validation_alias=AliasChoices("OPENAI_ORG_ID"), description="OpenAI organisation to bill."
    )
    openai_project_id: HeaderValue = Field(
        "", validation_alias=AliasChoices("OPENAI_PROJECT_ID"), description="OpenAI project to bill."
    )
    openai_custom_headers: Annotated[Headers, NoDecode] = Field(
        (),
        repr=False,
        validation_alias=AliasChoices("OPENAI_CUSTOM_HEADERS"),
        description="Further headers for the upstream: `name: value`, one a line.",
    )
    upstream_certificate: Text | None = Field(
        None,
        description="File of the client certificate for the upstream, in PEM form, if it asks for one.",
    )
    upstream_certificate_key: Text | None = Field(
        None, description="File of the certificate's key. If unset, the key is in the certificate's file."
    )
    model: Text = Field("gpt-5.4-mini", description="Default model, used unless the request names another.")
    models: Annotated[tuple[Text, ...], NoDecode] = Field(
        (), description="Further models that a request may name, separated by commas."
    )
    system_prompt: Text = Field("", repr=False, description="System prompt, put before every conversation.")
    continuation: Literal["none", "assistant", "vllm", "prefix"] = Field(
        "none",
        validation_alias=AliasChoices("FOLYAM_CONTINUE"),
        description="How the upstream continues a given text: `assistant` (llama.cpp), `vllm`, `prefix` (DeepSeek,"
        " Mistral), or `none` if it cannot.",
    )
    think_tags: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether `<think>…</think>` at the start of an answer's text is its reasoning: `on`, `off`, or"
        " `auto`, which is `on` for models that are known to write it.",
    )
    upstream: Api = Field(
        "chat",
        description="API of the upstream: `chat` (chat completions), or one that keeps its answers, so that an answer"
        " that was cut is followed again and not paid for twice: `responses` (OpenAI's Responses API, in background"
        " mode), `llama.cpp` (chat completions of a llama.cpp server) or `folyam` (another Folyam, at its base URL"
        " without `/v1`).",
    )
    fallback_base_url: ApiAddress | None = Field(
        None,
        description="Base URL of a second upstream. It is asked if the first fails before its first chunk, or if the"
        " question is too long for the first.",
    )
    fallback_api_key: HeaderSecret = Field(SecretStr(""), description="API key of the second upstream.")
    fallback_model: Text | None = Field(
        None, description="Model of the second upstream. If unset, the same as the first's."
    )
    fallback_continuation: Literal["none", "assistant", "vllm", "prefix"] = Field(
        "none",
        validation_alias=AliasChoices("FOLYAM_FALLBACK_CONTINUE"),
        description="How the second upstream continues a given text. It is asked to if the first one breaks off in the"
        " middle, cannot continue, and does not come back.",
    )
    fallback_upstream: Api = Field("chat", description="API of the second upstream.")
    retries: int = Field(1, ge=0, le=10, description="Retries of an upstream that failed before its first chunk.")

    log_url_file: SecretStr = Field(
        SecretStr(""), description="File with the value of the next variable, if that is a secret."
    )
    log_url: str = Field(
        "",
        validate_default=True,
        repr=False,
        description="Location of the answers' logs: `file:///` and a directory that no other user can write to; or"
        " `valkey://`, `valkeys://` or `valkey+sentinel://` and a server that many machines share. If unset,"
        " `folyam/answers` in `$XDG_STATE_HOME` or in `~/.local/state`.",
    )
    retention_seconds: PositiveSeconds = Field(3600, description="Retention of ended answers.")
    retention_answers: int = Field(10_000, ge=1, description="Limit on the number of kept answers.")
    retention_bytes: int = Field(1 << 30, ge=1 << 20, description="Limit on the total size of the logs.")
    recovery: Literal["continue", "restart", "fail"] | None = Field(
        None,
        description="How to recover an answer whose worker died, or whose upstream broke off in the middle: `continue`"
        " (the default if an upstream can), `restart` or `fail`. If unset, and no upstream can continue, a death"
        " restarts, and a break fails: a restart is paid for again. With `restart`, a break restarts only what no"
        " upstream continues.",
    )

    connect_seconds: PositiveSeconds = Field(5, description="Timeout for connecting to the upstream.")
    status_seconds: PositiveSeconds = Field(60, description="Timeout for the upstream's status.")
    first_chunk_seconds: PositiveSeconds = Field(
        120, description="Timeout for the upstream's first chunk, counted from its status."
    )
    silence_seconds: PositiveSeconds = Field(
        60, description="Timeout for the upstream's silence between two chunks. Anything it sends breaks the silence."
    )
    answer_seconds: PositiveSeconds = Field(600, description="Timeout for the whole answer.")
    status_wait_seconds: Seconds = Field(
        2, description="Maximum wait for the upstream's status before a response begins without it."
    )
    unwatched_seconds: Seconds = Field(
        30, description="Time that an answer without a follower goes on before it is stopped."
    )
    heartbeat_seconds: PositiveSeconds = Field(15, description="Interval of the heartbeats in a silent stream.")
    drain_seconds: Seconds = Field(
        30, description="Time that running answers may go on after a worker is told to stop."
    )

    max_answers: int = Field(
        400, ge=1, description="Limit on the answers that a worker generates at once. Above it: 503."
    )
    max_answers_per_client: int = Field(
        50,
        ge=1,
        description="Limit on the answers that a worker generates at once for one client, which is one API key, or one"
        " address if no keys are set. Above it: 429.",
    )
    max_followers: int = Field(
        2000, ge=1, description="Limit on the responses that a worker streams at once. Above it: 503."
    )
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="API keys that requests must send one of, separated by commas. If neither this nor the next is set,"
        " no key is needed. Set but empty is an error.",
    )
    api_keys_file: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (), description="File with further API keys, one a line."
    )
    allow_system: bool | None = Field(
        None,
        description="Whether a request may hold instructions: messages of the roles `system` and `developer`, or a"
        " first turn of the role `system`. If unset, unless there is a `FOLYAM_SYSTEM_PROMPT`.",
    )
    apis: Annotated[tuple[Door, ...], NoDecode] = Field(
        get_args(Door),
        description="Protocols of other clients that are served beside the service's own, separated by commas; or"
        " `none`.",
    )
    cors_origins: Annotated[tuple[Origin, ...], NoDecode] = Field(
        (), description="Origins of other sites whose pages may use the service, separated by commas."
    )

    max_body_bytes: int = Field(1 << 20, ge=1, description="Limit on the request body, for nginx too.")
    max_api_body_bytes: int = Field(
        32 << 20,
        ge=1,
        description="Limit on the request body of the protocols of `FOLYAM_APIS`, for nginx too: it may hold pictures.",
    )
    max_bodies_bytes: int = Field(
        256 << 20,
        ge=1,
        description="Limit on the bodies of these protocols that a worker holds at once, until their answers have"
        " ended. Above it: 503.",
    )
    max_query_characters: int = Field(32_000, ge=1, description="Limit on the query.")
    max_history_turns: int = Field(200, ge=0, description="Limit on the earlier turns in `history`.")
    max_answer_bytes: int = Field(4 << 20, ge=1, description="Limit on an answer, measured as the bytes of its log.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Trim the environment's values, as the package trims files. No setting ends with a blank or a line end."""
        del settings_cls, dotenv_settings
        assert isinstance(env_settings, EnvSettingsSource)  # noqa: S101 (for mypy)
        trimmed = ((name, (value or "").strip()) for name, value in env_settings.env_vars.items())
        env_settings.env_vars = {name: value for name, value in trimmed if value}
        return init_settings, env_settings, file_secret_settings

    @model_validator(mode="before")
    @classmethod
    def _without_empty_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value != "" or _variable(name) in NEVER_EMPTY}

    @field_validator("apis", "models", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value

    @field_validator("apis", mode="before")  # the later one is called first
    @classmethod
    def _no_apis(cls, value: object) -> object:
        return () if value == "none" else value

    @field_validator("api_keys", mode="before")
    @classmethod
    def _api_keys(cls, value: object) -> object:
        return _keys(value.split(",")) if isinstance(value, str) else value

    @field_validator("api_keys_file", mode="before")
    @classmethod
    def _api_keys_in_file(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return _keys(_text_in(value).splitlines())

    @field_validator("log_url_file", mode="before")
    @classmethod
    def _log_url_in_file(cls, value: object) -> object:
        return _only_line(value) if isinstance(value, str) else value

    @field_validator("log_url")
    @classmethod
    def _log_url(cls, value: str, info: ValidationInfo) -> str:
        # The log checks the URL when it is prepared.
        in_file: SecretStr = info.data.get("log_url_file", SecretStr(""))
        if value and in_file:
            raise PydanticCustomError("two_log_urls", "Should not be set together with FOLYAM_LOG_URL_FILE")
        return value or in_file.get_secret_value() or _default_log_url()

    @property
    def keys(self) -> tuple[str, ...]:
        """All valid keys; empty if requests need none."""
        return tuple(key.get_secret_value() for key in (*self.api_keys, *self.api_keys_file))

    @property
    def allows_system(self) -> bool:
        """Whether a request may hold instructions."""
        return not self.system_prompt if self.allow_system is None else self.allow_system

    @property
    def door_status_wait_seconds(self) -> float:
        """The wait for the upstream's status before a door's response begins without it: until each was asked."""
        upstreams = 2 if self.fallback_base_url else 1
        return (self.connect_seconds + self.status_seconds) * upstreams

    @property
    def allowed_models(self) -> tuple[str, ...]:
        """All models that a request may name."""
        return (self.model, *(name for name in self.models if name != self.model))


def _default_log_url() -> str:
    # https://specifications.freedesktop.org/basedir-spec/latest/. Not below /tmp, where any user may create it first.
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    try:
        if not state.is_absolute():
            state = Path.home() / ".local" / "state"
        return (state / "folyam" / "answers").as_uri()
    except (RuntimeError, ValueError):  # no home, or a relative one
        raise PydanticCustomError(
            "log_url", "Should be file:///<absolute path>; it has no default for a user without a home directory"
        ) from None


def _text_in(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError):  # UnicodeDecodeError is a ValueError, and so is a zero byte in the path.
        raise PydanticCustomError("file", "Should be the path of a file that can be read") from None


def _only_line(path: str) -> SecretStr:
    text = _text_in(path).strip()
    if not text or len(text.splitlines()) != 1:
        raise PydanticCustomError("one_line", "Should be the path of a file with one line")
    return SecretStr(text)


def _keys(texts: Iterable[str]) -> tuple[SecretStr, ...]:
    keys = tuple(text.strip() for text in texts if text.strip())
    if not keys:  # The variable is set, so keys are wanted. Without one the service would be open to all.
        raise PydanticCustomError("no_keys", "Should hold at least one key")
    if not all(API_KEY.fullmatch(key) for key in keys):
        raise PydanticCustomError(
            "bad_key", "Each key should be 16 to 512 letters, digits and -._~+/ , with nothing else on its line"
        )
    return tuple(SecretStr(key) for key in keys)


def read_settings() -> Settings:
    """Return the settings of this process's environment.

    Raises:
        SettingsError: a setting is invalid.
    """
    sentences = [
        f"{name}: Should hold at least one key, or not be set, which opens the service to everyone"
        for name, value in os.environ.items()
        if name.upper() in NEVER_EMPTY and not value.strip()
    ]
    try:
        settings = Settings(_secrets_dir=SECRETS if SECRETS.is_dir() else None)
        sentences += _without_partner(settings)
    except UnusableSource as error:
        raise SettingsError(_unusable_file(error)) from None
    except ValidationError as error:
        sentences += [f"{_variable(str(item['loc'][0]))}: {item['msg']}" for item in error.errors(include_input=False)]
    if sentences:
        raise SettingsError("; ".join(sentences))
    return settings


_PARTNERS = {
    "upstream_certificate_key": "upstream_certificate",
    "fallback_api_key": "fallback_base_url",
    "fallback_model": "fallback_base_url",
    "fallback_continuation": "fallback_base_url",
    "fallback_upstream": "fallback_base_url",
}
"""Settings that have an effect only beside another one."""


def _without_partner(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each setting that would be passed over, because the one that it belongs to is missing."""
    for name, partner in _PARTNERS.items():
        if getattr(settings, name) != Settings.model_fields[name].default and getattr(settings, partner) is None:
            yield f"{variable_of(name)}: Should be set together with {variable_of(partner)}, and has no effect alone"
    if settings.upstream_certificate is not None and not settings.openai_base_url.startswith("https:"):
        yield (
            f"{variable_of('upstream_certificate')}: Should be set together with an https:// address in"
            f" {variable_of('openai_base_url')}, because it is shown over TLS alone"
        )


def _unusable_file(error: UnusableSource) -> str:
    cause = error.__cause__
    if isinstance(cause, OSError):
        return f"{cause.filename} cannot be read by user {os.getuid()}: {cause.strerror}"
    field = re.search(r'field "(\w+)"', str(error))
    if isinstance(cause, UnicodeDecodeError) and field:
        return f"{variable_of(field[1])}: Should be UTF-8 text in its file in {SECRETS}"
    raise error


def variable_of(name: str) -> str:
    """Return the environment variable of a setting."""
    alias = Settings.model_fields[name].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else _variable(name)


def _variable(name: str) -> str:
    return name if name.isupper() else f"FOLYAM_{name.upper()}"


def table() -> str:
    """Return the README's table of settings, in Markdown."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, info in Settings.model_fields.items():
        default = info.default
        if isinstance(default, SecretStr) or default in (None, "", ()):
            shown = ""
        else:
            default = ",".join(default) if isinstance(default, tuple) else default
            shown = f"`{default if isinstance(default, str) else msgspec.json.encode(default).decode()}`"
        rows.append(f"| `{variable_of(name)}` | {shown} | {info.description} |")
    return "\n".join(rows)
