"""Speed and memory, measured side by side; never run by the tests."""
