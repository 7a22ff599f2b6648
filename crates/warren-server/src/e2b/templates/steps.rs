//! Steps as these clients' builders send them, as a recipe of ours.

use serde::Deserialize;
use warren_core::{Caller, images::Reference};
use warren_dockerfile::{
    Recipe,
    steps::{Action, ListedStep, Steps},
};

use super::super::{
    Refusal,
    names::{self, Source},
    shape::BASE,
};
use crate::{app::App, convert};

/// Who commands run as in a template where nothing else is said.
const USER: &str = "user";
/// The image that stands for the template `base`.
const BASE_IMAGE: &str = "e2bdev/base";
/// Runs a text with `bash`, as a login shell; with `sh` in an image that has no `bash`.
const SHELL: [&str; 3] = [
    "/bin/sh",
    "-c",
    "if [ -x /bin/bash ]; then exec /bin/bash -l -c \"$0\"; fi; exec /bin/sh -l -c \"$0\"",
];
/// Gives an image the user that everything here runs as.
const PROVISION: &str = "if ! id user >/dev/null 2>&1; then \
     if ! command -v useradd >/dev/null; then adduser -D user; \
     elif id 1000 >/dev/null 2>&1; then useradd -m -s /bin/bash user; \
     else useradd -m -u 1000 -s /bin/bash user; fi; fi && \
     mkdir -p /home/user && chown user: /home/user && \
     if [ -d /etc/sudoers.d ]; then \
     printf 'user ALL=(ALL:ALL) NOPASSWD: ALL\\n' >/etc/sudoers.d/user && \
     chmod 440 /etc/sudoers.d/user; fi";

/// One step.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WantedStep {
    #[serde(rename = "type")]
    kind: String,
    args: Option<Vec<String>>,
    files_hash: Option<String>,
    force: Option<bool>,
}

/// What a build stands on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ground {
    /// As the native API names it.
    name: String,
    /// Whether it is an image that knows nothing of our user.
    foreign: bool,
    /// Who commands run as in it, and where, as far as it says.
    user: Option<String>,
    workdir: Option<String>,
}

/// What a build is to stand on: an image or a template.
pub(super) fn ground(
    app: &App,
    caller: &Caller,
    image: Option<&str>,
    template: Option<&str>,
) -> Result<Ground, Refusal> {
    match (image, template) {
        (Some(_), Some(_)) => Err(Refusal::bad("expected either `fromImage` or `fromTemplate`")),
        (None, None) => template_ground(app, caller, BASE),
        (None, Some(template)) => template_ground(app, caller, template),
        (Some(image), None) if is_base(image) => template_ground(app, caller, BASE),
        (Some("host"), None) => Ok(Ground { name: "host".to_owned(), ..Ground::default() }),
        (Some(image), None) => match image.parse::<Reference>() {
            Ok(_) => Ok(Ground { name: image.to_owned(), foreign: true, ..Ground::default() }),
            Err(error) => Err(Refusal::bad(format!("fromImage: {error}"))),
        },
    }
}

/// Whether an image stands for the template `base`.
fn is_base(image: &str) -> bool {
    let image = image.strip_prefix("docker.io/").unwrap_or(image);
    image.split([':', '@']).next() == Some(BASE_IMAGE)
}

fn template_ground(app: &App, caller: &Caller, text: &str) -> Result<Ground, Refusal> {
    match names::source(app, caller, text)? {
        Source::Template(name) => {
            let (_, version) = app.sandboxes.templates().resolve(caller, &name)?;
            let (user, workdir) = (version.config.user.clone(), version.config.workdir.clone());
            Ok(Ground { name: format!("template:{name}"), foreign: false, user, workdir })
        }
        Source::Default => Ok(Ground { name: "host".to_owned(), ..Ground::default() }),
        Source::Snapshot(_) => {
            Err(Refusal::bad("fromTemplate: expected a template, and this is a snapshot"))
        }
    }
}

/// The steps on that ground, as a recipe. Lines of it are numbers of steps, from 1; 0 is what
/// comes before the first.
pub(super) fn recipe(ground: Ground, steps: Vec<WantedStep>) -> Result<Recipe, Refusal> {
    let mut list = List::new();
    if ground.foreign {
        list.push(0, false, Action::User("root".to_owned()));
        list.push(0, false, Action::Run { command: PROVISION.to_owned(), user: None });
    }
    match ground.user.filter(|_| !ground.foreign) {
        Some(user) => list.user = user,
        None => {
            list.user = USER.to_owned();
            list.push(0, false, Action::User(list.user.clone()));
        }
    }
    if ground.foreign || ground.workdir.is_none() {
        list.push(0, false, Action::Workdir(home(&list.user)));
    }
    for (index, step) in steps.into_iter().enumerate() {
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let refused = |reason: &str| Refusal::bad(format!("step {number}: {reason}"));
        let force = step.force.unwrap_or_default();
        let action = list.action(step).map_err(|reason| refused(&reason))?;
        if let Action::Workdir(path) = &action {
            list.make_own(number, path);
        }
        list.push(number, force, action);
    }
    list.recipe(ground.name)
}

/// Steps as they come together.
struct List {
    steps: Vec<ListedStep>,
    /// The number of each.
    numbers: Vec<u32>,
    /// Who commands run as now.
    user: String,
}

impl List {
    fn new() -> Self {
        Self { steps: Vec::new(), numbers: Vec::new(), user: String::new() }
    }

    fn push(&mut self, number: u32, force: bool, action: Action) {
        self.steps.push(ListedStep { action, force });
        self.numbers.push(number);
    }

    fn action(&mut self, step: WantedStep) -> Result<Action, String> {
        let mut args = step.args.unwrap_or_default().into_iter();
        let mut next = |what: &str| {
            let found = args.next().filter(|text| !text.is_empty());
            found.ok_or_else(|| format!("{} needs {what}", step.kind))
        };
        match step.kind.as_str() {
            "RUN" => {
                let command = next("a command")?;
                Ok(Action::Run { command, user: next("").ok() })
            }
            "COPY" => {
                let (source, destination) = (next("a source")?, next("a destination")?);
                let rest: Vec<_> = args.collect();
                let said = |at: usize| rest.get(at).filter(|text| !text.is_empty()).cloned();
                let user = said(0).unwrap_or_else(|| self.user.clone());
                let mut destination = self.at_home(&destination);
                // What fits a pattern goes into a directory, be it one file alone.
                if source.contains(['*', '?', '[']) && !destination.ends_with('/') {
                    destination.push('/');
                }
                Ok(Action::Copy {
                    source,
                    destination,
                    // What nobody else is given is root's anyway.
                    user: Some(user).filter(|user| user != "root"),
                    mode: said(1),
                    files: Some(step.files_hash.ok_or("COPY needs a filesHash")?),
                })
            }
            "ENV" => {
                let args: Vec<_> = args.collect();
                let (pairs, []) = args.as_chunks::<2>() else {
                    return Err("ENV needs a value for each name".to_owned());
                };
                let pair = |[name, value]: &[String; 2]| (name.clone(), value.clone());
                Ok(Action::Env(pairs.iter().map(pair).map(convert::quoted).collect()))
            }
            "WORKDIR" => Ok(Action::Workdir(self.at_home(&next("a path")?))),
            "USER" => {
                self.user = next("a name")?;
                Ok(Action::User(self.user.clone()))
            }
            other => {
                Err(format!("there is no step `{other}`: expected RUN, COPY, ENV, WORKDIR or USER"))
            }
        }
    }

    /// Makes a directory the user's where it is made: `WORKDIR` alone would leave it to root.
    fn make_own(&mut self, number: u32, path: &str) {
        if self.user == "root" {
            return;
        }
        let user = &self.user;
        let path = path.replace(['\\', '"', '`'], "");
        let command = format!(
            "[ -d \"{path}\" ] || {{ mkdir -p \"{path}\" && chown \"{user}:\" \"{path}\"; }}"
        );
        self.push(number, false, Action::Run { command, user: Some("root".to_owned()) });
    }

    /// A path with `~` for the home of whoever commands run as.
    fn at_home(&self, path: &str) -> String {
        match path.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                format!("{}{rest}", home(&self.user))
            }
            _ => path.to_owned(),
        }
    }

    fn recipe(self, base: String) -> Result<Recipe, Refusal> {
        let numbers = self.numbers;
        let shell = SHELL.map(str::to_owned).to_vec();
        let made = Steps { base, shell, steps: self.steps }.recipe();
        let number = |at: usize| numbers.get(at).copied().unwrap_or_default();
        let mut recipe = made.map_err(|error| {
            let at = usize::try_from(error.line).unwrap_or_default().saturating_sub(1);
            Refusal::bad(format!("step {}: {}", number(at), error.reason))
        })?;
        for stage in &mut recipe.stages {
            // The first is the shell.
            for (at, step) in stage.steps.iter_mut().enumerate() {
                match at.checked_sub(1) {
                    Some(at) => step.line = number(at),
                    None => (step.line, step.text) = (0, "SHELL bash -l -c".to_owned()),
                }
            }
        }
        Ok(recipe)
    }
}

fn home(user: &str) -> String {
    if user == "root" { "/root".to_owned() } else { format!("/home/{user}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use warren_dockerfile::recipe::Instruction;

    use super::*;

    fn steps(value: serde_json::Value) -> Vec<WantedStep> {
        serde_json::from_value(value).unwrap()
    }

    fn host() -> Ground {
        Ground { name: "host".to_owned(), ..Ground::default() }
    }

    #[test]
    fn steps_keep_their_numbers_and_belong_to_the_user() {
        let hash = "a".repeat(64);
        let recipe = recipe(
            host(),
            steps(json!([
                {"type": "COPY", "args": ["*.txt", "~/x", "", "0755"], "filesHash": hash},
                {"type": "USER", "args": ["root"]},
                {"type": "COPY", "args": ["a.txt", "/x"], "filesHash": hash, "forceUpload": true},
                {"type": "RUN", "args": ["id", "user"], "force": true},
                {"type": "ENV", "args": ["A", "b \"c\"", "D", "$A"]},
            ])),
        )
        .unwrap();
        let made: Vec<_> = recipe.stages[0].steps.iter().skip(1).collect();
        let lines: Vec<_> = made.iter().map(|step| step.line).collect();
        assert_eq!(lines, [0, 0, 1, 2, 3, 4, 5]);
        assert_eq!(made[0].instruction, Instruction::User("user".to_owned()));
        assert_eq!(made[1].instruction, Instruction::Workdir("/home/user".to_owned()));
        let Instruction::Copy(copy) = &made[2].instruction else { panic!("{made:?}") };
        assert_eq!(
            (copy.destination.as_str(), copy.chown.as_deref()),
            ("/home/user/x/", Some(USER))
        );
        assert_eq!(copy.chmod.as_deref(), Some("0755"));
        let Instruction::Copy(copy) = &made[4].instruction else { panic!("{made:?}") };
        assert_eq!((copy.chown.as_deref(), copy.chmod.as_deref()), (None, None));
        let Instruction::Run(run) = &made[5].instruction else { panic!("{made:?}") };
        assert_eq!((run.user.as_deref(), made[5].force), (Some("user"), true));
        let Instruction::Env(pairs) = &made[6].instruction else { panic!("{made:?}") };
        assert_eq!(pairs[0].1, "\"b \\\"c\\\"\"");
    }

    #[test]
    fn an_image_is_given_the_user_and_a_template_keeps_its_own() {
        let image = Ground { name: "debian".to_owned(), foreign: true, ..Ground::default() };
        let made = recipe(image, Vec::new()).unwrap();
        assert_eq!(made.stages[0].base, "debian");
        assert_eq!(made.stages[0].steps.len(), 5);
        let (user, workdir) = (Some("me".to_owned()), Some("/app".to_owned()));
        let template = Ground { name: "template:x".to_owned(), foreign: false, user, workdir };
        let made = recipe(template, steps(json!([{"type": "WORKDIR", "args": ["~"]}]))).unwrap();
        let [_shell, own, last] = made.stages[0].steps.as_slice() else { panic!("{made:?}") };
        let Instruction::Run(run) = &own.instruction else { panic!("{own:?}") };
        assert_eq!((run.user.as_deref(), own.line), (Some("root"), 1));
        assert_eq!(last.instruction, Instruction::Workdir("/home/me".to_owned()));
    }

    #[test]
    fn what_cannot_be_done_is_said_with_its_number() {
        for (bad, part) in [
            (json!({"type": "RUN", "args": []}), "step 2: RUN needs a command"),
            (json!({"type": "COPY", "args": ["a", "b"]}), "step 2: COPY needs a filesHash"),
            (json!({"type": "ENV", "args": ["A"]}), "step 2: ENV needs a value"),
            (json!({"type": "ONBUILD"}), "step 2: there is no step `ONBUILD`"),
            (json!({"type": "RUN", "args": ["   "]}), "step 2: RUN needs a command"),
        ] {
            let first = json!({"type": "USER", "args": ["root"]});
            let refused = recipe(host(), steps(json!([first, bad]))).unwrap_err();
            assert!(refused.message().contains(part), "{}", refused.message());
        }
    }

    #[test]
    fn the_base_image_has_several_names() {
        for name in ["e2bdev/base", "e2bdev/base:latest", "docker.io/e2bdev/base:1"] {
            assert!(is_base(name), "{name}");
        }
        assert!(!is_base("e2bdev/code-interpreter:latest"));
    }
}
