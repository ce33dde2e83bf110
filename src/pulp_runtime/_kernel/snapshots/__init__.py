"""The whole state of an instance, taken between two events, kept on disk, and put into a new instance."""
