"""The commands of ``lit-dist``, one file a command: words and messages."""
