//! Agents as commands print them for programs: compact JSON on one line, with agentvm's names in
//! agentvm's order. What is ours comes after those.

use std::path::Path;

use serde::Serialize;

use crate::{Home, Record, home::Item, screen::Activity, words};

/// Whether an agent's program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It does.
    Running,
    /// It has ended, or was never started.
    Dead,
}

impl Status {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Dead => "dead",
        }
    }
}

/// An agent in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Agent {
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub status: Status,
    /// The process of its sandbox on this machine; 0 where there is none.
    pub pid: u32,
    /// How it is kept apart.
    pub sandbox: String,
    /// Its profile; empty where it has none. What is absent is empty in all that follow, too.
    pub profile: String,
    /// Where its workspace is on this machine.
    pub workspace: String,
    /// What its terminal is called.
    pub session: String,
    /// When it was made: `YYYY-MM-DDThh:mm:ssZ`.
    pub created_at: String,
    /// Its tags, joined with commas.
    pub tags: String,
    /// Whether it has an identity of its own.
    pub gitlawb: bool,
    /// That identity.
    pub did: String,
    /// Where its log is.
    pub log_file: String,
    /// What is not in lists.
    #[serde(flatten)]
    pub details: Option<Details>,
    /// What it does: `working`, `waiting`, `idle` or `exited`; none where nobody has looked.
    pub state: Option<&'static str>,
    /// What its program ended with; none while it runs, and where nobody knows.
    pub exit_code: Option<i32>,
    /// The sandbox that it is.
    pub sandbox_id: Option<String>,
}

/// What `info` says and `list` does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Details {
    /// The profile of another tool's sandbox; there is none here.
    pub sb_profile: Option<String>,
    /// Where its prompt came from.
    pub prompt_file: String,
    /// The command that was given in place of the profile's, quoted for a shell.
    pub extra_cmd: String,
}

/// What an agent uses.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Usage {
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub status: Status,
    /// The process of its sandbox on this machine.
    pub pid: u32,
    /// Processor time of all its processes, in percent of one processor, to one decimal.
    pub cpu_pct: f64,
    /// Memory of all its processes, in percent of the machine's, to one decimal.
    pub mem_pct: f64,
    /// That memory in KiB.
    pub rss_kb: u64,
    /// How long it has run: `[[dd-]hh:]mm:ss`, or `-`.
    pub uptime: String,
}

impl Agent {
    /// An agent as lists show it.
    pub fn of(record: &Record, home: &Home, activity: Option<Activity>) -> Self {
        let text = |path: &Path| path.display().to_string();
        let status = match activity {
            Some(Activity::Working | Activity::Waiting | Activity::Idle) => Status::Running,
            Some(Activity::Exited(_)) | None => Status::Dead,
        };
        let exit_code = match activity {
            Some(Activity::Exited(code)) => Some(code),
            Some(_) => None,
            None => record.exit_code,
        };
        Self {
            name: record.name.to_string(),
            status,
            pid: if status == Status::Running { record.pid } else { 0 },
            sandbox: record.sandbox.clone(),
            profile: record.profile.clone().unwrap_or_default(),
            workspace: text(&home.workspace(&record.name)),
            session: record.session.clone(),
            created_at: record.created(),
            tags: record.tags.joined(),
            gitlawb: record.identity.wanted,
            did: record.identity.did.clone().unwrap_or_default(),
            log_file: text(&home.path_of(Item::Log(&record.name))),
            details: None,
            state: activity.map(word),
            exit_code,
            sandbox_id: record.sandbox_id.clone(),
        }
    }

    /// An agent with all that is known of it.
    pub fn detailed(record: &Record, home: &Home, activity: Option<Activity>) -> Self {
        let details = Details {
            sb_profile: None,
            prompt_file: record.prompt_file.clone().unwrap_or_default(),
            extra_cmd: words::join(&record.command),
        };
        Self { details: Some(details), ..Self::of(record, home, activity) }
    }
}

impl Usage {
    /// What a running agent uses. `cpu_pct` and `mem_pct` are rounded to one decimal.
    pub fn new(agent: &Agent, cpu_pct: f64, mem_pct: f64, rss_kb: u64, up_s: Option<u64>) -> Self {
        let rounded = |it: f64| if it.is_finite() { (it * 10.0).round() / 10.0 } else { 0.0 };
        Self {
            name: agent.name.clone(),
            status: agent.status,
            pid: agent.pid,
            cpu_pct: rounded(cpu_pct),
            mem_pct: rounded(mem_pct),
            rss_kb,
            uptime: up_s.map_or_else(|| "-".to_owned(), uptime),
        }
    }
}

fn word(activity: Activity) -> &'static str {
    match activity {
        Activity::Working => "working",
        Activity::Waiting => "waiting",
        Activity::Idle => "idle",
        Activity::Exited(_) => "exited",
    }
}

/// Seconds as `ps` writes them: `[[dd-]hh:]mm:ss`.
pub fn uptime(seconds: u64) -> String {
    let (minutes, second) = (seconds / 60, seconds % 60);
    let (hours, minute) = (minutes / 60, minutes % 60);
    let (days, hour) = (hours / 24, hours % 24);
    match (days, hour) {
        (0, 0) => format!("{minute:02}:{second:02}"),
        (0, _) => format!("{hour:02}:{minute:02}:{second:02}"),
        _ => format!("{days:02}-{hour:02}:{minute:02}:{second:02}"),
    }
}

/// Compact JSON of anything here, on one line without its line feed.
///
/// # Errors
///
/// Those of `serde_json`; the types of this module have none.
pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    serde_json::to_string(value)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn record() -> Record {
        let created_at = UNIX_EPOCH + Duration::from_secs(1_777_777_777);
        let mut record = Record::new("smoke-a".parse().unwrap(), created_at);
        record.pid = 42;
        record.sandbox = "namespace".into();
        record.tags.add("env=a").unwrap();
        record.tags.add("b=\"q\"").unwrap();
        record.command = vec!["sh".into(), "-c".into(), "echo \x1b[2J\n".into()];
        record
    }

    #[test]
    fn lists_are_the_json_that_scripts_look_for() {
        let base = tempfile::tempdir().unwrap();
        let home = Home::open(base.path()).unwrap();
        let agent = Agent::of(&record(), &home, Some(Activity::Waiting));
        let path = home.path().display();
        let expected = format!(
            "[{{\"name\":\"smoke-a\",\"status\":\"running\",\"pid\":42,\"sandbox\":\"namespace\",\
             \"profile\":\"\",\"workspace\":\"{path}/workspaces/smoke-a\",\
             \"session\":\"agentvm-smoke-a\",\"created_at\":\"2026-05-03T03:09:37Z\",\
             \"tags\":\"env=a,b=\\\"q\\\"\",\"gitlawb\":false,\"did\":\"\",\
             \"log_file\":\"{path}/state/smoke-a.log\",\
             \"state\":\"waiting\",\"exit_code\":null,\"sandbox_id\":null}}]"
        );
        assert_eq!(json(&[agent]).unwrap(), expected);
        assert_eq!(json::<[Agent]>(&[]).unwrap(), "[]");
    }

    #[test]
    fn details_follow_what_lists_have() {
        let base = tempfile::tempdir().unwrap();
        let home = Home::open(base.path()).unwrap();
        let text = json(&Agent::detailed(&record(), &home, Some(Activity::Exited(137)))).unwrap();
        assert!(text.contains("\"status\":\"dead\",\"pid\":0,"), "{text}");
        let end = ".log\",\"sb_profile\":null,\"prompt_file\":\"\",\
            \"extra_cmd\":\"sh -c $'echo \\\\033[2J\\\\n'\",\
            \"state\":\"exited\",\"exit_code\":137,\"sandbox_id\":null}";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn control_characters_are_valid_json() {
        let base = tempfile::tempdir().unwrap();
        let home = Home::open(base.path()).unwrap();
        let mut record = record();
        record.sandbox = "a\x01\x1b\n\"".into();
        let text = json(&Agent::of(&record, &home, None)).unwrap();
        assert!(text.contains(r#""sandbox":"a\u0001\u001b\n\"""#), "{text}");
        assert!(!text.contains(char::is_control));
    }

    #[test]
    fn usage_has_one_decimal() {
        let base = tempfile::tempdir().unwrap();
        let home = Home::open(base.path()).unwrap();
        let agent = Agent::of(&record(), &home, Some(Activity::Idle));
        let usage = Usage::new(&agent, 12.3456, f64::NAN, 2048, Some(3 * 86_400 + 3723));
        let expected = r#"{"name":"smoke-a","status":"running","pid":42,"cpu_pct":12.3,"mem_pct":0.0,"rss_kb":2048,"uptime":"03-01:02:03"}"#;
        assert_eq!(json(&usage).unwrap(), expected);
        assert_eq!((uptime(0), uptime(59 * 60 + 59)), ("00:00".into(), "59:59".into()));
        assert_eq!(uptime(3600), "01:00:00");
    }
}
