"""Tables, statistics and pages of records."""
