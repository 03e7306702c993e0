"""Sections of tables and figures, as Markdown and as one web page."""
