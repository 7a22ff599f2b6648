//! The Rust code of the messages in `proto/`, written to `crates/warren-proto/src/generated/`.
//!
//! `protoc` parses the `.proto` files (nothing else here needs it: its output is committed), and
//! the codec library's own generator writes the code.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use buffa::Message as _;
use buffa_codegen::generated::descriptor::FileDescriptorSet;
use buffa_codegen::{BytesRepr, CodeGenConfig};

/// What is generated from; the packages' own names become the files' names.
const SOURCES: [&str; 2] = ["process/process.proto", "filesystem/filesystem.proto"];

/// Gives every generated file: its path below `root`, the workspace, and its content.
///
/// # Errors
///
/// When `protoc` is not installed, or a `.proto` file has a mistake.
pub(crate) fn generate(root: &Path) -> Result<Vec<(PathBuf, String)>> {
    let set = describe(root)?;
    let names = SOURCES.map(str::to_owned);
    let files = buffa_codegen::generate(&set.file, &names, &config())?;
    let folder = Path::new("crates/warren-proto/src/generated");
    Ok(files.into_iter().map(|it| (folder.join(it.name), it.content)).collect())
}

fn describe(root: &Path) -> Result<FileDescriptorSet> {
    let output = Command::new("protoc")
        .current_dir(root.join("proto"))
        .args(["-I.", "--include_imports", "--include_source_info"])
        .arg("--descriptor_set_out=/dev/stdout")
        .args(SOURCES)
        .output()
        .context("run protoc (Debian: apt-get install protobuf-compiler)")?;
    if !output.status.success() {
        bail!("protoc: {}", String::from_utf8_lossy(&output.stderr));
    }
    FileDescriptorSet::decode_from_slice(&output.stdout).context("read what protoc wrote")
}

fn config() -> CodeGenConfig {
    let mut config = CodeGenConfig::default();
    config.generate_json = true;
    config.generate_views = false;
    config.generate_with_setters = false;
    config.preserve_unknown_fields = false;
    config.emit_register_fn = false;
    config.file_per_package = true;
    config.bytes_fields = vec![(".".to_owned(), BytesRepr::Bytes)];
    config.unboxed_oneof_fields = vec![".".to_owned()];
    config
}
