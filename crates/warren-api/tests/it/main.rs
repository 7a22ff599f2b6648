//! The client against a server whose every byte the test decides.

mod repeat;

mod script;

mod streams;
