"""Pulp: run WebAssembly cells, each with exactly the capabilities its manifest declares."""
