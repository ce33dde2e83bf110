"""Cloud services as files (spec/wasi-cloud)."""
