//! The flags that give a new sandbox a repository.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use warren_api::git::Git;

use crate::{config::Environment, error::CliError};

/// The variable that has a token.
const VARIABLE: &str = "WARREN_GIT_TOKEN";
/// The longest token that is read.
const LONGEST: u64 = 4096;

/// The repository that a sandbox works in.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct GitArgs {
    /// A repository that it works in: `https://HOST/PATH`, without a token in it
    ///
    /// The token comes from `--git-secret`, `--git-token-file` or the variable `WARREN_GIT_TOKEN`,
    /// and stays outside of the sandbox.
    #[arg(long = "git", value_name = "URL")]
    git_repository: Option<String>,
    /// The session, which is the branch that it works on: continued where the repository has it
    #[arg(long = "session", value_name = "NAME", requires = "git_repository")]
    git_session: Option<String>,
    /// Where a new session begins: a branch, a tag or a commit
    #[arg(long, value_name = "REF", requires = "git_repository")]
    git_ref: Option<String>,
    /// A file that has the token
    #[arg(long, value_name = "PATH", requires = "git_repository", conflicts_with = "git_secret")]
    git_token_file: Option<PathBuf>,
    /// The secret of the server that has the token; see `warren secret`
    #[arg(long, value_name = "NAME", requires = "git_repository")]
    git_secret: Option<String>,
    /// The name that goes with the token, where the host looks at it
    #[arg(long, value_name = "NAME", requires = "git_repository")]
    git_user: Option<String>,
    /// Where the repository is inside
    #[arg(long, value_name = "PATH", requires = "git_repository")]
    git_path: Option<String>,
    /// Let it read the repository and push nothing: its work is not saved
    #[arg(long, requires = "git_repository")]
    git_read_only: bool,
    /// Fetch so many commits of each branch, and no more
    #[arg(long, value_name = "NUMBER", requires = "git_repository")]
    git_depth: Option<u32>,
}

impl GitArgs {
    /// The request that these flags describe.
    pub(crate) fn request(self, environment: &Environment) -> Result<Option<Git>, CliError> {
        let Some(repository) = self.git_repository else { return Ok(None) };
        let token = match (&self.git_token_file, &self.git_secret) {
            (Some(path), _) => Some(token(path)?),
            (None, Some(_)) => None,
            (None, None) => environment.get(VARIABLE).map(|it| it.trim().to_owned()),
        };
        Ok(Some(Git {
            repository,
            reference: self.git_ref,
            session: self.git_session,
            path: self.git_path,
            token,
            secret: self.git_secret,
            user: self.git_user,
            read_only: self.git_read_only,
            depth: self.git_depth,
            ..Git::default()
        }))
    }
}

fn token(path: &Path) -> Result<String, CliError> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(CliError::local("open the token's file"))?;
    let read = file.take(LONGEST).read_to_string(&mut text);
    read.map_err(CliError::local("read the token's file"))?;
    let token = text.trim();
    if token.is_empty() || token.contains(['\n', '\r']) {
        let path = path.display();
        return Err(CliError::usage(format!("{path}: expected one line with the token")));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> GitArgs {
        let git_repository = Some("https://git.example/a.git".to_owned());
        GitArgs { git_repository, ..GitArgs::default() }
    }

    #[test]
    fn a_token_comes_from_a_file_a_secret_or_the_environment() {
        let environment = Environment::of(&[(VARIABLE, "of-the-environment\n")]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "of-a-file\n").unwrap();
        let token = |args: GitArgs| args.request(&environment).unwrap().unwrap().token;
        assert_eq!(token(args()).as_deref(), Some("of-the-environment"));
        let of_file = GitArgs { git_token_file: Some(file.path().to_owned()), ..args() };
        assert_eq!(token(of_file).as_deref(), Some("of-a-file"));
        assert_eq!(token(GitArgs { git_secret: Some("T".to_owned()), ..args() }), None);
        assert_eq!(GitArgs::default().request(&environment).unwrap(), None);
    }

    #[test]
    fn a_file_of_two_lines_is_no_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a\nb\n").unwrap();
        assert!(token(file.path()).is_err());
    }
}
