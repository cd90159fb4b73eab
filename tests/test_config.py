import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from service.config import Settings, SettingsError, read_settings
from service.config import settings as config

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("FOLYAM_", "OPENAI_")):
            monkeypatch.delenv(name)


def read(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return read_settings()


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = read_settings()
    assert (settings.unwatched_seconds, settings.drain_seconds, settings.heartbeat_seconds) == (30, 30, 15)
    assert (settings.retention_seconds, settings.recovery, settings.continuation) == (3600, None, "none")
    assert settings.openai_base_url == "https://api.openai.com/v1"
    assert settings.openai_api_key.get_secret_value() == ""
    assert settings.allowed_models == (settings.model,)


VARIABLES = {config.variable_of(name): name for name in Settings.model_fields}
SAMPLES = {
    "OPENAI_BASE_URL": "http://upstream.example/v1",
    "OPENAI_CUSTOM_HEADERS": "X-Team: rivers",
    "FOLYAM_API_KEYS": "first-0123456789abcdef",
    "FOLYAM_APIS": "chat, responses",
    "FOLYAM_CONTINUE": "vllm",
    "FOLYAM_CORS_ORIGINS": "https://example.org",
    "FOLYAM_FALLBACK_BASE_URL": "http://fallback.example/v1",
    "FOLYAM_FALLBACK_CONTINUE": "prefix",
    "FOLYAM_FALLBACK_UPSTREAM": "llama.cpp",
    "FOLYAM_LOG_URL": "file:///srv/answers",
    "FOLYAM_RECOVERY": "restart",
    "FOLYAM_UPSTREAM": "folyam",
    "FOLYAM_ALLOW_SYSTEM": "true",
    "FOLYAM_THINK_TAGS": "on",
}
"""Valid values. Any other setting is a number or a text that may be 7, or the path of the file of keys."""


PARTNERS = {
    "FOLYAM_UPSTREAM_CERTIFICATE_KEY": "FOLYAM_UPSTREAM_CERTIFICATE",
    "FOLYAM_FALLBACK_API_KEY": "FOLYAM_FALLBACK_BASE_URL",
    "FOLYAM_FALLBACK_MODEL": "FOLYAM_FALLBACK_BASE_URL",
    "FOLYAM_FALLBACK_CONTINUE": "FOLYAM_FALLBACK_BASE_URL",
    "FOLYAM_FALLBACK_UPSTREAM": "FOLYAM_FALLBACK_BASE_URL",
}
"""Settings that have no effect without another one."""


def set_partner(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    if partner := PARTNERS.get(variable):
        monkeypatch.setenv(partner, SAMPLES.get(partner, "/srv/client.pem"))


@pytest.mark.parametrize(("variable", "partner"), PARTNERS.items())
def test_a_setting_that_has_no_effect_without_another_one_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, partner: str
) -> None:
    value = sample(variable, tmp_path)
    refusal = f"^{variable}: Should be set together with {partner}, and has no effect alone$"
    with pytest.raises(SettingsError, match=refusal):
        read(monkeypatch, **{variable: value})
    with pytest.raises(SettingsError, match=refusal):
        read(monkeypatch, **{variable: value, partner: " "})
    set_partner(monkeypatch, variable)
    read_settings()
    monkeypatch.delenv(variable)
    monkeypatch.delenv(partner)
    monkeypatch.setattr(config, "SECRETS", tmp_path)
    (tmp_path / variable.lower()).write_text(value)
    with pytest.raises(SettingsError, match=refusal):
        read_settings()


@pytest.mark.parametrize(
    ("variable", "default"), [("FOLYAM_FALLBACK_CONTINUE", "none"), ("FOLYAM_FALLBACK_UPSTREAM", "chat")]
)
def test_a_default_needs_no_other_setting(monkeypatch: pytest.MonkeyPatch, variable: str, default: str) -> None:
    read(monkeypatch, **{variable: default})


def test_a_certificate_for_an_upstream_without_tls_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"^FOLYAM_UPSTREAM_CERTIFICATE: Should be set together with an https://"):
        read(monkeypatch, FOLYAM_UPSTREAM_CERTIFICATE="/srv/client.pem", OPENAI_BASE_URL="http://upstream.example/v1")
    read(monkeypatch, OPENAI_BASE_URL="HTTPS://upstream.example/v1")


CONTENTS = {"FOLYAM_API_KEYS_FILE": "first-0123456789abcdef\n", "FOLYAM_LOG_URL_FILE": "file:///srv/answers\n"}


def sample(variable: str, tmp_path: Path) -> str:
    if variable not in CONTENTS:
        return SAMPLES.get(variable, "7000000")[: 1 if variable == "FOLYAM_RETRIES" or "_SECONDS" in variable else None]
    file = tmp_path / "content"
    file.write_text(CONTENTS[variable])
    return str(file)


@pytest.mark.parametrize("value", ["", " ", "\n", " \t\r\n"])
@pytest.mark.parametrize("variable", sorted(VARIABLES.keys() - config.NEVER_EMPTY))
def test_a_variable_or_file_that_is_empty_counts_as_unset(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str
) -> None:
    set_partner(monkeypatch, variable)
    unset = read_settings()
    assert read(monkeypatch, **{variable: value}) == unset
    monkeypatch.delenv(variable)
    monkeypatch.setattr(config, "SECRETS", tmp_path)
    file = tmp_path / variable.lower()
    file.write_text(value)
    assert read_settings() == unset
    # A file counts where the variable is empty.
    file.write_text(sample(variable, tmp_path))
    assert read(monkeypatch, **{variable: value}) != unset


@pytest.mark.parametrize("variable", VARIABLES)
def test_blanks_and_line_ends_around_a_value_are_dropped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    set_partner(monkeypatch, variable)
    value = sample(variable, tmp_path)
    settings = read(monkeypatch, **{variable: value})
    assert VARIABLES[variable] in settings.model_fields_set
    for around in (f"{value}\n", f" {value}", f"\t{value}\r\n"):
        assert read(monkeypatch, **{variable: around}) == settings


@pytest.mark.parametrize("variable", ["FOLYAM_MODEL", "FOLYAM_MODELS", "FOLYAM_FALLBACK_MODEL", "FOLYAM_SYSTEM_PROMPT"])
def test_a_text_that_no_request_could_hold_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    with pytest.raises(SettingsError, match=f"^{variable}: Should be UTF-8 text$"):
        read(monkeypatch, **{variable: "a\udcff"})


def test_each_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(
        monkeypatch,
        OPENAI_API_KEY="sk-secret",
        OPENAI_BASE_URL="http://localhost:1/v1",
        FOLYAM_MODEL="m",
        FOLYAM_MODELS=" a, b,,m ,",
        FOLYAM_CONTINUE="vllm",
        FOLYAM_UNWATCHED_SECONDS="0",
        FOLYAM_RECOVERY="fail",
        FOLYAM_MAX_BODY_BYTES="5",
    )
    assert settings.openai_api_key.get_secret_value() == "sk-secret"
    assert settings.openai_base_url == "http://localhost:1/v1"
    assert settings.allowed_models == ("m", "a", "b")
    assert (settings.continuation, settings.recovery) == ("vllm", "fail")
    assert (settings.unwatched_seconds, settings.max_body_bytes) == (0, 5)


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({"HOME": "/home/me"}, "file:///home/me/.local/state/folyam/answers"),
        ({"HOME": "/home/me", "FOLYAM_LOG_URL": ""}, "file:///home/me/.local/state/folyam/answers"),
        ({"HOME": "/home/me", "XDG_STATE_HOME": "/state of me"}, "file:///state%20of%20me/folyam/answers"),
        ({"HOME": "/home/me", "XDG_STATE_HOME": "relative"}, "file:///home/me/.local/state/folyam/answers"),
        ({"HOME": "/home/me", "FOLYAM_LOG_URL": "file:///srv/answers"}, "file:///srv/answers"),
    ],
)
def test_answers_are_kept_in_the_users_own_state_unless_said_otherwise(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert read(monkeypatch, **variables).log_url == url


def test_a_user_without_a_home_directory_is_asked_for_the_logs_place(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_242_424)  # a user that the machine does not know
    with pytest.raises(SettingsError, match=r"^FOLYAM_LOG_URL: Should be file:///<absolute path>; it has no default "):
        read_settings()
    assert read(monkeypatch, FOLYAM_LOG_URL="file:///srv/answers").log_url == "file:///srv/answers"


def test_the_location_of_the_logs_may_come_from_a_file_and_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "url"
    file.write_text("valkey://:canary@valkey:6379\r\n")
    settings = read(monkeypatch, FOLYAM_LOG_URL_FILE=str(file))
    assert settings.log_url == "valkey://:canary@valkey:6379"
    assert "canary" not in repr(settings) + str(settings)
    with pytest.raises(SettingsError, match=r"^FOLYAM_LOG_URL: Should not be set together with FOLYAM_LOG_URL_FILE$"):
        read(monkeypatch, FOLYAM_LOG_URL="file:///srv/answers")


def test_the_location_of_the_logs_may_come_from_the_directory_of_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(config, "SECRETS", tmp_path)
    (tmp_path / "folyam_log_url").write_text("valkey://:canary@valkey:6379\n")
    assert read_settings().log_url == "valkey://:canary@valkey:6379"


@pytest.mark.parametrize("content", [None, "", "\n", "file:///one\nfile:///two\n", b"\xff"])
def test_a_file_without_a_location_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | bytes | None
) -> None:
    file = tmp_path / "url"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError, match=r"^FOLYAM_LOG_URL_FILE: Should be the path of a file [a-z ]+$"):
        read(monkeypatch, FOLYAM_LOG_URL_FILE=str(file))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FOLYAM_RETRIES", "sk-secret"),
        ("FOLYAM_RETRIES", "-424242"),
        ("FOLYAM_RETRIES", "1.424242"),
        ("FOLYAM_UNWATCHED_SECONDS", "sk-secret"),
        ("FOLYAM_UNWATCHED_SECONDS", "-424242"),
        ("FOLYAM_UNWATCHED_SECONDS", "424242424242"),
        ("FOLYAM_STATUS_SECONDS", "0.0"),
        ("FOLYAM_RETENTION_SECONDS", "nan"),
        ("FOLYAM_ANSWER_SECONDS", "inf"),
        ("FOLYAM_RETENTION_BYTES", "424242"),
        ("FOLYAM_CONTINUE", "sk-secret"),
        ("FOLYAM_RECOVERY", "sk-secret"),
        ("FOLYAM_MAX_BODY_BYTES", "sk-secret"),
    ],
)
def test_a_bad_value_is_a_sentence_that_names_the_variable_and_not_the_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        read(monkeypatch, **{variable: value})
    sentence = str(caught.value)
    assert sentence.startswith(f"{variable}: ")
    assert len(sentence) > len(variable) + 10
    assert not set(sentence) & set("\n{}[]")
    assert value not in sentence.removeprefix(f"{variable}: ") or value == "0.0"
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("variable", ["OPENAI_BASE_URL", "FOLYAM_FALLBACK_BASE_URL"])
@pytest.mark.parametrize(
    "value",
    [
        "localhost:11434/v1",
        "example.com/v1",
        "//example.com/v1",
        "ftp://example.com/v1",
        "http:/example.com/v1",
        "http://",
        "http:///v1",
        "http://:8000/v1",
        "http://exa mple/v1",
        "http://[::1/v1",
        "http://me:sk-secret@example.com/v1",
        "http://sk-secret@example.com/v1",
        "http://example.com/v1?key=sk-secret",
        "http://example.com/v1#fragment",
        "http://example.com:99999/v1",
        "http://example.com:0/v1",
        "http://example.com:http/v1",
        "http://xn--a/v1",
        "http://exa\tmple/v1",
        "http://example.com\n/v1",
        "http://example.com/v1\x7f\x01",
        "http://example.com:-1/v1",
    ],
)
def test_an_address_that_could_never_work_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        read(monkeypatch, **{variable: value})
    assert str(caught.value).startswith(f"{variable}: Should be an address such as https://api.openai.com/v1: ")
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("http://localhost:11434/v1", "http://localhost:11434/v1"),
        ("http://my_model:8000/v1/", "http://my_model:8000/v1/"),
        ("https://[::1]:21004/v1", "https://[::1]:21004/v1"),
        ("HTTPS://API.example.com", "https://api.example.com/"),
        ("http://folyó.example/v1", "http://xn--foly-tqa.example/v1"),
        ("  http://127.0.0.1/v1\n", "http://127.0.0.1/v1"),
    ],
)
def test_an_address_is_read_as_it_will_be_asked(monkeypatch: pytest.MonkeyPatch, value: str, address: str) -> None:
    settings = read(monkeypatch, OPENAI_BASE_URL=value, FOLYAM_FALLBACK_BASE_URL=value)
    assert (settings.openai_base_url, settings.fallback_base_url) == (address, address)


@pytest.mark.parametrize(
    "origin", ["example.org", "https://example.org/", "https://Example.org", "https://a.org b.org"]
)
def test_an_origin_that_no_browser_sends_is_refused(monkeypatch: pytest.MonkeyPatch, origin: str) -> None:
    with pytest.raises(SettingsError, match="FOLYAM_CORS_ORIGINS: Each should be an origin such as "):
        read(monkeypatch, FOLYAM_CORS_ORIGINS=f"https://example.com,{origin}")


def test_origins_of_browsers_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    origins = ("https://example.org", "http://localhost:5173", "http://[::1]:80", "capacitor://localhost", "null", "*")
    assert read(monkeypatch, FOLYAM_CORS_ORIGINS=" , ".join(origins)).cors_origins == origins


@pytest.mark.parametrize("value", ["sk-é", "sk-1\nsk-2", "sk-1\r\nX-Evil: 1", "sk-\udcff", "sk-\x7f", "\ufeffsk-1"])
@pytest.mark.parametrize(
    "variable", ["OPENAI_API_KEY", "FOLYAM_FALLBACK_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"]
)
def test_what_cannot_stand_in_a_header_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        read(monkeypatch, **{variable: value})
    assert str(caught.value) == f"{variable}: Should be one line of printable ASCII characters"


@pytest.mark.parametrize("value", ["X-Team", "X Team: a", ": a", "X-Team: é", "X-Team: a\rb", "Good: a\nX-Bad\n"])
def test_headers_that_could_not_be_sent_are_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    with pytest.raises(SettingsError, match=r"^OPENAI_CUSTOM_HEADERS: Should be one (header a )?line"):
        read(monkeypatch, OPENAI_CUSTOM_HEADERS=value)


def test_keys_are_read_from_the_variable_and_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("\n  third-0123456789abcdef \n\nfourth-0123456789abcdef\n")
    settings = read(
        monkeypatch,
        FOLYAM_API_KEYS="first-0123456789abcdef, second-0123456789abcdef",
        FOLYAM_API_KEYS_FILE=str(file),
    )
    assert [key.split("-")[0] for key in settings.keys] == ["first", "second", "third", "fourth"]
    assert read_settings().api_keys != ()
    assert "0123456789abcdef" not in repr(settings)


@pytest.mark.parametrize(
    "value", [",", " , ", "tooshort", "has spaces in its middle", "good-0123456789abcdef,bad", "é" * 20]
)
def test_keys_that_would_admit_every_client_or_none_are_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    file = tmp_path / "keys"
    file.write_text(value.replace(",", "\n"))
    for variable, given in (("FOLYAM_API_KEYS", value), ("FOLYAM_API_KEYS_FILE", str(file))):
        with pytest.raises(SettingsError) as caught:
            read(monkeypatch, **{variable: given})
        assert str(caught.value).startswith(f"{variable}: ")
        assert len(value) < 4 or value not in str(caught.value)
        monkeypatch.delenv(variable)


@pytest.mark.parametrize("variable", ["FOLYAM_API_KEYS", "FOLYAM_API_KEYS_FILE", "folyam_api_keys"])
@pytest.mark.parametrize("value", ["", " ", "\n"])
def test_keys_that_are_set_and_empty_do_not_open_the_service(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    with pytest.raises(SettingsError, match=f"(?i)^{variable}: Should "):
        read(monkeypatch, **{variable: value})


@pytest.mark.parametrize("content", ["", "\n", ",\n"])
def test_a_file_of_keys_that_is_empty_does_not_open_the_service(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str
) -> None:
    (tmp_path / "folyam_api_keys").write_text(content)
    with pytest.raises(SettingsError, match=r"^FOLYAM_API_KEYS_FILE: (Each key s|S)hould "):
        read(monkeypatch, FOLYAM_API_KEYS_FILE=str(tmp_path / "folyam_api_keys"))
    monkeypatch.delenv("FOLYAM_API_KEYS_FILE")
    monkeypatch.setattr(config, "SECRETS", tmp_path)
    with pytest.raises(SettingsError, match=r"^FOLYAM_API_KEYS: (Each key s|S)hould "):
        read_settings()


def test_a_file_of_keys_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="FOLYAM_API_KEYS_FILE: Should be the path"):
        read(monkeypatch, FOLYAM_API_KEYS_FILE=str(tmp_path / "nowhere"))


def test_every_bad_value_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"FOLYAM_API_KEYS: .+; FOLYAM_RETRIES: .+; FOLYAM_DRAIN_SECONDS: .+"):
        read(monkeypatch, FOLYAM_RETRIES="x", FOLYAM_DRAIN_SECONDS="y", FOLYAM_API_KEYS="")


def test_a_value_that_is_zero_or_off_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLYAM_UNWATCHED_SECONDS", "7")
    settings = Settings(log_url="file:///log", drain_seconds=0, unwatched_seconds=0)
    assert (settings.drain_seconds, settings.unwatched_seconds) == (0, 0)


def test_a_mounted_file_gives_what_the_environment_does_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(config, "SECRETS", tmp_path)
    (tmp_path / "openai_api_key").write_text("sk-from-a-file\n")
    assert read(monkeypatch).openai_api_key.get_secret_value() == "sk-from-a-file"
    assert read(monkeypatch, OPENAI_API_KEY="").openai_api_key.get_secret_value() == "sk-from-a-file"
    assert read(monkeypatch, OPENAI_API_KEY="sk-of-ours").openai_api_key.get_secret_value() == "sk-of-ours"


@pytest.mark.parametrize("content", [b"sk-secret\xff", "sk-secret-é".encode(), b"sk-secret\nsk-secret\n"])
def test_a_mounted_key_that_cannot_stand_in_a_header_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes
) -> None:
    monkeypatch.setattr(config, "SECRETS", tmp_path)
    (tmp_path / "openai_api_key").write_bytes(content)
    with pytest.raises(SettingsError, match=r"^OPENAI_API_KEY: Should be ") as caught:
        read_settings()
    assert "sk-secret" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(config, "SECRETS", tmp_path)
    (tmp_path / "openai_api_key").write_text("sk-secret")

    def refuse(path: Path, **_: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(SettingsError, match=r"/openai_api_key cannot be read by user \d+: Permission denied"):
        read_settings()


def test_an_empty_file_counts_as_unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(config, "SECRETS", tmp_path)
    (tmp_path / "openai_api_key").write_text("")
    assert read(monkeypatch) == Settings()


def test_secrets_and_prompts_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = repr(
        read(
            monkeypatch,
            OPENAI_API_KEY="sk-secret",
            FOLYAM_FALLBACK_API_KEY="sk-secret",
            FOLYAM_FALLBACK_BASE_URL="http://fallback.example/v1",
            OPENAI_CUSTOM_HEADERS="X-Key: sk-secret",
            FOLYAM_SYSTEM_PROMPT="sk-secret",
            FOLYAM_API_KEYS="sk-secret-0123456789",
        )
    )
    assert "sk-secret" not in shown


def test_settings_do_not_change_after_they_were_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read_settings().model = "another"  # type: ignore[misc]  # (that is the point)


def test_every_setting_has_a_meaning() -> None:
    assert issubclass(Settings, BaseSettings)
    assert all(info.description for info in Settings.model_fields.values())


def test_the_readmes_table_is_what_the_code_says() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [table] = re.findall(r"<!-- settings -->\n(.*?)\n<!-- /settings -->", readme, re.DOTALL)
    assert table == config.table(), "python -m service.config writes it"


def test_the_table_can_be_printed() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "service.config"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert printed.stdout == config.table() + "\n"
