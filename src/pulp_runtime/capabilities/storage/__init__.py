"""What a cell keeps: files, tables, keys and values."""
