use std::collections::BTreeMap;

use warren_dockerfile::{
    parse,
    plan::Base,
    recipe::{CommandLine, CopyFrom, Instruction},
    scope::Globals,
    steps::{Action, ListedStep, Steps},
};

const STAGES: &str = "ARG TAG=13\n\
                      FROM debian:$TAG AS base\n\
                      FROM base AS build\n\
                      FROM other AS unused\n\
                      RUN false\n\
                      FROM scratch AS final\n\
                      COPY --from=build /a /a\n\
                      COPY --from=nginx:1 /b /b\n\
                      FROM base AS test\n";

/// The needed stages as their numbers, and what the first stands on.
fn plan(target: Option<&str>, tag: Option<&str>) -> Result<(Vec<usize>, Base), String> {
    let recipe = parse(STAGES).expect("it can be planned");
    let given = tag.map(|tag| ("TAG".to_owned(), tag.to_owned()));
    let given: BTreeMap<_, _> = given.into_iter().collect();
    let globals =
        Globals::new(&recipe.arguments, given, "x86_64", recipe.escape).expect("it can be planned");
    let plan = recipe.plan(target, &globals).map_err(|error| error.to_string())?;
    let first = plan.stages.first().expect("it can be planned").base.clone();
    Ok((plan.stages.iter().map(|stage| stage.index).collect(), first))
}

#[test]
fn only_needed_stages_are_built() {
    let debian = |tag: &str| Base::Image(format!("debian:{tag}"));
    assert_eq!(plan(None, None), Ok((vec![0, 4], debian("13"))));
    assert_eq!(plan(Some("Final"), Some("12")), Ok((vec![0, 1, 3], debian("12"))));
    assert_eq!(plan(Some("2"), None), Ok((vec![2], Base::Image("other".into()))));
    let unknown = plan(Some("nope"), None).unwrap_err();
    assert!(unknown.contains("one of base, build, unused, final, test"), "{unknown}");
}

#[test]
fn another_machines_platform_is_refused() {
    for (platform, fits) in [
        ("linux/amd64", true),
        ("linux", true),
        ("amd64", true),
        ("linux/arm64", false),
        ("$TARGETPLATFORM", true),
        ("windows/amd64", false),
    ] {
        let recipe = parse(&format!("FROM --platform={platform} a")).unwrap();
        let globals = Globals::new(&[], BTreeMap::new(), "x86_64", '\\').unwrap();
        assert_eq!(recipe.plan(None, &globals).is_ok(), fits, "{platform}");
    }
    let recipe = parse("FROM $NONE").unwrap();
    let globals = Globals::new(&[], BTreeMap::new(), "x86_64", '\\').unwrap();
    assert!(recipe.plan(None, &globals).unwrap_err().reason.contains("names nothing"));
}

#[test]
fn a_list_of_steps_becomes_a_recipe() {
    let step = |action| ListedStep { action, force: false };
    let copy = |files: Option<String>| Action::Copy {
        source: "src".into(),
        destination: "/app".into(),
        user: Some("user".into()),
        mode: None,
        files,
    };
    let list = Steps {
        base: "host".into(),
        shell: vec!["/bin/bash".into(), "-c".into()],
        steps: vec![
            step(Action::Run { command: "make  all".into(), user: Some("root".into()) }),
            step(copy(Some("ab".repeat(32)))),
            step(Action::Env(vec![("TOKEN".into(), "secret".into())])),
        ],
    };
    let recipe = list.recipe().unwrap();
    let stage = recipe.stages.first().unwrap();
    let shown: Vec<_> = stage.steps.iter().map(|step| step.text.as_str()).collect();
    assert_eq!(shown, ["SHELL /bin/bash -c", "RUN make all", "COPY src /app", "ENV TOKEN"]);
    let mut instructions = stage.steps.iter().map(|step| &step.instruction).skip(1);
    let Some(Instruction::Run(run)) = instructions.next() else { panic!() };
    assert_eq!(run.command, CommandLine::Shell("make  all".into()));
    assert_eq!(run.user.as_deref(), Some("root"));
    let Some(Instruction::Copy(copied)) = instructions.next() else { panic!() };
    assert_eq!(copied.from, CopyFrom::Files("ab".repeat(32)));

    for bad in [
        Action::Run { command: " ".into(), user: None },
        copy(Some("xy".into())),
        Action::Env(vec![("a=b".into(), "c".into())]),
        Action::Workdir(String::new()),
        Action::User(String::new()),
    ] {
        let steps = vec![step(Action::User("root".into())), step(bad)];
        let error = Steps { base: "host".into(), shell: Vec::new(), steps }.recipe().unwrap_err();
        assert_eq!(error.line, 2);
    }
}
