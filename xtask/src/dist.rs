//! `cargo xtask dist`: one static file that is all there is to copy to another machine.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{shell, workspace::Workspace};

/// Builds `target/dist/warren` and its checksum.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    if let Some(unknown) = arguments.first() {
        bail!("dist takes no argument, got {unknown}");
    }
    let triple = host_triple()?;
    let mut cargo = shell::cargo(&workspace.root);
    cargo.args(["build", "--release", "--locked", "--package", "warren", "--bin", "warren"]);
    // With a target, cargo keeps the flags away from build scripts and proc macros.
    cargo.args(["--target", &triple]).env("RUSTFLAGS", "-Ctarget-feature=+crt-static");
    shell::run(&mut cargo)?;

    let built = workspace.target.join(&triple).join("release/warren");
    let dist = workspace.target.join("dist");
    fs::create_dir_all(&dist).with_context(|| format!("make {}", dist.display()))?;
    let file = dist.join("warren");
    fs::copy(&built, &file).with_context(|| format!("copy {}", built.display()))?;
    let bytes = fs::read(&file)?;
    if asks_for_loader(&bytes).context("the built file is not a 64-bit ELF image")? {
        bail!("{} is not static: it names a dynamic loader", file.display());
    }
    let sum = checksum(&file)?;
    fs::write(dist.join("warren.sha256"), format!("{sum}  warren\n"))?;
    println!("{}  {} bytes, static, sha256 {sum}", file.display(), bytes.len());
    Ok(ExitCode::SUCCESS)
}

/// The triple that the toolchain builds for by default.
pub(crate) fn host_triple() -> Result<String> {
    let rustc = shell::variable("RUSTC").unwrap_or_else(|| "rustc".into());
    let text = shell::output(shell::command(rustc).arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not name its host")?.to_owned())
}

fn checksum(file: &Path) -> Result<String> {
    let text = shell::output(shell::command("sha256sum").arg(file))?;
    Ok(text.split_whitespace().next().context("sha256sum printed nothing")?.to_owned())
}

/// Whether an ELF image has a `PT_INTERP` header. `None` if it is no such image.
fn asks_for_loader(elf: &[u8]) -> Option<bool> {
    const PT_INTERP: u64 = 3;
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) =
        (number(elf, 0x20, 8)?, number(elf, 0x36, 2)?, number(elf, 0x38, 2)?);
    for index in 0..count {
        let header = usize::try_from(table + index * size).ok()?;
        if number(elf, header, 4)? == PT_INTERP {
            return Some(true);
        }
    }
    Some(false)
}

/// The little-endian number of `size` bytes at `at`.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(size)?)?;
    Some(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_elf_is_not_judged() {
        assert_eq!(asks_for_loader(b"#!/bin/sh\n"), None);
        assert_eq!(asks_for_loader(b"\x7fELF\x02\x01"), None);
    }

    #[test]
    fn a_loader_is_found_in_the_second_header() {
        let mut elf = vec![0; 64 + 2 * 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[0x20] = 64;
        elf[0x36] = 56;
        elf[0x38] = 2;
        assert_eq!(asks_for_loader(&elf), Some(false));
        elf[64 + 56] = 3;
        assert_eq!(asks_for_loader(&elf), Some(true));
    }
}
