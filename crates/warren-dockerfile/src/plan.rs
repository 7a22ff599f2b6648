//! Which stages a target needs, and what each stands on.

use crate::{
    ParseError, Recipe,
    recipe::{CopyFrom, Instruction, Stage},
    scope::Globals,
};

/// The stages to build, in order; the last is the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Never empty.
    pub stages: Vec<PlannedStage>,
}

/// One stage that is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStage {
    /// Its place in [`Recipe::stages`].
    pub index: usize,
    /// What it stands on.
    pub base: Base,
}

/// What a stage stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing at all: `scratch`.
    Empty,
    /// Another stage, by its place in [`Recipe::stages`].
    Stage(usize),
    /// An image or a template, as it was named.
    Image(String),
}

impl Recipe {
    /// Works out what is needed for `target`: a stage's name or number; the last stage where none
    /// is named.
    ///
    /// # Errors
    ///
    /// [`ParseError`] where a `FROM` cannot be filled in, names another machine's platform, or
    /// `target` is no stage.
    pub fn plan(&self, target: Option<&str>, globals: &Globals) -> Result<Plan, ParseError> {
        let target = self.target(target)?;
        let mut needed = vec![None; target + 1];
        let mut wanted = vec![target];
        while let Some(index) = wanted.pop() {
            let Some(stage) = self.stages.get(index) else { continue };
            let Some(place @ None) = needed.get_mut(index) else { continue };
            let base = self.base(index, stage, globals)?;
            if let Base::Stage(earlier) = base {
                wanted.push(earlier);
            }
            *place = Some(base);
            wanted.extend(copied_stages(stage));
        }
        let planned =
            |(index, base): (usize, Option<Base>)| Some(PlannedStage { index, base: base? });
        Ok(Plan { stages: needed.into_iter().enumerate().filter_map(planned).collect() })
    }

    fn target(&self, target: Option<&str>) -> Result<usize, ParseError> {
        let last = self.stages.len().saturating_sub(1);
        let Some(target) = target else { return Ok(last) };
        let named = |stage: &Stage| {
            stage.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(target))
        };
        let by_number = || target.parse().ok().filter(|index| *index <= last);
        self.stages.iter().rposition(named).or_else(by_number).ok_or_else(|| {
            let names: Vec<_> = self.stages.iter().filter_map(|it| it.name.as_deref()).collect();
            let known = match names.is_empty() {
                true => format!("a number from 0 to {last}"),
                false => format!("one of {}", names.join(", ")),
            };
            ParseError::at(1, format!("`{target}` is no stage: expected {known}"))
        })
    }

    fn base(&self, index: usize, stage: &Stage, globals: &Globals) -> Result<Base, ParseError> {
        let filled = |text: &str| {
            globals.expand(text).map_err(|error| ParseError::at(stage.line, error.to_string()))
        };
        if let Some(platform) = &stage.platform {
            check_platform(stage.line, &filled(platform)?, globals.platform())?;
        }
        let base = filled(&stage.base)?;
        if base.is_empty() {
            let reason = format!("`FROM {}` names nothing once it is filled in", stage.base);
            return Err(ParseError::at(stage.line, reason));
        }
        let earlier = self.stages.get(..index).unwrap_or_default();
        let named = |stage: &Stage| {
            stage.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(&base))
        };
        Ok(match earlier.iter().rposition(named) {
            Some(earlier) => Base::Stage(earlier),
            None if base == "scratch" => Base::Empty,
            None => Base::Image(base),
        })
    }
}

fn copied_stages(stage: &Stage) -> impl Iterator<Item = usize> {
    stage.steps.iter().filter_map(|step| match &step.instruction {
        Instruction::Copy(copy) => match copy.from {
            CopyFrom::Stage(index) => Some(index),
            _ => None,
        },
        _ => None,
    })
}

/// `linux/amd64` is this machine's, and so are `linux`, `amd64` and `linux/amd64/v2` where it is.
fn check_platform(line: u32, wanted: &str, own: &str) -> Result<(), ParseError> {
    let (system, architecture) = own.split_once('/').unwrap_or((own, ""));
    let mut parts = wanted.split('/');
    let fits = match (parts.next(), parts.next()) {
        (Some(one), None) => one == system || one == architecture,
        (Some(first), Some(second)) => first == system && second == architecture,
        _ => false,
    };
    if fits || wanted.is_empty() {
        return Ok(());
    }
    let reason = format!("`--platform={wanted}`: this machine builds for `{own}` alone");
    Err(ParseError::at(line, reason))
}
