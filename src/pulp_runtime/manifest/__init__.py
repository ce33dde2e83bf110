"""Text in, frozen values out: what a cell is, may use and waits for. Nothing here is started or run."""
