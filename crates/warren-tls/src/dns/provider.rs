//! Records at providers that have an API of their own: a few requests each.
//!
//! # Sources
//!
//! The providers' own descriptions: Cloudflare's client API v4, DigitalOcean's API v2, Hetzner's
//! Cloud API v1 (zones), deSEC's API v1.

use std::fmt;

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{RecordError, Records, TextRecord};
use crate::acme::{AcmeError, client};

/// The longest answer that is read, in bytes.
const MOST_ANSWER: usize = 1 << 20;
/// How much of a refusal is repeated, in letters.
const SAID: usize = 200;

/// Whose API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Cloudflare: a token that may edit DNS of the zone.
    Cloudflare,
    /// `DigitalOcean`: a personal access token.
    DigitalOcean,
    /// Hetzner Cloud: a token that may read and write.
    Hetzner,
    /// deSEC: a token.
    Desec,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Cloudflare => "Cloudflare",
            Self::DigitalOcean => "DigitalOcean",
            Self::Hetzner => "Hetzner",
            Self::Desec => "deSEC",
        }
    }

    fn address(self) -> &'static str {
        match self {
            Self::Cloudflare => "https://api.cloudflare.com/client/v4",
            Self::DigitalOcean => "https://api.digitalocean.com/v2",
            Self::Hetzner => "https://api.hetzner.cloud/v1",
            Self::Desec => "https://desec.io/api/v1",
        }
    }
}

/// Somebody's account at a provider.
pub struct Provider {
    kind: Kind,
    token: Zeroizing<String>,
    client: Client,
    address: String,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Provider {
    /// The account that this token opens.
    ///
    /// # Errors
    ///
    /// Those of setting up HTTP.
    pub fn open(kind: Kind, token: Zeroizing<String>) -> Result<Self, AcmeError> {
        let client = client::client(None)?;
        Ok(Self { kind, token, client, address: kind.address().to_owned() })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let scheme = if self.kind == Kind::Desec { "Token" } else { "Bearer" };
        let authorization = Zeroizing::new(format!("{scheme} {}", *self.token));
        let request = self.client.request(method, format!("{}{path}", self.address));
        request.header("authorization", authorization.as_str())
    }

    /// Sends a request and reads its answer; none where there is nothing of that name.
    async fn ask(&self, request: RequestBuilder) -> Result<Option<Value>, RecordError> {
        let provider = self.kind.name();
        let unreachable = |source| RecordError::Unreachable { provider, source };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let text = read(response).await.map_err(unreachable)?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                Ok(Some(serde_json::from_slice(&text).unwrap_or_default()))
            }
            status => {
                let said = String::from_utf8_lossy(&text);
                // What it repeats of the token is nobody's to read.
                let said = said.replace(self.token.as_str(), "***");
                let said = said.chars().filter(|it| !it.is_control()).take(SAID).collect();
                Err(RecordError::Refused { provider, status: status.as_u16(), said })
            }
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Value,
    ) -> Result<Option<Value>, RecordError> {
        let body = body.to_string();
        let request = self.request(method, path).header("content-type", "application/json");
        self.ask(request.body(body)).await
    }

    async fn get(&self, path: &str) -> Result<Option<Value>, RecordError> {
        self.ask(self.request(Method::GET, path)).await
    }

    /// The zone of a name: the longest that the account has, and its key in paths.
    async fn zone(&self, name: &str) -> Result<(String, String), RecordError> {
        let mut zone = name;
        loop {
            if let Some(key) = self.zone_key(zone).await? {
                return Ok((zone.to_owned(), key));
            }
            match zone.split_once('.') {
                Some((_, above)) if above.contains('.') => zone = above,
                _ => {
                    let (provider, name) = (self.kind.name(), name.to_owned());
                    return Err(RecordError::NoZone { provider, name });
                }
            }
        }
    }

    async fn zone_key(&self, zone: &str) -> Result<Option<String>, RecordError> {
        match self.kind {
            Kind::Cloudflare => {
                let found = self.get(&format!("/zones?name={zone}")).await?;
                let id = found.as_ref().and_then(|it| it.pointer("/result/0/id")?.as_str());
                Ok(id.map(str::to_owned))
            }
            Kind::DigitalOcean | Kind::Desec => {
                let found = self.get(&format!("/domains/{zone}{}", self.slash())).await?;
                Ok(found.map(|_there| zone.to_owned()))
            }
            Kind::Hetzner => {
                let found = self.get(&format!("/zones/{zone}")).await?;
                Ok(found.map(|_there| zone.to_owned()))
            }
        }
    }

    /// deSEC's paths end with one.
    fn slash(&self) -> &'static str {
        if self.kind == Kind::Desec { "/" } else { "" }
    }

    /// The records of a name that say this, by their ids.
    async fn ids(
        &self,
        path: &str,
        list: &str,
        record: &TextRecord,
    ) -> Result<Vec<String>, RecordError> {
        let found = self.get(path).await?.unwrap_or_default();
        let records = found.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
        let ours = |it: &Value| {
            let says = it.get("content").or_else(|| it.get("data")).and_then(Value::as_str);
            says.is_some_and(|says| says.trim_matches('"') == record.value)
        };
        let id = |it: &Value| match it.get("id")? {
            Value::String(id) => Some(id.clone()),
            id => id.as_u64().map(|id| id.to_string()),
        };
        Ok(records.iter().filter(|it| ours(it)).filter_map(id).collect())
    }

    /// deSEC has the records of a name as one set, which is written whole.
    async fn desec(&self, record: &TextRecord, wanted: bool) -> Result<(), RecordError> {
        let (zone, _) = self.zone(&record.name).await?;
        let label = label(&record.name, &zone);
        let there = self.get(&format!("/domains/{zone}/rrsets/{label}/TXT/")).await?;
        let there = there.and_then(|it| it.get("records")?.as_array().cloned());
        let quoted = Value::from(quoted(&record.value));
        let mut records = there.unwrap_or_default();
        records.retain(|it| *it != quoted);
        if wanted {
            records.push(quoted);
        }
        let set = json!([{ "subname": label, "type": "TXT", "ttl": 3600, "records": records }]);
        self.send(Method::PATCH, &format!("/domains/{zone}/rrsets/"), set).await?;
        Ok(())
    }
}

#[async_trait::async_trait]
impl Records for Provider {
    async fn add(&self, record: &TextRecord) -> Result<(), RecordError> {
        if self.kind == Kind::Desec {
            return self.desec(record, true).await;
        }
        let (zone, key) = self.zone(&record.name).await?;
        let (label, value) = (label(&record.name, &zone), &record.value);
        let (path, body) = match self.kind {
            Kind::Cloudflare => (
                format!("/zones/{key}/dns_records"),
                json!({ "type": "TXT", "name": record.name, "content": quoted(value), "ttl": 60 }),
            ),
            Kind::DigitalOcean => (
                format!("/domains/{key}/records"),
                json!({ "type": "TXT", "name": label, "data": value, "ttl": 30 }),
            ),
            Kind::Hetzner | Kind::Desec => (
                format!("/zones/{key}/rrsets/{label}/TXT/actions/add_records"),
                json!({ "ttl": 60, "records": [{ "value": quoted(value) }] }),
            ),
        };
        match self.send(Method::POST, &path, body).await? {
            Some(_) => Ok(()),
            None => {
                let (provider, name) = (self.kind.name(), record.name.clone());
                Err(RecordError::NoZone { provider, name })
            }
        }
    }

    async fn remove(&self, record: &TextRecord) -> Result<(), RecordError> {
        if self.kind == Kind::Desec {
            return self.desec(record, false).await;
        }
        let (zone, key) = self.zone(&record.name).await?;
        let name = &record.name;
        let (records, list, query) = match self.kind {
            Kind::Cloudflare => (format!("/zones/{key}/dns_records"), "result", "per_page=100&"),
            Kind::DigitalOcean => {
                (format!("/domains/{key}/records"), "domain_records", "per_page=200&")
            }
            Kind::Hetzner | Kind::Desec => {
                let label = label(name, &zone);
                let path = format!("/zones/{key}/rrsets/{label}/TXT/actions/remove_records");
                let body = json!({ "records": [{ "value": quoted(&record.value) }] });
                self.send(Method::POST, &path, body).await?;
                return Ok(());
            }
        };
        let path = format!("{records}?{query}type=TXT&name={name}");
        for id in self.ids(&path, list, record).await? {
            self.ask(self.request(Method::DELETE, &format!("{records}/{id}"))).await?;
        }
        Ok(())
    }
}

/// A name without its zone.
fn label(name: &str, zone: &str) -> String {
    let label = name.strip_suffix(zone).and_then(|rest| rest.strip_suffix('.'));
    label.unwrap_or("@").to_owned()
}

/// Text as zone files have it. The values of challenges need no escapes.
fn quoted(value: &str) -> String {
    format!("\"{value}\"")
}

async fn read(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await? {
        if bytes.len() + piece.len() > MOST_ANSWER {
            break;
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
