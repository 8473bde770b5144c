"""The progress of a long job."""
