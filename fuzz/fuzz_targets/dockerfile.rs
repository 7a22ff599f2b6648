//! Dockerfiles and `.dockerignore`: nothing panics, and no text is worth more than its length.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use warren_dockerfile::{
    Ignore, parse,
    recipe::Instruction,
    scope::{Globals, Scope},
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(ignore) = Ignore::parse(text) {
        let excluded = ignore.excludes("some/path/of/it.rs");
        assert!(excluded || !ignore.excludes_all("some/path/of/it.rs"));
    }
    let Ok(recipe) = parse(text) else { return };
    assert!(!recipe.stages.is_empty());
    let Ok(globals) = Globals::new(&recipe.arguments, BTreeMap::new(), "x86_64", recipe.escape)
    else {
        return;
    };
    if let Ok(plan) = recipe.plan(None, &globals) {
        let last = plan.stages.last().expect("the target is always there");
        assert_eq!(last.index + 1, recipe.stages.len());
    }
    for stage in &recipe.stages {
        let mut scope = Scope::new(&globals, BTreeMap::new());
        for step in &stage.steps {
            let filled = match &step.instruction {
                Instruction::Env(pairs) => scope.set_env(pairs),
                Instruction::Arg(arguments) => {
                    arguments.iter().try_for_each(|argument| scope.declare(argument))
                }
                Instruction::Workdir(path) => scope.expand(path).map(drop),
                _ => Ok(()),
            };
            drop(filled);
        }
    }
});
