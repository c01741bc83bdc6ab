"""An index on disk that takes and gives up works while it is searched: a log, segments, and a manifest."""
