//! The escapes that must not work, tried from inside.
//!
//! Two sandboxes of each profile are made through the public API. One has what must not be found,
//! the other looks for it, and for the same on the host, and for every other way out that is known.
//! [`catalogue`] names the attacks. Most of them are Python programs (`attacks/`) for they make
//! system calls that no shell makes; where an image has no Python they are skipped, and say so.
//!
//! An attack does no harm where it succeeds, for that is the case it is there for.

mod catalogue;

mod guest;

mod neighbour;

mod outside;

mod paths;

mod archives;

mod limits;

use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use warren_api::{
    client::{Client, ClientError},
    exec::{ExecOutcome, ExecRequest},
    sandbox::{CreateSandbox, Profile, Sandbox},
};

use crate::{dirs::Dirs, error::CliError};
use outside::Outside;

/// How long a sandbox of a self-test lives at most, should nobody remove it.
const LIFETIME_SECONDS: u64 = 600;

/// How long one attack program may take.
const PATIENCE_MS: u64 = 120_000;

/// What a self-test found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether no attack got through.
    pub(crate) held: bool,
    /// One by one, those of a profile and area together.
    pub(crate) rows: Vec<Row>,
}

/// One attack on one profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    /// The profile of the sandbox that it came from.
    pub(crate) profile: Profile,
    /// What it belongs to.
    pub(crate) area: &'static str,
    /// What was tried.
    pub(crate) attack: &'static str,
    /// How it went.
    pub(crate) outcome: Outcome,
    /// What was reached, or why it was not tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<String>,
}

/// How an attack went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It reached nothing.
    Pass,
    /// It reached something, or could not say what it reached.
    Fail,
    /// It was not tried.
    Skipped,
}

impl Outcome {
    /// The word of a report.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::Skipped => "skipped",
        }
    }
}

/// What one attack reached; nothing where it was held off.
type Reached = Vec<String>;

/// What a self-test needs.
#[derive(Debug)]
pub(crate) struct Range<'a> {
    client: &'a Client,
    image: Option<String>,
    outside: Outside,
    made: Mutex<Vec<String>>,
}

/// A sandbox that attacks.
#[derive(Debug)]
struct Attacker<'a> {
    range: &'a Range<'a>,
    profile: Profile,
    sandbox: Sandbox,
    /// Who may do most in it.
    user: &'static str,
    /// Why no Python program runs in it, if none does.
    without_python: Option<String>,
    /// The usual programs that its image does not have.
    missing: Vec<String>,
}

/// Usual programs that attacks of shell are made of.
const PROGRAMS: &str = "mkdir ln mkfifo rm head tail sleep";

impl<'a> Range<'a> {
    /// Puts things on the host that must not be found.
    pub(crate) fn set_up(
        client: &'a Client,
        dirs: &Dirs,
        image: Option<String>,
    ) -> Result<Self, CliError> {
        let outside = Outside::set_up(dirs)?;
        Ok(Self { client, image, outside, made: Mutex::default() })
    }

    /// Attacks from sandboxes of one profile.
    pub(crate) async fn attack(&self, profile: Profile) -> Result<Vec<Row>, CliError> {
        let attacker = Attacker::make(self, profile).await?;
        let neighbour = neighbour::Neighbour::make(&attacker).await?;
        let mut rows = guest::attack(&attacker, &neighbour).await?;
        rows.extend(paths::attack(&attacker).await?);
        rows.extend(archives::attack(&attacker).await?);
        rows.extend(limits::attack(&attacker, &neighbour).await?);
        self.remove().await;
        Ok(rows)
    }

    /// Makes a sandbox that [`Range::remove`] removes.
    async fn make(&self, wanted: CreateSandbox) -> Result<Sandbox, ClientError> {
        let wanted = CreateSandbox {
            image: self.image.clone(),
            lifetime_seconds: Some(LIFETIME_SECONDS),
            labels: [("warren".to_owned(), "selftest".to_owned())].into(),
            ..wanted
        };
        let sandbox = self.client.create_sandbox(&wanted).await?;
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(sandbox.id.clone());
        Ok(sandbox)
    }

    /// Removes every sandbox that was made. One that cannot be is removed by its lifetime.
    pub(crate) async fn remove(&self) {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        for sandbox in made {
            self.client.ensure_deleted(&sandbox).await.ok();
        }
    }

    async fn exec(
        &self,
        sandbox: &Sandbox,
        request: ExecRequest,
    ) -> Result<ExecOutcome, ClientError> {
        let timeout_ms = request.timeout_ms.or(Some(PATIENCE_MS));
        self.client.exec(&sandbox.id, &ExecRequest { timeout_ms, ..request }).await
    }
}

impl<'a> Attacker<'a> {
    async fn make(range: &'a Range<'a>, profile: Profile) -> Result<Self, ClientError> {
        let wanted = CreateSandbox { profile: Some(profile), ..CreateSandbox::default() };
        let sandbox = range.make(wanted).await?;
        let user = match profile {
            Profile::Default => "root",
            Profile::Strict => "user",
        };
        let (without_python, missing) = (None, Vec::new());
        let mut attacker = Self { range, profile, sandbox, user, without_python, missing };
        attacker.without_python = attacker.look_for_python().await?;
        let look = format!("for p in {PROGRAMS}; do command -v $p >/dev/null || echo $p; done");
        let said = attacker.shell(&look).await?.stdout;
        attacker.missing = said.lines().map(ToOwned::to_owned).collect();
        Ok(attacker)
    }

    async fn look_for_python(&self) -> Result<Option<String>, ClientError> {
        let tried = self.shell("python3 -c 'import ctypes, socket'").await;
        match tried {
            Ok(outcome) if outcome.end.exit_code == 0 => Ok(None),
            Ok(outcome) => {
                let said = outcome.stderr.lines().last().unwrap_or_default().trim().to_owned();
                Ok(Some(format!("there is no python3 in the image ({said})")))
            }
            Err(error) => Err(error),
        }
    }

    /// Why an attack of these programs cannot be tried, if one of them is missing.
    fn lacks(&self, programs: &[&str]) -> Option<String> {
        let missing = self.missing.iter().find(|it| programs.contains(&it.as_str()))?;
        Some(format!("there is no {missing} in the image"))
    }

    /// Runs a line of shell as whoever may do most.
    async fn shell(&self, line: &str) -> Result<ExecOutcome, ClientError> {
        self.range.exec(&self.sandbox, shell(line, self.user)).await
    }

    /// A row of this attacker.
    fn row(&self, area: &'static str, attack: &'static str, reached: Reached) -> Row {
        Row::judged(self.profile, area, attack, reached)
    }
}

impl Row {
    /// An attack that was carried out.
    fn judged(
        profile: Profile,
        area: &'static str,
        attack: &'static str,
        reached: Reached,
    ) -> Self {
        let (outcome, detail) = match reached.is_empty() {
            true => (Outcome::Pass, None),
            false => (Outcome::Fail, Some(format!("reached: {}", reached.join("; ")))),
        };
        Self { profile, area, attack, outcome, detail }
    }

    /// An attack of which nobody knows what it reached. That is no proof that it reached nothing.
    fn broken(profile: Profile, area: &'static str, attack: &'static str, why: &str) -> Self {
        let detail = Some(format!("it could not be told: {why}"));
        Self { profile, area, attack, outcome: Outcome::Fail, detail }
    }

    /// An attack that was not tried.
    fn skipped(profile: Profile, area: &'static str, attack: &'static str, why: &str) -> Self {
        let detail = Some(why.to_owned());
        Self { profile, area, attack, outcome: Outcome::Skipped, detail }
    }
}

/// A line of shell, run as `user`.
fn shell(line: &str, user: &str) -> ExecRequest {
    ExecRequest {
        command: ["/bin/sh", "-c", line].map(str::to_owned).to_vec(),
        user: Some(user.to_owned()),
        ..ExecRequest::default()
    }
}

impl Report {
    /// A report of these rows.
    pub(crate) fn new(rows: Vec<Row>) -> Self {
        Self { held: rows.iter().all(|row| row.outcome != Outcome::Fail), rows }
    }
}
