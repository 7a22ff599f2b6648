//! What a template is built from: a Dockerfile, or a list of steps in a TOML file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use warren_api::{
    network::Network,
    template::{BuildStep, BuildSteps, BuildTemplate, TemplateLimits, TemplateStart},
};
use warren_dockerfile::recipe::{CopyFrom, CopySource, Instruction};

use crate::error::{CliError, Kind};

/// What was read.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) request: BuildTemplate,
    /// Whether a step copies files of the directory.
    pub(super) needs_files: bool,
}

/// A list of steps, with what belongs to the template.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateFile {
    #[serde(default)]
    name: String,
    #[serde(default)]
    tags: Vec<String>,
    from: String,
    #[serde(default)]
    shell: Vec<String>,
    #[serde(default)]
    steps: Vec<BuildStep>,
    #[serde(default)]
    args: BTreeMap<String, String>,
    #[serde(default)]
    public: Option<bool>,
    #[serde(default)]
    limits: TemplateLimits,
    #[serde(default)]
    network: Option<Network>,
    #[serde(default)]
    start: Option<TemplateStart>,
    #[serde(default)]
    warm: Option<u32>,
    #[serde(default)]
    build_limits: TemplateLimits,
    #[serde(default)]
    timeout_seconds: Option<u64>,
}

/// Reads the file that was named, or the one in the directory.
pub(super) fn read(named: Option<&Path>, directory: &Path) -> Result<Source, CliError> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => {
            let candidates = ["Dockerfile", "warren.toml"].map(|name| directory.join(name));
            let found = candidates.into_iter().find(|path| path.is_file());
            found.ok_or_else(|| {
                let reason =
                    format!("{} has no Dockerfile and no warren.toml", directory.display());
                CliError::new(Kind::Usage, reason).hint("`--file` names another one")
            })?
        }
    };
    let text = std::fs::read_to_string(&path).map_err(|error| {
        CliError::new(Kind::Local, format!("could not read {}: {error}", path.display()))
    })?;
    let wrong = |error: String| CliError::new(Kind::Usage, format!("{}: {error}", path.display()));
    if path.extension().is_some_and(|it| it == "toml") {
        let (request, needs_files) = listed(&text).map_err(wrong)?;
        return Ok(Source { path, request, needs_files });
    }
    let recipe = warren_dockerfile::parse(&text).map_err(|error| wrong(error.to_string()))?;
    let of_context = |instruction: &Instruction| match instruction {
        Instruction::Copy(copy) => {
            let files = copy.sources.iter().any(|it| matches!(it, CopySource::Path(_)));
            copy.from == CopyFrom::Context && files
        }
        _ => false,
    };
    let mut steps = recipe.stages.iter().flat_map(|stage| &stage.steps);
    let needs_files = steps.any(|step| of_context(&step.instruction));
    let request = BuildTemplate { dockerfile: Some(text), ..BuildTemplate::default() };
    Ok(Source { path, request, needs_files })
}

fn listed(text: &str) -> Result<(BuildTemplate, bool), String> {
    let file: TemplateFile = toml::from_str(text).map_err(|error| error.to_string())?;
    let needs_files = file.steps.iter().any(|step| step.copy.is_some() && step.files.is_none());
    let request = BuildTemplate {
        name: file.name,
        tags: file.tags,
        steps: Some(BuildSteps { from: file.from, shell: file.shell, steps: file.steps }),
        args: file.args,
        public: file.public,
        limits: file.limits,
        network: file.network,
        start: file.start,
        warm: file.warm,
        build_limits: file.build_limits,
        timeout_seconds: file.timeout_seconds,
        ..BuildTemplate::default()
    };
    Ok((request, needs_files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read() {
        let text = "name = 'web'\n\
                    from = 'host'\n\
                    steps = [\n\
                      { run = 'make', user = 'root' },\n\
                      { copy = 'src', to = '/app' },\n\
                      { env = { A = '1' } },\n\
                    ]\n\
                    [start]\n\
                    command = ['/app/run']\n\
                    ready = { http = '8080/health' }\n";
        let (request, needs_files) = listed(text).unwrap();
        assert!(needs_files);
        assert_eq!(request.name, "web");
        assert_eq!(request.steps.unwrap().steps.len(), 3);
        assert_eq!(request.start.unwrap().command, ["/app/run"]);
        assert!(listed("from = 'host'\nstep = []").unwrap_err().contains("step"));
    }

    #[test]
    fn the_shipped_list_says_what_is_started() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../templates");
        let source = read(None, &root.join("code-interpreter-v1")).unwrap();
        assert_eq!(source.request.name, "code-interpreter-v1");
        let start = source.request.start.unwrap();
        // Without it nothing listens on the port that its clients ask.
        let server = start.command.last().unwrap().rsplit('/').next().unwrap();
        assert!(root.join("code-interpreter-v1").join(server).is_file(), "{server}");
        assert!(source.needs_files);
    }

    #[test]
    fn a_file_is_found_and_its_mistakes_are_told_with_their_place() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(None, folder.path()).is_err());
        std::fs::write(folder.path().join("warren.toml"), "from = 'host'").unwrap();
        assert!(!read(None, folder.path()).unwrap().needs_files);
        let file = folder.path().join("Dockerfile");
        std::fs::write(&file, "FROM host\nCOPY a /a").unwrap();
        assert!(read(None, folder.path()).unwrap().needs_files);
        std::fs::write(&file, "FROM host\nCOPY <<a /a\nx\na\nCOPY --from=0 x y\n").unwrap();
        let error = read(None, folder.path()).unwrap_err().source.to_string();
        assert!(error.contains("Dockerfile: line 5"), "{error}");
    }
}
