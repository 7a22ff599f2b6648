//! Texts that this server has signed, and keeps nowhere: what opens one thing to whoever has them.
//!
//! `PREFIX EXPIRY_PROJECT_WHAT_SIGNATURE`: the end in seconds since 1970, whose it is, what is
//! opened, and HMAC-SHA256 over all of them and the purpose. Projects have no `_` in their names,
//! and neither has what is opened.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::hmac;
use warren_core::{Caller, caller::Owner};

use crate::app::App;

/// What a text is good for: how it begins, what is signed before the rest, and how long it holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purpose {
    prefix: &'static str,
    label: &'static [u8],
    lasts: Duration,
}

/// One upload of files for builds.
pub(super) const UPLOAD: Purpose = Purpose {
    prefix: "wup_",
    label: b"warren e2b upload 1\0",
    lasts: Duration::from_secs(30 * 60),
};

/// The files of one volume. Clients ask for another one each time they connect to it.
pub(super) const VOLUME: Purpose = Purpose {
    prefix: "wvt_",
    label: b"warren e2b volume 1\0",
    lasts: Duration::from_secs(24 * 3600),
};

/// Signs for whoever has the text from now on.
pub(super) fn sign(app: &App, purpose: Purpose, caller: &Caller, what: &str) -> String {
    let expires = now(app) + purpose.lasts.as_secs();
    let owner = caller.owner().as_str();
    let tag = hmac::sign(&key(app), &message(purpose, expires, owner, what));
    format!("{}{expires}_{owner}_{what}_{}", purpose.prefix, BASE64.encode(tag))
}

/// Who is let in by a text, and to what; none where it is not ours, or its time is over.
pub(super) fn open(app: &App, purpose: Purpose, text: &str) -> Option<(Caller, String)> {
    let mut parts = text.strip_prefix(purpose.prefix)?.splitn(4, '_');
    let expires = parts.next()?.parse().ok()?;
    let (owner, what, tag) = (parts.next()?, parts.next()?, parts.next()?);
    let tag = BASE64.decode(tag).ok()?;
    // Compared in a time that says nothing.
    hmac::verify(&key(app), &message(purpose, expires, owner, what), &tag).ok()?;
    (now(app) < expires).then(|| (Caller::remote(Owner::new(owner)), what.to_owned()))
}

fn key(app: &App) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, app.config().edge.key.expose())
}

fn message(purpose: Purpose, expires: u64, owner: &str, what: &str) -> Vec<u8> {
    let parts = [purpose.label, &expires.to_be_bytes(), owner.as_bytes(), b"\0", what.as_bytes()];
    parts.concat()
}

fn now(app: &App) -> u64 {
    app.sandboxes.now().as_millis() / 1000
}
