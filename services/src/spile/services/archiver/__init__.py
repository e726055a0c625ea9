"""The archiver: every record of an environment in object files, once and for good."""
