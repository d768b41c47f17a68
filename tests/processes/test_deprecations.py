"""A deprecated call of the package, or of a test, fails the tests."""

from __future__ import annotations

from tests.support.processes import ProcessCase

CASE = "tests.support.warning_case.WarningCase"
WARNING = "import warnings; warnings.warn_explicit('old', DeprecationWarning, 'f', 1, {module!r})"


class DeprecationTests(ProcessCase):
    async def test_a_deprecated_call_fails_its_test(self) -> None:
        trial = self.start("-m", "twisted.trial", CASE)
        self.assertEqual(await self.until_ended(trial), [1])
        told, trial.out = trial.out.decode(), b""  # it must show tracebacks, and only here
        self.assertIn("FAILED (errors=3,", told)
        self.assertRegex(told, r"test_others \.\.\. +\[OK\]\n +test_the_package")

    async def test_and_raises_in_the_processes_that_tests_start(self) -> None:
        for module, ends in (("twisted_mesh.links.tls", 1), ("twisted_mesh.core.node", 1), ("msgspec", 0)):
            code = WARNING.format(module=module)
            children = [self.start("-c", code), self.fork(code)]
            self.assertEqual(await self.until_ended(*children), [ends] * 2, module)
            for child in children:
                self.assertEqual("DeprecationWarning: old" in child.log, bool(ends), module)
                child.err = b""
