//! Processes of a test: which there are, and waiting for their end.
