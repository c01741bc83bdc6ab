"""The plugins that ship with guardrail, one a file, loaded through entry points like any other plugin."""
