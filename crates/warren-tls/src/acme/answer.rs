//! Answers to HTTP-01 challenges, as long as an order is under way.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// What is answered at `/.well-known/acme-challenge/TOKEN`. A clone is another handle to the same.
#[derive(Clone, Debug, Default)]
pub struct Answers(Arc<Mutex<HashMap<String, String>>>);

impl Answers {
    /// The answer for a token.
    #[must_use]
    pub fn get(&self, token: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(token).cloned()
    }

    pub(super) fn insert(&self, token: &str, answer: &str) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(token.to_owned(), answer.to_owned());
    }

    pub(super) fn remove(&self, token: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(token);
    }
}
