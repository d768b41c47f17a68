"""What the mesh costs, and beside what: ``python -m benchmarks``; ``sends`` and ``store`` by themselves."""
