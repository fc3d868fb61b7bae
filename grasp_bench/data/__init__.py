"""Reading, checking and caching of data sets."""
