"""Pictures and curves, drawn without a display."""
