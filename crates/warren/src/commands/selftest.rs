//! `warren selftest`

use std::process::ExitCode;

use warren_api::sandbox::Profile;

use super::{
    Context,
    wanted::{ProfileArg, image_text},
};
use crate::{
    error::CliError,
    selftest::{Outcome, Range, Report, Row},
    session::Signals,
};

/// Try every known way out of a sandbox, and say whether it held
///
/// Sandboxes are made for it and attacked from inside, as root of the `default` profile and as the
/// user of the `strict` one. The exit status is 0 when nothing got through, else 1.
#[derive(clap::Args, Debug)]
pub(crate) struct SelftestArgs {
    /// Attack from this profile alone
    #[arg(long, value_name = "default|strict")]
    profile: Option<ProfileArg>,
    /// What the sandboxes are made from; attacks that need python3 are skipped without it
    #[arg(long)]
    image: Option<String>,
}

pub(crate) async fn selftest(cx: &Context<'_>, args: SelftestArgs) -> Result<ExitCode, CliError> {
    let profiles = match args.profile {
        Some(profile) => vec![profile.into()],
        None => vec![Profile::Default, Profile::Strict],
    };
    let Some(dirs) = cx.dirs() else {
        return Err(CliError::usage("a selftest looks at the server's machine from both sides")
            .hint("run it on that machine, without --server"));
    };
    let image = args.image.map(|image| image_text(&image, true)).transpose()?;
    let mut signals = Signals::watch()?;
    let range = Range::set_up(&cx.client, dirs, image)?;
    let all = async {
        let mut rows = Vec::new();
        for profile in profiles {
            cx.output.talk(&format!("attacking from the profile {}", word(profile)));
            rows.extend(range.attack(profile).await?);
        }
        Ok::<_, CliError>(rows)
    };
    let rows = tokio::select! {
        rows = all => rows,
        end = signals.end() => Err(end),
    };
    range.remove().await;
    let report = Report::new(rows?);
    if cx.output.json {
        cx.output.value(&report)?;
    } else {
        print(cx, &report)?;
    }
    Ok(if report.held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(cx: &Context<'_>, report: &Report) -> Result<(), CliError> {
    let wanted = |row: &&Row| !cx.output.quiet || row.outcome == Outcome::Fail;
    let rows: Vec<_> = report.rows.iter().filter(wanted).map(cells).collect();
    if !rows.is_empty() {
        cx.output.table(["PROFILE", "AREA", "ATTACK", "RESULT", ""], &rows)?;
    }
    let count = |outcome| report.rows.iter().filter(|row| row.outcome == outcome).count();
    cx.output.line(&format!(
        "{} held off, {} got through, {} skipped",
        count(Outcome::Pass),
        count(Outcome::Fail),
        count(Outcome::Skipped)
    ))
}

fn cells(row: &Row) -> [String; 5] {
    [
        word(row.profile).to_owned(),
        row.area.replace('_', " "),
        row.attack.replace('_', " "),
        row.outcome.word().to_owned(),
        row.detail.clone().unwrap_or_default(),
    ]
}

fn word(profile: Profile) -> &'static str {
    match profile {
        Profile::Default => "default",
        Profile::Strict => "strict",
    }
}
