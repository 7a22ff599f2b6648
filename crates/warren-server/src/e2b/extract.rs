//! Parts of requests. Clients of every age ask here, so what is not known is passed over.

use axum::{
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, request::Parts},
};
use serde::de::DeserializeOwned;
use warren_core::{Caller, id::SandboxId};

use super::Refusal;
use crate::{app::App, auth::Known, edge::CameBy, extract};

/// The header in which a client that could act for several teams names one.
const TEAM: &str = "x-team-id";

/// Who asks, in the project that the key is of.
#[derive(Debug)]
pub(crate) struct Team(pub(crate) Caller);

impl FromRequestParts<App> for Team {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let Known(caller) = Known::from_request_parts(parts, app).await?;
        let Some(team) = parts.headers.get(TEAM) else { return Ok(Self(caller)) };
        let team = team.to_str().map_err(|_odd| Refusal::bad("X-Team-ID: expected a team's id"))?;
        Ok(Self(app.sandboxes.in_project(&caller, team)?))
    }
}

/// A JSON body. An empty one reads as `{}`.
#[derive(Debug)]
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &App) -> Result<Self, Refusal> {
        Ok(Self(extract::read(request, app.config().body_bytes).await?))
    }
}

/// The one segment of a path that differs, decoded.
#[derive(Debug)]
pub(crate) struct Segment(pub(crate) String);

impl FromRequestParts<App> for Segment {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let segment = Path::<String>::from_request_parts(parts, app).await;
        segment.map(|Path(text)| Self(text)).map_err(|error| Refusal::bad(error.body_text()))
    }
}

/// The sandbox that a path names. What a client once put behind an id is passed over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Id(pub(crate) SandboxId);

impl FromRequestParts<App> for Id {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let Segment(text) = Segment::from_request_parts(parts, app).await?;
        SandboxId::parse_label(&text).map(Self).map_err(|_none| Refusal::no_sandbox(text))
    }
}

/// The parameters of a query, decoded once.
#[derive(Debug)]
pub(crate) struct Parameters(Vec<(String, String)>);

impl FromRequestParts<App> for Parameters {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Refusal> {
        Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map(|Query(pairs)| Self(pairs))
            .map_err(|error| Refusal::bad(error.body_text()))
    }
}

impl Parameters {
    /// The first value of a parameter that says something.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.all(name);
        found.find(|value| !value.is_empty())
    }

    /// Every value of a parameter, those in one with commas between them too.
    pub(crate) fn every(&self, name: &str) -> Vec<&str> {
        let parts = self.all(name).flat_map(|value| value.split(','));
        parts.map(str::trim).filter(|part| !part.is_empty()).collect()
    }

    /// A number.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Refusal> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number = text.parse();
        number.map(Some).map_err(|_none| Refusal::bad(format!("{name}: expected a number")))
    }

    /// How many a page has: 1 to `most`, which it has where nothing is said.
    pub(crate) fn limit(&self, most: usize) -> Result<usize, Refusal> {
        match self.number("limit")? {
            None => Ok(most),
            Some(limit) if (1..=most).contains(&limit) => Ok(limit),
            Some(_) => Err(Refusal::bad(format!("limit: expected 1 to {most}"))),
        }
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        // Some clients name a list with brackets behind it.
        let named = move |known: &str| known.strip_suffix("[]").unwrap_or(known) == name;
        self.0.iter().filter(move |(known, _)| named(known)).map(|(_, value)| value.as_str())
    }
}

/// How a request came, for the names of ports in its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Came(pub(crate) Option<CameBy>);

impl FromRequestParts<App> for Came {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get::<Option<CameBy>>().copied().flatten()))
    }
}

/// The key that a request shows, as it shows it.
pub(crate) fn shown_key(headers: &HeaderMap) -> String {
    let key = headers.get("x-api-key").and_then(|key| key.to_str().ok());
    let bearer = headers.get("authorization").and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|value| Some(value.split_once(' ')?.1));
    key.or(bearer).unwrap_or_default().trim().to_owned()
}
