//! Paths as callers write them: what they resolve to is absolute, and clean, and stays so.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, Option<&str>)| {
    let (path, home, directory) = input;
    let Some(resolved) = warren_agent::fuzzing::resolve(path, home, directory) else { return };
    assert!(resolved.starts_with('/'), "{resolved:?}");
    assert!(!resolved.contains('\0') || home.contains('\0') || directory.is_some());
    let parts: Vec<&str> = resolved.split('/').skip(1).collect();
    if parts != [""] {
        assert!(!parts.iter().any(|part| matches!(*part, "" | "." | "..")), "{resolved:?}");
    }
    if resolved.len() <= 4096 && !resolved.contains('\0') {
        let again = warren_agent::fuzzing::resolve(&resolved, home, directory);
        assert_eq!(again.as_deref(), Some(&*resolved));
    }
});
