//! Attack programs: put together, run inside, and judged by what they say.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use warren_api::{
    Base64,
    client::ClientError,
    exec::{ExecOutcome, ExecRequest},
    sandbox::Profile,
};

use super::{
    Attacker, Reached, Row,
    catalogue::{AREAS, Area, MAIN, PRELUDE},
    neighbour::Neighbour,
};

/// What Docker grants less NET_RAW and MKNOD, as bits: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL,
/// SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, SYS_CHROOT, AUDIT_WRITE, SETFCAP.
const GRANTED: u64 = 0xa004_05fb;

/// What a program says of one attack.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    /// It was carried out, and reached this.
    Reached(Reached),
    /// It was not carried out to its end.
    Broken(String),
}

/// Runs every program of the catalogue.
pub(super) async fn attack(
    attacker: &Attacker<'_>,
    neighbour: &Neighbour,
) -> Result<Vec<Row>, ClientError> {
    let mut rows = Vec::new();
    for area in &AREAS {
        if let Some(why) = &attacker.without_python {
            let skip =
                |attack: &&'static str| Row::skipped(attacker.profile, area.name, attack, why);
            rows.extend(area.attacks.iter().map(skip));
            continue;
        }
        let outcome = run(attacker, area, neighbour).await?;
        rows.extend(judge(attacker.profile, area, &outcome));
    }
    // What the host itself noticed counts, whatever the guest says.
    let visitors = attacker.range.outside.visitors();
    rows.push(attacker.row("network", "what_the_host_noticed", visitors));
    rows.push(attacker.row("files", "writing_to_the_host", write(attacker).await?));
    rows.push(signals(attacker).await?);
    Ok(rows)
}

/// Settings, the common part and these parts as one program.
pub(super) fn program(settings: &Map<String, Value>, parts: &[&str]) -> String {
    // The text of JSON, as a literal: for these two languages they are written alike.
    let settings = Value::Object(settings.clone()).to_string();
    let mut text = format!("SETTINGS = {}\n{PRELUDE}", Value::String(settings));
    for part in parts {
        text.push('\n');
        text.push_str(part);
    }
    text
}

async fn run(
    attacker: &Attacker<'_>,
    area: &Area,
    neighbour: &Neighbour,
) -> Result<ExecOutcome, ClientError> {
    let mut settings = attacker.range.outside.settings();
    let strict = attacker.profile == Profile::Strict;
    settings.insert("init".to_owned(), 1.into());
    settings.insert("capabilities".to_owned(), (if strict { 0 } else { GRANTED }).into());
    settings.insert("no_new_privileges".to_owned(), strict.into());
    settings.insert("neighbour".to_owned(), json!(neighbour.belongings));
    let program = program(&settings, &[area.program, MAIN]);
    let request = ExecRequest {
        command: ["python3", "-"].map(str::to_owned).to_vec(),
        user: Some(attacker.user.to_owned()),
        stdin_data: Some(Base64(program.into_bytes())),
        ..ExecRequest::default()
    };
    attacker.range.exec(&attacker.sandbox, request).await
}

/// One row for each attack of the area: what is not said to have been held off has not been.
fn judge(profile: Profile, area: &Area, outcome: &ExecOutcome) -> Vec<Row> {
    let mut said = read(outcome);
    let row = |attack: &&'static str| match said.as_mut().map(|said| said.remove(*attack)) {
        Ok(Some(Said::Reached(reached))) => Row::judged(profile, area.name, attack, reached),
        Ok(Some(Said::Broken(why))) => Row::broken(profile, area.name, attack, &why),
        Ok(None) => Row::broken(profile, area.name, attack, "the program did not come to it"),
        Err(why) => Row::broken(profile, area.name, attack, why),
    };
    area.attacks.iter().map(row).collect()
}

fn read(outcome: &ExecOutcome) -> Result<BTreeMap<String, Said>, String> {
    serde_json::from_str(&outcome.stdout).map_err(|error| {
        let complaint = outcome.stderr.lines().last().unwrap_or_default();
        format!("status {}, {error}: {complaint}", outcome.end.exit_code)
    })
}

/// Writes all over its own files, the host's `/usr` among them; none may appear outside.
async fn write(attacker: &Attacker<'_>) -> Result<Reached, ClientError> {
    const PLACES: [&str; 8] =
        ["/usr", "/usr/bin", "/etc", "/tmp", "/var/tmp", "/run", "/home", "/root"];
    let name = attacker.range.outside.token();
    let mine = PLACES.map(|place| format!("{place}/{name}-inside"));
    attacker
        .shell(&format!("for f in {}; do echo x > $f; done 2>/dev/null", mine.join(" ")))
        .await?;
    let mut reached = attacker.range.outside.changed();
    reached.extend(mine.into_iter().filter(|path| std::fs::exists(path).unwrap_or(true)));
    Ok(reached)
}

/// All signals but those that end a machine: its root may use these.
async fn signals(attacker: &Attacker<'_>) -> Result<Row, ClientError> {
    let signals =
        "for s in KILL STOP HUP QUIT SEGV USR1 PIPE; do kill -$s 1; done 2>/dev/null; true";
    attacker.shell(signals).await?;
    let (area, attack) = ("processes", "signals_to_the_agent");
    match attacker.shell("echo alive").await {
        Ok(outcome) if outcome.stdout == "alive\n" => Ok(attacker.row(area, attack, Vec::new())),
        Ok(_) => Ok(attacker.row(area, attack, vec!["commands do not run".to_owned()])),
        Err(error) => Ok(attacker.row(area, attack, vec![error.to_string()])),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        process::{Child, Command, Stdio},
    };

    use super::*;
    use crate::selftest::{
        Outcome, catalogue,
        neighbour::{Belongings, Ready},
        outside,
    };

    fn outcome(stdout: &str) -> ExecOutcome {
        let json = json!({"exec_id": "e", "pid": 1, "exit_code": 0, "stdout": stdout, "stderr": "",
            "truncated": false});
        serde_json::from_value(json).unwrap()
    }

    fn outcomes(stdout: &str) -> Vec<Outcome> {
        let area = Area { name: "a", program: "", attacks: &["one", "two"] };
        let rows = judge(Profile::Default, &area, &outcome(stdout));
        rows.into_iter().map(|row| row.outcome).collect()
    }

    #[test]
    fn what_is_not_said_to_have_held_has_not() {
        use Outcome::{Fail, Pass};
        assert_eq!(outcomes(r#"{"one":{"reached":[]},"two":{"reached":[]}}"#), [Pass, Pass]);
        assert_eq!(outcomes(r#"{"one":{"reached":["x"]},"two":{"reached":[]}}"#), [Fail, Pass]);
        assert_eq!(outcomes(r#"{"one":{"broken":"x"},"two":{"reached":[]}}"#), [Fail, Pass]);
        assert_eq!(outcomes(r#"{"two":{"reached":[]}}"#), [Fail, Pass]);
        assert_eq!(outcomes(r#"{"one":{"reached":[]},"two":{"reached":[]}"#), [Fail, Fail]);
        assert_eq!(outcomes(""), [Fail, Fail]);
    }

    fn python() -> Option<Command> {
        #[expect(clippy::disallowed_methods, reason = "tests start programs as people do")]
        let mut python = Command::new("python3");
        python.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let there = python.arg("--version").status().is_ok_and(|status| status.success());
        #[expect(clippy::disallowed_methods, reason = "tests start programs as people do")]
        let mut python = Command::new("python3");
        python.stdin(Stdio::piped()).stdout(Stdio::piped()).arg("-");
        there.then_some(python)
    }

    /// Starts a program as a guest has it, only that there are no walls around it.
    fn start(program: &str) -> Child {
        let mut child = python().unwrap().spawn().unwrap();
        child.stdin.take().unwrap().write_all(program.as_bytes()).unwrap();
        child
    }

    /// Without walls nothing is held off, so these must all fail. What would leave this machine,
    /// or depends on what this machine allows its own root, is not among them.
    const NOT_HELD_OFF: [(&str, &[&str]); 5] = [
        ("files", &["paths", "roots_of_processes", "links", "sockets"]),
        (
            "neighbours",
            &[
                "files_of_another",
                "processes_of_another",
                "memory_of_another",
                "address_of_another",
                "names_of_another",
            ],
        ),
        ("network", &["host_addresses"]),
        ("kernel", &["mounts", "new_namespaces"]),
        (
            "processes",
            &["the_agent", "processes_of_the_host", "namespaces", "user_ids", "capabilities"],
        ),
    ];

    #[test]
    fn attacks_from_where_there_are_no_walls_get_through() {
        if python().is_none() || !rustix::process::geteuid().is_root() {
            println!("SKIPPED: this takes root and python3");
            return;
        }
        let base = tempfile::Builder::new().prefix("warren-walls-").tempdir_in("/tmp").unwrap();
        let outside = outside::tests::outside(&base);
        let mut settings = outside.settings();
        let mut belongings = Belongings::named(outside.token());
        belongings.until_input_ends = true;
        settings.insert("neighbour".into(), json!(belongings));
        #[expect(clippy::disallowed_methods, reason = "tests start programs as people do")]
        let mut neighbour = Command::new("python3")
            .args(["-c", &program(&settings, &[catalogue::NEIGHBOUR]), &belongings.mark])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(neighbour.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let ready: Ready = serde_json::from_str(&ready).unwrap();
        belongings.addresses = vec!["127.0.0.1".into()];
        belongings.port = ready.port;
        settings.insert("neighbour".into(), json!(belongings));
        settings.insert("init".into(), neighbour.id().into());
        settings.insert("capabilities".into(), 0.into());
        settings.insert("no_new_privileges".into(), true.into());
        let mut held_off = Vec::new();
        for (name, attacks) in NOT_HELD_OFF {
            let area = AREAS.iter().find(|area| area.name == name).unwrap();
            settings.insert("only".into(), json!(attacks));
            let child = start(&program(&settings, &[area.program, MAIN]));
            let output = child.wait_with_output().unwrap();
            let said = outcome(&String::from_utf8(output.stdout).unwrap());
            let rows = judge(Profile::Default, area, &said);
            for row in rows.into_iter().filter(|row| attacks.contains(&row.attack)) {
                let reached = row.detail.as_ref().is_some_and(|it| it.starts_with("reached: "));
                held_off.extend((row.outcome != Outcome::Fail || !reached).then_some(row));
            }
        }
        let noticed = outside.visitors();
        drop(neighbour.stdin.take());
        neighbour.wait().unwrap();
        for file in &belongings.files {
            std::fs::remove_file(file).unwrap();
        }
        assert_eq!(held_off, [], "without walls these must reach something");
        assert!(!noticed.is_empty(), "the host must notice what reached it");
    }

    #[test]
    fn the_catalogue_has_every_attack_of_the_programs() {
        for area in &AREAS {
            let lines: Vec<_> = area.program.lines().collect();
            let marked = lines.windows(2).filter(|pair| pair[0] == "@attack");
            let names: Vec<_> = marked
                .map(|pair| pair[1].trim_start_matches("def ").trim_end_matches("():"))
                .collect();
            assert_eq!(names, area.attacks, "{}", area.name);
        }
    }
}
