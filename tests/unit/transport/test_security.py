"""Security settings are checked when made, show no secrets, and reach aiokafka as it wants them."""

import ssl
from pathlib import Path

import pytest

from streamlib.errors import ConfigError
from streamlib.transport.kafka.client import TokenProvider, security_settings
from streamlib.transport.security import SecurityConfig


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"protocol": "TLS"}, "unknown security protocol 'TLS'"),
        ({"ca_file": Path("ca.pem")}, "PLAINTEXT is not encrypted"),
        ({"protocol": "SSL", "key_file": Path("key.pem")}, "without cert_file"),
        ({"sasl_mechanism": "PLAIN"}, "PLAINTEXT does not log in"),
        ({"protocol": "SASL_SSL"}, "needs a sasl_mechanism"),
        ({"protocol": "SASL_SSL", "sasl_mechanism": "MD5"}, "not 'MD5'"),
        ({"protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "username": "bob"}, "username and a password"),
        ({"protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}, "oauth_token"),
        (
            {"protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "username": "bob", "password": "s3cret"},
            "use SASL_SSL, or set allow_insecure",
        ),
        ({"protocol": "SASL_PLAINTEXT", "sasl_mechanism": "GSSAPI"}, "use SASL_SSL, or set allow_insecure"),
    ],
)
def test_contradiction_is_refused_with_its_mend_when_settings_do_not_fit(settings, problem):
    with pytest.raises(ConfigError, match=problem) as refused:
        SecurityConfig(**settings)
    assert "s3cret" not in str(refused.value)


def test_secrets_are_not_shown_when_the_config_is_printed():
    config = SecurityConfig(
        protocol="SASL_SSL", sasl_mechanism="PLAIN", username="bob", password="s3cret", key_password="k3y"
    )
    assert "bob" in repr(config)
    assert "s3cret" not in repr(config)
    assert "k3y" not in repr(config)


def test_scram_over_tls_reaches_aiokafka_when_configured():
    config = SecurityConfig(protocol="SASL_SSL", sasl_mechanism="SCRAM-SHA-256", username="bob", password="s3cret")
    settings = security_settings(config)
    context = settings.pop("ssl_context")
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert settings == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": "bob",
        "sasl_plain_password": "s3cret",
        "sasl_kerberos_service_name": "kafka",
        "sasl_kerberos_domain_name": None,
    }


def test_nothing_but_plain_text_reaches_aiokafka_when_no_security_is_given():
    assert security_settings(None) == {"security_protocol": "PLAINTEXT"}
    assert security_settings(SecurityConfig()) == {"security_protocol": "PLAINTEXT", "ssl_context": None}


def test_sasl_without_tls_is_allowed_when_said_so():
    config = SecurityConfig(
        protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN", username="bob", password="s3cret", allow_insecure=True
    )
    assert security_settings(config)["ssl_context"] is None


async def test_token_function_is_asked_for_each_token_when_oauth_is_used():
    asked = []

    async def token() -> str:
        asked.append(1)
        return f"token-{len(asked)}"

    settings = security_settings(SecurityConfig(protocol="SASL_SSL", sasl_mechanism="OAUTHBEARER", oauth_token=token))
    provider = settings["sasl_oauth_token_provider"]
    assert isinstance(provider, TokenProvider)
    assert [await provider.token(), await provider.token()] == ["token-1", "token-2"]


def test_file_is_named_when_it_cannot_be_loaded(tmp_path):
    broken = tmp_path / "ca.pem"
    broken.write_text("not a certificate")
    for file in (broken, tmp_path / "absent.pem"):
        with pytest.raises(ConfigError, match=str(file)):
            SecurityConfig(protocol="SSL", ca_file=file).ssl_context()
