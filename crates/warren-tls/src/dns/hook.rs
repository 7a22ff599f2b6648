//! Records by a program of the operator's.
//!
//! It is called as `PROGRAM add NAME VALUE` and `PROGRAM remove NAME VALUE`, with the same in its
//! environment, and has done it when it ends with status 0.

use std::{path::PathBuf, time::Duration};

use super::{RecordError, Records, TextRecord};
use crate::program;

/// Where programs are that it starts.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program that changes records.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Its absolute path.
    pub program: PathBuf,
    /// How long it may take each time.
    pub within: Duration,
    /// A file that it is told of, such as one with a token.
    pub token_file: Option<PathBuf>,
}

impl Hook {
    async fn run(&self, action: &'static str, record: &TextRecord) -> Result<(), RecordError> {
        let (hook, record) = (self.clone(), record.clone());
        let ran = tokio::task::spawn_blocking(move || {
            let mut environment = vec![
                format!("PATH={PATH}"),
                format!("WARREN_ACTION={action}"),
                format!("WARREN_NAME={}", record.name),
                format!("WARREN_VALUE={}", record.value),
            ];
            if let Some(file) = &hook.token_file {
                environment.push(format!("WARREN_TOKEN_FILE={}", file.display()));
            }
            let arguments = [action, record.name.as_str(), record.value.as_str()];
            program::run(&hook.program, &arguments, &environment, hook.within)
        });
        Ok(ran.await.map_err(|_panicked| RecordError::Gone)??)
    }
}

#[async_trait::async_trait]
impl Records for Hook {
    async fn add(&self, record: &TextRecord) -> Result<(), RecordError> {
        self.run("add", record).await
    }

    async fn remove(&self, record: &TextRecord) -> Result<(), RecordError> {
        self.run("remove", record).await
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[tokio::test]
    async fn a_program_is_told_what_to_add_and_remove() {
        let base = tempfile::tempdir().unwrap();
        let (program, seen) = (base.path().join("hook"), base.path().join("seen"));
        let script = format!(
            "#!/bin/sh\necho \"$1 $2 $3 $WARREN_ACTION $WARREN_NAME $WARREN_VALUE \
             $WARREN_TOKEN_FILE [$HOME]\" >> {}\ntest \"$2\" != bad.example\n",
            seen.display()
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        let (within, token_file) = (Duration::from_secs(60), Some("/a/token".into()));
        let hook = Hook { program, within, token_file };
        let record = |name: &str| TextRecord { name: name.to_owned(), value: "v".to_owned() };
        hook.add(&record("a.example")).await.unwrap();
        hook.remove(&record("a.example")).await.unwrap();
        let error = hook.add(&record("bad.example")).await.unwrap_err();
        assert!(error.to_string().ends_with("failed: "), "{error}");
        let text = fs::read_to_string(&seen).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next().unwrap(), "add a.example v add a.example v /a/token []");
        assert_eq!(lines.next().unwrap(), "remove a.example v remove a.example v /a/token []");
    }
}
