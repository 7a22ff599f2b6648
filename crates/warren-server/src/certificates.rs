//! The server's certificates as others see them: how they are, and answers that an authority looks
//! for.

use std::fmt;

use axum::{
    body::Body,
    http::{HeaderValue, Method, Request, Response, header},
};

use crate::app::App;

/// Where an authority looks with HTTP-01.
///
/// # Source
///
/// RFC 8555, section 8.3.
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// Who knows the certificates of this server.
pub trait CertificateSource: Send + Sync + fmt::Debug {
    /// How they are.
    fn report(&self) -> CertificateReport;

    /// The answer to a challenge of the server's own with this token, while one is under way.
    fn challenge(&self, token: &str) -> Option<String>;
}

/// How the certificates of this server are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateReport {
    /// Each group of names that an authority is asked for.
    pub ordered: Vec<CertificateState>,
    /// The one of the files, which has no names here.
    pub file: Option<CertificateState>,
    /// How many attempts to have a new one have failed since the start.
    pub failures: u64,
}

/// How one certificate is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateState {
    /// Its names.
    pub names: Vec<String>,
    /// Until when it is good, in seconds since 1970; none where there is none that is good.
    pub until: Option<u64>,
    /// Whether it comes to its end soon.
    pub ending: bool,
    /// Why the last attempt to have a new one failed, if it did.
    pub failure: Option<String>,
}

impl CertificateReport {
    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &CertificateState> {
        self.ordered.iter().chain(&self.file)
    }

    /// That of a name.
    pub(crate) fn of(&self, name: &str) -> Option<&CertificateState> {
        self.ordered.iter().find(|it| it.names.iter().any(|other| other == name))
    }

    /// What is wrong, each a sentence that anybody may read: no names, no reasons.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let ordered = |holds: fn(&CertificateState) -> bool| self.ordered.iter().any(holds);
        let file = |holds: fn(&CertificateState) -> bool| self.file.iter().any(holds);
        let failing = |it: &CertificateState| it.failure.is_some();
        [
            (ordered(failing), "a certificate could not be had from its authority"),
            (file(failing), "the files of the certificate are of no use, and the old one goes on"),
            (self.all().any(|it| it.ending), "a certificate comes to its end soon"),
        ]
        .into_iter()
        .filter(|(wrong, _)| *wrong)
        .map(|(_, text)| format!("{text}; the log and `warren doctor` say more"))
        .collect()
    }
}

impl App {
    /// Has certificates among what is reported, and challenges answered; the first source stays.
    pub fn certificates_from(&self, source: impl CertificateSource + 'static) {
        drop(self.certificates().set(Box::new(source)));
    }

    /// How certificates are, where this server has any.
    pub(crate) fn certificate_report(&self) -> Option<CertificateReport> {
        self.certificates().get().map(|source| source.report())
    }

    /// The answer to an authority that looks for a token of ours. Everything else goes to where it
    /// was going: a port may have challenges of its own.
    pub(crate) fn answer_challenge<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        let token = request.uri().path().strip_prefix(CHALLENGES)?;
        if *request.method() != Method::GET {
            return None;
        }
        let answer = self.certificates().get()?.challenge(token)?;
        let mut response = Response::new(Body::from(answer));
        let kind = HeaderValue::from_static("text/plain");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        Some(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_without_names() {
        let good = CertificateState { until: Some(9), ..CertificateState::default() };
        let names = vec!["a.example".to_owned()];
        let failing =
            CertificateState { names, failure: Some("it rained".to_owned()), ..good.clone() };
        let report = CertificateReport { ordered: vec![good.clone()], ..Default::default() };
        assert_eq!(report.warnings(), Vec::<String>::new());
        let ending = CertificateState { ending: true, ..good };
        let report = CertificateReport { ordered: vec![failing], file: Some(ending), failures: 1 };
        let warnings = report.warnings();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].starts_with("a certificate could not be had"), "{warnings:?}");
        assert!(!warnings.concat().contains("example"), "{warnings:?}");
        assert!(report.of("a.example").is_some() && report.of("b.example").is_none());
    }
}
