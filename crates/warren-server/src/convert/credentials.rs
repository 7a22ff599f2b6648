//! What requests of sandboxes are given.

use warren_api::credentials as api;
use warren_core::credentials::{Credentials, HostRule, Proxy, ProxyKind};

pub(crate) fn credentials(request: api::Credentials) -> Credentials {
    Credentials {
        rules: request.rules.into_iter().map(rule).collect(),
        proxy: request.proxy.map(proxy),
        ..Credentials::default()
    }
}

fn rule(rule: api::CredentialRule) -> HostRule {
    HostRule {
        host: rule.host,
        headers: rule.headers,
        placeholders: rule.placeholders.into_iter().collect(),
        in_query: rule.in_query,
        in_body: rule.in_body,
        methods: rule.methods.into_iter().collect(),
        paths: rule.paths.into_iter().collect(),
        plain_http: rule.plain_http,
    }
}

fn proxy(proxy: api::EgressProxy) -> Proxy {
    let kind = match proxy.kind {
        api::EgressProxyKind::Socks5 => ProxyKind::Socks5,
        api::EgressProxyKind::Http => ProxyKind::Http,
    };
    let api::EgressProxy { host, port, user, password, .. } = proxy;
    Proxy { kind, host, port, user, password }
}

/// Credentials as they may be shown.
pub(crate) fn given(credentials: &Credentials) -> api::GivenCredentials {
    api::GivenCredentials {
        rules: credentials.rules.iter().map(given_rule).collect(),
        proxy: credentials.proxy.as_ref().map(|proxy| api::EgressProxy {
            kind: match proxy.kind {
                ProxyKind::Socks5 => api::EgressProxyKind::Socks5,
                ProxyKind::Http => api::EgressProxyKind::Http,
            },
            host: proxy.host.clone(),
            port: proxy.port,
            user: proxy.user.clone(),
            password: None,
        }),
        secrets: credentials.secrets().into_iter().collect(),
    }
}

fn given_rule(rule: &HostRule) -> api::GivenRule {
    api::GivenRule {
        host: rule.host.clone(),
        headers: rule.headers.keys().cloned().collect(),
        placeholders: rule.placeholders.iter().cloned().collect(),
        in_query: rule.in_query,
        in_body: rule.in_body,
        methods: rule.methods.iter().cloned().collect(),
        paths: rule.paths.iter().cloned().collect(),
        plain_http: rule.plain_http,
    }
}
