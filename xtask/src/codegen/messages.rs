//! Rust code for the messages in `proto/`.

use std::fs;

use anyhow::{Context as _, Result};
use buffa::Message as _;
use buffa_codegen::{BytesRepr, CodeGenConfig, generated::descriptor::FileDescriptorSet};

use super::Generated;
use crate::{shell, workspace::Workspace};

/// The files that hold our messages, seen from `proto/`.
const SOURCES: [&str; 2] = ["process/process.proto", "filesystem/filesystem.proto"];

/// Why the messages cannot be generated here, if they cannot.
pub(super) fn obstacle() -> Option<&'static str> {
    let missing = shell::find_program("protoc").is_none();
    missing.then_some("protoc is not installed (Debian: protobuf-compiler)")
}

/// The code of each package.
pub(super) fn generate(workspace: &Workspace) -> Result<Vec<Generated>> {
    fs::create_dir_all(&workspace.target)?;
    let descriptors = workspace.target.join("messages.bin");
    let mut protoc = shell::command("protoc");
    protoc.current_dir(workspace.root.join("proto"));
    protoc.args(["--proto_path=.", "--include_imports", "--include_source_info"]);
    protoc.arg(format!("--descriptor_set_out={}", descriptors.display())).args(SOURCES);
    shell::run(&mut protoc)?;

    let bytes = fs::read(&descriptors).context("read what protoc wrote")?;
    let set = FileDescriptorSet::decode_from_slice(&bytes).context("read what protoc wrote")?;
    let files = buffa_codegen::generate(&set.file, &SOURCES.map(str::to_owned), &config())?;
    let generated = files.into_iter().map(|file| Generated {
        path: format!("crates/warren-proto/src/generated/{}", file.name),
        text: file.content,
    });
    Ok(generated.collect())
}

/// Owned messages with both codecs; payloads are shared, not copied.
fn config() -> CodeGenConfig {
    let mut config = CodeGenConfig::default();
    config.generate_views = false;
    config.generate_with_setters = false;
    config.generate_json = true;
    config.unboxed_oneof_fields = vec![".".to_owned()];
    config.preserve_unknown_fields = false;
    config.emit_register_fn = false;
    config.file_per_package = true;
    config.bytes_fields = vec![(".".to_owned(), BytesRepr::Bytes)];
    config
}
