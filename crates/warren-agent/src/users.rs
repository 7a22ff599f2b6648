//! Who a request runs as.
//!
//! `/etc/passwd` and `/etc/group` are read here, for every request: the C library's look-ups load
//! plugins, keep state and may not be used beside raw id changes. Both files belong to the guest,
//! so they may be anything.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::fs::OFlags;
use warren_proto::{Code, Status};
use warren_sys::spawn::Identity;

/// The user of requests that name none, where the sandbox has one of that name.
const USUAL: &str = "user";
/// Most bytes read of either file.
const MOST_BYTES: u64 = 1 << 20;
/// Most supplementary groups, the kernel's own limit being 65,536.
const MOST_GROUPS: usize = 1024;

/// A user of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) identity: Identity,
    pub(crate) home: String,
}

/// Finds `name`, or the default where it is `None`.
///
/// # Errors
///
/// `unauthenticated` when there is no such user; the text is what E2B's clients know.
pub(crate) fn resolve(name: Option<&str>, default: Option<&str>) -> Result<User, Status> {
    let passwd = read("/etc/passwd");
    let group = read("/etc/group");
    // A default of that name is the host's guess about an image it has not looked into.
    let wanted = name.or(default.filter(|it| *it != USUAL));
    let found = match wanted {
        Some(name) => find(&passwd, &group, name),
        None => find(&passwd, &group, USUAL).or_else(|| find(&passwd, &group, "root")),
    };
    match (found, wanted) {
        (Some(user), _) => Ok(user),
        (None, None | Some("root")) => Ok(root()),
        (None, Some(name)) => {
            Err(Status::new(Code::Unauthenticated, format!("invalid username: '{name}'")))
        }
    }
}

/// An image without users still has the one that owns it.
fn root() -> User {
    User {
        name: "root".to_owned(),
        identity: Identity { uid: 0, gid: 0, groups: vec![] },
        home: "/root".to_owned(),
    }
}

/// The text of a small file; nothing when it cannot be read, or is no file.
pub(crate) fn read(path: &str) -> String {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let open = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let regular = |file: &File| file.metadata().is_ok_and(|it| it.is_file());
    let Some(file) = open.ok().filter(regular) else { return String::new() };
    let mut bytes = Vec::new();
    match file.take(MOST_BYTES).read_to_end(&mut bytes) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

/// Finds a user by name or number, perhaps with a group behind a colon, as images name users. A
/// number need not be in the file.
fn find(passwd: &str, group: &str, wanted: &str) -> Option<User> {
    let (name, in_group) = match wanted.split_once(':') {
        Some((name, in_group)) => (name, Some(in_group)),
        None => (wanted, None),
    };
    let user = find_name(passwd, group, name).or_else(|| find_number(passwd, group, name))?;
    let Some(in_group) = in_group else { return Some(user) };
    let named = group.lines().find(|line| line.split(':').next() == Some(in_group));
    let named = named.and_then(|line| line.split(':').nth(2)?.parse().ok());
    let gid = named.or_else(|| in_group.parse().ok())?;
    // The image says exactly which.
    Some(User { identity: Identity { gid, groups: vec![gid], ..user.identity }, ..user })
}

fn find_number(passwd: &str, group: &str, number: &str) -> Option<User> {
    let uid = number.parse().ok().filter(|uid| *uid != u32::MAX)?;
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(number));
    match line.and_then(|line| line.split(':').next()) {
        Some(name) => find_name(passwd, group, name),
        None => {
            let identity = Identity { uid, gid: 0, groups: vec![0] };
            Some(User { name: number.to_owned(), identity, home: "/".to_owned() })
        }
    }
}

fn find_name(passwd: &str, group: &str, name: &str) -> Option<User> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1).filter(|it| it.starts_with('/')).unwrap_or("/");
    let groups = groups_of(group, name, gid);
    let identity = Identity { uid, gid, groups };
    Some(User { name: name.to_owned(), identity, home: home.to_owned() })
}

fn groups_of(group: &str, name: &str, primary: u32) -> Vec<u32> {
    let member = |line: &str| {
        let mut fields = line.split(':').skip(2);
        let gid = fields.next()?.parse().ok()?;
        fields.next()?.split(',').any(|it| it == name).then_some(gid)
    };
    let mut groups = vec![primary];
    for gid in group.lines().filter_map(member).take(MOST_GROUPS) {
        if !groups.contains(&gid) {
            groups.push(gid);
        }
    }
    groups
}

/// The name of an id in a file such as `/etc/passwd`, or its number.
pub(crate) fn name_of(file: &str, id: u32) -> String {
    let number = id.to_string();
    let named = |line: &&str| line.split(':').nth(2) == Some(&number);
    let name = file.lines().find(named).and_then(|line| line.split(':').next());
    name.map_or(number.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbroken\n:::\nuser:x:1000:1000::/home/user:\nodd:x:5:six:::\nbare:x:7:8::relative:/bin/sh\n";
    const GROUP: &str =
        "root:x:0:\nsudo:x:27:user,other\nuser:x:1000:\ndocker:x:999:other,user\nbad:x:y:user\n";

    #[test]
    fn a_user_has_ids_groups_and_a_home() {
        let user = find(PASSWD, GROUP, "user").unwrap();
        assert_eq!(user.identity, Identity { uid: 1000, gid: 1000, groups: vec![1000, 27, 999] });
        assert_eq!(user.home, "/home/user");
        assert_eq!(find(PASSWD, GROUP, "root").unwrap().identity.groups, [0]);
    }

    #[test]
    fn a_user_may_be_a_number_with_a_group() {
        let ids = |wanted| find(PASSWD, GROUP, wanted).map(|it| (it.identity.uid, it.identity.gid));
        assert_eq!(ids("1000"), Some((1000, 1000)));
        assert_eq!(ids("4242"), Some((4242, 0)));
        assert_eq!(ids("4242:99"), Some((4242, 99)));
        assert_eq!(ids("user:docker"), Some((1000, 999)));
        assert_eq!(find(PASSWD, GROUP, "user:7").unwrap().identity.groups, [7]);
        assert_eq!(find(PASSWD, GROUP, "1000").unwrap().name, "user");
        for wrong in ["user:nobody", "4294967295", "-1", ":", "1000:"] {
            assert_eq!(ids(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn broken_lines_are_no_users() {
        for name in ["broken", "odd", "nobody", "x"] {
            assert_eq!(find(PASSWD, GROUP, name), None, "{name}");
        }
        assert_eq!(find(PASSWD, GROUP, "bare").unwrap().home, "/");
    }

    #[test]
    fn ids_have_names_or_stay_numbers() {
        assert_eq!(name_of(PASSWD, 1000), "user");
        assert_eq!(name_of(GROUP, 27), "sudo");
        assert_eq!(name_of(PASSWD, 4242), "4242");
    }

    #[test]
    fn what_is_no_file_reads_as_nothing() {
        assert_eq!(read("/etc"), "");
        assert_eq!(read("/dev/zero"), "");
        assert_eq!(read("/no/such/file"), "");
    }
}
