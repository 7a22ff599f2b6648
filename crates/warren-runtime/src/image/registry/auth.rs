//! Tokens: what a registry wants to see with a request, and who gives it.

use std::{
    collections::HashMap,
    sync::PoisonError,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Url, header};
use serde::Deserialize;

use super::{
    Access, Client, MOST_MESSAGE, Place, RegistryError, credentials::Login, read, refusal,
};

/// What a token is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    address: String,
    repository: String,
    access: Access,
    login: Option<Login>,
}

/// What is sent with requests, until it is no use any more.
#[derive(Clone)]
pub(super) struct Token {
    header: String,
    until: Instant,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// How long a token is good for where its giver does not say.
const USUAL_LIFE: Duration = Duration::from_secs(60);
/// How much earlier than its giver says a token is taken to be over.
const MARGIN: Duration = Duration::from_secs(10);
/// How many tokens are kept.
const MOST_TOKENS: usize = 256;

/// What a token's giver answers.
#[derive(Deserialize)]
struct Given {
    #[serde(alias = "access_token")]
    token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Client {
    /// What is known to be sent with requests to this place.
    pub(super) fn token(&self, place: &Place) -> Option<String> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let token = tokens.get(&scope(place))?;
        (token.until > Instant::now()).then(|| token.header.clone())
    }

    /// Gets what the registry asks for in its challenges.
    pub(super) async fn authenticate(
        &self,
        place: &Place,
        challenges: &[String],
    ) -> Result<String, RegistryError> {
        let challenges: Vec<_> =
            challenges.iter().filter_map(|text| Challenge::read(text)).collect();
        let of = |scheme: &str| challenges.iter().find(|it| it.scheme == scheme);
        let (header, life) = if let Some(bearer) = of("bearer") {
            self.bearer(place, bearer).await?
        } else if of("basic").is_some() {
            (basic(place)?, Duration::from_secs(3600))
        } else {
            return Err(RegistryError::Odd("a way to sign in that nobody knows".to_owned()));
        };
        let token = Token { header: header.clone(), until: Instant::now() + life };
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MOST_TOKENS {
            tokens.clear();
        }
        tokens.insert(scope(place), token);
        Ok(header)
    }

    async fn bearer(
        &self,
        place: &Place,
        challenge: &Challenge,
    ) -> Result<(String, Duration), RegistryError> {
        let odd = |text: &str| RegistryError::Odd(text.to_owned());
        let realm = challenge.parts.get("realm").ok_or_else(|| odd("a realm without address"))?;
        let mut realm: Url = realm.parse().map_err(|_wrong| odd("a realm without address"))?;
        // A password is sent there.
        if realm.scheme() != "https" && !place.is_plain() {
            return Err(odd("a realm without TLS"));
        }
        let actions = match place.access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        let wanted = format!("repository:{}:{actions}", place.repository);
        let service = challenge.parts.get("service").map(String::as_str).unwrap_or_default();
        let request = match &place.login {
            Some(Login::Token(refresh)) => {
                let form = encoded(&[
                    ("grant_type", "refresh_token"),
                    ("service", service),
                    ("client_id", "warren"),
                    ("scope", &wanted),
                    ("refresh_token", refresh),
                ]);
                let kind = "application/x-www-form-urlencoded";
                self.http.post(realm).header(header::CONTENT_TYPE, kind).body(form)
            }
            login => {
                let mut pairs = realm.query_pairs_mut();
                if !service.is_empty() {
                    pairs.append_pair("service", service);
                }
                pairs.append_pair("scope", &wanted);
                drop(pairs);
                match login {
                    Some(Login::Password { user, password }) => {
                        self.http.get(realm).basic_auth(user, Some(password))
                    }
                    _ => self.http.get(realm),
                }
            }
        };
        let response = request.send().await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let body = read(response, MOST_MESSAGE).await?;
        let given: Given = serde_json::from_slice(&body)
            .map_err(|error| RegistryError::Odd(format!("an answer that is no token: {error}")))?;
        let life = given.expires_in.map_or(USUAL_LIFE, Duration::from_secs);
        let life = life.min(Duration::from_secs(3600)).saturating_sub(MARGIN);
        Ok((format!("Bearer {}", given.token), life))
    }
}

fn scope(place: &Place) -> Scope {
    Scope {
        address: place.address.clone(),
        repository: place.repository.clone(),
        access: place.access,
        login: place.login.clone(),
    }
}

fn basic(place: &Place) -> Result<String, RegistryError> {
    match &place.login {
        Some(Login::Password { user, password }) => {
            Ok(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
        }
        _ => Err(RegistryError::Refused(
            "it wants a user and a password, and Docker's configuration has none for it".to_owned(),
        )),
    }
}

/// A form as browsers send it.
fn encoded(pairs: &[(&str, &str)]) -> String {
    let Ok(mut form) = Url::parse("http://form") else { return String::new() };
    form.query_pairs_mut().extend_pairs(pairs);
    form.query().unwrap_or_default().to_owned()
}

/// How a registry wants us to sign in.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    /// In small letters.
    scheme: String,
    parts: HashMap<String, String>,
}

impl Challenge {
    /// Reads `SCHEME name="value",name=value`.
    fn read(text: &str) -> Option<Self> {
        let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let mut parts = HashMap::new();
        while let Some((name, value)) = rest.split_once('=') {
            let (value, behind) = match value.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => value.split_at(value.find(',').unwrap_or(value.len())),
            };
            let name = name.trim_start_matches([',', ' ']).trim().to_ascii_lowercase();
            parts.insert(name, value.to_owned());
            rest = behind;
        }
        (!scheme.is_empty()).then(|| Self { scheme: scheme.to_ascii_lowercase(), parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_taken_apart() {
        let challenge = Challenge::read(
            r#"Bearer realm="https://auth.example/token",service="a, b" , scope=pull"#,
        )
        .unwrap();
        assert_eq!(challenge.scheme, "bearer");
        let part = |name: &str| challenge.parts.get(name).map(String::as_str);
        assert_eq!(part("realm"), Some("https://auth.example/token"));
        assert_eq!(part("service"), Some("a, b"));
        assert_eq!(part("scope"), Some("pull"));
        assert_eq!(Challenge::read("Basic").unwrap().scheme, "basic");
        assert_eq!(Challenge::read(""), None);
        assert_eq!(Challenge::read("Bearer realm=\"open"), None);
    }

    #[test]
    fn a_form_is_encoded() {
        assert_eq!(encoded(&[("a", "b c"), ("d", "e&f")]), "a=b+c&d=e%26f");
    }
}
