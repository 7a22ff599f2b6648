//! What the edge itself answers: JSON for programs, a small page for people.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header},
};
use serde_json::json;
use warren_api::{Code, ErrorBody};
use warren_core::id::SandboxId;

use super::place::{Destination, Dialect};

/// Which answers are the edge's and not the guest's; its value says why.
pub(super) const MARK: HeaderName = HeaderName::from_static("warren-edge");

/// Why a request does not come to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no such sandbox, or the visitor may not know of it.
    Unknown,
    /// The visitor has shown a token whose time is over.
    Expired,
    /// Nothing listens.
    Closed,
    /// What listens does not speak HTTP, or broke off.
    Broken,
    /// It is paused, and whoever asks does not wake it.
    Asleep,
    /// It is about to run.
    Starting,
    /// It does not run, and does not start by itself.
    Stopped,
    /// Too many requests are under way.
    Busy,
    /// Ports cannot be reached with this way of isolating.
    Unsupported,
    /// The request can never be right.
    Malformed(&'static str),
    /// The name is that of a port, below a domain that is not this server's.
    Misdirected,
    /// This listener serves ports of sandboxes, and nothing else.
    PortsOnly,
    /// The agent of the sandbox is for those who show its token; this says what was wrong.
    Unauthorized(&'static str),
    /// Its ports are for clients of E2B that show the token for them.
    Forbidden,
}

impl Refusal {
    /// A word for machines.
    fn word(self) -> &'static str {
        match self {
            Self::Unknown => "not-found",
            Self::Expired => "expired",
            Self::Closed => "port-closed",
            Self::Broken => "bad-answer",
            Self::Asleep => "paused",
            Self::Starting => "starting",
            Self::Stopped => "stopped",
            Self::Busy => "busy",
            Self::Unsupported => "unsupported",
            Self::Malformed(_) => "bad-request",
            Self::Misdirected => "misdirected",
            Self::PortsOnly => "ports-only",
            Self::Unauthorized(_) => "unauthorized",
            Self::Forbidden => "forbidden",
        }
    }

    fn status(self, dialect: Dialect) -> StatusCode {
        match (self, dialect) {
            (Self::Unknown | Self::Asleep | Self::Stopped, Dialect::E2b) => StatusCode::BAD_GATEWAY,
            (Self::Starting, Dialect::E2b) => StatusCode::CONFLICT,
            (Self::Unknown | Self::PortsOnly, _) => StatusCode::NOT_FOUND,
            (Self::Expired | Self::Unauthorized(_), _) => StatusCode::UNAUTHORIZED,
            (Self::Forbidden, _) => StatusCode::FORBIDDEN,
            (Self::Closed | Self::Broken, _) => StatusCode::BAD_GATEWAY,
            (Self::Asleep | Self::Starting | Self::Stopped, _) => StatusCode::SERVICE_UNAVAILABLE,
            (Self::Busy, _) => StatusCode::TOO_MANY_REQUESTS,
            (Self::Unsupported, _) => StatusCode::NOT_IMPLEMENTED,
            (Self::Malformed(_), _) => StatusCode::BAD_REQUEST,
            (Self::Misdirected, _) => StatusCode::MISDIRECTED_REQUEST,
        }
    }

    fn code(self) -> Code {
        match self {
            Self::Unknown | Self::Misdirected | Self::PortsOnly => Code::NotFound,
            Self::Expired | Self::Unauthorized(_) => Code::Unauthenticated,
            Self::Forbidden => Code::PermissionDenied,
            Self::Closed | Self::Broken | Self::Asleep | Self::Starting => Code::Unavailable,
            Self::Stopped => Code::FailedPrecondition,
            Self::Busy => Code::ResourceExhausted,
            Self::Unsupported => Code::Unimplemented,
            Self::Malformed(_) => Code::InvalidArgument,
        }
    }

    /// What happened, and what can be done about it.
    fn message(self, port: Option<u16>) -> String {
        let port = port.unwrap_or_default();
        match self {
            Self::Unknown => "there is no such sandbox, or this port of it is private and the \
                              request has no good token; `warren port ID PORT` prints a link with \
                              one"
            .to_owned(),
            Self::Expired => {
                "this link has expired; `warren port ID PORT` prints another one".to_owned()
            }
            Self::Closed => format!("the sandbox runs, and nothing in it listens on port {port}"),
            Self::Broken => {
                format!("what listens on port {port} of the sandbox gave no answer in HTTP")
            }
            Self::Asleep => "the sandbox is paused, and its owner does not let visitors without \
                             a token wake it"
                .to_owned(),
            Self::Starting => "the sandbox is being started".to_owned(),
            Self::Stopped => "the sandbox does not run; `warren start ID` starts one that was \
                              stopped"
                .to_owned(),
            Self::Busy => "too many requests to this sandbox are under way".to_owned(),
            Self::Unsupported => "ports of this sandbox cannot be reached from outside".to_owned(),
            Self::Malformed(what) | Self::Unauthorized(what) => what.to_owned(),
            Self::Forbidden => {
                "the ports of this sandbox are private: expected its traffic access \
                                token in the header `e2b-traffic-access-token`"
                    .to_owned()
            }
            Self::Misdirected => "this server has its sandboxes below another domain; the setting \
                                  `domain` names it"
                .to_owned(),
            Self::PortsOnly => "this address serves ports of sandboxes, by their names, and \
                                nothing else"
                .to_owned(),
        }
    }

    /// Whether it is worth asking again soon.
    fn passes(self) -> bool {
        matches!(self, Self::Closed | Self::Starting)
    }

    /// The answer to whoever asked with these headers. Which sandbox it is about is told to those
    /// alone who may know it.
    pub(crate) fn respond(self, headers: &HeaderMap, at: Option<Destination>) -> Response<Body> {
        let dialect = match (self, at) {
            (Self::Unauthorized(_), _) => Dialect::E2b,
            (_, at) => at.map_or(Dialect::Native, |at| at.dialect),
        };
        let status = self.status(dialect);
        let message = self.message(at.map(|at| at.port));
        let (kind, body) = if wants_page(headers) {
            ("text/html; charset=utf-8", self.page(status, &message))
        } else {
            let body = match dialect {
                Dialect::Native => self.body(&message, at),
                Dialect::E2b => self.e2b_body(status, &message, at),
            };
            ("application/json", body)
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let fields = response.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        fields.insert(MARK, HeaderValue::from_static(self.word()));
        const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";
        fields.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if dialect == Dialect::E2b {
            // Pages call the agent from anywhere, and are to read why it did not answer.
            fields.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        if self.passes() {
            fields.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    /// Whether the visitor has shown to be somebody who may know of the sandbox.
    fn is_known(self) -> bool {
        !matches!(self, Self::Unknown | Self::Malformed(_) | Self::Misdirected | Self::PortsOnly)
    }

    fn body(self, message: &str, at: Option<Destination>) -> String {
        let mut body = ErrorBody::new(self.code(), message);
        body.details = at
            // By a name that is open come strangers.
            .filter(|at| self.is_known() && !at.open)
            .map(|at| json!({ "sandbox_id": at.id.as_str(), "port": at.port }));
        json!(body).to_string()
    }

    /// As E2B's proxy says it.
    fn e2b_body(self, status: StatusCode, message: &str, at: Option<Destination>) -> String {
        let message = match self {
            Self::Unknown | Self::Asleep | Self::Stopped => "The sandbox was not found",
            Self::Closed => "The sandbox is running but port is not open",
            _ => message,
        };
        let id = at.map(|at| at.id);
        let id = id.as_ref().map_or("", SandboxId::as_str);
        let code = status.as_u16();
        let body = match (self, at) {
            // As the agent's own daemon says it, which clients compare.
            (Self::Unauthorized(_), _) => json!({ "code": code, "message": message }),
            (Self::Closed, Some(at)) => {
                json!({ "sandboxId": id, "message": message, "code": code, "port": at.port })
            }
            _ => json!({ "sandboxId": id, "message": message, "code": code }),
        };
        body.to_string()
    }

    fn page(self, status: StatusCode, message: &str) -> String {
        let refresh = match self.passes() {
            true => "<meta http-equiv=\"refresh\" content=\"2\">",
            false => "",
        };
        // Every part of it is ours: nothing of the request is in it.
        let text = message.replace('`', "");
        let title = match self {
            Self::Unknown => "Nothing here for you",
            Self::Expired => "This link has expired",
            Self::Closed => "Nothing listens here yet",
            Self::Starting => "One moment",
            Self::Asleep => "This sandbox is paused",
            Self::Stopped => "This sandbox does not run",
            _ => "That did not work",
        };
        format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\">{refresh}\
             <title>{title}</title><style>body{{font:16px/1.5 system-ui,sans-serif;max-width:36em;\
             margin:20vh auto 0;padding:0 1em;color:#222;background:#fff}}small{{color:#777}}\
             @media(prefers-color-scheme:dark){{body{{color:#ddd;background:#111}}}}</style></head>\
             <body><h1>{title}</h1><p>{text}.</p><small>{status} &middot; Warren</small></body>\
             </html>\n"
        )
    }
}

/// Whether whoever asks is shown a page: browsers say so.
pub(super) fn wants_page(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(dialect: Dialect) -> Destination {
        let id = "sb-aaaaaaaaaaaaaaaa".parse().unwrap();
        Destination { id, port: 3000, by_host: true, open: false, dialect }
    }

    #[test]
    fn who_may_not_know_of_a_sandbox_is_told_nothing_about_it() {
        let response = Refusal::Unknown.respond(&HeaderMap::new(), Some(at(Dialect::Native)));
        assert_eq!(response.status(), 404);
        let text = Refusal::Unknown.body("gone", Some(at(Dialect::Native)));
        assert_eq!(text, r#"{"code":"not_found","message":"gone"}"#);
        let text = Refusal::Closed.body("closed", Some(at(Dialect::Native)));
        assert!(text.contains("3000") && text.contains("sb-aaaaaaaaaaaaaaaa"), "{text}");
    }

    #[test]
    fn the_same_is_said_as_others_say_it() {
        let response = Refusal::Closed.respond(&HeaderMap::new(), Some(at(Dialect::E2b)));
        assert_eq!(response.status(), 502);
        let text = Refusal::Closed.e2b_body(response.status(), "", Some(at(Dialect::E2b)));
        let expected = json!({
            "sandboxId": "sb-aaaaaaaaaaaaaaaa", "port": 3000, "code": 502,
            "message": "The sandbox is running but port is not open",
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), expected);
    }

    #[test]
    fn browsers_get_a_page_that_comes_again_where_that_helps() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/html,*/*;q=0.8"));
        let response = Refusal::Starting.respond(&headers, Some(at(Dialect::Native)));
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert!(response.headers().contains_key(header::RETRY_AFTER));
        let page = Refusal::Starting.page(StatusCode::SERVICE_UNAVAILABLE, "starting");
        assert!(page.contains("refresh"), "{page}");
        assert!(!Refusal::Stopped.page(StatusCode::OK, "x").contains("refresh"));
    }
}
