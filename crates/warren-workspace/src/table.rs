//! Agents as commands print them for people: agentvm's columns, in its widths, so that scripts which
//! cut them find them where they were.
//!
//! Every cell is shown without control characters; a long one moves the rest of its line, as there.

use std::fmt::Write as _;

use crate::{
    history::{Entry, Lifetime},
    text,
    view::{Agent, Usage},
};

/// A table: its header, its rule and its rows, each with a line feed.
fn table(widths: &[usize], header: &[&str], rule: usize, rows: &[Vec<String>]) -> String {
    let mut out = String::new();
    line(&mut out, widths, header);
    out.extend(std::iter::repeat_n('─', rule));
    out.push('\n');
    for row in rows {
        let cells: Vec<_> = row.iter().map(|it| text::shown(it)).collect();
        line(&mut out, widths, &cells.iter().map(String::as_str).collect::<Vec<_>>());
    }
    out
}

/// One line. The last cell has no width.
fn line(out: &mut String, widths: &[usize], cells: &[&str]) {
    let mut text = String::new();
    for (index, cell) in cells.iter().enumerate() {
        match widths.get(index) {
            Some(width) => text.extend([format!("{cell:<width$}"), " ".to_owned()]),
            None => text.push_str(cell),
        }
    }
    out.push_str(&text);
    out.push('\n');
}

/// What stands for nothing.
fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// `list`: NAME, STATUS, PID, SANDBOX, PROFILE, CREATED, TAGS.
pub fn agents(agents: &[Agent]) -> String {
    let row = |it: &Agent| {
        let pid = if it.pid == 0 { "-".to_owned() } else { it.pid.to_string() };
        let sandbox = if it.sandbox.is_empty() { "?" } else { &it.sandbox };
        let status = it.status.as_str().to_owned();
        let (profile, tags) = (or_dash(&it.profile), or_dash(&it.tags));
        vec![it.name.clone(), status, pid, sandbox.to_owned(), profile, it.created_at.clone(), tags]
    };
    let header = ["NAME", "STATUS", "PID", "SANDBOX", "PROFILE", "CREATED", "TAGS"];
    let rows: Vec<_> = agents.iter().map(row).collect();
    table(&[20, 10, 8, 10, 12, 24], &header, 110, &rows)
}

/// `ps`: NAME, STATUS, CPU%, MEM%, RSS, UPTIME, PID.
pub fn usage(usage: &[Usage]) -> String {
    let row = |it: &Usage| {
        let percent = |it: f64| format!("{it:.1}");
        let pid = if it.pid == 0 { "-".to_owned() } else { it.pid.to_string() };
        vec![
            it.name.clone(),
            it.status.as_str().to_owned(),
            percent(it.cpu_pct),
            percent(it.mem_pct),
            kibibytes(it.rss_kb),
            it.uptime.clone(),
            pid,
        ]
    };
    let header = ["NAME", "STATUS", "CPU%", "MEM%", "RSS", "UPTIME", "PID"];
    let rows: Vec<_> = usage.iter().map(row).collect();
    table(&[20, 7, 6, 6, 10, 12], &header, 80, &rows)
}

/// `history`: WHEN (UTC), EVENT, AGENT, DETAIL.
pub fn history(entries: &[Entry]) -> String {
    let row =
        |it: &Entry| vec![it.when.clone(), it.event.clone(), it.agent.clone(), it.detail.clone()];
    let rows: Vec<_> = entries.iter().map(row).collect();
    table(&[20, 8, 20], &["WHEN (UTC)", "EVENT", "AGENT", "DETAIL"], 90, &rows)
}

/// A profile in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileRow {
    /// Its name.
    pub name: String,
    /// Whether its program is there.
    pub installed: bool,
    /// What it is called for people.
    pub label: String,
    /// Its command, quoted for a shell.
    pub command: String,
    /// What of the person's HOME is copied.
    pub copied: String,
}

/// `profiles`: a mark for each whose program is there, PROFILE, LABEL, COMMAND, STATE DIRS.
pub fn profiles(rows: &[ProfileRow]) -> String {
    let mut out = String::new();
    line(&mut out, &[16, 16, 32], &["PROFILE", "LABEL", "COMMAND", "STATE DIRS"]);
    out.extend(std::iter::repeat_n('─', 90));
    out.push('\n');
    for row in rows {
        let mark = if row.installed { '●' } else { '○' };
        let name = format!("{mark} {}", text::shown(&row.name));
        let cells = [cut(&row.label, 16), cut(&row.command, 32), cut(&or_dash(&row.copied), 40)];
        let [label, command, copied] = &cells;
        line(&mut out, &[16, 16, 32], &[&name, label, command, copied]);
    }
    out
}

/// `info`: one line for each thing that is known. `log_bytes` is none where there is no log.
pub fn details(agent: &Agent, log_bytes: Option<u64>, usage: Option<&Usage>) -> String {
    let mut out = format!("Agent: {}\n", text::shown(&agent.name));
    let pid = if agent.pid == 0 { "?".to_owned() } else { agent.pid.to_string() };
    let status = match (agent.state, agent.exit_code) {
        (_, Some(code)) => format!("{} (exit {code})", agent.status.as_str()),
        (Some(state), None) => format!("{} ({state})", agent.status.as_str()),
        (None, None) => agent.status.as_str().to_owned(),
    };
    let details = agent.details.as_ref();
    let log = log_bytes.map(|it| format!("{} ({})", agent.log_file, bytes(it)));
    let resources = usage.map(|it| {
        let rss = kibibytes(it.rss_kb);
        format!("{:.1}% cpu {:.1}% mem {rss} rss {} up", it.cpu_pct, it.mem_pct, it.uptime)
    });
    let given = |text: &str| Some(text.to_owned()).filter(|it| !it.is_empty());
    let lines = [
        ("Status:", Some(status)),
        ("Session:", Some(agent.session.clone())),
        ("Sandbox:", Some(agent.sandbox.clone())),
        ("PID:", Some(pid)),
        ("Workspace:", Some(agent.workspace.clone())),
        ("Profile:", Some(or_dash(&agent.profile))),
        ("Tags:", given(&agent.tags)),
        ("DID:", given(&agent.did)),
        ("Prompt:", details.and_then(|it| given(&it.prompt_file))),
        ("Command:", details.and_then(|it| given(&it.extra_cmd))),
        ("Created:", Some(agent.created_at.clone())),
        ("Log:", log),
        ("Resources:", resources),
    ];
    for (key, value) in lines {
        if let Some(value) = value {
            // Writing to a string does not fail.
            writeln!(out, "  {key:<14} {}", text::shown(&value)).unwrap_or_default();
        }
    }
    out
}

/// What all agents together have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Agents that run.
    pub running: usize,
    /// Agents that do not.
    pub dead: usize,
    /// What their workspaces take on the disk, in bytes.
    pub workspace_bytes: u64,
    /// What their logs take, in bytes.
    pub log_bytes: u64,
}

/// `stats`: what there is, and what has been.
pub fn totals(totals: &Totals, lifetime: &Lifetime) -> String {
    let Totals { running, dead, workspace_bytes, log_bytes } = *totals;
    let Lifetime { spawns, kills, cleans, purges } = *lifetime;
    let mut out = String::from("Current\n");
    let mut add = |key: &str, value: String| {
        writeln!(out, "  {key:<14} {value}").unwrap_or_default();
    };
    add("agents:", format!("{} ({running} running, {dead} dead)", running + dead));
    add("workspaces:", bytes(workspace_bytes));
    add("logs:", bytes(log_bytes));
    out.push_str("\nLifetime (journal)\n");
    for (key, value) in
        [("spawns:", spawns), ("kills:", kills), ("cleans:", cleans), ("purges:", purges)]
    {
        writeln!(out, "  {key:<14} {value}").unwrap_or_default();
    }
    out
}

/// KiB as `nK`, `n.nM` or `n.nnG`.
pub fn kibibytes(kib: u64) -> String {
    // Sizes of memory are far below where the conversion loses anything that shows.
    let value = kib as f64;
    match kib {
        0..1024 => format!("{kib}K"),
        1024..1_048_576 => format!("{:.1}M", value / 1024.0),
        _ => format!("{:.2}G", value / 1_048_576.0),
    }
}

/// Bytes as `nB`, `n.nK`, `n.nM` or `n.nnG`.
pub fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count}B"),
        1024..1_048_576 => format!("{:.1}K", count as f64 / 1024.0),
        _ => kibibytes(count / 1024),
    }
}

/// At most `most` characters, the last one `…` where something is missing.
fn cut(text: &str, most: usize) -> String {
    let text = text::shown(text);
    if text.chars().count() <= most {
        return text;
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::{Home, Record, screen::Activity};

    fn agent(name: &str, activity: Option<Activity>) -> Agent {
        let base = tempfile::tempdir().unwrap();
        let home = Home::open(base.path()).unwrap();
        let created_at = UNIX_EPOCH + Duration::from_secs(1_777_777_777);
        let mut record = Record::new(name.parse().unwrap(), created_at);
        record.pid = 42;
        record.sandbox = "namespace".into();
        let mut agent = Agent::detailed(&record, &home, activity);
        agent.workspace = "/w".into();
        agent.log_file = "/l".into();
        agent
    }

    #[test]
    fn lists_have_their_columns() {
        let mut dead = agent("s10", None);
        dead.sandbox = String::new();
        dead.tags = "a=1,b=2".into();
        dead.profile = "codex\x1b[2J\nx".into();
        let expected = format!(
            "NAME                 STATUS     PID      SANDBOX    PROFILE      CREATED                  TAGS\n\
             {}\n\
             s1                   running    42       namespace  -            2026-05-03T03:09:37Z     -\n\
             s10                  dead       -        ?          codex\u{fffd}[2J\u{fffd}x  2026-05-03T03:09:37Z     a=1,b=2\n",
            "─".repeat(110)
        );
        assert_eq!(agents(&[agent("s1", Some(Activity::Idle)), dead]), expected);
    }

    #[test]
    fn usage_has_its_columns() {
        let running = agent("s1", Some(Activity::Working));
        let dead = agent("s2", None);
        let rows =
            [Usage::new(&running, 1.25, 0.5, 2048, Some(61)), Usage::new(&dead, 0.0, 0.0, 0, None)];
        let expected = format!(
            "NAME                 STATUS  CPU%   MEM%   RSS        UPTIME       PID\n{}\n\
             s1                   running 1.3    0.5    2.0M       01:01        42\n\
             s2                   dead    0.0    0.0    0K         -            -\n",
            "─".repeat(80)
        );
        assert_eq!(usage(&rows), expected);
    }

    #[test]
    fn the_journal_has_its_columns() {
        let entry = |event: &str, agent: &str, detail: &str| Entry {
            when: "2026-05-03T03:09:37Z".into(),
            event: event.into(),
            agent: agent.into(),
            detail: detail.into(),
        };
        let rows = [entry("spawn", "c1", "profile=x sandbox=y"), entry("purge", "", "")];
        let expected = format!(
            "WHEN (UTC)           EVENT    AGENT                DETAIL\n{}\n\
             2026-05-03T03:09:37Z spawn    c1                   profile=x sandbox=y\n\
             2026-05-03T03:09:37Z purge                         \n",
            "─".repeat(90)
        );
        assert_eq!(history(&rows), expected);
    }

    #[test]
    fn profiles_are_marked_and_cut() {
        let row = |name: &str, installed| ProfileRow {
            name: name.into(),
            installed,
            label: "A label that is too long".into(),
            command: "claude --dangerously-skip-permissions".into(),
            copied: String::new(),
        };
        let text = profiles(&[row("claude-code", true), row("x", false)]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "PROFILE          LABEL            COMMAND                          STATE DIRS"
        );
        assert_eq!(
            lines[2],
            "● claude-code    A label that is… claude --dangerously-skip-permi… -"
        );
        assert!(lines[3].starts_with("○ x              A label"), "{}", lines[3]);
    }

    #[test]
    fn details_are_a_line_each() {
        let mut one = agent("c1", Some(Activity::Waiting));
        one.did = "did:key:z".into();
        let used = Usage::new(&one, 1.0, 2.0, 512, Some(5));
        let expected = "Agent: c1\n  Status:        running (waiting)\n  Session:       agentvm-c1\n  \
            Sandbox:       namespace\n  PID:           42\n  Workspace:     /w\n  Profile:       -\n  \
            DID:           did:key:z\n  Created:       2026-05-03T03:09:37Z\n  \
            Log:           /l (1.5K)\n  Resources:     1.0% cpu 2.0% mem 512K rss 00:05 up\n";
        assert_eq!(details(&one, Some(1536), Some(&used)), expected);
        let text = details(&agent("c1", Some(Activity::Exited(3))), None, None);
        assert!(
            text.contains("  Status:        dead (exit 3)\n") && !text.contains("Log:"),
            "{text}"
        );
    }

    #[test]
    fn totals_have_two_blocks() {
        let now = Totals { running: 2, dead: 1, workspace_bytes: 3 << 30, log_bytes: 10 };
        let ever = Lifetime { spawns: 5, kills: 4, cleans: 3, purges: 2 };
        let expected = "Current\n  agents:        3 (2 running, 1 dead)\n  workspaces:    3.00G\n  \
            logs:          10B\n\nLifetime (journal)\n  spawns:        5\n  kills:         4\n  \
            cleans:        3\n  purges:        2\n";
        assert_eq!(totals(&now, &ever), expected);
    }

    #[test]
    fn sizes_are_short() {
        let check = |kib, expected: &str| assert_eq!(kibibytes(kib), expected);
        check(1023, "1023K");
        check(1536, "1.5M");
        check(3 << 20, "3.00G");
        assert_eq!(
            (bytes(1), bytes(2048), bytes(5 << 20)),
            ("1B".into(), "2.0K".into(), "5.0M".into())
        );
    }
}
