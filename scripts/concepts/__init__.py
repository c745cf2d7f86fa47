"""The measurements and figures of docs/concepts.md, one idea a file."""
