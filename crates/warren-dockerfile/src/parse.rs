//! A Dockerfile to a [`Recipe`].

use crate::{
    ParseError,
    lines::{self, LogicalLine},
    recipe::{Argument, CommandLine, Instruction, Recipe, Stage, Step, Warning},
    words,
};

mod copy;
pub mod metadata;
mod run;

pub use run::is_secret_id;

/// The most instructions that are read.
const MOST_INSTRUCTIONS: usize = 1000;
/// The longest form of an instruction that a log shows.
const MOST_SHOWN: usize = 200;

const EXPECTED: &str = "expected one of ADD, ARG, CMD, COPY, ENTRYPOINT, ENV, EXPOSE, FROM, \
                        HEALTHCHECK, LABEL, RUN, SHELL, USER, WORKDIR";

/// Reads a Dockerfile.
///
/// # Errors
///
/// [`ParseError`] for the first line that cannot be understood or done, with what was expected.
pub fn parse(text: &str) -> Result<Recipe, ParseError> {
    let source = lines::split(text)?;
    let mut parser = Parser {
        escape: source.escape,
        arguments: Vec::new(),
        stages: Vec::new(),
        warnings: Vec::new(),
    };
    if let Some(one_more) = source.lines.get(MOST_INSTRUCTIONS) {
        let reason = format!("expected at most {MOST_INSTRUCTIONS} instructions");
        return Err(ParseError::at(one_more.number, reason));
    }
    for line in &source.lines {
        parser.line(line)?;
    }
    if parser.stages.is_empty() {
        let last = source.lines.last().map_or(1, |line| line.number);
        return Err(ParseError::at(last, "nothing to build: expected a `FROM`"));
    }
    let Parser { escape, arguments, stages, warnings } = parser;
    Ok(Recipe { arguments, stages, escape, warnings })
}

struct Parser {
    escape: char,
    arguments: Vec<Argument>,
    stages: Vec<Stage>,
    warnings: Vec<Warning>,
}

impl Parser {
    fn line(&mut self, line: &LogicalLine) -> Result<(), ParseError> {
        let keyword = line.keyword.to_ascii_uppercase();
        if keyword == "FROM" {
            let stage = from(line, self.escape)?;
            self.stages.push(stage);
            return Ok(());
        }
        if self.stages.is_empty() {
            if keyword != "ARG" {
                let reason = format!("`{}` before the first stage: expected `FROM`", line.keyword);
                return Err(ParseError::at(line.number, reason));
            }
            let declared = metadata::arguments(line, self.escape)?;
            self.arguments.extend(declared);
            return Ok(());
        }
        if let Some(instruction) = self.instruction(&keyword, line)? {
            let step =
                Step { line: line.number, text: shown(&keyword, line), instruction, force: false };
            if let Some(stage) = self.stages.last_mut() {
                stage.steps.push(step);
            }
        }
        Ok(())
    }

    fn instruction(
        &mut self,
        keyword: &str,
        line: &LogicalLine,
    ) -> Result<Option<Instruction>, ParseError> {
        let escape = self.escape;
        Ok(Some(match keyword {
            "RUN" => {
                self.warn_of_false_json(line, &line.rest);
                Instruction::Run(run::run(line, escape)?)
            }
            "COPY" | "ADD" => {
                let earlier = self.stages.len().saturating_sub(1);
                let stages = self.stages.get(..earlier).unwrap_or_default();
                Instruction::Copy(copy::copy(line, keyword == "ADD", stages, escape)?)
            }
            "ENV" => Instruction::Env(metadata::pairs(line, "ENV", escape)?),
            "LABEL" => Instruction::Label(metadata::pairs(line, "LABEL", escape)?),
            "ARG" => Instruction::Arg(metadata::arguments(line, escape)?),
            "WORKDIR" => Instruction::Workdir(one_word(line, "WORKDIR /app")?),
            "USER" => Instruction::User(one_word(line, "USER app")?),
            "EXPOSE" => Instruction::Expose(metadata::ports(line)?),
            "ENTRYPOINT" => {
                self.warn_of_false_json(line, &line.rest);
                Instruction::Entrypoint(command(line, &line.rest)?)
            }
            "CMD" => {
                self.warn_of_false_json(line, &line.rest);
                Instruction::Cmd(command(line, &line.rest)?)
            }
            "SHELL" => Instruction::Shell(metadata::shell(line)?),
            "HEALTHCHECK" => Instruction::Healthcheck(metadata::healthcheck(line, escape)?),
            "MAINTAINER" => {
                self.warn(line, "MAINTAINER has become a label");
                let value = format!("'{}'", line.rest.replace('\'', ""));
                Instruction::Label(vec![("maintainer".to_owned(), value)])
            }
            "VOLUME" => {
                self.warn(line, "VOLUME means nothing here: the template keeps files there too");
                return Ok(None);
            }
            "STOPSIGNAL" => {
                self.warn(line, "STOPSIGNAL means nothing here: a sandbox ends at once");
                return Ok(None);
            }
            "ONBUILD" => {
                let reason = "ONBUILD is not there: write the instruction where it is to be done";
                return Err(ParseError::at(line.number, reason));
            }
            _ => {
                let reason = format!("`{}` is no instruction: {EXPECTED}", line.keyword);
                return Err(ParseError::at(line.number, reason));
            }
        }))
    }

    fn warn(&mut self, line: &LogicalLine, text: &str) {
        self.warnings.push(Warning { line: line.number, text: text.to_owned() });
    }

    /// `['a', 'b']` is a text for the shell, which nobody means.
    fn warn_of_false_json(&mut self, line: &LogicalLine, text: &str) {
        let looks = text.starts_with("['") && text.ends_with("']");
        if looks && words::json_words(text).is_none() {
            self.warn(line, "this is run by a shell: a list of words needs double quotes");
        }
    }
}

/// What `CMD`, `ENTRYPOINT` and `RUN` have after their flags.
fn command(line: &LogicalLine, text: &str) -> Result<CommandLine, ParseError> {
    match words::json_words(text) {
        Some(words) if words.is_empty() => {
            Err(ParseError::at(line.number, "`[]` is no command: expected at least a program"))
        }
        Some(words) => Ok(CommandLine::Exec(words)),
        None if text.is_empty() => {
            let keyword = line.keyword.to_ascii_uppercase();
            Err(ParseError::at(line.number, format!("{keyword} needs a command")))
        }
        None => Ok(CommandLine::Shell(text.to_owned())),
    }
}

fn one_word(line: &LogicalLine, example: &str) -> Result<String, ParseError> {
    if line.rest.is_empty() {
        let keyword = line.keyword.to_ascii_uppercase();
        let reason = format!("{keyword} needs one argument: expected such as `{example}`");
        return Err(ParseError::at(line.number, reason));
    }
    Ok(line.rest.clone())
}

fn from(line: &LogicalLine, escape: char) -> Result<Stage, ParseError> {
    let (flags, rest) = words::flags(&line.rest, escape);
    let mut platform = None;
    for flag in flags {
        match flag.name.as_str() {
            "platform" => platform = Some(flag.required(line.number, "linux/amd64")?.to_owned()),
            _ => return Err(flag.unknown(line.number, "FROM", "`--platform`")),
        }
    }
    let words: Vec<&str> = rest.split_whitespace().collect();
    let (base, name) = match words.as_slice() {
        [base] => (*base, None),
        [base, r#as, name] if r#as.eq_ignore_ascii_case("as") => (*base, Some(*name)),
        _ => {
            let reason = "expected `FROM image` or `FROM image AS name`";
            return Err(ParseError::at(line.number, reason));
        }
    };
    if let Some(name) = name
        && !is_stage_name(name)
    {
        let reason = format!(
            "`{name}` cannot name a stage: expected a letter, then letters, digits, `-`, `_`, `.`"
        );
        return Err(ParseError::at(line.number, reason));
    }
    Ok(Stage {
        line: line.number,
        base: base.to_owned(),
        platform,
        name: name.map(str::to_ascii_lowercase),
        steps: Vec::new(),
    })
}

fn is_stage_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|one| one.is_ascii_alphanumeric() || "-_.".contains(one))
}

/// An instruction in one line, for people.
fn shown(keyword: &str, line: &LogicalLine) -> String {
    let text = line.rest.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown = format!("{keyword} {text}");
    if let Some((at, _)) = shown.char_indices().nth(MOST_SHOWN) {
        shown.truncate(at);
        shown.push('…');
    }
    shown
}
