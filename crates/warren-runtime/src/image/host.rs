//! The `host` image: the host's own programs under a clean root.
//!
//! ```text
//! /            clean: etc, home/user, root, tmp, var ... (made once per state of the host)
//! /usr         the host's /usr, read-only, under copies of the few set-id programs
//! /bin ...     the host's links, or its directories where they are not links
//! ```
//!
//! `/usr` is shown without id mapping. Its files belong to nobody inside, so that even root of a
//! sandbox reads only what everybody on the host may read, also of files that come later. The
//! price is that set-id programs and what they check for root's ownership (`sudo` and its
//! plugins) must be copies in a layer of our own.
//!
//! Nothing of the host's `/etc` is there but what is listed below and readable for everybody.

use std::{
    fs, io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown, symlink},
    },
    path::{Path, PathBuf},
};

use super::{Image, Layer, Tree, make_once};

/// Changes whenever what is made here does.
const LAYOUT: u64 = 2;

/// Parts of the host's `/etc` that programs need to run at all and that hold no secret.
const ETC: &[&str] = &[
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "debian_version",
    "fonts",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "locale.conf",
    "localtime",
    "magic",
    "mime.types",
    "os-release",
    "perl",
    "pki/ca-trust/extracted",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "pki/tls/openssl.cnf",
    "protocols",
    "python3",
    "rpc",
    "services",
    "shells",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
    "vim",
    "xattr.conf",
];

/// Java, Python and others keep versioned directories there.
const ETC_PREFIXES: &[&str] = &["java", "python3.", "maven", "jvm"];

/// Set-id programs that make sense inside, and the directories of plugins that check ownership.
const PRIVILEGED: &[&str] = &[
    "bin/newgrp",
    "bin/passwd",
    "bin/su",
    "bin/sudo",
    "lib/sudo",
    "libexec/sudo",
    "sbin/unix_chkpwd",
];

/// Top-level names that are part of the system's programs where they are not links into `/usr`.
const PROGRAM_DIRECTORIES: &[&str] = &["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
    daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
    bin:x:2:2:bin:/bin:/usr/sbin/nologin\n\
    sys:x:3:3:sys:/dev:/usr/sbin/nologin\n\
    man:x:6:12:man:/var/cache/man:/usr/sbin/nologin\n\
    mail:x:8:8:mail:/var/mail:/usr/sbin/nologin\n\
    www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n\
    _apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n\
    user:x:1000:1000:user:/home/user:/bin/bash\n\
    nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";

const GROUP: &str = "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\n\
    mail:x:8:\nman:x:12:\nsudo:x:27:user\nwww-data:x:33:\nshadow:x:42:\nutmp:x:43:\n\
    video:x:44:\nstaff:x:50:\nusers:x:100:user\nuser:x:1000:\nnogroup:x:65534:\n";

/// Nobody has a password: `*` matches none.
const SHADOW: &str = "root:*:19000:0:99999:7:::\nuser:*:19000:0:99999:7:::\n";

const SUDOERS: &str = "Defaults env_reset\n\
    Defaults !use_pty\n\
    Defaults secure_path=\"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"\n\
    root ALL=(ALL:ALL) ALL\n\
    user ALL=(ALL:ALL) NOPASSWD: ALL\n";

/// Whoever got as far as asking may: the sudoers file and root's own rights decide.
const PAM_PERMIT: &str = "auth required pam_permit.so\naccount required pam_permit.so\n\
    session required pam_permit.so\npassword required pam_deny.so\n";
const PAM_SU: &str = "auth sufficient pam_rootok.so\nauth required pam_deny.so\n\
    account required pam_permit.so\nsession required pam_permit.so\n";
const PAM_OTHER: &str = "auth required pam_deny.so\naccount required pam_deny.so\n\
    session required pam_deny.so\npassword required pam_deny.so\n";

const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n\
    networks: files\nprotocols: files\nservices: files\n";

/// A login shell must not cost 100 ms: this is all it reads.
const PROFILE: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
    [ -d \"$HOME/.local/bin\" ] && PATH=\"$HOME/.local/bin:$PATH\"\n\
    export PATH\n\
    [ \"${PS1-}\" ] && [ \"${BASH-}\" ] && [ -r /etc/bash.bashrc ] && . /etc/bash.bashrc\n\
    for script in /etc/profile.d/*.sh; do [ -r \"$script\" ] && . \"$script\"; done\n\
    unset script\n";
const BASHRC: &str = "[ -z \"${PS1-}\" ] && return\nPS1='\\u@\\h:\\w\\$ '\n";

/// Finds or makes the image for the present state of the host.
pub(super) fn open(images: &Path) -> io::Result<Image> {
    let name = format!("host-{:016x}", state());
    let place = make_once(images, &name, fill)?;
    let (root, usr) = (place.join("root"), place.join("usr"));
    let mut trees = vec![Tree {
        place: "/usr".to_owned(),
        layers: vec![Layer::Own(usr), Layer::Foreign("/usr".into())],
    }];
    for name in PROGRAM_DIRECTORIES {
        let path = Path::new("/").join(name);
        if path.symlink_metadata().is_ok_and(|it| it.is_dir()) {
            let place = format!("/{name}");
            trees.push(Tree { place, layers: vec![Layer::Foreign(path)] });
        }
    }
    Ok(Image { layers: vec![Layer::Own(root)], trees, missing: Vec::new() })
}

/// A number that changes when packages come or go: FNV-1a over what they touch.
fn state() -> u64 {
    let mut watched: Vec<PathBuf> = ETC.iter().map(|it| Path::new("/etc").join(it)).collect();
    watched.extend(PRIVILEGED.iter().map(|it| Path::new("/usr").join(it)));
    watched.push("/usr/share/zoneinfo".into());
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ LAYOUT;
    let mut add = |number: u64| {
        for byte in number.to_le_bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for path in watched {
        // Links are followed: an alternative that points elsewhere is another state.
        if let Ok(it) = path.metadata() {
            add(it.ino());
            add(it.mtime().unsigned_abs());
            add(it.mtime_nsec().unsigned_abs());
            add(it.size());
        }
    }
    hash
}

fn fill(place: &Path) -> io::Result<()> {
    let (root, usr) = (place.join("root"), place.join("usr"));
    directories(&root)?;
    etc(&root.join("etc"))?;
    for name in PROGRAM_DIRECTORIES {
        let source = Path::new("/").join(name);
        match source.symlink_metadata() {
            Ok(it) if it.is_symlink() => symlink(fs::read_link(&source)?, root.join(name))?,
            Ok(it) if it.is_dir() => make_directory(&root.join(name), 0o755)?,
            _ => {}
        }
    }
    make_directory(&usr, 0o755)?;
    for name in PRIVILEGED {
        copy_privileged(&Path::new("/usr").join(name), &usr.join(name))?;
    }
    // Configuration of locally built programs, where people keep credentials.
    whiteout(&usr.join("local"), "etc")
}

fn directories(root: &Path) -> io::Result<()> {
    make_directory(root, 0o755)?;
    let plain = [
        "dev",
        "etc",
        "home",
        "media",
        "mnt",
        "opt",
        "proc",
        "run",
        "srv",
        "sys",
        "usr",
        "var",
        "var/cache",
        "var/lib",
        "var/lib/misc",
        "var/log",
        "var/mail",
        "var/spool",
    ];
    for name in plain {
        make_directory(&root.join(name), 0o755)?;
    }
    make_directory(&root.join("root"), 0o700)?;
    make_directory(&root.join("tmp"), 0o1777)?;
    make_directory(&root.join("var/tmp"), 0o1777)?;
    make_directory(&root.join("workspace"), 0o755)?;
    symlink("/run", root.join("var/run"))?;
    symlink("/run/lock", root.join("var/lock"))?;
    for name in ["home/user", "workspace"] {
        let home = root.join(name);
        if name == "home/user" {
            make_directory(&home, 0o755)?;
        }
        give(&home, 1000)?;
    }
    Ok(())
}

fn etc(etc: &Path) -> io::Result<()> {
    for name in ETC {
        copy_public(&Path::new("/etc").join(name), &etc.join(name))?;
    }
    for entry in fs::read_dir("/etc")? {
        let name = entry?.file_name();
        if ETC_PREFIXES.iter().any(|it| name.as_bytes().starts_with(it.as_bytes())) {
            copy_public(&Path::new("/etc").join(&name), &etc.join(&name))?;
        }
    }
    let written = [
        ("passwd", PASSWD, 0o644),
        ("group", GROUP, 0o644),
        ("shadow", SHADOW, 0o600),
        ("sudoers", SUDOERS, 0o440),
        ("nsswitch.conf", NSSWITCH, 0o644),
        ("profile", PROFILE, 0o644),
        ("bash.bashrc", BASHRC, 0o644),
        ("host.conf", "multi on\n", 0o644),
        ("login.defs", "UMASK 022\nENV_PATH PATH=/usr/local/bin:/usr/bin:/bin\n", 0o644),
        ("pam.d/sudo", PAM_PERMIT, 0o644),
        ("pam.d/sudo-i", PAM_PERMIT, 0o644),
        ("pam.d/su", PAM_SU, 0o644),
        ("pam.d/su-l", PAM_SU, 0o644),
        ("pam.d/runuser", PAM_SU, 0o644),
        ("pam.d/runuser-l", PAM_SU, 0o644),
        ("pam.d/other", PAM_OTHER, 0o644),
    ];
    make_directory(&etc.join("pam.d"), 0o755)?;
    make_directory(&etc.join("profile.d"), 0o755)?;
    make_directory(&etc.join("skel"), 0o755)?;
    for (name, text, mode) in written {
        let path = etc.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    symlink("/proc/mounts", etc.join("mtab"))
}

/// Copies a file, a link or a tree, as far as everybody may read it.
fn copy_public(from: &Path, to: &Path) -> io::Result<()> {
    let Ok(metadata) = from.symlink_metadata() else { return Ok(()) };
    if metadata.is_symlink() {
        let target = fs::read_link(from)?;
        if is_documentation(&target) {
            return Ok(());
        }
        make_parents(to)?;
        return symlink(target, to);
    }
    if metadata.is_dir() && metadata.mode() & 0o005 == 0o005 {
        make_parents(to)?;
        make_directory(to, 0o755)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            copy_public(&from.join(&name), &to.join(&name))?;
        }
    } else if metadata.is_file() && metadata.mode() & 0o004 != 0 {
        make_parents(to)?;
        copy_file(from, to, metadata.mode() & 0o755)?;
    }
    Ok(())
}

/// Most alternatives are pages of manuals: nobody misses them, and making them takes longer than
/// all the rest.
fn is_documentation(target: &Path) -> bool {
    target.components().any(|it| it.as_os_str() == "man")
}

/// Copies a set-id program with its bits, or a directory of plugins, as root's.
fn copy_privileged(from: &Path, to: &Path) -> io::Result<()> {
    let Ok(metadata) = from.symlink_metadata() else { return Ok(()) };
    if metadata.is_symlink() {
        make_parents(to)?;
        return symlink(fs::read_link(from)?, to);
    }
    if metadata.is_dir() {
        make_parents(to)?;
        make_directory(to, 0o755)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            copy_privileged(&from.join(&name), &to.join(&name))?;
        }
    } else if metadata.is_file() && metadata.mode() & 0o001 != 0 || from.extension().is_some() {
        make_parents(to)?;
        copy_file(from, to, metadata.mode() & 0o755)?;
        // The owner goes first: changing it clears the set-id bits.
        lchown(to, Some(0), Some(metadata.gid())).or_else(ignore_single_id)?;
        fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7755))?;
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path, mode: u32) -> io::Result<()> {
    fs::copy(from, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))
}

/// Where only one id is mapped, everything is its own.
fn ignore_single_id(error: io::Error) -> io::Result<()> {
    match error.raw_os_error() {
        Some(code) if code == rustix::io::Errno::INVAL.raw_os_error() => Ok(()),
        _ => Err(error),
    }
}

fn give(path: &Path, id: u32) -> io::Result<()> {
    lchown(path, Some(id), Some(id)).or_else(ignore_single_id)
}

fn make_parents(path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)
}

/// Makes a directory with exactly this mode, whatever the umask.
fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Hides `name` of the layers below.
fn whiteout(directory: &Path, name: &str) -> io::Result<()> {
    use rustix::fs::{FileType, Mode, mknodat};
    fs::create_dir_all(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    let path = directory.join(name);
    Ok(mknodat(rustix::fs::CWD, &path, FileType::CharacterDevice, Mode::empty(), 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_clean_and_whole() {
        let images = tempfile::tempdir().unwrap();
        let image = open(images.path()).unwrap();
        let [Layer::Own(root)] = image.layers.as_slice() else { panic!("one layer expected") };
        assert_eq!(fs::read_dir(root.join("root")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(root.join("home/user")).unwrap().count(), 0);
        assert!(!fs::read_to_string(root.join("etc/shadow")).unwrap().contains('$'));
        let mode = |name: &str| root.join(name).metadata().unwrap().mode() & 0o7777;
        assert_eq!((mode("tmp"), mode("root"), mode("etc/sudoers")), (0o1777, 0o700, 0o440));
        for absent in ["etc/ssh", "etc/gitconfig", "etc/ssl/private", "etc/netplan"] {
            assert!(!root.join(absent).exists(), "{absent}");
        }
        assert_eq!(open(images.path()).unwrap(), image, "made once");
    }

    #[test]
    fn what_not_everybody_may_read_is_not_copied() {
        let data = tempfile::tempdir().unwrap();
        let (from, to) = (data.path().join("from"), data.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::write(from.join("public"), "1").unwrap();
        fs::write(from.join("secret"), "2").unwrap();
        fs::set_permissions(from.join("secret"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(from.join("public"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o755)).unwrap();
        copy_public(&from, &to).unwrap();
        assert!(to.join("public").exists() && !to.join("secret").exists());
    }
}
