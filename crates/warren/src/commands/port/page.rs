//! A page on this machine that leads a browser on.
//!
//! What a program is started with is for every user of the machine to read, so a link with a token
//! in it is no argument: it is in a file that its owner alone reads, and the argument names that.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// The page, for as long as this lives.
#[derive(Debug)]
pub(super) struct Page {
    path: PathBuf,
}

impl Page {
    /// Writes a page that leads to `address`. One of the same name that somebody left who was
    /// killed goes.
    pub(super) fn write(directory: &Path, name: &str, address: &str) -> io::Result<Self> {
        let path = directory.join(format!("warren-{name}.html"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let page = Self { path };
        file.write_all(content(address).as_bytes())?;
        Ok(page)
    }

    /// What a browser takes for its address.
    pub(super) fn address(&self) -> String {
        let mut address = "file://".to_owned();
        for byte in self.path.as_os_str().as_bytes() {
            match byte {
                b'/' | b'-' | b'.' | b'_' | b'~' => address.push(char::from(*byte)),
                byte if byte.is_ascii_alphanumeric() => address.push(char::from(*byte)),
                byte => address.push_str(&format!("%{byte:02X}")),
            }
        }
        address
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // Who has removed it already was only faster.
        drop(fs::remove_file(&self.path));
    }
}

fn content(address: &str) -> String {
    let address = address.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>Warren</title>\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta http-equiv=\"refresh\" content=\"0;url={address}\">\n\
         <p><a href=\"{address}\">Go on to the sandbox</a>\n"
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_page_is_for_its_owner_and_for_a_while() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("a b");
        fs::create_dir(&place).unwrap();
        fs::write(place.join("warren-x.html"), "left").unwrap();
        let page = Page::write(&place, "x", "http://x/?a=1&b=\"2").unwrap();
        let address = page.address();
        assert!(address.ends_with("/a%20b/warren-x.html"), "{address}");
        let path = place.join("warren-x.html");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("content=\"0;url=http://x/?a=1&amp;b=&quot;2\""), "{text}");
        drop(page);
        assert!(!path.exists());
    }
}
