//! Ids for the users inside, where the server is an ordinary user's.

use super::{Check, Host, has_program, read};

const AREA: &str = "users";

/// How many ids the users of a sandbox need: 0 to 65,535.
const RANGE: u64 = 65_536;

pub(super) fn checks(host: &Host<'_>) -> Vec<Check> {
    if host.is_root() {
        return vec![Check::works(AREA, "ids", "each sandbox gets 65,536 of its own")];
    }
    let name = host.environment.get("USER").unwrap_or_default();
    let granted = ["/etc/subuid", "/etc/subgid"]
        .map(|file| (file, granted(&read(file).unwrap_or_default(), name, host.uid)));
    let mut checks = Vec::new();
    for (check, (file, ids)) in ["user ids", "group ids"].into_iter().zip(granted) {
        checks.push(if ids >= RANGE {
            Check::works(AREA, check, format!("{file} grants {ids}"))
        } else {
            Check::weaker(
                AREA,
                check,
                format!("{file} grants {ids} of {RANGE}: `user` and `root` inside are one user"),
            )
            .mend(format!(
                "sudo usermod --add-subuids 200000-265535 --add-subgids 200000-265535 {name}"
            ))
        });
    }
    checks.push(helpers(host));
    checks
}

/// How many ids a text of lines `user:first:count` grants to a user, by name or by number.
fn granted(text: &str, name: &str, uid: u32) -> u64 {
    let uid = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let (user, rest) = line.split_once(':')?;
            let count = rest.split_once(':')?.1.trim().parse::<u64>().ok()?;
            (user == name || user == uid).then_some(count)
        })
        .max()
        .unwrap_or(0)
}

fn helpers(host: &Host<'_>) -> Check {
    const NAME: &str = "newuidmap and newgidmap";
    if ["newuidmap", "newgidmap"].iter().all(|name| has_program(host.environment, name)) {
        Check::works(AREA, NAME, "they are there")
    } else {
        Check::weaker(AREA, NAME, "not there: granted ids can not be used")
            .mend("sudo apt-get install uidmap")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_count_by_name_and_by_number() {
        let text = "alice:100000:65536\n1001:200000:1000\nbroken\nbob:x\n";
        assert_eq!(granted(text, "alice", 1000), 65_536);
        assert_eq!(granted(text, "carol", 1001), 1000);
        assert_eq!(granted(text, "bob", 1002), 0);
    }
}
