"""Tests of the core: pure, seeded, without a reactor."""
