//! What is kept of one agent: `state/NAME.env`.
//!
//! The file is a list of assignments in single quotes, with agentvm's names, so that a script may
//! source it and gets the values as they are; what agentvm does not know is called `WARREN_...`.
//! Here it is read as data. Nothing in it is run, and nothing in it says what is removed: paths
//! follow from the name of the file, and those in it are for people and scripts.

use std::time::SystemTime;

use crate::{AgentName, Home, HomeError, Tags, env_file::EnvFile, home::Item, words};

/// What is kept of an agent between commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose it is: from the name of the file.
    pub name: AgentName,
    /// The process of its sandbox on this machine; 0 where there is none.
    pub pid: u32,
    /// How it is kept apart, such as `namespace`; `none` where it is not.
    pub sandbox: String,
    /// What its terminal is called.
    pub session: String,
    /// When it was made; none where the file does not say.
    pub created_at: Option<SystemTime>,
    /// The profile that it was made with; none for a command of its own.
    pub profile: Option<String>,
    /// Its tags.
    pub tags: Tags,
    /// Its identity, and whether it was asked for.
    pub identity: Identity,
    /// Where the prompt came from that a restart types again.
    pub prompt_file: Option<String>,
    /// The directory that the workspace was copied from.
    pub from_dir: Option<String>,
    /// The repository that the workspace was cloned from.
    pub from_git: Option<String>,
    /// The branch, tag or commit of that.
    pub from_git_ref: Option<String>,
    /// The command that was given in place of the profile's; empty where none was.
    pub command: Vec<String>,
    /// The sandbox that it is.
    pub sandbox_id: Option<String>,
    /// The command in the sandbox that its program is.
    pub exec_id: Option<String>,
    /// What its program ended with: an exit status, or 128 and the number of a signal.
    pub exit_code: Option<i32>,
    /// Assignments of others: they are kept.
    pub others: Vec<(String, String)>,
}

/// The identity of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Whether one was asked for.
    pub wanted: bool,
    /// What it is known by: a `did:key`.
    pub did: Option<String>,
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// There is none.
    #[error("No state found for agent '{0}'. Run 'agentvm list' to see agents.")]
    Missing(AgentName),
    /// Its file cannot be read or written.
    #[error(transparent)]
    Home(#[from] HomeError),
}

impl Record {
    /// A record of an agent that is about to be made.
    pub fn new(name: AgentName, created_at: SystemTime) -> Self {
        let session = format!("agentvm-{name}");
        Self { session, created_at: Some(created_at), ..Self::empty(name) }
    }

    fn empty(name: AgentName) -> Self {
        Self {
            name,
            pid: 0,
            sandbox: String::new(),
            session: String::new(),
            created_at: None,
            profile: None,
            tags: Tags::default(),
            identity: Identity::default(),
            prompt_file: None,
            from_dir: None,
            from_git: None,
            from_git_ref: None,
            command: Vec::new(),
            sandbox_id: None,
            exec_id: None,
            exit_code: None,
            others: Vec::new(),
        }
    }

    /// Reads a record. What is missing or makes no sense is as if it had not been said: a broken
    /// record is still listed, and can be removed.
    pub fn parse(name: AgentName, bytes: &[u8]) -> Self {
        let mut record = Self::empty(name);
        for (key, value) in EnvFile::parse(bytes).to_map() {
            record.take(&key, value);
        }
        record
    }

    fn take(&mut self, key: &str, value: String) {
        let some = |value: &str| (!value.is_empty()).then(|| value.to_owned());
        match key {
            // They follow from the name and the home.
            "AGENT_NAME" | "AGENT_WORKSPACE" | "AGENT_LOG_FILE" => {}
            "AGENT_PID" => self.pid = value.parse().unwrap_or(0),
            "AGENT_SANDBOX" => self.sandbox = value,
            "AGENT_SESSION" => self.session = value,
            "AGENT_CREATED_AT" => self.created_at = humantime::parse_rfc3339(&value).ok(),
            "AGENT_PROFILE" => self.profile = some(&value),
            "AGENT_TAGS" => self.tags = value.parse().unwrap_or_default(),
            "AGENT_GITLAWB" => self.identity.wanted = value == "true",
            // It follows from the two others.
            "AGENT_GITLAWB_MODE" => {}
            "AGENT_GITLAWB_DID" => self.identity.did = some(&value),
            "AGENT_PROMPT_FILE" => self.prompt_file = some(&value),
            "AGENT_FROM_DIR" => self.from_dir = some(&value),
            "AGENT_FROM_GIT" => self.from_git = some(&value),
            "AGENT_FROM_GIT_REF" => self.from_git_ref = some(&value),
            "AGENT_EXTRA_CMD" => self.command = words::split(&value).unwrap_or_default(),
            "WARREN_SANDBOX_ID" => self.sandbox_id = some(&value),
            "WARREN_EXEC_ID" => self.exec_id = some(&value),
            "WARREN_EXIT_CODE" => self.exit_code = value.parse().ok(),
            _ => self.others.push((key.to_owned(), value)),
        }
    }

    /// The text of the file, with the paths that follow from `home`.
    pub fn to_text(&self, home: &Home) -> String {
        let workspace = home.workspace(&self.name).display().to_string();
        let log = home.path_of(Item::Log(&self.name)).display().to_string();
        let created_at = self.created_at.map(timestamp).unwrap_or_default();
        let mode = if self.identity.wanted { "force" } else { "off" };
        let always = [
            ("AGENT_NAME", self.name.to_string()),
            ("AGENT_PID", self.pid.to_string()),
            ("AGENT_SANDBOX", self.sandbox.clone()),
            ("AGENT_WORKSPACE", workspace),
            ("AGENT_CREATED_AT", created_at),
            ("AGENT_SESSION", self.session.clone()),
            ("AGENT_PROFILE", self.profile.clone().unwrap_or_default()),
            ("AGENT_LOG_FILE", log),
            ("AGENT_GITLAWB_MODE", mode.to_owned()),
        ];
        let sometimes = [
            ("AGENT_GITLAWB_DID", self.identity.did.clone()),
            ("AGENT_GITLAWB", self.identity.wanted.then(|| "true".to_owned())),
            ("AGENT_TAGS", (!self.tags.is_empty()).then(|| self.tags.joined())),
            ("AGENT_PROMPT_FILE", self.prompt_file.clone()),
            ("AGENT_FROM_DIR", self.from_dir.clone()),
            ("AGENT_FROM_GIT", self.from_git.clone()),
            ("AGENT_FROM_GIT_REF", self.from_git_ref.clone()),
            ("AGENT_EXTRA_CMD", (!self.command.is_empty()).then(|| words::join(&self.command))),
            ("WARREN_SANDBOX_ID", self.sandbox_id.clone()),
            ("WARREN_EXEC_ID", self.exec_id.clone()),
            ("WARREN_EXIT_CODE", self.exit_code.map(|it| it.to_string())),
        ];
        let mut file = EnvFile::default();
        for (key, value) in always {
            file.set(key, &value);
        }
        for (key, value) in sometimes {
            value.into_iter().for_each(|value| file.set(key, &value));
        }
        for (key, value) in &self.others {
            file.set(key, value);
        }
        file.to_text()
    }

    /// Reads the record of an agent.
    ///
    /// # Errors
    ///
    /// [`RecordError::Missing`] where there is none.
    pub fn load(home: &Home, name: &AgentName) -> Result<Self, RecordError> {
        match home.read(Item::Record(name))? {
            Some(bytes) => Ok(Self::parse(name.clone(), &bytes)),
            None => Err(RecordError::Missing(name.clone())),
        }
    }

    /// Writes the record, whole, in place of what was there.
    ///
    /// # Errors
    ///
    /// Those of [`Home::write`].
    pub fn save(&self, home: &Home) -> Result<(), HomeError> {
        // A record is of no use without its agent, which does not outlive the machine's end.
        home.write(Item::Record(&self.name), self.to_text(home).as_bytes(), false)
    }

    /// The record of a copy called `name`: not running, with no identity and no sandbox of its own.
    ///
    /// The time, tags, profile, command and origin are those of the one it was copied from.
    pub fn copied(&self, name: AgentName) -> Self {
        let session = format!("agentvm-{name}");
        let identity = Identity { wanted: self.identity.wanted, did: None };
        let (sandbox_id, exec_id, exit_code) = (None, None, None);
        Self { name, session, pid: 0, identity, sandbox_id, exec_id, exit_code, ..self.clone() }
    }

    /// When it was made, as files and tables say it; `?` where nobody knows.
    pub fn created(&self) -> String {
        self.created_at.map_or_else(|| "?".to_owned(), timestamp)
    }
}

/// `YYYY-MM-DDThh:mm:ssZ`.
pub fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> AgentName {
        text.parse().unwrap()
    }

    fn full() -> Record {
        let created_at = UNIX_EPOCH + Duration::from_secs(1_777_777_777);
        let mut record = Record::new(name("reviewer"), created_at);
        record.pid = 4242;
        record.sandbox = "namespace".into();
        record.profile = Some("claude-code".into());
        record.tags.add("task=review").unwrap();
        record.tags.add("env=it's").unwrap();
        record.identity = Identity { wanted: true, did: Some("did:key:z6Mk".into()) };
        record.prompt_file = Some("/tmp/a b.md".into());
        record.from_git = Some("https://example.com/x?a=$(id)".into());
        record.from_git_ref = Some("main".into());
        record.command = ["/bin/sh", "-c", "while :; do echo 'x'; done\n"].map(Into::into).into();
        record.sandbox_id = Some("sb-0123456789abcdef".into());
        record.exec_id = Some("ex-1".into());
        record.exit_code = Some(137);
        record.others = vec![("WARREN_LATER".into(), "x".into())];
        record
    }

    #[test]
    fn a_record_is_read_back() {
        let base = tempfile::tempdir().unwrap();
        let home = Home::open(base.path()).unwrap();
        let record = full();
        assert!(matches!(Record::load(&home, &record.name), Err(RecordError::Missing(_))));
        record.save(&home).unwrap();
        assert_eq!(Record::load(&home, &record.name).unwrap(), record);
        let text = record.to_text(&home);
        assert!(
            text.starts_with("AGENT_NAME='reviewer'\nAGENT_PID='4242'\nAGENT_SANDBOX="),
            "{text}"
        );
        assert!(text.contains("\nAGENT_CREATED_AT='2026-05-03T03:09:37Z'\n"), "{text}");
        assert!(text.contains("\nAGENT_TAGS='task=review,env=it'\\''s'\n"), "{text}");
    }

    #[test]
    fn records_of_agentvm_are_read() {
        let text = "AGENT_NAME='s1'\nAGENT_PID=0\nAGENT_SANDBOX='bwrap'\n\
            AGENT_WORKSPACE=/home/a b/.agentvm/workspaces/s1\nAGENT_CREATED_AT='2026-04-26T10:00:00Z'\n\
            AGENT_SESSION=agentvm-s1\nAGENT_PROFILE=''\nAGENT_GITLAWB_MODE='auto'\n\
            AGENT_EXTRA_CMD='/bin/sh -c echo\\ \\'\\''x\\'\\''\\;\\ true'\n";
        let record = Record::parse(name("s1"), text.as_bytes());
        assert_eq!(
            (record.pid, record.sandbox.as_str(), record.profile.as_ref()),
            (0, "bwrap", None)
        );
        assert_eq!(record.created(), "2026-04-26T10:00:00Z");
        assert_eq!(record.command, ["/bin/sh", "-c", "echo 'x'; true"]);
        assert!(!record.identity.wanted);
    }

    #[test]
    fn nothing_in_a_record_is_run_or_leads_anywhere() {
        let base = tempfile::tempdir().unwrap();
        let home = Home::open(base.path()).unwrap();
        let marker = base.path().join("marker");
        let text = format!(
            "AGENT_NAME='other'\nAGENT_WORKSPACE='/etc'\nAGENT_LOG_FILE='/etc/passwd'\n\
             touch {0}\nAGENT_PID=$(touch {0})\nAGENT_TAGS=`touch {0}`\n\
             AGENT_EXTRA_CMD='$(touch {0})'\nAGENT_CREATED_AT=yesterday\n",
            marker.display()
        );
        let record = Record::parse(name("one"), text.as_bytes());
        assert!(!marker.exists());
        assert_eq!(record.name, name("one"));
        assert_eq!((record.pid, record.created().as_str()), (0, "?"));
        assert!(record.command.is_empty() && record.tags.is_empty());
        let again = record.to_text(&home);
        assert!(!again.contains("/etc") && again.contains("workspaces/one'"), "{again}");
    }

    #[test]
    fn a_copy_has_no_key_and_no_sandbox_of_the_other() {
        let copy = full().copied(name("other"));
        assert_eq!(copy.identity, Identity { wanted: true, did: None });
        assert_eq!(
            (copy.pid, copy.sandbox_id, copy.exec_id, copy.exit_code),
            (0, None, None, None)
        );
        assert_eq!((copy.session.as_str(), copy.tags), ("agentvm-other", full().tags));
        assert_eq!(copy.created_at, full().created_at);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let record = Record::parse(name("x"), &bytes);
            prop_assert_eq!(record.name.as_str(), "x");
        }

        #[test]
        fn any_values_are_read_back(value in "[^\0]{1,30}", words in proptest::collection::vec("[^\0]{0,9}", 1..4)) {
            let base = tempfile::tempdir().unwrap();
            let home = Home::open(base.path()).unwrap();
            let mut record = full();
            record.from_dir = Some(value);
            record.command = words;
            let text = record.to_text(&home);
            prop_assert_eq!(Record::parse(record.name.clone(), text.as_bytes()), record);
        }
    }
}
