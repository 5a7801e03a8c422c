"""A missing permission is waited for, a minute long and each by itself."""

import logging

import pytest

from streamlib.errors import AuthorizationError, TransportError
from streamlib.runtime.permissions import FORGET_SECONDS, GRACE_SECONDS, Permissions
from streamlib.testing.clock import ManualClock

TOLD = "User:alice may not Write the topic out. An administrator permits it with: kafka-acls --add"


def refusal(records: int = 1, needed: str = TOLD) -> AuthorizationError:
    return AuthorizationError(f"topic=out partition=0: {records} records were not written. {needed}", needed)


def test_a_permission_is_given_up_with_its_command_when_it_is_refused_for_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    permissions, tries = Permissions(clock), 1
    caplog.set_level(logging.WARNING)
    while clock.monotonic() < GRACE_SECONDS:
        clock.advance_ms(round(permissions.refused(refusal(tries)) * 1_000))
        tries += 1
        assert permissions.missing() == [TOLD]
    assert 10 < tries < 30
    assert clock.monotonic() < GRACE_SECONDS + 5
    with pytest.raises(AuthorizationError, match=r"may not Write .*kafka-acls --add$"):
        permissions.refused(refusal(tries))
    assert [record.getMessage() for record in caplog.records] == [f"waiting up to 60 s for a permission: {refusal()}"]


def test_each_permission_has_its_own_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    permissions = Permissions(clock)
    for number in range(5):
        for _ in range(2):
            permissions.refused(refusal(needed=f"permission {number}"))
            clock.advance_ms(20_000)
    assert len([record for record in caplog.records if "for a permission" in record.getMessage()]) == 5
    assert permissions.missing() == []


def test_a_permission_is_waited_for_again_when_it_was_granted_for_long_and_is_taken_away() -> None:
    clock = ManualClock()
    permissions = Permissions(clock)
    permissions.refused(refusal())
    clock.advance_ms(int(FORGET_SECONDS * 1_000))
    permissions.refused(refusal())
    clock.advance_ms(int(GRACE_SECONDS * 1_000))
    with pytest.raises(AuthorizationError):
        permissions.refused(refusal())


def test_a_permission_is_waited_for_again_when_the_worker_has_got_on_meanwhile() -> None:
    clock = ManualClock()
    permissions = Permissions(clock)
    permissions.refused(refusal())
    permissions.refused(refusal(), by="a companion")
    clock.advance_ms(int(GRACE_SECONDS * 1_000))
    permissions.granted()
    assert permissions.missing() == []
    permissions.refused(refusal())
    assert permissions.missing() == [TOLD]
    with pytest.raises(AuthorizationError):
        permissions.refused(refusal(), by="a companion")


async def test_what_goes_on_beside_a_worker_goes_on_again_when_it_was_granted_its_permission() -> None:
    clock, answers = ManualClock(), [refusal(), refusal(), None]

    async def follow() -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    await Permissions(clock).awaited(follow)
    assert answers == []


async def test_what_goes_on_beside_a_worker_ends_when_its_permission_never_comes_or_with_another_error() -> None:
    clock = ManualClock()

    async def unpermitted() -> None:
        raise refusal()

    async def broken() -> None:
        msg = "broken"
        raise TransportError(msg)

    with pytest.raises(AuthorizationError):
        await Permissions(clock).awaited(unpermitted)
    with pytest.raises(TransportError, match="broken"):
        await Permissions(clock).awaited(broken)
