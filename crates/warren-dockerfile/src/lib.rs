//! How a template is described: Dockerfiles and lists of steps become one [`Recipe`], and
//! `.dockerignore` becomes an [`Ignore`].
//!
//! Text goes in, types come out; nothing here reads a file, runs a command or knows a sandbox.
//! Every function takes a stranger's text: none panics, and none takes time or memory out of
//! proportion to its input.
//!
//! In reading order:
//!
//! | module | what |
//! |---|---|
//! | [`recipe`] | what a parsed build is |
//! | [`mod@parse`] | a Dockerfile to a [`Recipe`] |
//! | [`steps`] | a list of steps to a [`Recipe`] |
//! | [`scope`] | variables: `ARG`, `ENV`, and what `$NAME` means where |
//! | [`plan`] | which stages a target needs, on what each stands |
//! | [`ignore`], [`glob`] | patterns of paths |

pub mod expand;
pub mod glob;
pub mod ignore;
pub mod parse;
pub mod plan;
pub mod recipe;
pub mod scope;
pub mod steps;

mod lines;
mod words;

pub use ignore::Ignore;
pub use parse::parse;
pub use recipe::Recipe;

/// Why a text is no recipe: where, and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ParseError {
    /// The line where the instruction begins, counted from 1.
    pub line: u32,
    /// What is wrong and what was expected, for people.
    pub reason: String,
}

impl ParseError {
    pub(crate) fn at(line: u32, reason: impl Into<String>) -> Self {
        Self { line, reason: reason.into() }
    }
}
