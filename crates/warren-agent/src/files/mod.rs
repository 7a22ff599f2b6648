//! Contents of files, over plain HTTP.
