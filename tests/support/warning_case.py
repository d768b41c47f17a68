"""Tests that make deprecated calls: trial finds them only if it is told to, and each but the last fails."""

from __future__ import annotations

import warnings

import msgspec
from OpenSSL import crypto
from twisted.internet.ssl import CertificateOptions
from twisted.trial.unittest import SynchronousTestCase

from twisted_mesh.links import tls


class WarningCase(SynchronousTestCase):
    def test_the_package(self) -> None:
        warnings.warn_explicit("old", DeprecationWarning, tls.__file__, 1)

    def test_the_tests(self) -> None:
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    def test_what_twisted_hands_on(self) -> None:
        options = tls._throw_away()
        key = crypto.PKey.from_cryptography_key(options.privateKey)
        CertificateOptions(key, options.certificate).getContext()

    def test_others(self) -> None:
        warnings.warn_explicit("old", DeprecationWarning, msgspec.__file__, 1)
