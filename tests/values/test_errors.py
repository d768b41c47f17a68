"""Errors say whose fault it was."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh import errors
from twisted_mesh.errors import LocalError, MeshError, Reason, RemoteError
from twisted_mesh.wire.codec import decode, encode
from twisted_mesh.wire.link import Bye


class TestErrors(SynchronousTestCase):
    def test_every_exception_is_a_mesh_error(self) -> None:
        for name, error in vars(errors).items():
            if isinstance(error, type) and issubclass(error, Exception):
                self.assertTrue(issubclass(error, MeshError), name)

    def test_the_callers_fault_is_never_the_peers(self) -> None:
        for name, error in vars(errors).items():
            if isinstance(error, type):
                self.assertFalse(issubclass(error, LocalError) and issubclass(error, RemoteError), name)

    def test_what_python_has_a_name_for_can_be_caught_by_it(self) -> None:
        self.assertIsInstance(errors.MessageTooLarge("too large"), ValueError)
        self.assertIsInstance(errors.ConnectFailed("no route"), OSError)
        self.assertEqual(str(errors.ConnectFailed("no route")), "no route")

    def test_a_remote_error_tells_detail_and_reason(self) -> None:
        error = RemoteError("a frame of 0 bytes", Reason.FRAMING)
        self.assertEqual(error.detail, "a frame of 0 bytes")
        self.assertIs(error.reason, Reason.FRAMING)
        self.assertEqual(str(error), "a frame of 0 bytes [framing]")

    def test_a_class_with_a_reason_of_its_own_keeps_it(self) -> None:
        self.assertIs(errors.SelfConnection("met itself").reason, Reason.SELF)
        self.assertIs(errors.PoisonedBody("unreadable").reason, Reason.SHAPE)

    def test_each_reason_has_an_error(self) -> None:
        classes = {
            Reason.SUBNET: errors.SubnetMismatch,
            Reason.ENCRYPTION: errors.EncryptionMismatch,
            Reason.SELF: errors.SelfConnection,
            Reason.TIMEOUT: errors.HandshakeTimeout,
            Reason.IDENTITY: errors.IdentityMismatch,
            Reason.TRUST: errors.NotAMember,
        }
        for reason in Reason:
            error = RemoteError.of(reason, "why")
            self.assertIs(type(error), classes.get(reason, RemoteError))
            self.assertEqual((error.reason, error.detail), (reason, "why"))

    def test_each_reason_fits_into_a_bye(self) -> None:
        for reason in Reason:
            bye = Bye(reason.value, "")
            self.assertEqual(decode(encode(bye)[4:]), bye)
