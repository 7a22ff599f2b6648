//! A typed client of the API over a byte stream of the caller's choosing.
