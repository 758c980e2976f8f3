"""One function per page: a view draws, computing lives in the app."""
