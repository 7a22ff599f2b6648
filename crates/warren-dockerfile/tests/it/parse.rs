use proptest::prelude::*;
use warren_dockerfile::{
    Recipe, parse,
    recipe::{CommandLine, CopyFrom, CopySource, Instruction, Mount, Run},
};

/// The steps of the last stage.
fn steps(text: &str) -> Vec<Instruction> {
    let recipe = parse(text).expect("it is a recipe");
    recipe
        .stages
        .into_iter()
        .next_back()
        .expect("it is a recipe")
        .steps
        .into_iter()
        .map(|it| it.instruction)
        .collect()
}

/// The one step behind `FROM host`.
fn step(text: &str) -> Instruction {
    let mut steps = steps(&format!("FROM host\n{text}"));
    assert_eq!(steps.len(), 1, "{text}");
    steps.remove(0)
}

fn run(text: &str) -> Run {
    match step(text) {
        Instruction::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

fn shell(text: &str) -> CommandLine {
    CommandLine::Shell(text.to_owned())
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn a_whole_dockerfile_becomes_stages() {
    let recipe = parse(
        "# syntax=docker/dockerfile:1\n\
         # a comment\n\
         ARG BASE=debian:13\n\
         \n\
         FROM --platform=linux/amd64 ${BASE} AS Build\n\
         RUN make \\\n\
         # between\n\
         \n\
         \tall   \\  \n\
         \t&& true\n\
         from scratch\n\
         copy --from=build --chown=1:2 --chmod=755 a b* /dst/\n\
         ENTRYPOINT [\"/a\"]\n\
         CMD b $C\n",
    )
    .unwrap();
    assert_eq!(recipe.arguments.len(), 1);
    let [build, last] = recipe.stages.as_slice() else { panic!("{recipe:?}") };
    assert_eq!((build.base.as_str(), build.name.as_deref()), ("${BASE}", Some("build")));
    assert_eq!((build.line, build.platform.as_deref()), (5, Some("linux/amd64")));
    let [make] = build.steps.as_slice() else { panic!("{build:?}") };
    assert_eq!((make.line, make.text.as_str()), (6, "RUN make all && true"));
    let Instruction::Run(run) = &make.instruction else { panic!("{make:?}") };
    assert_eq!(run.command, shell("make \tall   \t&& true"));
    assert_eq!(last.base, "scratch");
    let Some(Instruction::Copy(copy)) = last.steps.first().map(|it| &it.instruction) else {
        panic!("{last:?}")
    };
    assert_eq!(copy.from, CopyFrom::Stage(0));
    assert_eq!(copy.sources, [CopySource::Path("a".into()), CopySource::Path("b*".into())]);
    assert_eq!((copy.chown.as_deref(), copy.chmod.as_deref()), (Some("1:2"), Some("755")));
    assert_eq!(copy.destination, "/dst/");
    assert!(!copy.unpack);
}

#[test]
fn commands_have_two_forms() {
    assert_eq!(run("RUN [\"a\", \"b c\"]").command, CommandLine::Exec(strings(&["a", "b c"])));
    assert_eq!(run("RUN [ -f x ] && y").command, shell("[ -f x ] && y"));
    assert_eq!(step("CMD a  b"), Instruction::Cmd(shell("a  b")));
    assert_eq!(step("SHELL [\"bash\"]"), Instruction::Shell(strings(&["bash"])));
    let warned = parse("FROM host\nCMD ['a', 'b']").unwrap();
    assert_eq!(warned.warnings.len(), 1);
}

#[test]
fn pairs_keep_their_quotes_until_they_are_filled_in() {
    let env = |text: &str| match step(text) {
        Instruction::Env(pairs) => pairs,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        env("ENV a=1 b=\"2 3\" c=x\\ y"),
        pairs(&[("a", "1"), ("b", "\"2 3\""), ("c", "x\\ y")])
    );
    assert_eq!(env("ENV a  b  c=d "), pairs(&[("a", "b  c=d")]));
    assert_eq!(step("LABEL a=b"), Instruction::Label(pairs(&[("a", "b")])));
    assert_eq!(step("MAINTAINER me@x"), Instruction::Label(pairs(&[("maintainer", "'me@x'")])));
}

#[test]
fn here_documents_belong_to_their_instruction() {
    assert_eq!(run("RUN <<EOF\na\n# b\nEOF").command, shell("a\n# b\n"));
    assert_eq!(run("RUN <<-EOF\n\t\ta\n\tEOF").command, shell("a\n"));
    let script = run("RUN <<'E'\n#!/usr/bin/python3\nprint(1)\nE").command;
    assert_eq!(script, CommandLine::Script("#!/usr/bin/python3\nprint(1)\n".into()));
    let two = run("RUN cat <<A > /a && cat 3<<B\nx\nA\ny\nB").command;
    assert_eq!(two, shell("cat <<A > /a && cat 3<<B\nx\nA\ny\nB\n"));
    assert_eq!(run("RUN echo \"<<EOF\" $((1<<2))").command, shell("echo \"<<EOF\" $((1<<2))"));
    let Instruction::Copy(copy) = step("COPY <<a.txt <<\"b.txt\" x /d/\n$A\na.txt\n$B\nb.txt")
    else {
        panic!()
    };
    let inline = |name: &str, content: &str, expand| CopySource::Inline {
        name: name.into(),
        content: content.into(),
        expand,
    };
    assert_eq!(
        copy.sources,
        [
            inline("a.txt", "$A\n", true),
            inline("b.txt", "$B\n", false),
            CopySource::Path("x".into())
        ]
    );
}

#[test]
fn run_takes_secrets_and_directories_in_memory() {
    let secret = run(
        "RUN --mount=type=secret,id=token,env=TOKEN,required \\\n --mount=type=tmpfs,target=/t,size=64m \\\n --network=none x",
    );
    let [Mount::Secret(mount), Mount::Tmpfs { target, size_bytes }] = secret.mounts.as_slice()
    else {
        panic!("{secret:?}")
    };
    assert_eq!((mount.id.as_str(), mount.env.as_deref()), ("token", Some("TOKEN")));
    assert!(mount.required && mount.target.is_none());
    assert_eq!((target.as_str(), *size_bytes), ("/t", Some(64 << 20)));
    assert!(secret.offline);
    let named = run("RUN --mount=type=secret,target=/root/.npmrc x");
    let [Mount::Secret(mount)] = named.mounts.as_slice() else { panic!("{named:?}") };
    assert_eq!((mount.id.as_str(), mount.target.as_deref()), (".npmrc", Some("/root/.npmrc")));
}

#[test]
fn another_escape_character_can_be_had() {
    let recipe = parse("# escape=`\nFROM host\nRUN a `\n b\\\nENV c=`$d").unwrap();
    assert_eq!(recipe.escape, '`');
    let steps: Vec<_> = recipe.stages.first().unwrap().steps.iter().map(|it| &it.text).collect();
    assert_eq!(steps, ["RUN a b\\", "ENV c=`$d"]);
    // Behind a comment it is a comment as well.
    assert_eq!(parse("# x\n# escape=`\nFROM host").unwrap().escape, '\\');
}

#[test]
fn what_means_nothing_here_is_said_and_passed_over() {
    let recipe = parse("FROM host\nVOLUME /a\nSTOPSIGNAL SIGINT\nEXPOSE 80 443/tcp").unwrap();
    assert_eq!(recipe.warnings.iter().map(|it| it.line).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(recipe.stages.first().unwrap().steps.len(), 1);
}

#[test]
fn a_health_check_is_read() {
    let text = "HEALTHCHECK --interval=1m30s --timeout=500ms --retries=3 CMD curl -f localhost";
    let Instruction::Healthcheck(Some(check)) = step(text) else { panic!() };
    assert_eq!(check.interval.unwrap().as_secs(), 90);
    assert_eq!(check.timeout.unwrap().as_millis(), 500);
    assert_eq!((check.retries, check.command), (Some(3), shell("curl -f localhost")));
    assert_eq!(step("HEALTHCHECK NONE"), Instruction::Healthcheck(None));
}

#[test]
fn every_mistake_is_told_with_its_line_and_what_was_expected() {
    for (text, line, part) in [
        ("", 1, "expected a `FROM`"),
        ("ARG A", 1, "expected a `FROM`"),
        ("RUN x", 1, "expected `FROM`"),
        ("# escape=x\nFROM host", 1, "a backslash or a backtick"),
        ("# escape=`\n# escape=`\nFROM host", 2, "only one"),
        ("FROM", 1, "`FROM image AS name`"),
        ("FROM a b c", 1, "`FROM image AS name`"),
        ("FROM a AS 1", 1, "cannot name a stage"),
        ("FROM --plat=x a", 1, "expected `--platform`"),
        ("FROM a\n\nRUNN x", 3, "expected one of ADD"),
        ("FROM a\nRUN", 2, "RUN needs a command"),
        ("FROM a\nRUN []", 2, "at least a program"),
        ("FROM a\nRUN <<EOF\nx", 2, "expected a line `EOF`"),
        ("FROM a\nRUN --mount=type=cache,target=/x y", 2, "kept by the cache of its layer"),
        ("FROM a\nRUN --mount=target=/x y", 2, "COPY the files first"),
        ("FROM a\nRUN --mount=type=ssh y", 2, "type=secret"),
        ("FROM a\nRUN --mount=type=x y", 2, "expected `secret` or `tmpfs`"),
        ("FROM a\nRUN --mount=type=secret y", 2, "expected `id=`"),
        ("FROM a\nRUN --mount=type=secret,id=../x y", 2, "expected `id=`"),
        ("FROM a\nRUN --mount=type=secret,id=x,foo=1 y", 2, "`foo` is unknown"),
        ("FROM a\nRUN --mount=type=tmpfs,target=x y", 2, "an absolute path"),
        ("FROM a\nRUN --mount=type=tmpfs,target=/x,size=y y", 2, "expected such as `64m`"),
        ("FROM a\nRUN --network=host y", 2, "`default` or `none`"),
        ("FROM a\nRUN --security=insecure y", 2, "every step runs in one"),
        ("FROM a\nRUN --foo y", 2, "`--mount` or `--network`"),
        ("FROM a\nCOPY a", 2, "a source and a destination"),
        ("FROM a\nCOPY a b /c", 2, "`/c/`"),
        ("FROM a\nCOPY --from=0 a /c", 2, "no stage is before this one"),
        ("FROM a\nFROM b\nCOPY --from=1 a /c", 3, "expected 0 to 0"),
        ("FROM a\nCOPY --from= a /c", 2, "`--from=stage`"),
        ("FROM a\nCOPY --foo a /c", 2, "COPY has no flag `--foo`"),
        ("FROM a\nCOPY --parents a /c", 2, "copy each directory"),
        ("FROM a\nCOPY --exclude=[ a /c", 2, "never closed"),
        ("FROM a\nCOPY --link=maybe a /c", 2, "`true` or `false`"),
        ("FROM a\nCOPY <<../x /c\n../x", 2, "expected no path"),
        ("FROM a\nADD https://x/y /c", 2, "fetch what is elsewhere with RUN"),
        ("FROM a\nADD --checksum=sha256:0 x /c", 2, "ADD takes local files"),
        ("FROM a\nADD --from=a x /c", 2, "ADD has no flag `--from`"),
        ("FROM a\nCOPY https://x/y /c", 2, "files of the context"),
        ("FROM a\nENV", 2, "expected `ENV name=value`"),
        ("FROM a\nENV a", 2, "expected `ENV name=value`"),
        ("FROM a\nENV a=1 b", 2, "`b`: expected"),
        ("FROM a\nLABEL =x", 2, "expected `LABEL name=value`"),
        ("FROM a\nARG", 2, "ARG name=default"),
        ("FROM a\nARG a-b=1", 2, "letters, digits and `_`"),
        ("FROM a\nWORKDIR", 2, "`WORKDIR /app`"),
        ("FROM a\nUSER ", 2, "`USER app`"),
        ("FROM a\nEXPOSE", 2, "`EXPOSE 8080`"),
        ("FROM a\nSHELL bash -c", 2, "a list of words"),
        ("FROM a\nHEALTHCHECK curl", 2, "HEALTHCHECK CMD"),
        ("FROM a\nHEALTHCHECK --interval=1 CMD x", 2, "`1m30s`"),
        ("FROM a\nHEALTHCHECK --foo=1 CMD x", 2, "`--retries`"),
        ("FROM a\nONBUILD RUN x", 2, "ONBUILD is not there"),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(error.reason.contains(part), "{text}: {error}");
    }
}

#[test]
fn size_has_limits() {
    assert!(parse(&format!("FROM a\n{}", "RUN x\n".repeat(1000))).is_err());
    assert!(parse(&format!("FROM a\n{}", "#".repeat(1 << 20))).is_err());
}

fn one_stage(recipe: &Recipe) -> bool {
    !recipe.stages.is_empty()
}

proptest! {
    #[test]
    fn nothing_panics_and_what_is_read_has_a_stage(text in "(FROM a( AS b)?\n)?([A-Z]{2,5} .{0,40}(\\\\)?\n){0,6}") {
        if let Ok(recipe) = parse(&text) {
            prop_assert!(one_stage(&recipe));
        }
    }
}
