"""The built-in capabilities, each made of nothing but the extension API."""
