from pathlib import Path

import pytest

from streamlib.cli.connection import BrokerFlags, BrokerOptions, resolved
from streamlib.errors import ConfigError
from streamlib.transport.security import SecurityConfig

ENCRYPTED = '[security]\nprotocol = "SASL_SSL"\nsasl_mechanism = "SCRAM-SHA-512"\nusername = "filed"\n'


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STREAMLIB_CONFIG", "STREAMLIB_SASL_PASSWORD", "STREAMLIB_SSL_KEY_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A settings file, with a password file beside it."""
    path = tmp_path / "prod.toml"
    (tmp_path / "password").write_text("secret\n")
    path.write_text(f'broker = "kafka://filed:9092"\n{ENCRYPTED}password_file = "{tmp_path / "password"}"\n')
    return path


def test_the_embedded_broker_without_security_is_the_default() -> None:
    found = resolved(BrokerOptions())
    assert (found.address, found.security, found.file) == ("local:.streamlib", None, {})


def test_the_file_says_broker_and_security(written: Path) -> None:
    found = resolved(BrokerOptions(config=written))
    assert found.address == "kafka://filed:9092"
    assert found.security == SecurityConfig(
        "SASL_SSL", sasl_mechanism="SCRAM-SHA-512", username="filed", password="secret"
    )


def test_flags_win_over_the_file(written: Path) -> None:
    found = resolved(BrokerOptions(config=written, broker="kafka://given:1", sasl_username="given"))
    assert found.address == "kafka://given:1"
    assert found.security is not None
    assert (found.security.username, found.security.password) == ("given", "secret")


def test_passwords_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMLIB_SASL_PASSWORD", "secret")
    monkeypatch.setenv("STREAMLIB_SSL_KEY_PASSWORD", "key secret")
    options = BrokerOptions(security_protocol="SASL_SSL", sasl_mechanism="PLAIN", sasl_username="me")
    security = resolved(options).security
    assert security is not None
    assert (security.password, security.key_password) == ("secret", "key secret")
    assert "secret" not in repr(security)


def test_the_file_of_the_environment_is_used_where_there_is_no_flag_for_it(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STREAMLIB_CONFIG", str(written))
    assert resolved(BrokerFlags()).address == "kafka://filed:9092"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[security]\npassword = "x"\n', r"password does not belong in a settings file: use password_file"),
        ('[security]\nkey_password = "x"\n', r"use STREAMLIB_SSL_KEY_PASSWORD"),
        ('[security]\nusernam = "x"\n', r'unknown setting "usernam" in \[security\]\. Did you mean "username"\?'),
        ('[security]\nprotocol = "TLS"\n', r"\[security\] protocol is one of PLAINTEXT, SSL"),
        ('security = "SSL"\n', r"security is a table"),
        ("broker = 9092\n", r"broker is a str, not 9092"),
        ('[security]\npassword_file = "/absent"\n', r"cannot read the password file /absent: No such file"),
    ],
)
def test_a_file_that_does_not_fit_says_why(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "prod.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        resolved(BrokerOptions(config=path))
