//! E2B's control API, for its own clients, over the same sandboxes as the native one.
//!
//! It is at `/e2b`, and at the root of the host `api.DOMAIN`. Nothing is decided here and nothing is
//! kept that a native caller could not see: a sandbox that was made here is a sandbox like every
//! other, and the other way round.
//!
//! | module | what |
//! |---|---|
//! | `error` | refusals in the form that these clients read |
//! | `extract` | bodies, queries and ids, as leniently as these clients need |
//! | `shape` | what answers look like |
//! | `sandboxes`, `wanted`, `life`, `list` | sandboxes: made, found, kept alive |
//! | `network` | what they may reach |
//! | `names` | what a template may be called |
//! | `snapshots` | snapshots and forks |
//! | `metrics`, `logs` | what they use and say |
//! | `templates` | what sandboxes are made from, and how it is built |
//! | `volumes`, `secrets` | the same as the native ones |
//! | `identity` | how others find out who a sandbox is |
//! | `grants` | links and tokens that open one thing each, without a key |
//! | `teams`, `nodes` | projects and their keys, and the server |

use axum::{
    Router,
    http::{Uri, uri::PathAndQuery},
    routing::{delete, get, patch, post, put},
};

use crate::app::App;

mod error;
mod extract;
mod grants;
mod identity;
mod life;
mod list;
mod logs;
mod metrics;
mod names;
mod network;
mod nodes;
mod placeholders;
mod sandboxes;
mod secrets;
mod shape;
mod snapshots;
mod teams;
mod templates;
mod volumes;
mod wanted;

use templates::{builds, files, tags};
use volumes::content;

pub(crate) use error::Refusal;
pub(crate) use metrics::Samples;

/// Where this API is.
pub(crate) const ROOT: &str = "/e2b";

/// The version of the daemon in sandboxes that clients are told: what they may ask of it follows
/// from that.
const ENVD_VERSION: &str = "0.6.13";

/// Paths that have an authentication of their own, or need none. What ends in `/` is a beginning.
const OPEN: &[&str] = &["/health", "/uploads/", "/volumecontent/", "/.well-known/"];

/// Every route, beneath [`ROOT`].
pub(crate) fn router() -> Router<App> {
    Router::new()
        .route("/health", get(sandboxes::health))
        // Sandboxes, in both versions of the clients.
        .route("/sandboxes", get(list::running).post(sandboxes::create_v1))
        .route("/v2/sandboxes", get(list::all).post(sandboxes::create_v2))
        .route("/sandboxes/metrics", get(metrics::of_many))
        .route("/sandboxes/{id}", get(sandboxes::detail).delete(sandboxes::kill))
        .route("/sandboxes/{id}/connect", post(life::connect))
        .route("/v2/sandboxes/{id}/connect", post(life::connect))
        .route("/sandboxes/{id}/resume", post(life::resume))
        .route("/sandboxes/{id}/pause", post(life::pause))
        .route("/sandboxes/{id}/timeout", post(life::timeout))
        .route("/sandboxes/{id}/refreshes", post(life::refresh))
        .route("/sandboxes/{id}/network", put(network::replace))
        .route("/sandboxes/{id}/metrics", get(metrics::of_one))
        .route("/sandboxes/{id}/logs", get(logs::v1))
        .route("/v2/sandboxes/{id}/logs", get(logs::v2))
        // What they were.
        .route("/sandboxes/{id}/fork", post(snapshots::fork))
        .route("/sandboxes/{id}/snapshots", post(snapshots::create))
        .route("/snapshots", get(snapshots::list))
        // What they are made from. Each handler's own path is written above it, too.
        .route("/v3/templates", post(templates::create_template))
        .route("/templates", get(templates::list_templates))
        .route("/v2/templates", get(templates::page_templates))
        .route(
            "/templates/{template}",
            get(templates::get_template)
                .delete(templates::delete_template)
                .patch(templates::change_template_quietly),
        )
        .route("/v2/templates/{template}", patch(templates::change_template))
        .route("/templates/aliases/{alias}", get(templates::get_alias))
        .route("/templates/tags", post(tags::assign_tags).delete(tags::remove_tags))
        .route("/templates/{template}/tags", get(tags::list_tags))
        .route("/templates/{template}/files/{hash}", get(files::get_link))
        .route("/uploads/{token}", put(files::upload))
        .route("/v2/templates/{template}/builds/{build}", post(builds::start_build))
        .route("/templates/{template}/builds/{build}/status", get(builds::get_status))
        .route("/templates/{template}/builds/{build}/logs", get(builds::get_logs))
        // What outlives them.
        .route("/volumes", get(volumes::list_volumes).post(volumes::create_volume))
        .route("/volumes/{volume}", get(volumes::get_volume).delete(volumes::delete_volume))
        .route(
            "/volumecontent/{volume}/path",
            get(content::stat).patch(content::change).delete(content::remove),
        )
        .route("/volumecontent/{volume}/dir", get(content::list).post(content::make_directory))
        .route("/volumecontent/{volume}/file", get(content::read).put(content::write))
        // What they use and never see.
        .route("/secrets", get(secrets::list_secrets).post(secrets::create_secret))
        .route(
            "/secrets/{secret}",
            get(secrets::get_secret).post(secrets::update_secret).delete(secrets::delete_secret),
        )
        .route("/.well-known/openid-configuration", get(identity::describe))
        .route("/.well-known/jwks.json", get(identity::keys))
        // Where they are.
        .route("/nodes", get(nodes::list_nodes))
        .route("/nodes/{node}", get(nodes::get_node).post(nodes::change_node))
        // Whose they are.
        .route("/teams", get(teams::list))
        .route("/teams/{team}/metrics", get(teams::metrics))
        .route("/teams/{team}/metrics/max", get(teams::most))
        .route("/api-keys", get(teams::keys).post(teams::create_key))
        .route("/api-keys/{id}", delete(teams::delete_key).patch(teams::rename_key))
        .fallback(error::no_such_route)
        .method_not_allowed_fallback(error::no_such_method)
}

/// Whether a path is of this API.
pub(crate) fn is_asked(path: &str) -> bool {
    path.strip_prefix(ROOT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a path of this API is served without a key of the server.
pub(crate) fn is_open(path: &str) -> bool {
    let beneath = path.strip_prefix(ROOT).unwrap_or_default();
    OPEN.iter().any(|open| match open.ends_with('/') {
        true => beneath.starts_with(open),
        false => beneath == *open,
    })
}

/// The target of a request to the host where this API is at the root. The native API is there too.
pub(crate) fn beneath_root(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if is_asked(path) || path.starts_with("/v1/") {
        return None;
    }
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{ROOT}{target}").parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_its_host_is_this_api_and_the_native_one() {
        let check = |target: &str, expected: Option<&str>| {
            let found = beneath_root(&target.parse().unwrap()).map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), expected, "{target}");
        };
        check("/sandboxes?a=b%2Fc", Some("/e2b/sandboxes?a=b%2Fc"));
        check("/v2/sandboxes", Some("/e2b/v2/sandboxes"));
        check("/", Some("/e2b/"));
        check("http://api.localhost/health", Some("http://api.localhost/e2b/health"));
        check("/e2b/sandboxes", None);
        check("/v1/sandboxes", None);
        check("/e2bx", Some("/e2b/e2bx"));
    }

    #[test]
    fn only_what_needs_no_key_is_open() {
        assert!(is_open("/e2b/health") && is_asked("/e2b/health"));
        assert!(is_open("/e2b/.well-known/jwks.json"));
        assert!(is_open("/e2b/uploads/x") && is_open("/e2b/volumecontent/x/file"));
        for closed in
            ["/e2b", "/e2b/sandboxes", "/e2b/health/x", "/health", "/v1/health", "/uploads/x"]
        {
            assert!(!is_open(closed), "{closed}");
        }
        assert!(is_asked("/e2b") && !is_asked("/e2bx") && !is_asked("/v1/e2b"));
    }
}
