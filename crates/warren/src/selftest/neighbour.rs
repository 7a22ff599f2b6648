//! The sandbox that is looked for by the one that attacks.

use serde::{Deserialize, Serialize};
use serde_json::json;
use warren_api::{
    Base64,
    client::ClientError,
    exec::{ExecEvent, ExecRequest},
    sandbox::{CreateSandbox, Sandbox},
};

use super::{Attacker, catalogue, guest};

/// The other sandbox, with everything in it that must not be found.
#[derive(Debug)]
pub(super) struct Neighbour {
    pub(super) sandbox: Sandbox,
    /// What the attack programs are told of it; absent where no program runs in it.
    pub(super) belongings: Option<Belongings>,
}

/// What is put where, all of it named after the self-test's token.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Belongings {
    pub(super) files: Vec<String>,
    /// In a command line, and the name of an abstract socket.
    pub(super) mark: String,
    /// Of a shared memory of System V.
    key: u32,
    pub(super) addresses: Vec<String>,
    /// On all of its addresses; before it listens, 0 for one of its own choosing.
    pub(super) port: u16,
    /// Whether it ends when nobody holds its input any more.
    pub(super) until_input_ends: bool,
}

/// What its program says when all is in place.
#[derive(Debug, Deserialize)]
pub(super) struct Ready {
    pub(super) addresses: Vec<String>,
    pub(super) port: u16,
}

impl Neighbour {
    pub(super) async fn make(attacker: &Attacker<'_>) -> Result<Self, ClientError> {
        let wanted = CreateSandbox { profile: Some(attacker.profile), ..CreateSandbox::default() };
        let sandbox = attacker.range.make(wanted).await?;
        let belongings = match attacker.without_python {
            Some(_) => None,
            None => Some(move_in(attacker, &sandbox).await?),
        };
        Ok(Self { sandbox, belongings })
    }
}

impl Belongings {
    pub(super) fn named(token: &str) -> Self {
        // The last digits of a token are hexadecimal.
        let digits = token.get(token.len().saturating_sub(7)..).unwrap_or_default();
        Self {
            files: ["/tmp", "/dev/shm"].map(|at| format!("{at}/{token}-neighbour")).to_vec(),
            mark: format!("{token}-neighbour"),
            key: u32::from_str_radix(digits, 16).unwrap_or(1),
            addresses: Vec::new(),
            port: 0,
            until_input_ends: false,
        }
    }
}

/// Starts its program and waits until it says that all is there.
async fn move_in(attacker: &Attacker<'_>, sandbox: &Sandbox) -> Result<Belongings, ClientError> {
    let range = attacker.range;
    let mut belongings = Belongings::named(range.outside.token());
    let mut settings = range.outside.settings();
    settings.insert("neighbour".to_owned(), json!(belongings));
    let program = guest::program(&settings, &[catalogue::NEIGHBOUR]);
    let request = ExecRequest {
        command: vec!["python3".to_owned(), "-".to_owned(), belongings.mark.clone()],
        user: Some(attacker.user.to_owned()),
        stdin_data: Some(Base64(program.into_bytes())),
        ..ExecRequest::default()
    };
    let mut events = range.client.exec_stream(&sandbox.id, &request).await?;
    let (mut said, mut complaints) = (Vec::new(), Vec::new());
    while !said.ends_with(b"\n") {
        match events.next().await? {
            Some(ExecEvent::Stdout(chunk)) => said.extend(chunk.data.0),
            Some(ExecEvent::Stderr(chunk)) => complaints.extend(chunk.data.0),
            Some(ExecEvent::Start(_) | ExecEvent::Keepalive) => {}
            _ => return Err(ClientError::ended_early()),
        }
    }
    let ready: Ready =
        serde_json::from_slice(&said).map_err(|source| ClientError::Decode { source })?;
    (belongings.addresses, belongings.port) = (ready.addresses, ready.port);
    Ok(belongings)
}
