//! Providers that are none: each API as far as it is used.

use std::{
    convert::Infallible,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinSet};

use super::*;

const ZONE: &str = "a.example";
const TOKEN: &str = "s3cret";

/// The records of the zone: what each says, by its place.
type Said = Arc<Mutex<Vec<Option<String>>>>;

struct Fake {
    provider: Provider,
    said: Said,
    _task: JoinSet<()>,
}

impl Fake {
    async fn start(kind: Kind, token: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let said = Said::default();
        let mut task = JoinSet::new();
        let zone = Arc::clone(&said);
        task.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = service_fn(|request: Request<Incoming>| {
                    let zone = Arc::clone(&zone);
                    async move { Ok::<_, Infallible>(respond(kind, &zone, request).await) }
                });
                drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
            }
        });
        let client = client::build(None, false).unwrap();
        let token = Zeroizing::new(token.to_owned());
        Self { provider: Provider { kind, token, client, address }, said, _task: task }
    }

    fn says(&self) -> Vec<String> {
        self.said.lock().unwrap().iter().flatten().cloned().collect()
    }
}

async fn respond(kind: Kind, said: &Said, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let scheme = if kind == Kind::Desec { "Token" } else { "Bearer" };
    let shown = request.headers()["authorization"].to_str().unwrap().to_owned();
    let target = request.uri().path_and_query().unwrap().to_string();
    let method = request.method().clone();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (status, answer) = match shown == format!("{scheme} {TOKEN}") {
        true => api(kind, &mut said.lock().unwrap(), (method.as_str(), &target), &body),
        false => (403, json!({ "message": format!("no: {shown}") })),
    };
    // One connection for each request: the fake serves one after the other.
    let builder = Response::builder().status(status).header("connection", "close");
    builder.body(Full::new(Bytes::from(answer.to_string()))).unwrap()
}

fn api(
    kind: Kind,
    said: &mut Vec<Option<String>>,
    (method, target): (&str, &str),
    body: &Value,
) -> (u16, Value) {
    let text = |value: &Value| value.as_str().unwrap().trim_matches('"').to_owned();
    let all = |field: &str| {
        let records = said.iter().enumerate();
        let shown = records.filter_map(|(id, it)| Some(json!({ "id": id, field: it.as_ref()? })));
        shown.collect::<Vec<_>>()
    };
    let zone_named = |path: &str| if path == target { (200, json!({})) } else { (404, json!({})) };
    match (kind, method) {
        (Kind::Cloudflare, "GET") if target.starts_with("/zones?name=") => {
            let found = target == format!("/zones?name={ZONE}");
            (200, json!({ "result": if found { vec![json!({ "id": "z1" })] } else { vec![] } }))
        }
        (Kind::Cloudflare, "GET") => {
            assert!(target.starts_with("/zones/z1/dns_records?"), "{target}");
            (200, json!({ "result": all("content") }))
        }
        (Kind::Cloudflare, "POST") => {
            assert_eq!((target, text(&body["name"])), ("/zones/z1/dns_records", name()));
            said.push(Some(text(&body["content"])));
            (200, json!({ "success": true }))
        }
        (Kind::DigitalOcean, "GET") if target.contains("/records?") => {
            (200, json!({ "domain_records": all("data") }))
        }
        (Kind::DigitalOcean, "POST") => {
            assert_eq!(target, format!("/domains/{ZONE}/records"));
            assert_eq!(text(&body["name"]), "_acme-challenge.x");
            said.push(Some(text(&body["data"])));
            (201, json!({}))
        }
        (Kind::Hetzner, "POST") => {
            let path = format!("/zones/{ZONE}/rrsets/_acme-challenge.x/TXT/actions/");
            let value = text(&body["records"][0]["value"]);
            match target.strip_prefix(&path) {
                Some("add_records") => said.push(Some(value)),
                Some("remove_records") => said.retain(|it| it.as_ref() != Some(&value)),
                other => panic!("{other:?}"),
            }
            (201, json!({}))
        }
        (Kind::Desec, "GET") if target.contains("/rrsets/") => {
            assert_eq!(target, format!("/domains/{ZONE}/rrsets/_acme-challenge.x/TXT/"));
            let quoted = said.iter().flatten().map(|it| format!("\"{it}\"")).collect::<Vec<_>>();
            if quoted.is_empty() { (404, json!({})) } else { (200, json!({ "records": quoted })) }
        }
        (Kind::Desec, "PATCH") => {
            let records = body[0]["records"].as_array().unwrap();
            *said = records.iter().map(|it| Some(text(it))).collect();
            (200, json!([]))
        }
        (_, "DELETE") => {
            let id: usize = target.rsplit('/').next().unwrap().parse().unwrap();
            said[id] = None;
            (200, json!({}))
        }
        (Kind::DigitalOcean, "GET") => zone_named(&format!("/domains/{ZONE}")),
        (Kind::Hetzner, "GET") => zone_named(&format!("/zones/{ZONE}")),
        (Kind::Desec, "GET") => zone_named(&format!("/domains/{ZONE}/")),
        other => panic!("{other:?} {target}"),
    }
}

fn name() -> String {
    format!("_acme-challenge.x.{ZONE}")
}

fn record(value: &str) -> TextRecord {
    TextRecord { name: name(), value: value.to_owned() }
}

const ALL: [Kind; 4] = [Kind::Cloudflare, Kind::DigitalOcean, Kind::Hetzner, Kind::Desec];

#[tokio::test]
async fn records_are_added_beside_others_and_removed_alone() {
    for kind in ALL {
        let fake = Fake::start(kind, TOKEN).await;
        fake.provider.add(&record("one")).await.unwrap();
        fake.provider.add(&record("two")).await.unwrap();
        assert_eq!(fake.says(), ["one", "two"], "{kind:?}");
        fake.provider.remove(&record("one")).await.unwrap();
        assert_eq!(fake.says(), ["two"], "{kind:?}");
        fake.provider.remove(&record("one")).await.unwrap();
        assert_eq!(fake.says(), ["two"], "{kind:?}: what is gone is no error");
    }
}

#[tokio::test]
async fn a_name_without_a_zone_and_a_token_that_is_refused_are_told_without_the_token() {
    for kind in ALL {
        let fake = Fake::start(kind, TOKEN).await;
        let nowhere = TextRecord { name: "_acme-challenge.b.example".into(), value: "v".into() };
        let error = fake.provider.add(&nowhere).await.unwrap_err().to_string();
        assert!(error.contains("has no zone for _acme-challenge.b.example"), "{error}");
        let fake = Fake::start(kind, "wr0ng").await;
        let error = fake.provider.add(&record("v")).await.unwrap_err().to_string();
        assert!(error.contains("403") && error.contains("***"), "{error}");
        assert!(!error.contains("wr0ng"), "{error}");
        assert!(!format!("{:?}", fake.provider).contains("wr0ng"));
    }
}
